"""VMTemplates that are built: booted once, changed, sealed; and the bad days of that."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.conditions import Condition
from harness.templates import Templates
from harness.world import World
from proxmox_operator.kube.resources import VM_TEMPLATES

SCRIPT = "echo hello\n"
LONG = 100.0
"""Seconds for what takes many tasks."""


@pytest.fixture(autouse=True)
def impatient_with_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOON", "MAX_DELAY"):
        monkeypatch.setattr(f"proxmox_operator.controllers.template.build.{name}", 0.1)


@pytest.fixture
def templates(world: World) -> Iterator[Templates]:
    with Templates(world) as templates:
        yield templates


def a_build(*scripts: str, **fields: Any) -> dict[str, Any]:
    """Steps named a, b and so on."""
    steps = [{"name": chr(ord("a") + number), "script": text} for number, text in enumerate(scripts)]
    wanted = {"steps": steps, "seedStorage": "local", **fields}
    return {key: value for key, value in wanted.items() if value is not None}


def make(templates: Templates, *scripts: str, **fields: Any) -> str:
    return templates.make(nodes=["pve1"], build=a_build(*scripts, **fields))


def only_copy(templates: Templates, name: str) -> dict[str, Any]:
    (copy,) = templates.status(name).get("copies", ())
    return dict(copy)


def seeds(world: World, vmid: int) -> list[str]:
    """The seeds of this VM that lie on a storage."""
    files = [name for node in world.sim.server.nodes for name in world.sim.files("local", node)]
    return [name for name in files if f"pvm-seed-{vmid}-" in name]


def said(templates: Templates, name: str) -> list[str]:
    return [event.reason for event in templates.events(name)]


def wait_condition(
    templates: Templates, name: str, fits: Callable[[Condition], bool], what: str, kind: str = "Ready"
) -> Condition:
    def shown() -> Condition | None:
        found = templates.condition(name, kind)
        return found if found is not None and fits(found) else None

    return templates.wait_until(shown, f"{name} shows {kind} with {what}", name, timeout=LONG)


def wait_reason(templates: Templates, name: str, reason: str, kind: str = "Ready") -> Condition:
    return wait_condition(templates, name, lambda found: found.reason == reason, reason, kind)


def wait_told(templates: Templates, name: str, words: str) -> Condition:
    return wait_condition(templates, name, lambda found: words in found.message, words)


def wait_gone(world: World, templates: Templates, name: str, vmid: int) -> None:
    """The draft is gone, and its seed."""

    def gone() -> bool:
        return vmid not in world.sim.world().vmids and seeds(world, vmid) == []

    templates.wait_until(gone, "the draft and its seed are gone", name, timeout=LONG)


def wait_state(templates: Templates, name: str, state: str) -> dict[str, Any]:
    def there() -> bool:
        return any(copy["state"] == state for copy in templates.status(name).get("copies", ()))

    templates.wait_until(there, f"a copy of {name} is {state}", name, timeout=LONG)
    return only_copy(templates, name)


# Good days


def test_a_copy_is_booted_changed_sealed_and_converted(world: World, templates: Templates) -> None:
    name = make(templates, SCRIPT, SCRIPT, network={"bridge": "vmbr0", "vlan": 20})
    vmid = templates.wait_ready(name, timeout=LONG)["pve1"]
    vm = world.sim.vm(vmid)
    assert vm.guest_os.ran == [0, 1, 2, 3]
    assert vm.guest_os.sealed
    assert vm.template
    assert "cloudinit" in vm.config["ide2"]
    assert "net0" not in vm.config
    assert vm.config["boot"] == "order=scsi0"
    assert "+draft" not in vm.config["description"]
    assert seeds(world, vmid) == []
    assert "build" not in only_copy(templates, name)
    templates.wait_until(lambda: "CopyReady" in said(templates, name), "it is told", name)
    assert {"BuildStarted", "BuildStepDone"} <= set(said(templates, name))


def test_the_condition_says_how_far_a_copy_is(world: World, templates: Templates) -> None:
    name = make(templates, SCRIPT, "echo one\nsleep infinity\n")
    assert wait_told(templates, name, "on pve1: step 2 of 2 (b)").reason == "Making"


def test_where_no_cloud_init_drive_is_wanted_none_is_there(world: World, templates: Templates) -> None:
    name = templates.make(nodes=["pve1"], build=a_build(SCRIPT), hardware={"cloudInitDrive": False})
    vm = world.sim.vm(templates.wait_ready(name, timeout=LONG)["pve1"])
    assert vm.guest_os.sealed
    assert not any(key.startswith("ide") for key in vm.config)


def test_another_timeout_makes_no_new_version_and_another_step_does(templates: Templates) -> None:
    name = make(templates, SCRIPT)
    before = templates.wait_ready(name, timeout=LONG)
    templates.edit(name, build=a_build(SCRIPT, timeout="1h", keepFailed=True))
    assert templates.wait_ready(name, timeout=LONG) == before
    templates.edit(name, build=a_build("echo other\n"))
    templates.wait_until(lambda: len(templates.status(name)["versions"]) == 2, "another version", name)
    assert templates.wait_ready(name, timeout=LONG) != before


# Bad days


def assert_failed_and_gone(world: World, templates: Templates, name: str, reason: str, *words: str) -> None:
    """The condition has the reason and these words; nothing is left in Proxmox, and nothing is converted."""
    found = wait_reason(templates, name, reason)
    assert [word for word in words if word not in found.message] == [], found.message
    vmid = only_copy(templates, name)["vmid"]
    wait_gone(world, templates, name, vmid)
    assert wait_reason(templates, name, reason).status == "False"
    templates.wait_until(lambda: said(templates, name).count(reason) == 1, "it is told, once", name)


def test_a_step_that_fails_is_named_with_its_last_words(world: World, templates: Templates) -> None:
    name = make(templates, SCRIPT, "echo no such mirror\nexit 3\n")
    words = ("step 2 of 2 (b)", "exit code 3", "no such mirror")
    assert_failed_and_gone(world, templates, name, "BuildStepFailed", *words)


def test_a_build_that_failed_is_tried_again_under_the_same_vmid_and_told_once(
    world: World, templates: Templates, caplog: pytest.LogCaptureFixture
) -> None:
    name = make(templates, "exit 1\n")
    wait_reason(templates, name, "BuildStepFailed")
    vmid = str(only_copy(templates, name)["vmid"])

    def again() -> bool:
        return [task.upid.split(":")[6] for task in world.sim.tasks("qmcreate")].count(vmid) > 2

    templates.wait_until(again, "it is made again, and once more", name, timeout=LONG)
    told = [record for record in caplog.records if record.getMessage().startswith("BuildStepFailed: ")]
    assert len(told) == 1
    assert said(templates, name).count("BuildStepFailed") == 1


def test_a_step_that_hangs_ends_with_the_time(world: World, templates: Templates) -> None:
    name = make(templates, "echo waiting for godot\nsleep infinity\n", timeout="4s")
    words = ("step 1 of 1 (a)", "spec.build.timeout (4s)", "waiting for godot")
    assert_failed_and_gone(world, templates, name, "BuildTimedOut", *words)


def test_a_step_that_powers_the_guest_off_ends_the_build(world: World, templates: Templates) -> None:
    name = make(templates, SCRIPT, "poweroff\n")
    assert_failed_and_gone(world, templates, name, "BuildGuestStopped", "step 2 of 2 (b)", "powered off")


def test_a_step_that_reboots_the_guest_ends_the_build(world: World, templates: Templates) -> None:
    name = make(templates, SCRIPT, "reboot\n")
    assert_failed_and_gone(world, templates, name, "BuildGuestStopped", "step 2 of 2 (b)", "rebooted")


def test_a_guest_that_reboots_after_it_was_sealed_is_no_template(world: World, templates: Templates) -> None:
    name = make(templates, SCRIPT, "shutdown -r +1\n")
    assert_failed_and_gone(world, templates, name, "BuildGuestStopped", "rebooted", "the shutdown")
    assert [vm.vmid for vm in world.sim.world().vms if vm.template] == [9000]


@pytest.fixture
def new_guest(world: World) -> Iterator[Any]:
    """What is on disks that are imported from images."""
    guest = world.sim.server.new_guest
    world.sim.server.new_guest = guest.copy()
    yield world.sim.server.new_guest
    world.sim.server.new_guest = guest


def test_an_agent_that_never_comes_is_told(world: World, templates: Templates, new_guest: Any) -> None:
    new_guest.agent = False
    name = make(templates, SCRIPT, timeout="4s")
    words = ("the first boot", "qemu-guest-agent", "spec.build.network")
    assert_failed_and_gone(world, templates, name, "BuildAgentSilent", *words)


def test_an_agent_that_runs_no_commands_is_told(world: World, templates: Templates, new_guest: Any) -> None:
    new_guest.blocks_exec = True
    name = make(templates, SCRIPT)
    assert_failed_and_gone(world, templates, name, "BuildAgentSilent", "guest-exec")


@pytest.mark.timeout(240)  # it is asked to three times: most of a minute where nothing else runs
def test_a_guest_that_does_not_shut_down_ends_the_build(
    world: World, templates: Templates, new_guest: Any
) -> None:
    new_guest.shutdown_seconds = 600.0
    name = make(templates, SCRIPT, timeout="6s")
    assert_failed_and_gone(world, templates, name, "BuildTimedOut", "Stopping")


def test_a_draft_stays_one_while_its_seed_cannot_be_replaced(world: World, templates: Templates) -> None:
    server = world.sim.server
    before = dict(server.sizes)
    with world.sim.hold("upload:copying"):
        name = make(templates, SCRIPT, network={"bridge": "vmbr0"})
        vmid = wait_state(templates, name, "Building")["vmid"]
        server.sizes["local-lvm"] = world.sim.call(lambda: server.used("local-lvm", "pve1"))
    try:
        wait_reason(templates, name, "StorageFull")
        vm = world.sim.vm(vmid)
        assert "+draft" in vm.merged()["description"]
        assert not vm.template
        assert len(seeds(world, vmid)) == 1
    finally:
        server.sizes.update(before)
    assert templates.wait_ready(name, timeout=LONG) == {"pve1": vmid}
    assert "cloudinit" in vm.config["ide2"]
    assert "+draft" not in vm.config["description"]
    assert seeds(world, vmid) == []


def test_a_failed_copy_is_kept_for_a_look_until_it_is_not_to_be(world: World, templates: Templates) -> None:
    name = make(templates, "exit 1\n", keepFailed=True)
    copy = wait_state(templates, name, "Failed")
    found = wait_told(templates, name, "is kept")
    assert found.reason == "BuildStepFailed"
    assert f"VM {copy['vmid']} on pve1" in found.message
    assert world.sim.vm(copy["vmid"]).running
    templates.edit(name, build=a_build("exit 1\n", keepFailed=True, timeout="1h"))
    wait_gone(world, templates, name, copy["vmid"])
    templates.edit(name, build=a_build(SCRIPT, keepFailed=True))
    assert copy["vmid"] not in templates.wait_ready(name, timeout=LONG).values()
    wait_gone(world, templates, name, copy["vmid"])


def test_a_kept_copy_goes_with_the_template(world: World, templates: Templates) -> None:
    name = make(templates, "exit 1\n", keepFailed=True)
    vmid = wait_state(templates, name, "Failed")["vmid"]
    templates.delete(name)
    templates.wait_until(lambda: templates.raw(name) is None, "the object is gone", name, timeout=LONG)
    assert vmid not in world.sim.world().vmids
    assert seeds(world, vmid) == []


def test_a_build_that_is_not_wanted_any_more_is_stopped(world: World, templates: Templates) -> None:
    name = make(templates, "sleep infinity\n")
    vmid = wait_state(templates, name, "Building")["vmid"]
    wait_told(templates, name, "step 1 of 1")
    templates.edit(name, build=a_build(SCRIPT))
    assert templates.wait_ready(name, timeout=LONG) != {"pve1": vmid}
    wait_gone(world, templates, name, vmid)


def test_a_template_that_is_deleted_while_it_is_built_leaves_nothing(
    world: World, templates: Templates
) -> None:
    name = templates.make(nodes=["pve1"], build=a_build("sleep infinity\n"), deletionPolicy="Retain")
    vmid = wait_state(templates, name, "Building")["vmid"]
    wait_told(templates, name, "step 1 of 1")
    templates.delete(name)
    templates.wait_until(lambda: templates.raw(name) is None, "the object is gone", name, timeout=LONG)
    assert vmid not in world.sim.world().vmids
    assert seeds(world, vmid) == []


def test_a_failed_build_leaves_the_earlier_version_and_its_vms_alone(
    world: World, templates: Templates
) -> None:
    name = make(templates, SCRIPT)
    old = templates.wait_ready(name, timeout=LONG)["pve1"]
    vm = world.make(source={"templateRef": {"name": name}})
    vmid = world.wait_ready(vm)
    templates.edit(name, build=a_build("exit 1\n"))
    wait_reason(templates, name, "BuildStepFailed", "Distributed")
    assert world.sim.vm(old).template
    assert world.sim.vm(vmid).running


def test_a_draft_whose_status_was_lost_is_destroyed_and_never_converted(
    world: World, templates: Templates
) -> None:
    name = make(templates, "sleep infinity\n")
    vmid = wait_state(templates, name, "Building")["vmid"]
    wait_told(templates, name, "step 1 of 1")
    raw = templates.raw(name)
    assert raw is not None
    world.kill()
    world.remove(VM_TEMPLATES, name)
    world.kube.apply(VM_TEMPLATES, {"metadata": {"name": name}, "spec": raw["spec"]})
    world.start()
    wait_gone(world, templates, name, vmid)
    assert wait_state(templates, name, "Building")["vmid"] != vmid
    assert [vm.vmid for vm in world.sim.world().vms if vm.template] == [9000]


def test_a_vm_that_is_started_before_its_build_is_made_anew(world: World, templates: Templates) -> None:
    with world.sim.hold("upload:copying"):
        name = make(templates, SCRIPT)
        vmid = wait_state(templates, name, "Building")["vmid"]
        world.sim.run(world.sim.server.power_on(world.sim.vm(vmid)))
    templates.wait_until(lambda: "BuildDisturbed" in said(templates, name), "it is told", name)
    assert world.sim.vm(templates.wait_ready(name, timeout=LONG)["pve1"]).guest_os.sealed


# What must be there before


def test_a_seed_storage_that_takes_no_images_is_named(templates: Templates) -> None:
    name = make(templates, SCRIPT, seedStorage="local-lvm")
    assert "spec.build.seedStorage" in wait_reason(templates, name, "StorageNotUsable").message


def test_a_seed_storage_that_is_named_no_more_hinders_no_deletion(world: World, templates: Templates) -> None:
    with world.sim.hold("import:copying"):
        name = make(templates, SCRIPT)
        vmid = wait_state(templates, name, "Creating")["vmid"]
        templates.wait_until(lambda: "upid" in only_copy(templates, name), "it is being made", name)
        templates.edit(name, build=a_build(SCRIPT) | {"seedStorage": None})
    wait_reason(templates, name, "StorageNotChosen", "Distributed")
    assert "build" not in only_copy(templates, name)
    templates.delete(name)
    templates.wait_until(lambda: templates.raw(name) is None, "the object is gone", name, timeout=LONG)
    assert vmid not in world.sim.world().vmids


def test_a_bridge_that_is_not_there_is_named(templates: Templates) -> None:
    name = make(templates, SCRIPT, network={"bridge": "vmbr99"})
    assert "spec.build.network.bridge" in wait_reason(templates, name, "BridgeNotFound").message


def test_without_any_seed_storage_the_field_is_named(templates: Templates) -> None:
    name = make(templates, SCRIPT, seedStorage=None)
    assert "defaults.seedStorage" in wait_reason(templates, name, "StorageNotChosen").message
