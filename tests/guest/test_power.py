"""Power of a real guest: the VM is what its QEMU process is, whoever ends it."""

import pytest

from harness.inside import BOOT_SECONDS, Inside
from pvesim import PveSim
from pvesim.client import Api, eventually

ONE = "/nodes/pve1/qemu/100"
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


@pytest.fixture(scope="module")
def vm(sim: PveSim, api: Api) -> Inside:
    """VM 100, a linked clone without cloud-init, whose agent answers."""
    sim.add_template(cloudinit=False, cores=2, memory="768")
    assert api.ended(api.clone(9000, 100, full=0, name="power")) == "OK"
    return Inside(api, 100)


def running(sim: PveSim) -> bool:
    return sim.vm(100).status == "running"


def boot(vm: Inside) -> None:
    assert vm.api.ended(vm.api.post(f"{ONE}/status/start")) == "OK"
    vm.wait_booted()


def test_a_guest_that_reboots_itself_keeps_its_process_and_what_is_pending(
    sim: PveSim, api: Api, vm: Inside
) -> None:
    boot(vm)
    process, before = sim.door(100).pid, vm.read(BOOT_ID)
    api.set(100, cores=1)
    sim.guest_reboot(100)
    eventually(lambda: vm.answers() and vm.read(BOOT_ID) != before, seconds=BOOT_SECONDS)
    assert (sim.door(100).pid, vm.read("nproc")) == (process, "2")
    assert list(api.pending(100)) == ["cores"]


def test_a_reboot_through_the_api_is_another_process_with_what_was_pending(
    sim: PveSim, api: Api, vm: Inside
) -> None:
    process = sim.door(100).pid
    assert api.ended(api.post(f"{ONE}/status/reboot", timeout=180)) == "OK"
    eventually(lambda: running(sim), seconds=30)
    vm.wait_booted()
    assert sim.door(100).pid != process
    assert (vm.read("nproc"), api.pending(100)) == ("1", {})


def test_a_guest_that_powers_itself_off_leaves_a_stopped_vm_and_what_it_wrote(
    sim: PveSim, api: Api, vm: Inside
) -> None:
    vm.read("echo kept > /var/lib/note")
    vm.start("/sbin/poweroff")
    eventually(lambda: not running(sim), seconds=120)
    assert not sim.tasks("qmstop")
    boot(vm)
    assert vm.read("cat /var/lib/note") == "kept"


def test_a_shutdown_ends_the_guest_in_order(sim: PveSim, api: Api, vm: Inside) -> None:
    assert running(sim)
    assert api.ended(api.post(f"{ONE}/status/shutdown", timeout=180)) == "OK"
    assert not running(sim)


def test_without_an_agent_a_shutdown_is_by_acpi_and_a_hung_guest_is_ended_by_force(
    sim: PveSim, api: Api, vm: Inside
) -> None:
    api.set(100, delete="agent")
    assert api.ended(api.post(f"{ONE}/status/start")) == "OK"
    # Nobody listens for ACPI while the boot loader runs.
    assert (
        api.ended(api.post(f"{ONE}/status/shutdown", timeout=1)) == "VM quit/powerdown failed - got timeout"
    )
    assert running(sim)
    log = sim.door(100).console_log
    eventually(lambda: log.read_text(errors="replace").count("login:") >= 3, seconds=BOOT_SECONDS)
    assert api.ended(api.post(f"{ONE}/status/shutdown", timeout=180)) == "OK"
    assert not running(sim)
