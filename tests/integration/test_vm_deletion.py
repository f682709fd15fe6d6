"""What stands between an object and the end of its VM: protection, Retain, detached disks, Observe, pause."""

from typing import Any

import pytest

from harness.world import World
from proxmox_operator.planning.identity import read_mark

PAUSED = "proxmox-operator.io/paused"


def kept_back(world: World, name: str, vmid: int, reason: str) -> str:
    """The deletion goes no further, says why, and nothing is written."""
    condition = world.wait_reason(name, reason)
    world.forget_writes()
    world.passes(name)
    assert world.writes() == []
    assert world.raw(name) is not None
    assert world.sim.vm(vmid).status == "running"
    return condition.message


def test_a_deleted_object_takes_its_vm_and_all_its_volumes_along(world: World) -> None:
    world.sim.add_vm(300, running=True)
    before = world.sim.world()
    name = world.make(disks=[{"name": "data", "size": "2Gi"}], firmware={"uefi": True, "tpm": True})
    world.wait_ready(name)
    world.delete(name)
    world.wait_gone(name)
    assert before.diff(world.sim.world()) == []
    assert world.leaks() == []
    destroy = [call for call in world.writes() if call.method == "DELETE"]
    assert [str(call.params["purge"]) for call in destroy] == ["1"]
    assert str(destroy[0].params.get("destroy-unreferenced-disks", "0")) == "0"


def test_a_guest_is_shut_down_before_its_vm_is_destroyed(world: World) -> None:
    name = world.make()
    vmid = world.wait_ready(name)
    world.delete(name)
    world.wait_gone(name)
    assert [call.path.rpartition("/")[2] for call in world.writes(vmid)][-2:] == ["shutdown", str(vmid)]


def test_a_guest_that_does_not_shut_down_is_switched_off_after_its_grace(world: World) -> None:
    name = world.make(shutdown={"gracePeriod": "2s"})
    vmid = world.wait_ready(name)
    world.sim.agent(vmid).hang()
    world.delete(name)
    world.wait_gone(name)
    shutdown = [call for call in world.writes(vmid) if call.path.endswith("/shutdown")][-1]
    assert str(shutdown.params["timeout"]) == "2"
    assert str(shutdown.params["forceStop"]) == "1"


def test_a_deletion_with_a_delay_shuts_down_and_leaves_time_for_second_thoughts(world: World) -> None:
    name = world.make(deletionDelay="24h", disks=[{"name": "data", "size": "2Gi"}])
    vmid = world.wait_ready(name)
    volumes = world.sim.world().volumes_of(vmid)
    world.delete(name)
    condition = world.wait_reason(name, "DeletionDelayed")
    assert "set spec.deletionPolicy to Retain" in condition.message
    assert world.sim.vm(vmid).status == "stopped"
    world.forget_writes()
    world.passes(name)
    assert world.writes() == []
    world.edit(name, deletionPolicy="Retain")
    world.wait_gone(name)
    assert world.sim.world().volumes_of(vmid) == volumes


def test_a_delayed_deletion_is_done_at_once_when_the_delay_is_taken_back(world: World) -> None:
    name = world.make(deletionDelay="7d")
    vmid = world.wait_ready(name)
    world.delete(name)
    world.wait_reason(name, "DeletionDelayed")
    world.edit(name, deletionDelay=None)
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids
    assert world.leaks() == []


def test_a_protected_object_keeps_its_vm_until_the_spec_lets_go(world: World) -> None:
    name = world.make(protection=True)
    vmid = world.wait_ready(name)
    assert str(world.sim.vm(vmid).config["protection"]) == "1"
    world.delete(name)
    assert "spec.protection is true: set it to false" in kept_back(world, name, vmid, "Protected")
    world.edit(name, protection=False)
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids
    assert world.leaks() == []


def test_a_protection_flag_set_in_the_gui_wins_and_is_never_cleared(world: World) -> None:
    name = world.make()
    vmid = world.wait_ready(name)
    world.sim.edit_config(vmid, protection=1)
    world.edit(name, protection=False)
    world.wait_ready(name)
    assert str(world.sim.vm(vmid).config["protection"]) == "1"
    world.delete(name)
    message = kept_back(world, name, vmid, "Protected")
    assert f"VM {vmid}" in message
    assert "clear that there" in message
    world.sim.edit_config(vmid, protection=0)
    world.passes(name, 1)
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids


def test_retain_leaves_the_vm_running_with_a_tombstone_instead_of_the_mark(world: World) -> None:
    name = world.make(description="the shop's", deletionPolicy="Retain")
    vmid = world.wait_ready(name)
    before = world.sim.world()
    world.forget_writes()
    world.delete(name)
    world.wait_gone(name)
    text = str(world.sim.vm(vmid).config["description"])
    assert text.startswith("the shop's")
    assert read_mark(text) is None
    assert f"released {world.namespace}/{name} vmid={vmid}" in text
    changes = before.diff(world.sim.world())
    assert len(changes) == 1
    assert changes[0].startswith(f"VM {vmid} description:")
    assert len(world.writes()) == 1


def test_a_vm_with_a_tombstone_is_not_taken_back_by_the_same_name(world: World) -> None:
    name = world.make(deletionPolicy="Retain")
    vmid = world.wait_ready(name)
    world.delete(name)
    world.wait_gone(name)
    before = world.sim.world()
    world.apply(name)
    again = world.wait_ready(name)
    assert again != vmid
    assert world.changes_besides(before, again) == []


def test_a_vm_with_detached_disks_is_not_destroyed_until_told_to(world: World) -> None:
    name = world.make(disks=[{"name": "data", "size": "2Gi"}])
    vmid = world.wait_ready(name)
    volume = world.status(name)["disks"][0]["volume"]
    world.edit(name, disks=None)
    world.wait_ready(name)
    world.sim.edit_config(vmid, delete="scsi1")
    world.forget_writes()
    assert volume in [
        str(value) for key, value in world.sim.vm(vmid).config.items() if key.startswith("unused")
    ]
    world.delete(name)
    message = kept_back(world, name, vmid, "DetachedDisks")
    assert volume in message
    assert "spec.detachedDisks to Delete" in message
    world.edit(name, detachedDisks="Delete")
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids
    assert world.leaks() == []


@pytest.fixture
def as_patient_as_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """A config that was read counts as just read for 5 s."""
    monkeypatch.setattr("proxmox_operator.controllers.vm.observe.FRESH", 5.0)


@pytest.mark.usefixtures("as_patient_as_in_production")
def test_a_disk_detached_right_before_the_deletion_is_noticed(world: World) -> None:
    name = world.make(disks=[{"name": "data", "size": "2Gi"}], power="Stopped")
    vmid = world.wait_ready(name)
    world.sim.edit_config(vmid, delete="scsi1")
    before = world.sim.world()
    world.forget_writes()
    world.delete(name)
    world.wait_reason(name, "DetachedDisks")
    assert before.diff(world.sim.world()) == []
    assert world.writes() == []


@pytest.mark.usefixtures("as_patient_as_in_production")
def test_a_foreign_vm_that_replaced_ours_right_before_the_deletion_is_not_destroyed(world: World) -> None:
    name = world.make(power="Stopped")
    vmid = world.wait_ready(name)
    world.sim.remove_vm(vmid)
    world.sim.add_vm(vmid)
    before = world.sim.world()
    world.forget_writes()
    world.delete(name)
    world.wait_reason(name, "IdentityConflict")
    assert before.diff(world.sim.world()) == []
    assert world.writes() == []


@pytest.mark.parametrize("spec", [{}, {"vmid": 12200}])
def test_an_observing_object_creates_nothing_and_takes_no_finalizer(
    world: World, spec: dict[str, Any]
) -> None:
    before = world.sim.world()
    name = world.make(management="Observe", **spec)
    condition = world.wait_reason(name, "ObserveOnly")
    assert "set it to Manage" in condition.message
    world.passes(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    assert "finalizers" not in (world.raw(name) or {})["metadata"]
    world.edit(name, management="Manage")
    world.wait_ready(name)


def test_observe_shows_the_plan_writes_nothing_and_deletes_nothing(world: World) -> None:
    name = world.make(tags=["old"])
    vmid = world.wait_ready(name)
    world.edit(name, management="Observe", tags=["new"])
    condition = world.wait_reason(name, "OutOfSync")
    assert "status.plan" in condition.message
    (planned,) = world.status(name)["plan"]
    assert planned == f"tags: old;{world.namespace} -> {world.namespace};new"
    before = world.sim.world()
    world.forget_writes()
    world.sim.stop(vmid)
    world.look()
    world.passes(name)
    assert world.sim.vm(vmid).status == "stopped"
    world.delete(name)
    world.wait_gone(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == [f"VM {vmid} status: running -> stopped"]


def test_a_paused_object_is_left_alone_until_resumed(world: World) -> None:
    name = world.make(tags=["old"])
    vmid = world.wait_ready(name)
    world.annotate(name, **{PAUSED: "true"})
    condition = world.wait_reason(name, "Paused", kind="Paused")
    assert condition.status == "True"
    assert PAUSED in condition.message
    world.forget_writes()
    world.edit(name, tags=["new"])
    world.sim.stop(vmid)
    world.look()
    world.passes(name)
    assert world.writes() == []
    assert world.sim.vm(vmid).status == "stopped"
    world.annotate(name, **{PAUSED: None})
    world.wait_ready(name)
    assert world.sim.vm(vmid).status == "running"
    assert world.tags(vmid) == "new"


def test_a_paused_object_is_not_deleted_until_resumed(world: World) -> None:
    name = world.make()
    vmid = world.wait_ready(name)
    world.annotate(name, **{PAUSED: "true"})
    world.wait_reason(name, "Paused", kind="Paused")
    world.forget_writes()
    world.delete(name)
    world.passes(name)
    assert world.writes() == []
    assert vmid in world.sim.world().vmids
    world.annotate(name, **{PAUSED: None})
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids


def test_a_disk_that_was_grown_cannot_be_shrunk_and_says_so(world: World) -> None:
    name = world.make(bootDisk={"size": "10Gi"})
    vmid = world.wait_ready(name)
    world.edit(name, bootDisk={"size": "9Gi"})
    condition = world.wait_reason(name, "DiskShrinkRefused")
    assert "spec.bootDisk.size" in condition.message
    assert "set 10Gi" in condition.message
    world.forget_writes()
    world.passes(name)
    assert world.writes() == []
    world.edit(name, bootDisk={"size": "11Gi"})
    assert world.wait_ready(name) == vmid
    assert "size=11G" in str(world.sim.vm(vmid).config["scsi0"])
