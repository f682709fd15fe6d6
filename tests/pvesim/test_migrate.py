"""Migration: its precondition, what it refuses and where it says so, and what each failure leaves behind."""

from typing import Any

import pytest
from fakepve.model import PveError

from pvesim import PveSim
from pvesim.client import Api, ApiError

PATH = "/nodes/pve1/qemu/100/migrate"


def move(api: Api, **options: Any) -> tuple[str, list[str]]:
    """Migrate VM 100 with local disks to pve2: exit status and log."""
    upid = api.post(PATH, **({"target": "pve2", "online": 1, "with-local-disks": 1} | options))
    assert upid.startswith("UPID:pve1:")
    return api.ended(upid), api.log(upid)


def home(sim: PveSim) -> tuple[str, str, str | None, list[str]]:
    """Where VM 100 is: node, status, lock, and its volumes as node/name."""
    vm = sim.world().vm(100)
    assert vm is not None
    return vm.node, vm.status, vm.lock, [f"{v.node}/{v.name}" for v in sim.world().volumes_of(100)]


# ------------------------------------------------------------------ precondition


def test_the_precondition_names_nodes_by_storages_and_lists_local_disks(sim: PveSim, api: Api) -> None:
    sim.add_storage("fast", "lvmthin", nodes=["pve1", "pve3"])
    sim.add_storage("ceph", "rbd")
    sim.add_vm(100, storage="fast", running=True, scsi1="ceph:1", ide2="none,media=cdrom")
    found = api.get(PATH)
    assert found["running"] == 1
    assert found["allowed_nodes"] == ["pve3"]
    assert found["not_allowed_nodes"] == {"pve2": {"unavailable_storages": ["fast"]}}
    [disk] = found["local_disks"]
    assert (disk["volid"], disk["cdrom"], disk["is_attached"], disk["drivename"]) == (
        "fast:vm-100-disk-0", 0, 1, "scsi0",
    )  # fmt: skip
    assert disk["size"] == 4 * 1024**3
    assert (found["local_resources"], found["mapped-resources"]) == ([], [])


def test_the_precondition_does_not_ask_whether_a_node_lives_or_has_the_bridge(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.server.node_info["pve3"].bridges = ()
    sim.node_down("pve2")
    assert api.get(PATH)["allowed_nodes"] == ["pve2", "pve3"]


def test_a_local_iso_is_a_local_disk_that_is_a_cdrom_also_where_only_a_snapshot_holds_it(
    sim: PveSim, api: Api
) -> None:
    sim.put_file("local", "pve1", "iso", "seed.iso", bytes(4096))
    sim.add_vm(100, ide2="local:iso/seed.iso,media=cdrom")
    api.ended(api.post("/nodes/pve1/qemu/100/snapshot", snapname="before"))
    sim.edit_config(100, ide2="none,media=cdrom")
    listed = {disk["volid"]: disk for disk in api.get(PATH)["local_disks"]}
    seed = listed["local:iso/seed.iso"]
    assert (seed["cdrom"], seed["is_attached"], seed["referenced_in_snapshot"]) == (1, 0, {"before": 1})


def test_a_locked_vm_has_no_precondition(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.set_lock(100, "backup")
    with pytest.raises(ApiError, match=r"500 VM is locked \(backup\)"):
        api.get(PATH)


def test_devices_of_the_host_and_mapped_ones_are_listed(sim: PveSim, api: Api) -> None:
    sim.add_mapping("pci", "gpu", nodes=["pve1", "pve2"])
    sim.add_vm(100, hostpci0="mapping=gpu", usb0="host=1234:5678", serial0="socket")
    found = api.get(PATH)
    assert found["local_resources"] == ["usb0"]
    assert found["mapped-resource-info"] == {"hostpci0": {"name": "gpu"}}
    assert found["not_allowed_nodes"] == {"pve3": {"unavailable-resources": ["hostpci0"]}}
    sim.start(100)
    assert api.get(PATH)["local_resources"] == ["hostpci0", "usb0"]


# ---------------------------------------------------------------- refused at once


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"target": "pve1"}, r"400 .*target is local node\."),
        ({"target": "pve9"}, r"500 no such cluster node 'pve9'"),
        ({"target": "pve2"}, r"500 can't migrate running VM without --online"),
        ({"target": "pve2", "online": 1, "force": 1}, r"400 .*Only root may use this option\."),
        ({"target": "pve3", "online": 1}, r"500 storage 'fast' is not available on node 'pve3'"),
        ({"target": "pve2", "online": 1, "targetstorage": "local"}, r"500 storage 'local' does not support"),
    ],
    ids=["to its own node", "to no node", "running without online", "force", "storage", "target storage"],
)
def test_this_migration_is_refused_before_a_worker_is_forked(
    sim: PveSim, api: Api, options: dict[str, Any], text: str
) -> None:
    sim.add_storage("fast", "lvmthin", nodes=["pve1", "pve2"])
    sim.add_vm(100, storage="fast", running=True)
    with pytest.raises(ApiError, match=text):
        api.post(PATH, **options)
    assert sim.tasks("qmigrate") == []


def test_migrating_needs_its_privilege_and_another_storage_space_on_it(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.add_storage("fast", "lvmthin")
    sim.revoke(sim.token_id, "/storage/fast", ["Datastore.AllocateSpace"])
    with pytest.raises(ApiError, match=r"403 .*/storage/fast, Datastore\.AllocateSpace"):
        api.post(PATH, target="pve2", targetstorage="fast")
    sim.revoke(sim.token_id, "/vms/100", ["VM.Migrate"])
    with pytest.raises(ApiError, match=r"403 .*/vms/100, VM\.Migrate"):
        api.post(PATH, target="pve2")
    with pytest.raises(ApiError, match=r"403 .*/vms/100, VM\.Migrate"):
        api.get(PATH)


# ------------------------------------------------------------------------ success


def test_a_running_vm_moves_with_its_disks_keeps_running_and_keeps_what_is_pending(
    sim: PveSim, api: Api
) -> None:
    sim.add_vm(100, running=True, scsi1="local-lvm:1")
    sim.edit_config(100, cores=4)
    sim.edit_config(100, delete="scsi1")
    status, log = move(api)
    assert status == "OK"
    assert home(sim) == ("pve2", "running", None, ["pve2/vm-100-disk-0", "pve2/vm-100-disk-1"])
    assert list(api.pending(100, "pve2")) == ["cores"]
    assert sim.vm(100).pid > 0
    assert any("mirror-scsi0: transferred 1G of 4G (25.00%)" in line for line in log)
    assert any("found local disk 'local-lvm:vm-100-disk-1' (unused)" in line for line in log)


def test_a_stopped_vm_takes_its_local_disks_along_without_being_told(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    status, _ = move(api, online=0, **{"with-local-disks": 0})
    assert status == "OK"
    assert home(sim) == ("pve2", "stopped", None, ["pve2/vm-100-disk-0"])


def test_a_disk_takes_a_free_name_on_the_target_and_the_config_says_so(sim: PveSim, api: Api) -> None:
    sim.add_vm(101, node="pve2", storage=None)
    sim.server.alloc("local-lvm", "pve2", 100, 1024)
    sim.add_vm(100, running=True)
    assert move(api)[0] == "OK"
    assert api.config(100, "pve2")["scsi0"].startswith("local-lvm:vm-100-disk-1,")
    assert (sim.vm(100).qemu or {})["scsi0"].startswith("local-lvm:vm-100-disk-1,")


def test_live_names_begin_anew_in_the_order_of_the_drives_and_copies_of_the_rest_keep_theirs(
    sim: PveSim, api: Api
) -> None:
    sim.add_storage("fast", "lvmthin")
    sim.add_vm(100, running=True, scsi1="local-lvm:1,serial=data", scsi2="local-lvm:1")
    sim.move_disk(100, "scsi0", "fast")
    sim.edit_config(100, scsi3="local-lvm:1")  # this one is disk-0 now
    sim.move_disk(100, "scsi0", "local-lvm")  # and the system disk-3
    sim.edit_config(100, delete="scsi2")  # unused0 is disk-2
    before = {volume.name: volume.data for volume in sim.world().volumes_of(100)}
    assert move(api)[0] == "OK"
    config = api.config(100, "pve2")
    after = {volume.name: volume.data for volume in sim.world().volumes_of(100)}
    assert [config[slot] for slot in ("scsi0", "scsi1", "scsi3")] == [
        "local-lvm:vm-100-disk-0,size=4G",
        "local-lvm:vm-100-disk-1,serial=data,size=1G",
        "local-lvm:vm-100-disk-3,size=1G",
    ]
    assert config["unused0"] == "local-lvm:vm-100-disk-2"
    assert after == {
        "vm-100-disk-0": before["vm-100-disk-3"],
        "vm-100-disk-1": before["vm-100-disk-1"],
        "vm-100-disk-2": before["vm-100-disk-2"],
        "vm-100-disk-3": before["vm-100-disk-0"],
    }


def test_after_a_live_migration_uptime_begins_anew(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    sim.vm(100).started_at = 0.0
    pid = sim.vm(100).pid
    assert move(api)[0] == "OK"
    current = api.get("/nodes/pve2/qemu/100/status/current")
    assert current["uptime"] < 60
    assert current["pid"] != pid


def test_targetstorage_maps_local_storages_and_leaves_shared_ones(sim: PveSim, api: Api) -> None:
    sim.add_storage("fast", "lvmthin")
    sim.add_storage("ceph", "rbd")
    sim.add_vm(100, running=True, scsi1="ceph:1")
    assert move(api, targetstorage="local-lvm:fast")[0] == "OK"
    config = api.config(100, "pve2")
    assert (config["scsi0"].partition(",")[0], config["scsi1"].partition(",")[0]) == (
        "fast:vm-100-disk-0", "ceph:vm-100-disk-0",
    )  # fmt: skip


def test_while_it_runs_the_vm_is_locked_on_the_source_and_last_of_all_on_the_target(
    sim: PveSim, api: Api
) -> None:
    sim.add_vm(100, running=True)
    with sim.hold("migrate:unlocking") as unlocking:
        with sim.hold("migrate:copying") as copying:
            upid = api.post(PATH, target="pve2", online=1, **{"with-local-disks": 1})
            assert copying.reached.wait(5)
            assert home(sim)[:3] == ("pve1", "running", "migrate")
            with pytest.raises(ApiError, match=r"VM is locked \(migrate\)"):
                api.set(100, onboot=1)
        assert unlocking.reached.wait(5)
        assert home(sim) == ("pve2", "running", "migrate", ["pve1/vm-100-disk-0", "pve2/vm-100-disk-0"])
    assert api.ended(upid) == "OK"
    assert home(sim) == ("pve2", "running", None, ["pve2/vm-100-disk-0"])


def test_a_template_moves_with_its_base_volumes(sim: PveSim, api: Api) -> None:
    sim.add_template(vmid=100, cloudinit=False)
    assert move(api)[0] == "OK"
    assert home(sim)[3] == ["pve2/base-100-disk-0"]


# --------------------------------------------------------- refused inside the task


@pytest.mark.parametrize(
    ("config", "options", "line"),
    [
        ({}, {"with-local-disks": 0},
         "can't live migrate attached local disks without with-local-disks option"),
        ({"ide2": "local:iso/seed.iso,media=cdrom"}, {},
         "can't migrate local disk 'local:iso/seed.iso': local cdrom image"),
        ({"ide2": "cdrom,media=cdrom"}, {}, "can't migrate local cdrom drive"),
        ({"usb0": "host=1234:5678"}, {}, "can't migrate VM which uses local devices: usb0"),
        ({"hostpci0": "mapping=gpu"}, {},
         "can't live migrate running VM which uses following mapped devices: hostpci0:gpu"),
        ({"hostpci0": "mapping=nic"}, {}, "can't migrate to 'pve2': missing mapped devices hostpci0"),
    ],
    ids=["local disks", "a seed ISO", "the drive of the host", "a USB device", "a mapped device", "no mapping"],
)  # fmt: skip
def test_this_migration_is_aborted_and_only_the_log_says_why(
    sim: PveSim, api: Api, config: dict[str, Any], options: dict[str, Any], line: str
) -> None:
    sim.put_file("local", "pve1", "iso", "seed.iso", bytes(4096))
    sim.add_mapping("pci", "gpu", nodes=["pve1", "pve2"])
    sim.add_mapping("pci", "nic", nodes=["pve1"])
    sim.add_vm(100, running=True, **config)
    status, log = move(api, **options)
    assert status == "migration aborted"
    assert any(line in text for text in log)
    assert home(sim) == ("pve1", "running", None, ["pve1/vm-100-disk-0"])


def test_a_snapshot_blocks_a_live_migration_of_local_disks_and_on_lvmthin_any(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    api.ended(api.post("/nodes/pve1/qemu/100/snapshot", snapname="before"))
    status, log = move(api)
    assert status == "migration aborted"
    assert any("online storage migration not possible if non-replicated snapshot" in line for line in log)
    sim.stop(100)
    status, log = move(api)
    assert status == "migration aborted"
    assert any("non-migratable snapshot exists" in line for line in log)


# ----------------------------------------------------------------------- bad days


def test_a_missing_bridge_fails_at_the_start_on_the_target_and_the_source_runs_on(
    sim: PveSim, api: Api
) -> None:
    sim.add_vm(100, running=True)
    sim.server.node_info["pve2"].bridges = ("vmbr1",)
    status, log = move(api)
    assert status == "migration problems"
    assert any("[pve2] bridge 'vmbr0' does not exist" in line for line in log)
    assert any("online migrate failure - remote command failed with exit code 255" in line for line in log)
    assert home(sim) == ("pve1", "running", None, ["pve1/vm-100-disk-0"])


def test_a_stopped_vm_moves_to_a_node_without_its_bridge_and_fails_to_start_there(
    sim: PveSim, api: Api
) -> None:
    sim.add_vm(100)
    sim.server.node_info["pve2"].bridges = ()
    assert move(api)[0] == "OK"
    upid = api.post("/nodes/pve2/qemu/100/status/start")
    assert api.ended(upid) == "bridge 'vmbr0' does not exist"


def test_a_full_target_leaves_everything_on_the_source(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.server.sizes["local-lvm"] = 1024
    status, log = move(api)
    assert status == "migration aborted"
    assert any(
        "storage migration for 'local-lvm:vm-100-disk-0' to storage 'local-lvm' failed" in x for x in log
    )
    assert home(sim) == ("pve1", "stopped", None, ["pve1/vm-100-disk-0"])


@pytest.mark.parametrize(("running", "status"), [(True, "migration problems"), (False, "migration aborted")])
def test_a_failure_half_way_releases_the_lock_and_removes_the_copies(
    sim: PveSim, api: Api, running: bool, status: str
) -> None:
    sim.add_vm(100, running=running)
    sim.server.migrate_errors[100] = "mirror-scsi0: 'mirror' has been cancelled"
    assert move(api)[0] == status
    assert home(sim) == ("pve1", "running" if running else "stopped", None, ["pve1/vm-100-disk-0"])


def test_a_killed_worker_leaves_the_lock_and_the_copies(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    with sim.hold("migrate:copying") as hold:
        upid = api.post(PATH, target="pve2", online=1, **{"with-local-disks": 1})
        assert hold.reached.wait(5)
        sim.kill_tasks("qmigrate")
    assert api.ended(upid) == "unexpected status"
    assert home(sim) == ("pve1", "running", "migrate", ["pve1/vm-100-disk-0", "pve2/vm-100-disk-0"])


def test_the_death_of_the_source_node_leaves_a_locked_vm_there(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, node="pve3")
    with sim.hold("migrate:copying") as hold:
        upid = api.post("/nodes/pve3/qemu/100/migrate", target="pve2", online=1, **{"with-local-disks": 1})
        assert hold.reached.wait(5)
        sim.node_down("pve3")
    with pytest.raises(ApiError, match="595"):
        api.status(upid)
    assert home(sim)[:3] == ("pve3", "stopped", "migrate")


def test_the_death_of_the_target_node_leaves_the_vm_running_on_the_source(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    with sim.hold("migrate:copying") as hold:
        upid = api.post(PATH, target="pve2", online=1, **{"with-local-disks": 1})
        assert hold.reached.wait(5)
        sim.node_down("pve2")
    assert api.ended(upid) == "migration problems"
    assert home(sim)[:3] == ("pve1", "running", None)


def test_the_gui_is_told_of_a_failure(sim: PveSim) -> None:
    sim.add_vm(100, running=True, usb0="host=1234:5678")
    with pytest.raises(PveError, match="migration aborted"):
        sim.migrate(100, "pve2")
