"""Cloning: the stub, the order of the half-way states, and every way in which it can fail."""

from typing import Any

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError

GONE = "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist"


def test_a_full_clone_has_its_own_volumes_macs_uuid_and_generation_id(sim: PveSim, api: Api) -> None:
    sim.add_template(net1="virtio,bridge=vmbr1")
    before = api.config(9000)
    assert api.ended(api.clone(9000, 100, full=1, name="web", description="mine <!-- mark -->  ")) == "OK"
    config = api.config(100)
    assert config["scsi0"] == "local-lvm:vm-100-disk-0,size=8G"
    assert config["ide2"] == "local-lvm:vm-100-cloudinit,media=cdrom"
    assert (config["name"], config["description"]) == ("web", "mine <!-- mark -->")
    assert config["agent"] == before["agent"]
    for key in ("net0", "net1", "smbios1", "vmgenid"):
        assert config[key] != before[key]
    assert "template" not in config
    assert "lock" not in config
    assert [volume.name for volume in sim.world().volumes_of(100)] == ["vm-100-cloudinit", "vm-100-disk-0"]


def test_without_a_name_a_clone_is_a_copy_of_its_source(sim: PveSim, api: Api) -> None:
    sim.add_template(name="debian")
    api.ended(api.clone(9000, 100, full=1))
    assert api.config(100)["name"] == "Copy-of-VM-debian"


def test_a_linked_clone_is_the_default_for_a_template_and_names_its_base_on_ceph(
    sim: PveSim, api: Api
) -> None:
    sim.add_storage("ceph", "rbd")
    sim.add_template(storage="ceph")
    api.ended(api.clone(9000, 100))
    assert api.config(100)["scsi0"] == "ceph:base-9000-disk-0/vm-100-disk-0,size=8G"


def test_a_linked_clone_on_lvm_thin_does_not_name_its_base(sim: PveSim, api: Api) -> None:
    sim.add_template()
    api.ended(api.clone(9000, 100))
    assert api.config(100)["scsi0"] == "local-lvm:vm-100-disk-0,size=8G"


def test_the_upid_of_a_clone_carries_the_templates_vmid_and_its_log_the_new_one(
    sim: PveSim, api: Api
) -> None:
    sim.add_template()
    upid = api.clone(9000, 100, full=1)
    assert upid.startswith("UPID:pve1:")
    assert ":qmclone:9000:operator@pve!operator:" in upid
    api.ended(upid)
    assert api.log(upid) == [
        "creating a clone of VM 9000 with ID 100",
        "create full clone of drive ide2 (local-lvm:vm-9000-cloudinit)",
        "create full clone of drive scsi0 (local-lvm:base-9000-disk-0)",
        "TASK OK",
    ]


def test_until_its_first_disk_a_clone_is_a_stub_with_a_temporary_description(sim: PveSim, api: Api) -> None:
    sim.add_template()
    with sim.hold("clone:stub") as hold:
        upid = api.clone(9000, 100, full=1, name="web", description="mine")
        assert hold.reached.wait(5)
        stub = api.config(100)
        stub.pop("digest")
        assert stub == {"lock": "clone", "description": " qmclone temporary file"}
        with pytest.raises(ApiError, match=r"VM is locked \(clone\)"):
            api.set(100, cores=2)
    assert api.ended(upid) == "OK"


def test_after_its_first_disk_a_clone_shows_its_whole_config_still_locked(sim: PveSim, api: Api) -> None:
    sim.add_template()
    with sim.hold("clone:copying") as hold:
        api.clone(9000, 100, full=1, name="web", description="mine")
        assert hold.reached.wait(5)
        config = api.config(100)
        assert (config["lock"], config["name"], config["description"]) == ("clone", "web", "mine")
        assert "ide2" in config
        assert "scsi0" not in config


def test_a_clone_lives_on_the_source_node_and_moves_to_its_target_last(sim: PveSim, api: Api) -> None:
    sim.add_storage("ceph", "rbd")
    sim.add_template(storage="ceph")
    with sim.hold("clone:moving") as hold:
        upid = api.clone(9000, 100, full=1, target="pve2")
        assert hold.reached.wait(5)
        assert "lock" not in api.config(100, "pve1")
    assert api.ended(upid) == "OK"
    assert api.config(100, "pve2")["scsi0"].startswith("ceph:vm-100-disk-0")
    with pytest.raises(ApiError, match=GONE):
        api.config(100, "pve1")


def test_a_clone_joins_its_pool_last(sim: PveSim, api: Api) -> None:
    sim.add_template()
    sim.add_pool("shop")
    with sim.hold("clone:joining") as hold:
        upid = api.clone(9000, 100, full=1, pool="shop")
        assert hold.reached.wait(5)
        assert sim.world().vm(100).pool is None  # type: ignore[union-attr]
    api.ended(upid)
    assert sim.world().vm(100).pool == "shop"  # type: ignore[union-attr]


def test_a_clone_copies_the_firewall_config_of_the_vm(sim: PveSim, api: Api) -> None:
    sim.add_template()
    api.post("/nodes/pve1/qemu/9000/firewall/rules", action="ACCEPT", type="in", dport="22", proto="tcp")
    api.ended(api.clone(9000, 100))
    assert [rule["dport"] for rule in api.get("/nodes/pve1/qemu/100/firewall/rules")] == ["22"]
    api.delete("/nodes/pve1/qemu/100/firewall/rules/0")
    assert len(api.get("/nodes/pve1/qemu/9000/firewall/rules")) == 1


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "a target with local storage",
        {"target": "pve2"},
        "can't clone VM to node 'pve2' (VM uses local storage)",
    ),
    ("an unknown target", {"target": "pve9"}, "no such cluster node 'pve9'"),
    (
        "a local storage for a target",
        {"full": 1, "storage": "local-lvm", "target": "pve2"},
        "can't clone to non-shared storage 'local-lvm'",
    ),
    (
        "a storage for a linked clone",
        {"storage": "local-lvm"},
        "parameter 'storage' not allowed for linked clones",
    ),
    ("a format for a linked clone", {"format": "raw"}, "parameter 'format' not allowed for linked clones"),
    ("an unknown storage", {"full": 1, "storage": "nope"}, "storage 'nope' does not exist"),
    ("an unknown snapshot", {"snapname": "nope"}, "snapshot 'nope' does not exist"),
]


@pytest.mark.parametrize(("what", "options", "text"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_clone_with_this_is_refused(
    sim: PveSim, api: Api, what: str, options: dict[str, Any], text: str
) -> None:
    sim.add_template()
    before = sim.world()
    with pytest.raises(ApiError) as refused:
        api.clone(9000, 100, **options)
    assert (refused.value.status, refused.value.reason) == (500, text)
    assert sim.world() == before


def test_a_linked_clone_of_a_vm_that_is_no_template_is_refused(sim: PveSim, api: Api) -> None:
    sim.add_vm(101)
    with pytest.raises(ApiError) as refused:
        api.clone(101, 100, full=0)
    assert (
        refused.value.reason == "Linked clone feature is not supported for 'local-lvm:vm-101-disk-0' (scsi0)"
    )


def test_a_missing_template_is_a_500_of_its_own(sim: PveSim, api: Api) -> None:
    with pytest.raises(ApiError) as refused:
        api.clone(9000, 100)
    assert (refused.value.status, refused.value.reason) == (
        500,
        "unable to find configuration file for VM 9000 on node 'pve1'",
    )


def test_a_vmid_taken_on_the_same_node_is_refused_at_once(sim: PveSim, api: Api) -> None:
    sim.add_template()
    sim.add_vm(100)
    with pytest.raises(ApiError) as refused:
        api.clone(9000, 100)
    assert refused.value.reason == "unable to create VM 100: config file already exists"


def test_a_vmid_taken_on_another_node_fails_the_task_in_the_words_of_the_file_system(
    sim: PveSim, api: Api
) -> None:
    sim.add_template()
    sim.add_vm(100, node="pve2")
    before = sim.world()
    assert api.ended(api.clone(9000, 100)) == (
        "close (rename) atomic file '/etc/pve/nodes/pve1/qemu-server/100.conf' failed: File exists"
    )
    assert sim.world() == before


def test_two_clones_to_one_vmid_contend_for_its_lock_file(sim: PveSim, api: Api) -> None:
    sim.add_template()
    release = sim.hold_config_lock(100)
    assert api.ended(api.clone(9000, 100)) == (
        "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"
    )
    release()
    assert api.ended(api.clone(9000, 100)) == "OK"


def test_two_clones_of_one_template_run_side_by_side(sim: PveSim, api: Api) -> None:
    sim.add_template()
    with sim.hold("clone:stub"):
        upids = [api.clone(9000, vmid) for vmid in (100, 101)]
        assert [api.status(upid)["status"] for upid in upids] == ["running", "running"]
    assert [api.ended(upid) for upid in upids] == ["OK", "OK"]


def test_a_locked_source_is_not_cloned(sim: PveSim, api: Api) -> None:
    sim.add_template()
    sim.set_lock(9000, "backup")
    with pytest.raises(ApiError, match=r"VM is locked \(backup\)"):
        api.clone(9000, 100)


def test_a_template_removed_during_its_clone_fails_it_without_a_trace(sim: PveSim, api: Api) -> None:
    sim.add_template()
    with sim.hold("clone:copying") as hold:
        upid = api.clone(9000, 100, full=1)
        assert hold.reached.wait(5)
        sim.vanish(9000)
    assert api.ended(upid).startswith("clone failed: ")
    assert sim.world().vmids == []
    assert sim.world().volumes == ()


def test_a_storage_that_fills_up_fails_the_clone_without_a_trace(sim: PveSim, api: Api) -> None:
    sim.add_template()
    sim.fill_storage("local-lvm", free_gib=1)
    before = sim.world()
    assert "reached threshold" in api.ended(api.clone(9000, 100, full=1))
    assert sim.world() == before


def test_a_killed_worker_leaves_the_stub_and_an_unknown_outcome(sim: PveSim, api: Api) -> None:
    sim.add_template()
    with sim.hold("clone:stub") as hold:
        upid = api.clone(9000, 100, full=1)
        assert hold.reached.wait(5)
        sim.kill_tasks("qmclone")
    assert api.ended(upid) == "unexpected status"
    assert api.config(100)["lock"] == "clone"
    assert api.log(upid) == ["creating a clone of VM 9000 with ID 100"]


def test_a_worker_killed_while_it_copies_leaves_its_volumes_too(sim: PveSim, api: Api) -> None:
    sim.add_template()
    with sim.hold("clone:copying") as hold:
        api.clone(9000, 100, full=1)
        assert hold.reached.wait(5)
        sim.kill_tasks("qmclone")
    assert [volume.name for volume in sim.world().volumes_of(100)] == ["vm-100-cloudinit"]
    assert sim.world().vm(100).lock == "clone"  # type: ignore[union-attr]


def test_stopping_the_clone_task_cleans_up(sim: PveSim, api: Api) -> None:
    sim.add_template()
    before = sim.world()
    with sim.hold("clone:copying") as hold:
        upid = api.clone(9000, 100, full=1)
        assert hold.reached.wait(5)
        api.delete(f"/nodes/pve1/tasks/{upid}")
        assert api.ended(upid) == "clone failed: interrupted by signal"
    assert sim.world() == before


def test_a_node_that_goes_down_during_a_clone_leaves_the_stub_there(sim: PveSim, api: Api) -> None:
    sim.add_template(node="pve2")
    with sim.hold("clone:stub") as hold:
        upid = api.clone(9000, 100, node="pve2", full=1)
        assert hold.reached.wait(5)
        sim.node_down("pve2")
        with pytest.raises(ApiError) as offline:
            api.status(upid)
        assert (offline.value.status, offline.value.reason) == (595, "No route to host")
    sim.node_up("pve2")
    assert api.ended(upid) == "unexpected status"
    assert api.config(100, "pve2")["lock"] == "clone"


def test_a_clone_made_in_the_gui_copies_the_description_with_its_marks(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, description="text <!-- mark vmid=100 -->")
    sim.clone_in_gui(100, 101)
    assert api.config(101)["description"] == "text <!-- mark vmid=100 -->"


def test_a_clone_keeps_serials_and_the_other_parts_of_smbios(sim: PveSim, api: Api) -> None:
    smbios = "base64=1,serial=YWJj,uuid=11111111-2222-4333-8444-555555555555"
    sim.add_vm(101, smbios1=smbios, scsi1="local-lvm:1,serial=abc")
    api.ended(api.clone(101, 100))
    config = api.config(100)
    assert "serial=abc" in config["scsi1"]
    assert config["smbios1"].startswith("base64=1,serial=YWJj,uuid=")
    assert config["smbios1"] != smbios
