"""Drift is told with what it was, what it is now, and whose it was; corrected under Manage, left under Observe."""

from collections.abc import Iterator

import pytest

from controlplane import Cluster
from harness.world import World

ALICE = "alice@pve"


def told(world: World, name: str, reason: str) -> list[str]:
    return [said.note for said in world.events(name) if said.reason == reason]


@pytest.fixture
def seldom(control_plane: Cluster) -> Iterator[World]:
    """Configs are re-read every five minutes, as in production, so what is seen earlier the inventory has shown."""
    with World(control_plane, operator={"config_reread": 300.0}) as world:
        yield world


def test_cores_changed_in_the_gui_are_changed_back_and_told_with_both_values_and_by_whom(
    world: World,
) -> None:
    name = world.make("web", cpu={"cores": 2})
    vmid = world.wait_ready(name)
    world.passes(name)
    world.sim.edit_config(vmid, by=ALICE, cores=7)
    note = world.wait_event(name, "DriftCorrected")
    assert note.startswith(f"changed in Proxmox by {ALICE}, changed back: cores: 7 -> 2")
    world.wait_ready(name)
    vm = world.sim.vm(vmid)
    assert (str(vm.config["cores"]), vm.pending) == ("2", {})
    assert world.condition(name, "RestartRequired") is None


def test_a_change_made_in_a_shell_is_told_without_a_name(world: World) -> None:
    name = world.make("web", cpu={"cores": 2})
    vmid = world.wait_ready(name)
    world.passes(name)
    world.sim.edit_config(vmid, cores=7)
    assert world.wait_event(name, "DriftCorrected").startswith(
        "changed in Proxmox, changed back: cores: 7 -> 2"
    )


def test_several_keys_are_one_event_and_what_is_not_listed_stays(world: World) -> None:
    name = world.make("web", cpu={"cores": 2}, memory={"size": "512Mi"}, tags=["a"])
    vmid = world.wait_ready(name)
    world.passes(name)
    world.sim.edit_config(vmid, by=ALICE, cores=7, memory="4096", name="mine", sockets=2)
    world.wait_until(lambda: world.sim.vm(vmid).config["name"] == name, "it is changed back", name)
    world.wait_event(name, "DriftCorrected")  # told once the write has succeeded
    [note] = told(world, name, "DriftCorrected")
    for change in (f"name: mine -> {name}", "cores: 7 -> 2", "memory: 4096 -> 512"):
        assert change in note
    world.wait_ready(name)
    assert str(world.sim.vm(vmid).pending.get("sockets")) == "2"


def test_a_password_is_never_told(world: World) -> None:
    world.set_secret(name="login", namespace=world.namespace, password="correct-horse")
    name = world.make(
        "web", cloudInit={"user": "debian", "passwordSecretRef": {"name": "login", "key": "password"}}
    )
    vmid = world.wait_ready(name)
    world.passes(name)
    world.sim.edit_config(vmid, by=ALICE, cipassword="battery-staple", ciuser="root")
    assert "ciuser: root -> debian" in world.wait_event(name, "DriftCorrected")
    everything = str(world.raw(name)) + str(world.events(name))
    assert "correct-horse" not in everything
    assert "battery-staple" not in everything


def test_a_vm_stopped_in_the_gui_is_told_with_who_stopped_it_and_one_that_went_off_by_itself_without(
    world: World,
) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    world.sim.stop(vmid)
    assert "stopped in Proxmox by root@pam while spec.power is Running" in world.wait_event(
        name, "PowerDriftCorrected"
    )
    world.wait_until(lambda: bool(world.sim.vm(vmid).status == "running"), "it runs again", name)
    world.look()
    world.passes(name)
    world.sim.power_loss(vmid)
    anonymous = "the VM was stopped in Proxmox while spec.power is Running: starting it"
    world.wait_until(lambda: anonymous in told(world, name, "PowerDriftCorrected"), "it is told", name)


def test_a_change_that_the_spec_asks_for_is_no_drift(world: World) -> None:
    name = world.make("web", cpu={"cores": 2})
    world.wait_ready(name)
    world.edit(name, cpu={"cores": 3})
    assert "cores: 2 -> 3" in world.wait_event(name, "ConfigChanged")
    assert told(world, name, "DriftCorrected") == []


def test_what_was_changed_while_no_operator_ran_is_drift_too(world: World) -> None:
    name = world.make("web", cpu={"cores": 2})
    vmid = world.wait_ready(name)
    world.passes(name)
    world.kill()
    world.sim.edit_config(vmid, name="mine")
    world.start()
    note = world.wait_event(name, "DriftCorrected")
    assert f"while no operator was running, changed back: name: mine -> {name}" in note


def test_an_object_that_only_observes_shows_drift_once_and_changes_nothing(world: World) -> None:
    name = world.make("web", cpu={"cores": 2})
    vmid = world.wait_ready(name)
    world.edit(name, management="Observe")
    world.wait_ready(name)
    before = world.sim.world()
    world.sim.edit_config(vmid, by=ALICE, name="mine")
    note = world.wait_event(name, "DriftSeen")
    assert note.startswith(f"changed in Proxmox by {ALICE}, and left so: name: mine -> {name}")
    condition = world.wait_reason(name, "OutOfSync")
    assert "status.plan" in condition.message
    assert [change[: len(f"name: mine -> {name}")] for change in world.status(name)["plan"]] == [
        f"name: mine -> {name}"
    ]
    world.passes(name, 3)
    world.sim.stop(vmid)
    world.wait_until(lambda: len(told(world, name, "DriftSeen")) == 2, "the power is told too", name)
    assert "power: Stopped -> Running" in world.status(name)["plan"]
    world.passes(name, 3)
    assert len(told(world, name, "DriftSeen")) == 2
    assert len(before.diff(world.sim.world())) == 2  # its name and its power, as they were changed


@pytest.mark.parametrize(
    ("change", "correction"),
    [
        ({"name": "mine"}, "name: mine ->"),
        ({"delete": "tags"}, "tags: "),
        ({"cores": 7}, "cores: 7 -> 2"),
        ({"memory": "4096"}, "memory: 4096 -> 512"),
    ],
)
def test_what_the_inventory_shows_is_seen_at_once(
    seldom: World, change: dict[str, str], correction: str
) -> None:
    name = seldom.make("web", cpu={"cores": 2}, memory={"size": "512Mi"}, tags=["a"], power="Stopped")
    vmid = seldom.wait_ready(name)
    seldom.passes(name)
    seldom.sim.edit_config(vmid, by=ALICE, **change)
    assert correction in seldom.wait_event(name, "DriftCorrected")


def test_mere_load_wakes_nobody(seldom: World) -> None:
    name = seldom.make("web")
    seldom.wait_ready(name)
    seldom.passes(name)
    seldom.look()
    seen, asked = dict(seldom.looked), len(seldom.sim.recorder.matching("GET", "/pending$"))
    for _ in range(15):  # the uptime grows from poll to poll
        seldom.look()
    assert seldom.looked == seen
    assert len(seldom.sim.recorder.matching("GET", "/pending$")) == asked
