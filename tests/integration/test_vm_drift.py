"""What people, nodes and backups do to a VM that was Ready: power, config, place, locks, deletion in the GUI."""

from typing import Any

import pytest

from harness.world import World
from proxmox_operator.controllers.vm.reconcile import VMReconciler
from pvesim.recorder import Answer, Call


def running(world: World, vmid: int) -> bool:
    return bool(world.sim.vm(vmid).status == "running")


def test_a_vm_stopped_behind_our_back_is_started_again(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    before = world.sim.world()
    world.forget_writes()
    world.sim.stop(vmid)
    world.wait_until(lambda: running(world, vmid), "it runs again", name)
    assert "starting it" in world.wait_event(name, "PowerDriftCorrected")
    world.wait_ready(name)
    assert before.diff(world.sim.world()) == []
    assert [call.path.rpartition("/")[2] for call in world.writes()] == ["start"]


def test_a_vm_that_goes_off_before_anybody_has_seen_it_on_is_started_once_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("memory", "reconcile"):
        monkeypatch.setattr(f"proxmox_operator.controllers.vm.{module}.LAG", 2.0)
    monkeypatch.setattr(
        VMReconciler, "_interval", lambda *_: 3600.0
    )  # else it is seen when the config is read again
    name = world.make("web")
    vmid = world.wait_ready(name)
    starts: list[Call] = []

    def unseen(call: Call) -> Answer | None:
        """From the first start on the inventory stands still: it goes on showing the VM off."""
        if call.path.endswith("/status/start"):
            starts.append(call)
        seen = call.path.endswith("/cluster/resources") and len(starts) == 1
        return Answer(599, "Too many redirections") if seen else None

    world.sim.intercept = unseen
    world.sim.stop(vmid)
    world.wait_until(lambda: running(world, vmid), "it runs again", name)
    world.sim.stop(vmid)
    world.sim.intercept = lambda call: starts.append(call) if call.path.endswith("/status/start") else None
    world.wait_until(lambda: len(starts) == 2 and running(world, vmid), "and again", name)


def test_a_vm_that_lost_its_power_is_started_again(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    world.sim.power_loss(vmid)
    world.wait_until(lambda: running(world, vmid), "it runs again", name)


def test_a_vm_started_behind_our_back_is_shut_down_again(world: World) -> None:
    name = world.make("web", power="Stopped")
    vmid = world.wait_ready(name)
    assert not running(world, vmid)
    before = world.sim.world()
    world.forget_writes()
    world.sim.start(vmid)
    world.look()
    world.wait_until(lambda: not running(world, vmid), "it is stopped again", name)
    assert "shutting it down" in world.wait_event(name, "PowerDriftCorrected")
    world.wait_ready(name)
    assert before.diff(world.sim.world()) == []
    assert [call.path.rpartition("/")[2] for call in world.writes()] == ["shutdown"]


@pytest.mark.parametrize("running_now", [True, False])
def test_unmanaged_power_is_left_as_it_is(world: World, running_now: bool) -> None:
    name = world.make("web", power="Running" if running_now else "Stopped")
    vmid = world.wait_ready(name)
    world.edit(name, power="Unmanaged")
    world.wait_ready(name)
    world.forget_writes()
    (world.sim.stop if running_now else world.sim.start)(vmid)
    world.look()
    world.passes(name)
    assert running(world, vmid) is not running_now
    assert world.writes() == []
    world.wait_until(
        lambda: world.status(name)["power"] == ("Stopped" if running_now else "Running"), "status.power", name
    )


def test_a_vm_is_not_started_while_its_node_stops_all_guests(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    sim = world.sim
    slow = sim.add_vm(400, running=True)
    slow.guest_os.shutdown_seconds = 1.5
    world.forget_writes()
    upid = sim.run(sim.server.stop_all("pve1"))
    world.wait_until(lambda: not running(world, vmid), "stopall has stopped it")
    world.look()
    condition = world.wait_reason(name, "PowerOnHold")
    assert "pve1 is stopping all its guests" in condition.message
    world.passes(name)
    assert world.writes() == []
    sim.wait_task(upid)
    world.passes(name, 1)  # by itself within 30 s
    world.wait_until(lambda: running(world, vmid), "it runs again", name)
    world.wait_ready(name)


def test_a_hibernated_vm_is_left_asleep(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    world.sim.set_lock(vmid, "suspended")
    world.look()
    world.sim.power_loss(vmid)
    world.forget_writes()
    assert "hibernated; resume it in Proxmox" in world.wait_reason(name, "Locked").message
    world.passes(name)
    assert world.writes() == []
    world.sim.set_lock(vmid, None)
    world.wait_until(lambda: running(world, vmid), "it runs again", name)


def test_config_drift_is_shown_and_corrected(world: World) -> None:
    name = world.make("web", cpu={"cores": 2}, power="Stopped")
    vmid = world.wait_ready(name)
    before = world.sim.world()
    world.sim.edit_config(vmid, cores=7, sockets=2)
    world.wait_until(lambda: str(world.sim.vm(vmid).config["cores"]) == "2", "cores are corrected", name)
    assert before.diff(world.sim.world()) == [f"VM {vmid} sockets: None -> 2"]  # unset means unmanaged
    world.sim.edit_config(vmid, delete="sockets")


def test_config_drift_of_a_started_vm_is_told_with_old_and_new(world: World) -> None:
    name = world.make("web", cpu={"cores": 2})
    vmid = world.wait_ready(name)
    world.sim.edit_config(vmid, name="renamed")
    assert f"renamed -> {name}" in world.wait_event(name, "DriftCorrected")
    world.wait_until(lambda: world.sim.vm(vmid).config["name"] == name, "the name is corrected", name)


def test_a_settled_vm_stays_ready_during_a_backup(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    ready_since = transition(world, name)
    world.forget_writes()
    upid = world.sim.backup(vmid, 0.8)
    world.look()
    world.passes(name)
    condition = world.condition(name)
    assert condition is not None
    assert (condition.status, condition.reason) == ("True", "Running")
    world.sim.wait_task(upid)
    world.passes(name)
    assert world.writes() == []
    assert transition(world, name) == ready_since


def transition(world: World, name: str) -> str:
    return next(
        str(each["lastTransitionTime"])
        for each in world.status(name)["conditions"]
        if each["type"] == "Ready"
    )


def test_a_change_waits_for_the_backup_that_locks_the_config(world: World) -> None:
    name = world.make("web", tags=["old"])
    vmid = world.wait_ready(name)
    world.sim.set_lock(vmid, "backup")
    world.look()
    world.forget_writes()
    world.edit(name, tags=["new"])
    condition = world.wait_reason(name, "Locked")
    assert f"VM {vmid} is locked by Proxmox (backup)" in condition.message
    assert world.condition(name, "Stalled") is not None
    world.passes(name)
    assert world.writes() == []
    world.sim.set_lock(vmid, None)
    world.wait_until(lambda: world.tags(vmid) == "new", "the change was made", name)
    world.wait_ready(name)


def test_a_deletion_waits_for_the_backup(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    world.sim.set_lock(vmid, "backup")
    world.look()
    world.forget_writes()
    world.delete(name)
    condition = world.wait_reason(name, "Locked")
    assert "backup" in condition.message
    world.passes(name)
    assert world.writes() == []
    assert running(world, vmid)
    world.sim.set_lock(vmid, None)
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids
    assert world.leaks() == []


def test_a_config_lock_file_held_for_a_moment_is_waited_out(world: World) -> None:
    name = world.make("web", tags=["old"])
    vmid = world.wait_ready(name)
    release = world.sim.hold_config_lock(vmid)
    world.edit(name, tags=["new"])
    try:
        condition = world.wait_reason(name, "LockTimeout")
        assert "another task holds the lock" in condition.message
    finally:
        release()
    world.wait_until(lambda: world.tags(vmid) == "new", "the change was made", name)
    world.wait_ready(name)


def test_an_edit_between_reading_and_writing_is_read_again_and_kept(world: World) -> None:
    name = world.make("web", tags=["old"])
    vmid = world.wait_ready(name)
    edited: list[str] = []

    def edit(call: Call) -> None:
        if call.method == "POST" and call.path.endswith("/config") and not edited:
            edited.append(call.params["digest"])
            world.sim.server.vm(vmid).config["tags"] = f"old;by-hand;{world.namespace}"

    world.sim.intercept = edit
    world.forget_writes()
    world.edit(name, tags=["new"])
    world.wait_until(lambda: "new" in world.tags(vmid), "the change was made", name)
    assert world.tags(vmid) == "by-hand;new"
    world.wait_ready(name)
    digests = [call.params["digest"] for call in world.writes(vmid)]
    assert len(digests) == len(set(digests)) == 2


@pytest.mark.parametrize(
    "message", ["detected modified configuration - file changed by other user? Try again."]
)
def test_a_digest_conflict_is_no_failure(world: World, message: str) -> None:
    name = world.make("web", tags=["old"])
    vmid = world.wait_ready(name)
    times = iter(range(2))
    world.sim.intercept = lambda call: (
        Answer(500, message)
        if call.path.endswith("/config") and call.method == "POST" and next(times, None) is not None
        else None
    )
    world.edit(name, tags=["new"])
    world.wait_until(lambda: world.tags(vmid) == "new", "the change was made", name)
    world.wait_ready(name)
    assert len(world.writes(vmid)) >= 3


def test_a_vm_deleted_in_the_gui_after_it_ran_is_missing_and_not_made_again(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    world.forget_writes()
    world.sim.remove_vm(vmid)
    before = world.sim.world()
    condition = world.wait_reason(name, "Missing")
    assert condition.status == "False"
    assert f"VM {vmid} no longer exists" in condition.message
    assert "data may be gone" in condition.message
    assert "restore it" in condition.message
    world.passes(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    world.delete(name)
    world.wait_gone(name)
    assert before.diff(world.sim.world()) == []


def test_a_vm_restored_from_a_backup_after_it_was_missing_is_taken_up_again(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    config = dict(world.sim.vm(vmid).config)
    world.sim.remove_vm(vmid)
    world.wait_reason(name, "Missing")
    restored: dict[str, Any] = {key: str(config[key]) for key in ("name", "description", "smbios1", "onboot")}
    world.sim.add_vm(vmid, **restored)
    assert world.wait_ready(name) == vmid
    assert running(world, vmid)
    assert world.writes(vmid)[-1].path.endswith("/start")


@pytest.mark.parametrize("asked", [{}, {"vmid": 12100}])
def test_a_vm_deleted_in_the_gui_before_it_ever_ran_is_made_again(
    world: World, asked: dict[str, Any]
) -> None:
    name = world.make("web", power="Stopped", **asked)
    first = world.wait_ready(name)
    before = world.sim.world()
    world.sim.remove_vm(first)

    def made_again() -> bool:
        return any(vm.name == name for vm in world.sim.world().vms)

    world.wait_until(made_again, "it was made again", name)
    vmid = world.wait_ready(name)
    assert [vm.vmid for vm in world.sim.world().vms if vm.name == name] == [vmid]
    assert vmid == asked.get("vmid", vmid)
    assert str(world.status(name)["uuid"]) in str(world.sim.vm(vmid).config["smbios1"])
    assert world.changes_besides(before, first, vmid) == []
    assert world.leaks() == []


def test_a_vm_moved_to_another_node_is_followed(world: World) -> None:
    name = world.make("web", tags=["old"])
    vmid = world.wait_ready(name)
    world.forget_writes()
    world.sim.migrate(vmid, "pve2")
    world.wait_until(lambda: world.status(name)["node"] == "pve2", "status.node follows", name)
    world.wait_ready(name)
    assert world.writes() == []
    world.edit(name, tags=["new"])
    world.wait_until(lambda: world.tags(vmid) == "new", "written on the new node", name)
    assert world.writes(vmid)[-1].path.startswith("/nodes/pve2/")
    world.sim.stop(vmid)
    world.wait_until(lambda: running(world, vmid), "started on the new node", name)


def test_a_vm_on_a_node_that_is_down_is_unknown_until_the_node_is_back(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    world.sim.migrate(vmid, "pve3")
    world.wait_until(lambda: world.status(name)["node"] == "pve3", "status.node follows", name)
    world.wait_ready(name)
    world.forget_writes()
    world.sim.node_down("pve3")
    try:
        condition = world.wait_reason(name, "NodeUnavailable")
        assert condition.status == "Unknown"
        assert "node pve3" in condition.message
        assert str(vmid) in condition.message
        world.passes(name)
        assert world.writes() == []
    finally:
        world.sim.node_up("pve3")
    world.wait_ready(name)
    assert running(world, vmid)
    assert world.sim.world().vmids.count(vmid) == 1


def test_deleting_a_vm_on_a_node_that_is_down_waits_for_the_node(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    world.sim.migrate(vmid, "pve3")
    world.wait_until(lambda: world.status(name)["node"] == "pve3", "status.node follows", name)
    world.sim.node_down("pve3")
    try:
        world.wait_reason(name, "NodeUnavailable")
        world.forget_writes()
        world.delete(name)
        world.passes(name)
        assert world.wait_reason(name, "NodeUnavailable").status == "Unknown"
        assert world.writes() == []
    finally:
        world.sim.node_up("pve3")
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids
    assert world.leaks() == []
