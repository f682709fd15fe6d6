"""Snapshots: which storages have them, what a rollback brings back, what an existing one blocks."""

from typing import Any

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError

ONE = "/nodes/pve1/qemu/100"
# type -> snapshot, linked clone of a template; of the formats a file storage can hold, the first one
FEATURES = {
    ("lvmthin", "raw"): (True, True),
    ("rbd", "raw"): (True, True),
    ("zfspool", "raw"): (True, True),
    ("lvm", "raw"): (False, False),
    ("dir", "raw"): (False, True),
    ("dir", "qcow2"): (True, True),
    ("nfs", "raw"): (False, True),
    ("nfs", "qcow2"): (True, True),
}


def snapshot(api: Api, name: str, **options: Any) -> str:
    return api.ended(api.post(f"{ONE}/snapshot", snapname=name, **options))


def rollback(api: Api, name: str, **options: Any) -> str:
    return api.ended(api.post(f"{ONE}/snapshot/{name}/rollback", **options))


def data(sim: PveSim, name: str = "vm-100-disk-0") -> int:
    """What is on a volume of VM 100."""
    return {v.name: v.data for v in sim.world().volumes_of(100)}[name]


@pytest.mark.parametrize(("kind", "features"), FEATURES.items(), ids=[" ".join(kind) for kind in FEATURES])
def test_this_storage_has_these_features(
    sim: PveSim, api: Api, kind: tuple[str, str], features: tuple[bool, bool]
) -> None:
    snapshots, links = features
    sim.add_storage("any", kind[0])
    sim.add_vm(100, storage=None, scsi0=f"any:1,format={kind[1]}")
    assert api.get(f"{ONE}/feature", feature="snapshot")["hasFeature"] == int(snapshots)
    assert snapshot(api, "one") == ("OK" if snapshots else "snapshot feature is not available")
    if snapshots:
        api.ended(api.delete(f"{ONE}/snapshot/one"))
    assert api.ended(api.post(f"{ONE}/template")) == "OK"
    assert api.get(f"{ONE}/feature", feature="clone")["hasFeature"] == int(links)
    if links:
        assert api.ended(api.clone(100, 101, full=0)) == "OK"
    else:
        with pytest.raises(
            ApiError, match="500 Linked clone feature is not supported for 'any:vm-100-disk-0'"
        ):
            api.clone(100, 101, full=0)


def test_cephfs_holds_no_disks(sim: PveSim, api: Api) -> None:
    sim.add_storage("files", "cephfs")
    sim.add_vm(100)
    with pytest.raises(ApiError, match=r"400 .*storage 'files' does not support vm images"):
        api.set(100, scsi1="files:1")


def test_a_block_storage_refuses_a_new_disk_in_a_format_of_files(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    with pytest.raises(ApiError, match="500 unsupported format 'qcow2'"):
        api.set(100, scsi1="local-lvm:1,format=qcow2")
    assert len(sim.world().volumes_of(100)) == 1


def test_one_disk_without_snapshots_is_enough_to_have_none(sim: PveSim, api: Api) -> None:
    sim.add_storage("thick", "lvm")
    sim.add_vm(100, scsi1="thick:1")
    assert snapshot(api, "one") == "snapshot feature is not available"
    assert "lock" not in api.config(100)


def test_a_feature_is_available_on_all_nodes_only_if_every_disk_is_shared(sim: PveSim, api: Api) -> None:
    sim.add_storage("ceph", "rbd")
    sim.add_vm(100, storage="ceph")
    assert api.get(f"{ONE}/feature", feature="snapshot")["nodes"] == ["pve1", "pve2", "pve3"]
    sim.edit_config(100, scsi1="local-lvm:1")
    assert api.get(f"{ONE}/feature", feature="snapshot")["nodes"] == ["pve1"]


def test_a_rollback_brings_back_data_and_config_and_ends_stopped(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, description="old")
    before = data(sim)
    assert snapshot(api, "one", description="note") == "OK"
    sim.write_disk(100, "scsi0")
    sim.edit_config(100, onboot=1, description="new")
    sim.edit_config(100, cores=4)
    assert data(sim) != before
    assert rollback(api, "one") == "OK"
    assert data(sim) == before
    config = api.config(100)
    assert (config["parent"], config["description"], config["cores"]) == ("one", "new", 1)
    assert "onboot" not in config
    assert api.pending(100) == {}
    assert sim.vm(100).status == "stopped"


def test_a_rollback_with_memory_or_start_ends_running(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    assert snapshot(api, "ram", vmstate=1) == "OK"
    assert "vm-100-state-ram" in {v.name for v in sim.world().volumes_of(100)}
    assert rollback(api, "ram") == "OK"
    assert sim.vm(100).status == "running"
    assert api.ended(api.delete(f"{ONE}/snapshot/ram")) == "OK"
    assert snapshot(api, "plain") == "OK"
    assert rollback(api, "plain", start=1) == "OK"
    assert sim.vm(100).status == "running"
    assert [v.name for v in sim.world().volumes_of(100)] == ["vm-100-disk-0"]


def test_a_rollback_moves_newer_disks_to_unused(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    snapshot(api, "one")
    sim.edit_config(100, scsi1="local-lvm:1")
    assert rollback(api, "one") == "OK"
    config = api.config(100)
    assert "scsi1" not in config
    assert config["unused0"] == "local-lvm:vm-100-disk-1"


def test_on_zfs_only_the_newest_snapshot_can_be_rolled_back_to(sim: PveSim, api: Api) -> None:
    sim.add_storage("tank", "zfspool")
    sim.add_vm(100, storage="tank")
    snapshot(api, "one")
    snapshot(api, "two")
    assert rollback(api, "one") == "can't rollback, 'one' is not most recent snapshot on 'tank:vm-100-disk-0'"
    assert rollback(api, "two") == "OK"


def test_a_snapshot_locks_the_config_while_it_is_taken(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    with sim.hold("snapshot:taking") as hold:
        upid = api.post(f"{ONE}/snapshot", snapname="one")
        assert hold.reached.wait(5)
        with pytest.raises(ApiError, match=r"VM is locked \(snapshot\)"):
            api.set(100, onboot=1)
    assert api.ended(upid) == "OK"


def test_a_snapshot_that_is_deleted_leaves_what_only_it_held_as_unused(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, scsi1="local-lvm:1")
    snapshot(api, "one")
    snapshot(api, "two")
    assert api.ended(api.delete(f"{ONE}/snapshot/one")) == "OK"
    assert "parent" not in sim.vm(100).snapshots["two"]
    sim.edit_config(100, delete="scsi1")
    sim.vm(100).config.pop("unused0")
    assert api.ended(api.delete(f"{ONE}/snapshot/two")) == "OK"
    # unused0 was the boot disk for a moment, and a slot of its own is not what a disk in use keeps.
    assert api.config(100)["unused1"] == "local-lvm:vm-100-disk-1"
    assert "parent" not in api.config(100)


def test_a_vm_with_snapshots_becomes_no_template(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    snapshot(api, "one")
    with pytest.raises(ApiError, match="500 unable to create template, because VM contains snapshots"):
        api.post(f"{ONE}/template")


def test_a_destroy_frees_what_only_snapshots_hold(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    snapshot(api, "one", vmstate=1)
    sim.stop(100)
    assert api.ended(api.delete(ONE)) == "OK"
    assert sim.world().volumes == ()


def test_a_snapshot_needs_its_privilege(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.revoke(sim.token_id, "/vms/100", ["VM.Snapshot"])
    with pytest.raises(ApiError, match=r"403 .*VM\.Snapshot"):
        api.post(f"{ONE}/snapshot", snapname="one")
