"""A simulator that tells as late as a real Proxmox, and an operator with the intervals of production."""

import time
from typing import Any

from harness.world import World

WORLD: dict[str, Any] = {"sim": {"staleness": "real"}, "patient": True}

BUDGET = 20.0
"""Seconds until a VM that somebody has stopped runs again: pvestatd 10 s, cache 2 s, our poll 5 s, and the start."""


def test_a_vm_stopped_in_the_gui_runs_again_within_the_budget(world: World, record_property) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name, timeout=60)
    assert world.operator is not None
    manager = world.operator.manager
    assert manager is not None

    def shown() -> str | None:
        member = manager.fleet.get(world.cluster)
        inventory = member.session.inventory.current if member and member.session else None
        guest = inventory.guests.get(vmid) if inventory is not None else None
        return guest.status if guest is not None else None

    world.wait_until(lambda: shown() == "running", "the inventory shows it running", name, timeout=30)
    world.sim.stop(vmid)
    stopped = time.monotonic()
    world.wait_until(
        lambda: bool(world.sim.vm(vmid).status == "running"), "it runs again", name, timeout=BUDGET
    )
    record_property("summary", f"power drift, stale as real: corrected in {time.monotonic() - stopped:.1f} s")
    assert "by root@pam" in world.wait_event(name, "PowerDriftCorrected")
