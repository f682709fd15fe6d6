"""VMTemplates that are built: booted once, changed, sealed; and the bad days of that."""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.templates import Templates
from harness.world import World

SCRIPT = "echo hello\n"


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
    return {"steps": steps, "seedStorage": "local", **fields}


def make(templates: Templates, *scripts: str, **fields: Any) -> str:
    return templates.make(nodes=["pve1"], build=a_build(*scripts, **fields))


def only_copy(templates: Templates, name: str) -> dict[str, Any]:
    (copy,) = templates.status(name).get("copies", ())
    return dict(copy)


def seeds(world: World) -> list[str]:
    return [
        name for node in world.sim.server.nodes for name in world.sim.files("local", node) if "seed" in name
    ]


def said(templates: Templates, name: str) -> list[str]:
    return [event.reason for event in templates.events(name)]


def wait_state(templates: Templates, name: str, state: str) -> dict[str, Any]:
    def there() -> bool:
        return any(copy["state"] == state for copy in templates.status(name).get("copies", ()))

    templates.wait_until(there, f"a copy of {name} is {state}", name)
    return only_copy(templates, name)


# Good days


def test_a_copy_is_booted_changed_sealed_and_converted(world: World, templates: Templates) -> None:
    name = make(templates, SCRIPT, SCRIPT, network={"bridge": "vmbr0", "vlan": 20})
    vmid = templates.wait_ready(name)["pve1"]
    vm = world.sim.vm(vmid)
    assert vm.guest_os.ran == [0, 1, 2, 3]
    assert vm.guest_os.sealed
    assert vm.template
    assert "cloudinit" in vm.config["ide2"]
    assert "net0" not in vm.config
    assert "+draft" not in vm.config["description"]
    assert seeds(world) == []
    assert "build" not in only_copy(templates, name)
    templates.wait_until(lambda: "CopyReady" in said(templates, name), "it is told", name)
    assert {"BuildStarted", "BuildStepDone"} <= set(said(templates, name))
