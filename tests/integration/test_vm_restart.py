"""Changes that wait for a cold boot, and the restarts that are made for them or by the annotation."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from harness.conditions import Condition
from harness.world import World
from proxmox_operator.api.names import RESTART
from proxmox_operator.kube.resources import PROXMOX_VMS
from pvesim.recorder import Call

AUTOMATIC = {"restart": "Automatic"}
SMALL: dict[str, Any] = {"memory": {"size": "512Mi"}}
LARGE: dict[str, Any] = {"memory": {"size": "1Gi"}}
OPEN, SHUT = "2026-11-25T03:00", "2026-11-25T12:00"
WINDOW = {"days": ["Wednesday"], "start": "02:00", "end": "04:00"}


def power_calls(world: World, vmid: int) -> list[str]:
    """What was done to its power since :meth:`World.forget_writes`."""
    paths = [call.path for call in world.writes(vmid)]
    return [path.rpartition("/")[2] for path in paths if "/status/" in path]


def required(world: World, name: str) -> Condition:
    found = world.condition(name, "RestartRequired")
    assert found is not None
    return found


def in_force(world: World, vmid: int) -> str:
    """The memory that QEMU was started with."""
    return str((world.sim.vm(vmid).qemu or {}).get("memory"))


def make(world: World, **spec: Any) -> tuple[str, int]:
    """A VM that runs with little memory; its writes are forgotten."""
    name = world.make("web", **SMALL, **spec)
    vmid = world.wait_ready(name)
    world.forget_writes()
    return name, vmid


def enlarge(world: World, name: str) -> Condition:
    """Ask for more memory and wait until that waits for a boot."""
    world.edit(name, **LARGE)
    world.wait_until(lambda: bool(world.status(name).get("plan")), "it is told", name)
    found = required(world, name)
    assert found.status == "True"
    return found


def settled_after_restart(world: World, name: str, vmid: int) -> None:
    """It was restarted once, gracefully, with what waited."""
    world.wait_until(lambda: in_force(world, vmid) == "1024", "it runs with more memory", name)
    world.wait_until(lambda: "restart" not in world.status(name), "the restart is over", name)
    world.wait_ready(name)
    world.passes(name)
    assert power_calls(world, vmid) == ["shutdown", "start"]
    assert (required(world, name).status, required(world, name).reason) == ("False", "NothingPending")
    assert "plan" not in world.status(name)


@contextmanager
def clock(world: World, moment: str) -> Iterator[None]:
    """The operator's clock on the wall, which goes on from this moment."""
    assert world.operator is not None
    manager = world.operator.manager
    assert manager is not None
    context = manager.context
    usual, ahead = context.now, datetime.fromisoformat(moment).replace(tzinfo=UTC) - datetime.now(UTC)
    context.now = lambda: usual() + ahead
    try:
        yield
    finally:
        context.now = usual


def test_a_memory_edit_of_a_running_vm_waits_for_a_cold_boot_and_restarts_nothing(world: World) -> None:
    name, vmid = make(world)
    found = enlarge(world, name)
    assert found.reason == "PendingChanges"
    assert "spec.memory.size (memory): 512 -> 1024" in found.message
    world.wait_ready(name)
    assert world.status(name)["plan"] == ["at the next cold boot: spec.memory.size (memory): 512 -> 1024"]
    world.passes(name)
    assert power_calls(world, vmid) == []
    assert in_force(world, vmid) == "512"
    assert [call.path.rpartition("/")[2] for call in world.writes(vmid)] == ["config"]


def test_a_reboot_from_inside_the_guest_applies_nothing_and_a_stop_and_start_in_the_gui_does(
    world: World,
) -> None:
    name, vmid = make(world)
    enlarge(world, name)
    world.sim.guest_reboot(vmid)
    world.passes(name, 3)
    assert in_force(world, vmid) == "512"
    assert required(world, name).status == "True"
    world.sim.stop(vmid)
    world.wait_until(lambda: in_force(world, vmid) == "1024", "it runs again, with more memory", name)
    world.wait_reason(name, "NothingPending", kind="RestartRequired")
    assert "plan" not in world.status(name)


def test_a_reboot_in_the_gui_between_two_polls_is_noticed(world: World) -> None:
    name, vmid = make(world)
    enlarge(world, name)
    vm = world.sim.vm(vmid)
    vm.started_at = time.time() - 3600
    world.look()
    world.passes(name)

    def reboot() -> None:
        vm.power_off()
        world.sim.server.apply_pending(vm)
        vm.power_on(7)

    world.sim.call(reboot)
    world.wait_reason(name, "NothingPending", kind="RestartRequired")
    assert power_calls(world, vmid) == []


def test_what_waits_is_known_whoever_wrote_it_and_after_a_restart_of_the_operator(world: World) -> None:
    name, vmid = make(world)
    world.sim.edit_config(vmid, vga="std")
    found = world.wait_reason(name, "PendingChanges", kind="RestartRequired")
    assert "vga (not managed by the spec): unset -> std" in found.message
    world.edit(name, **LARGE)
    world.wait_until(lambda: "spec.memory.size" in required(world, name).message, "both are told", name)
    world.restart()
    world.passes(name)
    found = required(world, name)
    assert (found.status, found.reason) == ("True", "PendingChanges")
    assert power_calls(world, vmid) == []


def test_an_idle_vm_that_waits_for_a_boot_is_not_asked_about(world: World) -> None:
    name, _ = make(world)
    enlarge(world, name)
    world.wait_ready(name)
    asked = len(world.sim.recorder.matching("GET", "/pending$"))
    time.sleep(1.0)
    rereads = len(world.sim.recorder.matching("GET", "/pending$")) - asked
    assert rereads <= 5  # every 0.3 s here; every five minutes in production
    assert world.sim.recorder.matching("GET", "/qemu/[0-9]+/config$") == []


def test_an_automatic_restart_is_made_once_for_changes_that_wait(world: World) -> None:
    name, vmid = make(world, updates=AUTOMATIC)
    world.edit(name, **LARGE)
    settled_after_restart(world, name, vmid)
    assert "spec.memory.size (memory): 512 -> 1024" in world.wait_event(name, "Restarting")
    world.wait_event(name, "Restarted")
    assert "PowerDriftCorrected" not in {said.reason for said in world.events(name)}


def test_an_automatic_restart_is_not_made_for_what_somebody_else_has_changed(world: World) -> None:
    name, vmid = make(world, updates=AUTOMATIC)
    world.sim.edit_config(vmid, vga="std")
    world.wait_reason(name, "PendingChanges", kind="RestartRequired")
    world.passes(name)
    assert power_calls(world, vmid) == []


def test_an_automatic_restart_waits_for_its_window(world: World) -> None:
    with clock(world, SHUT):
        name, vmid = make(world, updates={**AUTOMATIC, "window": WINDOW})
        assert enlarge(world, name).reason == "OutsideWindow"
        assert "opens at 2026-12-02 02:00 UTC" in required(world, name).message
        world.wait_ready(name)
        world.passes(name)
        assert power_calls(world, vmid) == []
    with clock(world, OPEN):
        world.passes(name, 1)
        settled_after_restart(world, name, vmid)


def test_a_vm_wakes_by_itself_when_its_window_opens(world: World) -> None:
    with clock(world, "2026-11-25T01:59:57"):
        name, vmid = make(world, updates={**AUTOMATIC, "window": WINDOW})
        world.edit(name, **LARGE)
        settled_after_restart(world, name, vmid)
    assert world.wait_event(name, "Restarting")


def test_a_window_in_a_time_zone_that_does_not_exist_is_said(world: World) -> None:
    name = world.make("web", updates={**AUTOMATIC, "window": {**WINDOW, "timeZone": "Mars/Olympus"}})
    found = world.wait_reason(name, "UnknownTimeZone")
    assert "spec.updates.window.timeZone" in found.message
    world.edit(name, updates={"window": {"timeZone": "Europe/Berlin"}})
    world.wait_ready(name)


def test_the_annotation_restarts_once_also_without_any_change_and_outside_the_window(world: World) -> None:
    name, vmid = make(world)
    world.annotate(name, **{RESTART: "1"})
    world.wait_until(lambda: world.status(name).get("restartedFor") == "1", "it is acted on", name)
    world.wait_until(lambda: "restart" not in world.status(name), "the restart is over", name)
    world.wait_ready(name)
    world.passes(name)
    assert power_calls(world, vmid) == ["shutdown", "start"]
    world.annotate(name, **{RESTART: None})
    world.passes(name)
    world.annotate(name, **{RESTART: "1"})
    world.passes(name)
    assert power_calls(world, vmid) == ["shutdown", "start"]
    world.annotate(name, **{RESTART: "2"})
    world.wait_until(lambda: power_calls(world, vmid) == ["shutdown", "start"] * 2, "once more", name)


def test_the_annotation_applies_what_waits(world: World) -> None:
    name, vmid = make(world)
    enlarge(world, name)
    world.annotate(name, **{RESTART: "now"})
    settled_after_restart(world, name, vmid)


def test_the_annotation_of_a_new_object_and_of_one_that_lost_its_status_is_recorded_without_a_restart(
    world: World,
) -> None:
    name = world.name("web")
    manifest = world.manifest(name)
    manifest["metadata"]["annotations"] = {RESTART: "before"}
    world.kube.apply(PROXMOX_VMS, manifest)
    vmid = world.wait_ready(name)
    world.passes(name)
    assert power_calls(world, vmid) == ["start"]
    assert world.status(name)["restartedFor"] == "before"
    world.kill()
    world.remove(PROXMOX_VMS, name, world.namespace)
    manifest["metadata"]["annotations"] = {RESTART: "after"}
    world.kube.apply(PROXMOX_VMS, manifest)
    world.start()
    assert world.wait_ready(name) == vmid
    world.passes(name)
    assert power_calls(world, vmid) == ["start"]
    assert world.status(name)["restartedFor"] == "after"


def test_the_annotation_restarts_a_vm_whose_power_is_left_to_others_and_starts_it_again(world: World) -> None:
    name, vmid = make(world)
    world.edit(name, power="Unmanaged")
    world.wait_ready(name)
    world.forget_writes()
    world.annotate(name, **{RESTART: "1"})
    world.wait_until(lambda: power_calls(world, vmid) == ["shutdown", "start"], "it was restarted", name)
    world.wait_ready(name)
    assert world.sim.vm(vmid).status == "running"


def test_the_annotation_does_nothing_to_a_vm_that_is_to_be_stopped_and_is_not_made_up_for(
    world: World,
) -> None:
    name, vmid = make(world, power="Stopped")
    world.annotate(name, **{RESTART: "1"})
    world.wait_until(lambda: world.status(name).get("restartedFor") == "1", "it is taken note of", name)
    assert power_calls(world, vmid) == []
    world.edit(name, power="Running")
    world.wait_until(lambda: world.sim.vm(vmid).status == "running", "it runs", name)
    world.wait_ready(name)
    world.passes(name)
    assert power_calls(world, vmid) == ["start"]


def test_a_guest_that_does_not_shut_down_is_left_running_and_asked_once(world: World) -> None:
    name, vmid = make(world, updates=AUTOMATIC, shutdown={"gracePeriod": "5s", "force": False})
    world.sim.agent(vmid).acpi = False
    world.edit(name, **LARGE)
    found = world.wait_reason(name, "ShutdownTimedOut", kind="RestartRequired")
    assert "the guest did not shut down within 5s" in found.message
    assert "spec.memory.size (memory): 512 -> 1024" in found.message
    world.wait_ready(name)
    world.wait_event(name, "RestartFailed")
    world.passes(name, 3)
    assert power_calls(world, vmid) == ["shutdown"]
    world.restart()
    world.passes(name)
    assert power_calls(world, vmid) == ["shutdown"]
    assert required(world, name).reason == "ShutdownTimedOut"
    world.forget_writes()
    world.edit(name, shutdown={"force": True})
    settled_after_restart(world, name, vmid)


def test_a_restart_waits_for_a_backup_and_the_vm_stays_ready(world: World) -> None:
    name, vmid = make(world)
    world.sim.set_lock(vmid, "backup")
    world.look()
    world.annotate(name, **{RESTART: "1"})
    found = world.wait_reason(name, "Locked", kind="RestartRequired")
    assert "Proxmox has locked the VM (backup)" in found.message
    world.passes(name)
    assert world.condition(name).status == "True"
    assert power_calls(world, vmid) == []
    world.sim.set_lock(vmid, None)
    world.wait_until(lambda: power_calls(world, vmid) == ["shutdown", "start"], "it was restarted", name)


def test_a_restart_waits_for_a_migration_and_is_made_where_the_vm_is_then(world: World) -> None:
    name, vmid = make(world)
    with world.sim.hold("migrate:copying") as hold:
        world.sim.migrate(vmid, "pve2", wait=False)
        assert hold.reached.wait(5)
        world.look()
        world.annotate(name, **{RESTART: "1"})
        assert "(migrate)" in world.wait_reason(name, "Locked", kind="RestartRequired").message
        world.passes(name)
        assert world.writes(vmid) == []
    world.wait_until(lambda: power_calls(world, vmid) == ["shutdown", "start"], "it was restarted", name)
    assert all(call.path.startswith("/nodes/pve2/") for call in world.writes(vmid))
    world.wait_ready(name)


def test_a_spec_edit_during_a_backup_is_written_and_restarted_for_afterwards(world: World) -> None:
    name, vmid = make(world, updates=AUTOMATIC)
    upid = world.sim.backup(vmid, 1.0)
    world.look()
    world.edit(name, **LARGE)
    world.wait_reason(name, "Locked")
    assert world.writes(vmid) == []
    world.sim.wait_task(upid)
    settled_after_restart(world, name, vmid)


def test_a_vm_is_not_shut_down_for_changes_it_could_not_start_with(world: World) -> None:
    name, vmid = make(world, updates=AUTOMATIC)
    world.sim.set_capacity("pve1", cpus=2)
    world.look()
    try:
        world.edit(name, cpu={"cores": 4})
        found = world.wait_reason(name, "WouldNotStart", kind="RestartRequired")
        assert "it would have 4 cores and pve1 has 2" in found.message
        world.passes(name)
        assert power_calls(world, vmid) == []
        assert world.condition(name).status == "True"
    finally:
        world.sim.set_capacity("pve1", cpus=16)
    world.look()
    world.passes(name, 1)
    world.wait_until(lambda: power_calls(world, vmid) == ["shutdown", "start"], "it was restarted", name)


def test_a_restart_that_applies_nothing_is_not_repeated(world: World) -> None:
    name, vmid = make(world, updates=AUTOMATIC)

    def not_applied(call: Call) -> None:
        """Proxmox could not apply the change at the start, and keeps it waiting."""
        vm = world.sim.server.vm(vmid)
        if call.path.endswith(f"/qemu/{vmid}/pending") and vm.running and str(vm.config["memory"]) == "1024":
            vm.config["memory"], vm.pending["memory"] = "512", "1024"

    world.sim.intercept = not_applied
    world.edit(name, **LARGE)
    found = world.wait_reason(name, "NotApplied", kind="RestartRequired")
    assert "the restart did not apply them" in found.message
    world.wait_ready(name)
    world.passes(name, 3)
    assert power_calls(world, vmid) == ["shutdown", "start"]
    assert "these changes still wait" in world.wait_event(name, "RestartFailed")


def test_an_operator_that_dies_while_the_guest_shuts_down_is_followed_by_one_that_starts_the_vm(
    world: World,
) -> None:
    name, vmid = make(world)
    world.sim.agent(vmid).shutdown_seconds = 0.6
    world.annotate(name, **{RESTART: "1"})
    world.wait_until(lambda: power_calls(world, vmid) == ["shutdown"], "the shutdown was asked for")
    world.kill()
    world.wait_until(lambda: world.sim.vm(vmid).status == "stopped", "the guest is down")
    world.start()
    world.wait_until(lambda: world.sim.vm(vmid).status == "running", "it runs again", name)
    world.wait_ready(name)
    world.passes(name)
    assert power_calls(world, vmid) == ["shutdown", "start"]
    assert world.status(name)["restartedFor"] == "1"
    assert "restart" not in world.status(name)


def test_edits_while_the_cluster_is_out_of_reach_end_in_one_write_of_the_last(world: World) -> None:
    name, vmid = make(world, tags=["old"])
    for endpoint in world.sim.endpoints.values():
        endpoint.down()
    try:
        for size in ("640Mi", "768Mi", "1Gi"):
            world.edit(name, memory={"size": size}, tags=[f"of-{size.lower()}"])
            world.wait_until(
                lambda: (world.condition(name) or Condition("", "", "", 0)).status != "True",
                "it is told",
                name,
            )
        assert world.writes(vmid) == []
    finally:
        for endpoint in world.sim.endpoints.values():
            endpoint.up()
    world.wait_ready(name, timeout=40)
    assert [call.path.rpartition("/")[2] for call in world.writes(vmid)] == ["config"]
    assert world.tags(vmid) == "of-1gi"
    assert str(world.sim.vm(vmid).pending["memory"]) == "1024"
    assert required(world, name).status == "True"
