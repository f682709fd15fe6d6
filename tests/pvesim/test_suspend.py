"""Pause and hibernation, and what a start after one does not do."""

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError

ONE = "/nodes/pve1/qemu/100"


def test_a_paused_vm_runs_on_and_can_be_resumed(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    assert api.ended(api.post(f"{ONE}/status/suspend")) == "OK"
    current = api.get(f"{ONE}/status/current")
    assert (current["status"], current["qmpstatus"]) == ("running", "paused")
    with pytest.raises(ApiError, match="500 VM is paused - cannot shutdown"):
        api.post(f"{ONE}/status/shutdown")
    assert api.ended(api.post(f"{ONE}/status/resume")) == "OK"
    assert api.get(f"{ONE}/status/current")["qmpstatus"] == "running"


def test_hibernation_leaves_a_lock_and_a_volume_with_the_memory(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    upid = api.post(f"{ONE}/status/suspend", todisk=1)
    assert ":qmsuspend:100:" in upid
    assert api.ended(upid) == "OK"
    config = api.config(100)
    assert (config["lock"], config["vmstate"]) == ("suspended", "local-lvm:vm-100-state-suspend")
    assert sim.vm(100).status == "stopped"
    with pytest.raises(ApiError, match=r"500 VM is locked \(suspended\)"):
        api.set(100, onboot=1)


def test_a_start_after_hibernation_applies_nothing_that_is_pending(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    sim.edit_config(100, cores=4)
    sim.hibernate(100)
    assert api.ended(api.post(f"{ONE}/status/start")) == "OK"
    assert list(api.pending(100)) == ["cores"]
    assert (sim.vm(100).qemu or {})["cores"] == 1
    assert [volume.name for volume in sim.world().volumes_of(100)] == ["vm-100-disk-0"]
    assert "lock" not in api.config(100)


def test_a_managed_vm_and_one_with_a_pci_device_cannot_hibernate(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, hostpci0="mapping=gpu")
    with pytest.raises(ApiError, match="500 cannot suspend VM to disk due to passed-through PCI device"):
        api.post(f"{ONE}/status/suspend", todisk=1)
    sim.set_ha(100, "started")
    with pytest.raises(ApiError, match="500 Cannot suspend HA managed VM to disk"):
        api.post(f"{ONE}/status/suspend", todisk=1)


def test_a_stopped_vm_cannot_be_suspended_or_resumed(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    for verb in ("suspend", "resume"):
        with pytest.raises(ApiError, match="500 VM 100 not running"):
            api.post(f"{ONE}/status/{verb}")
