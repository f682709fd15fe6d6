"""Power of a real guest: the VM is what its QEMU process is, whoever ends it."""

import pytest

from harness.inside import BOOT_SECONDS, Inside
from pvesim import PveSim
from pvesim.client import Api, ApiError, eventually

ONE = "/nodes/pve1/qemu/100"


@pytest.fixture(scope="module")
def vm(sim: PveSim, api: Api) -> Inside:
    """VM 100, a linked clone without cloud-init, whose agent answers."""
    sim.add_template(cloudinit=False, cores=2, memory="768")
    assert api.ended(api.clone(9000, 100, full=0, name="power")) == "OK"
    assert api.ended(api.post(f"{ONE}/status/start")) == "OK"
    inside = Inside(api, 100)
    inside.wait_booted()
    return inside


def running(sim: PveSim) -> bool:
    return sim.vm(100).status == "running"


def boot_id(vm: Inside) -> str | None:
    """Which boot of the guest this is, None while its agent does not answer."""
    try:
        return vm.read("cat /proc/sys/kernel/random/boot_id")
    except ApiError:
        return None


def test_a_guest_that_reboots_itself_keeps_its_process_and_what_is_pending(
    sim: PveSim, api: Api, vm: Inside
) -> None:
    process, before = sim.door(100).pid, boot_id(vm)
    api.set(100, cores=1)
    sim.guest_reboot(100)
    eventually(lambda: boot_id(vm) not in (None, before), seconds=BOOT_SECONDS)
    assert (sim.door(100).pid, vm.read("nproc")) == (process, "2")
    assert list(api.pending(100)) == ["cores"]


def test_a_reboot_through_the_api_is_another_process_with_what_was_pending(
    sim: PveSim, api: Api, vm: Inside
) -> None:
    process = sim.door(100).pid
    assert api.ended(api.post(f"{ONE}/status/reboot", timeout=300), seconds=BOOT_SECONDS) == "OK"
    eventually(lambda: running(sim), seconds=30)
    vm.wait_booted()
    assert sim.door(100).pid != process
    assert (vm.read("nproc"), api.pending(100)) == ("1", {})


def test_a_guest_that_powers_itself_off_leaves_a_stopped_vm(sim: PveSim, vm: Inside) -> None:
    assert running(sim)
    vm.start("/sbin/poweroff")
    eventually(lambda: not running(sim), seconds=BOOT_SECONDS)
    assert not sim.tasks("qmstop")


def test_without_an_agent_a_shutdown_is_by_acpi_and_fails_while_nobody_listens(
    sim: PveSim, api: Api, vm: Inside
) -> None:
    api.set(100, delete="agent")
    assert api.ended(api.post(f"{ONE}/status/start")) == "OK"
    # The boot loader knows no ACPI.
    assert api.ended(api.post(f"{ONE}/status/shutdown", timeout=1)) == (
        "VM quit/powerdown failed - got timeout"
    )
    assert running(sim)
    log = sim.door(100).console_log
    eventually(lambda: "login:" in log.read_text(errors="replace"), seconds=BOOT_SECONDS)
    assert api.ended(api.post(f"{ONE}/status/shutdown", timeout=300), seconds=BOOT_SECONDS) == "OK"
    assert not running(sim)
