"""An upload whose answer was lost, and which takes effect later."""

from collections.abc import Iterator

import pytest

from harness.templates import Templates
from harness.world import World
from pvesim.recorder import Call, Late

WORLD = {"operator": {"takeover_delay": 10.0, "lease_duration": 30.0}}


@pytest.fixture
def templates(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Templates]:
    monkeypatch.setattr("proxmox_operator.controllers.template.memory.AGAIN", 0.2)
    with Templates(world) as templates:
        templates.via = "Operator"
        yield templates


def test_it_is_not_sent_again_before_it_can_have_no_effect(world: World, templates: Templates) -> None:
    """The second one would be used, and then overwritten by the first."""
    late, seen = Late(), list[Call]()

    def intercept(call: Call) -> Late | None:
        if call.path.endswith("/upload"):
            seen.append(call)
        return late if seen == [call] else None

    world.sim.intercept = intercept
    try:
        name = templates.make(nodes=["pve1"])
        world.wait_until(lambda: bool(seen), "it is sent")
        late.release()
        templates.wait_ready(name, timeout=60)
    finally:
        world.sim.intercept = None
    assert len(seen) == 1
    assert len(templates.files("pve1")) == 1
