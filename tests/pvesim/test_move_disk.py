"""Moving, unlinking and growing disks: what is copied, what stays as unusedN, what refuses."""

from typing import Any

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError

ONE = "/nodes/pve1/qemu/100"


@pytest.fixture
def moving(sim: PveSim) -> PveSim:
    sim.add_storage("fast", "lvmthin")
    sim.add_vm(100, running=True, agent="1")
    return sim


def move(api: Api, **options: Any) -> str:
    """Move scsi0 to `fast`; the exit status."""
    upid = api.post(f"{ONE}/move_disk", **({"disk": "scsi0", "storage": "fast"} | options))
    assert ":qmmove:100:" in upid
    return api.ended(upid)


def volumes(sim: PveSim) -> dict[str, int]:
    """{volume id: what is on it} of VM 100."""
    return {f"{v.storage}:{v.name}": v.data for v in sim.world().volumes_of(100)}


def test_a_moved_disk_holds_the_same_data_and_the_source_stays_as_unused(moving: PveSim, api: Api) -> None:
    [data] = volumes(moving).values()
    assert move(api) == "OK"
    config = api.config(100)
    assert config["scsi0"] == "fast:vm-100-disk-0,size=4G"
    assert config["unused0"] == "local-lvm:vm-100-disk-0"
    assert volumes(moving) == {"fast:vm-100-disk-0": data, "local-lvm:vm-100-disk-0": data}
    assert (moving.vm(100).qemu or {})["scsi0"].startswith("fast:")
    assert api.pending(100) == {}


def test_with_delete_the_source_volume_is_gone(moving: PveSim, api: Api) -> None:
    assert move(api, delete=1) == "OK"
    assert list(volumes(moving)) == ["fast:vm-100-disk-0"]
    assert "unused0" not in api.config(100)


def test_the_options_of_the_drive_move_along(moving: PveSim, api: Api) -> None:
    api.set(100, scsi0="local-lvm:vm-100-disk-0,iops_rd=100,backup=0")
    assert move(api, delete=1) == "OK"
    assert api.config(100)["scsi0"] == "fast:vm-100-disk-0,backup=0,iops_rd=100,size=4G"


def test_a_move_holds_the_lock_file_but_sets_no_lock(moving: PveSim, api: Api) -> None:
    with moving.hold("move:copying") as hold:
        upid = api.post(f"{ONE}/move_disk", disk="scsi0", storage="fast")
        assert hold.reached.wait(5)
        assert "lock" not in api.config(100)
        with pytest.raises(ApiError, match="got timeout"):
            api.set(100, onboot=1)
    assert api.ended(upid) == "OK"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"disk": "scsi5"}, "500 disk 'scsi5' does not exist"),
        ({"disk": "ide2"}, "500 you can't move a cdrom"),
        ({"storage": "local-lvm"}, "500 you can't move to the same storage with same format"),
        ({"storage": "local"}, "400 .*storage 'local' does not support vm images"),
        ({"digest": "0" * 40}, "500 detected modified configuration - file changed by other user"),
        ({"storage": "elsewhere"}, "500 storage 'elsewhere' is not available on node 'pve1'"),
    ],
    ids=["no such disk", "a CD-ROM", "the same storage", "no images", "another digest", "another node"],
)
def test_this_move_is_refused_at_once(moving: PveSim, api: Api, options: dict[str, Any], text: str) -> None:
    moving.add_storage("elsewhere", "lvmthin", nodes=["pve2"])
    moving.stop(100)
    moving.edit_config(100, ide2="none,media=cdrom")
    with pytest.raises(ApiError, match=text):
        move(api, **options)


def test_moving_needs_space_on_the_target_storage_as_a_privilege(moving: PveSim, api: Api) -> None:
    moving.revoke(moving.token_id, "/storage/fast", ["Datastore.AllocateSpace"])
    with pytest.raises(ApiError, match=r"403 .*/storage/fast, Datastore\.AllocateSpace"):
        move(api)


def test_a_full_target_fails_in_the_task_and_leaves_the_disk_where_it_is(moving: PveSim, api: Api) -> None:
    moving.fill_storage("fast", free_gib=1)
    assert move(api).startswith("storage migration failed: lvcreate 'pve/vm-100-disk-0' error:")
    assert list(volumes(moving)) == ["local-lvm:vm-100-disk-0"]


def test_a_failure_half_way_frees_the_copy(moving: PveSim, api: Api) -> None:
    moving.server.move_errors[100] = "mirror-scsi0: 'mirror' has been cancelled"
    assert move(api) == "storage migration failed: mirror-scsi0: 'mirror' has been cancelled"
    assert list(volumes(moving)) == ["local-lvm:vm-100-disk-0"]


def test_a_killed_move_leaves_the_copy_and_the_disk_where_it_was(moving: PveSim, api: Api) -> None:
    with moving.hold("move:copying") as hold:
        upid = api.post(f"{ONE}/move_disk", disk="scsi0", storage="fast", delete=1)
        assert hold.reached.wait(5)
        moving.kill_tasks("qmmove")
    assert api.ended(upid) == "unexpected status"
    assert api.config(100)["scsi0"].startswith("local-lvm:")
    assert len(volumes(moving)) == 2


def test_a_snapshot_forbids_to_delete_the_source_but_not_to_keep_it(moving: PveSim, api: Api) -> None:
    api.ended(api.post(f"{ONE}/snapshot", snapname="before"))
    with pytest.raises(ApiError, match="500 you can't move a disk with snapshots and delete the source"):
        move(api, delete=1)
    assert move(api) == "OK"
    assert api.config(100)["unused0"] == "local-lvm:vm-100-disk-0"


def test_tpm_state_moves_only_while_the_vm_is_off(moving: PveSim, api: Api) -> None:
    moving.stop(100)
    moving.edit_config(100, tpmstate0="local-lvm:1,version=v2.0")
    moving.start(100)
    assert (
        move(api, disk="tpmstate0") == "storage migration failed: cannot move TPM state while VM is running"
    )
    moving.stop(100)
    assert move(api, disk="tpmstate0", delete=1) == "OK"


def test_an_unused_disk_moves_too(moving: PveSim, api: Api) -> None:
    moving.edit_config(100, scsi1="local-lvm:1")
    moving.edit_config(100, delete="scsi1")
    assert move(api, disk="unused0", delete=1) == "OK"
    assert api.config(100)["unused0"].startswith("fast:vm-100-disk-")


# ------------------------------------------------------------------------- unlink


def test_unlink_detaches_and_with_force_destroys(moving: PveSim, api: Api) -> None:
    moving.edit_config(100, scsi1="local-lvm:1", scsi2="local-lvm:2")
    api.put(f"{ONE}/unlink", idlist="scsi1")
    assert api.config(100)["unused0"] == "local-lvm:vm-100-disk-1"
    api.put(f"{ONE}/unlink", idlist="scsi2", force=1)
    assert "local-lvm:vm-100-disk-2" not in volumes(moving)
    api.put(f"{ONE}/unlink", idlist="unused0")
    assert list(volumes(moving)) == ["local-lvm:vm-100-disk-0"]


def test_a_detached_disk_that_a_snapshot_holds_cannot_be_deleted(moving: PveSim, api: Api) -> None:
    moving.edit_config(100, scsi1="local-lvm:1")
    api.ended(api.post(f"{ONE}/snapshot", snapname="before"))
    moving.edit_config(100, delete="scsi1")
    with pytest.raises(ApiError, match=r"500 unable to delete .* volume is still in use \(snapshot\?\)"):
        api.put(f"{ONE}/unlink", idlist="unused0")


# ------------------------------------------------------------------------- resize


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("lvmthin", "free space in thin pool pve/data reached threshold"),
        ("lvm", "Insufficient free space: 1024 extents needed, but only 256 available"),
        ("zfspool", "size is greater than available space"),
        ("rbd", "No space left on device"),
        ("dir", "No space left on device"),
    ],
)
def test_a_grow_on_a_full_storage_fails_in_the_task(sim: PveSim, api: Api, kind: str, text: str) -> None:
    sim.add_storage("full", kind)
    sim.add_vm(100, storage="full", running=True)
    sim.fill_storage("full", free_gib=1)
    assert text in api.ended(api.put(f"{ONE}/resize", disk="scsi0", size="8G"))
    assert "size=4G" in api.config(100)["scsi0"]


def test_a_shrink_is_refused_in_the_task_and_the_same_size_is_no_change(moving: PveSim, api: Api) -> None:
    assert api.ended(api.put(f"{ONE}/resize", disk="scsi0", size="1G")) == "shrinking disks is not supported"
    assert api.ended(api.put(f"{ONE}/resize", disk="scsi0", size="4G")) == "OK"


def test_a_disk_with_snapshots_grows_also_as_qcow2(sim: PveSim, api: Api) -> None:
    sim.add_storage("nfs", "nfs")
    sim.add_vm(100, storage=None, scsi0="nfs:4,format=qcow2", scsi1="local-lvm:1", running=True)
    api.ended(api.post(f"{ONE}/snapshot", snapname="before"))
    for disk in ("scsi0", "scsi1"):
        assert api.ended(api.put(f"{ONE}/resize", disk=disk, size="+1G")) == "OK"
    assert "size=5G" in api.config(100)["scsi0"]
