"""Power: what succeeds, what fails in the task, and what a start does."""

from typing import Any

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError

STATUS = "/nodes/pve1/qemu/100/status"


def test_a_start_is_a_task_and_the_current_status_is_live(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, agent="1")
    upid = api.post(f"{STATUS}/start")
    assert ":qmstart:100:" in upid
    assert api.ended(upid) == "OK"
    current = api.get(f"{STATUS}/current")
    assert (current["status"], current["qmpstatus"], current["agent"]) == ("running", "running", 1)
    assert current["pid"] > 0
    assert current["uptime"] > 0
    assert current["ha"] == {"managed": 0}


def test_a_stopped_vm_has_no_pid_and_no_uptime(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    current = api.get(f"{STATUS}/current")
    assert (current["status"], current["uptime"]) == ("stopped", 0)
    assert "pid" not in current


def test_starting_a_running_vm_fails_in_the_task(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    assert api.ended(api.post(f"{STATUS}/start")) == "VM 100 already running"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"template": 1}, "you can't start a vm if it's a template"),
        ({"lock": "backup"}, "VM is locked (backup)"),
        ({"net0": "virtio,bridge=vmbr9"}, "bridge 'vmbr9' does not exist"),
        ({"memory": "999999"}, "start failed: QEMU exited with code 1"),
    ],
    ids=["a template", "a locked one", "one on a missing bridge", "one with too much memory"],
)
def test_this_vm_fails_to_start_in_the_task(sim: PveSim, api: Api, config: dict[str, Any], text: str) -> None:
    sim.add_vm(100, **config)
    assert api.ended(api.post(f"{STATUS}/start")) == text
    assert sim.vm(100).status == "stopped"


def test_a_vm_on_a_storage_that_is_offline_or_gone_fails_to_start(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.storage_offline("local-lvm")
    assert api.ended(api.post(f"{STATUS}/start")) == "storage 'local-lvm' is not online"
    del sim.server.storages["local-lvm"]
    assert api.ended(api.post(f"{STATUS}/start")) == "storage 'local-lvm' does not exist"


def test_power_calls_on_a_missing_vm_fail_in_the_task_except_reboot(api: Api) -> None:
    missing = "unable to find configuration file for VM 100 on node 'pve1'"
    assert api.ended(api.post(f"{STATUS}/start")) == (
        "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist"
    )
    assert api.ended(api.post(f"{STATUS}/stop")) == missing
    assert api.ended(api.post(f"{STATUS}/shutdown")) == missing
    with pytest.raises(ApiError, match=missing):
        api.post(f"{STATUS}/reboot")


def test_stop_and_shutdown_of_a_stopped_vm_succeed_and_a_reboot_is_refused(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    assert api.ended(api.post(f"{STATUS}/stop")) == "OK"
    assert api.ended(api.post(f"{STATUS}/shutdown")) == "OK"
    with pytest.raises(ApiError, match="500 VM 100 not running"):
        api.post(f"{STATUS}/reboot")


def test_a_guest_that_ignores_acpi_outlives_a_shutdown(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    sim.vm(100).guest_os.acpi = False
    upid = api.post(f"{STATUS}/shutdown", timeout=1)
    assert ":qmshutdown:100:" in upid
    assert api.ended(upid) == "VM quit/powerdown failed - got timeout"
    assert sim.vm(100).status == "running"


def test_with_force_stop_it_does_not(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    sim.vm(100).guest_os.acpi = False
    assert api.ended(api.post(f"{STATUS}/shutdown", timeout=1, forceStop=1)) == "OK"
    assert sim.vm(100).status == "stopped"


def test_a_guest_shuts_down_in_its_own_time(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    sim.vm(100).guest_os.shutdown_seconds = 0.5
    upid = api.post(f"{STATUS}/shutdown")
    assert api.status(upid)["status"] == "running"
    assert api.ended(upid) == "OK"
    assert sim.vm(100).status == "stopped"


def test_a_stop_overrules_a_hanging_shutdown(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    sim.vm(100).guest_os.acpi = False
    hanging = api.post(f"{STATUS}/shutdown", timeout=600)
    stop = api.post(f"{STATUS}/stop", **{"overrule-shutdown": 1})
    assert api.ended(stop) == "OK"
    assert api.ended(hanging) == "interrupted by signal"
    assert sim.vm(100).status == "stopped"


def test_a_node_that_shuts_down_stops_its_vms_by_a_task_of_root(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, node="pve2", running=True, onboot=1)
    sim.add_vm(101, node="pve2", running=True)
    sim.shutdown_node("pve2")
    assert {vm.status for vm in sim.world().vms} == {"stopped"}
    sim.node_up("pve2")
    [stopall] = sim.tasks("stopall")
    [startall] = sim.tasks("startall")
    assert {stopall.user, startall.user} == {"root@pam"}
    sim.wait_task(startall.upid)
    assert sim.vm(100).status == "running"
    assert sim.vm(101).status == "stopped"
    assert "stopall" in {task["type"] for task in api.get("/cluster/tasks")}
