"""Backups and restores made by others: locks, what a restore replaces, and what it carries along."""

import pytest
from fakepve.model import PveError

from pvesim import PveSim
from pvesim.client import Api


@pytest.fixture
def saved(sim: PveSim) -> PveSim:
    """VM 100 with a data disk, a disk that backups leave out, and a backup."""
    sim.add_vm(100, description="a mark", scsi1="local-lvm:1", scsi2="local-lvm:2,backup=0")
    sim.wait_task(sim.backup(100, 0))
    return sim


def data(sim: PveSim) -> dict[str, int]:
    """{volume: what is on it} of VM 100."""
    return {volume.name: volume.data for volume in sim.world().volumes_of(100)}


def test_a_restore_in_place_brings_the_data_back_on_new_volumes(saved: PveSim, api: Api) -> None:
    before = data(saved)
    for slot in ("scsi0", "scsi1"):
        saved.write_disk(100, slot)
    saved.edit_config(100, cores=4)
    saved.restore(100)
    config, after = api.config(100), data(saved)
    assert config["cores"] == 1
    for slot in ("scsi0", "scsi1"):
        number = slot.removeprefix("scsi")
        assert after[config[slot].partition(",")[0].partition(":")[2]] == before[f"vm-100-disk-{number}"]
    assert saved.vm(100).status == "stopped"


def test_what_a_backup_leaves_out_is_unused_after_a_restore_and_a_line_of_the_description(
    saved: PveSim, api: Api
) -> None:
    saved.edit_config(100, scsi3="local-lvm:3")
    kept = {name: data(saved)[name] for name in ("vm-100-disk-2", "vm-100-disk-3")}
    saved.restore(100)
    config = api.config(100)
    assert "scsi2" not in config
    assert "scsi3" not in config
    unused = {config[key].partition(":")[2] for key in config if key.startswith("unused")}
    assert unused == set(kept)
    assert {name: data(saved)[name] for name in kept} == kept
    assert config["description"] == "a mark\nscsi2: local-lvm:vm-100-disk-2,backup=0,size=2G"


def test_a_restore_in_place_loses_all_snapshots(saved: PveSim, api: Api) -> None:
    saved.snapshot(100, "one")
    saved.restore(100)
    assert [item["name"] for item in api.get("/nodes/pve1/qemu/100/snapshot")] == ["current"]
    assert "parent" not in api.config(100)


def test_a_restore_to_another_id_is_a_second_vm_with_the_same_mark_uuid_and_macs(
    saved: PveSim, api: Api
) -> None:
    saved.restore(100, to=101)
    saved.restore(100, to=102, unique=True)
    first, second, third = (api.config(vmid) for vmid in (100, 101, 102))
    for key in ("smbios1", "net0"):
        assert second[key] == first[key]
        assert third[key] != first[key]
    assert second["description"].startswith("a mark")
    assert second["scsi0"].startswith("local-lvm:vm-101-disk-0,")


def test_a_running_protected_or_locked_vm_is_not_restored_over(saved: PveSim) -> None:
    saved.start(100)
    with pytest.raises(PveError, match="unable to restore VM 100 - vm is running"):
        saved.restore(100)
    saved.stop(100)
    saved.edit_config(100, protection=1)
    with pytest.raises(PveError, match="unable to restore VM 100 - protection mode enabled"):
        saved.restore(100)
    saved.set_lock(100, "migrate")
    with pytest.raises(PveError, match=r"unable to restore VM 100 - VM is locked \(migrate\)"):
        saved.restore(100)


def test_while_it_is_restored_a_vm_is_a_locked_stub(saved: PveSim, api: Api) -> None:
    with saved.hold("restore:copying") as hold:
        upid = saved.restore(100, wait=False)
        assert hold.reached.wait(5)
        config = api.config(100)
        assert (config["lock"], config["memory"]) == ("create", "128")
        assert "description" not in config
    assert api.ended(upid) == "OK"


def test_a_backup_of_a_locked_vm_fails_and_only_the_log_says_why(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.set_lock(100, "migrate")
    upid = sim.backup(100, 0)
    assert api.ended(upid) == "job errors"
    assert "ERROR: Backup of VM 100 failed - VM is locked (migrate)" in api.log(upid)
    assert sim.vm(100).lock == "migrate"
