"""What a VM costs: calls to Proxmox and writes to Kubernetes, counted, not timed.

The budgets are those of the architecture page: to make a VM at most 10 Proxmox calls and 6 writes, an idle operator
writes nothing and asks at most 4 times a second, and a restarted one changes nothing. The inventory is polled as often
as by default; its polls do not count for a VM, since all VMs share them.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from controlplane import Cluster
from harness.world import World

SPEC: dict[str, Any] = {
    "cpu": {"cores": 2},
    "memory": {"size": "256Mi"},
    "bootDisk": {"size": "10Gi"},
    "networks": [{"name": "net0", "ipv4": {"address": "10.0.0.5/24"}}],
    "cloudInit": {"user": "debian"},
    "tags": ["web"],
}
POLL = 5.0
"""Seconds between two polls of the inventory by default."""

IDLE_SECONDS = 6.0

BUDGET = (10, 6)
"""Proxmox calls and Kubernetes writes to make one VM."""


class Costs:
    """Counts since the world began; ``names`` are the VMs that were made."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names: list[str] = []

    def proxmox_calls(self) -> int:
        """All but inventory polls."""
        return sum(1 for call in self.world.sim.recorder if call.path != "/cluster/resources")

    def kubernetes_writes(self) -> int:
        """All but Events, by the present operator."""
        manager = self.world.operator.manager
        samples = (sample for metric in manager.metrics.kube_calls.collect() for sample in metric.samples)
        counts = [
            sample.value
            for sample in samples
            if sample.name.endswith("_count")
            and sample.labels["verb"] in ("create", "patch", "replace", "delete")
            and not sample.labels["resource"].startswith("events")
        ]
        return int(sum(counts))

    def make(self, count: int) -> tuple[int, int]:
        """Make so many VMs at once and wait until all are Ready; returns the calls and writes it took."""
        before = self.proxmox_calls(), self.kubernetes_writes()
        made = [self.world.make("cost", **SPEC) for _ in range(count)]
        for name in made:
            self.world.wait_ready(name, timeout=60)
        costs = self.proxmox_calls() - before[0], self.kubernetes_writes() - before[1]
        self.names += made
        self.settle()
        return costs

    def settle(self) -> None:
        """Wait until nothing has been asked or written between two polls of the inventory, and these aside."""
        seen, since = (self.proxmox_calls(), self.kubernetes_writes()), time.monotonic()
        deadline = since + 30
        while time.monotonic() - since < POLL + 1:
            assert time.monotonic() < deadline, "the operator does not come to rest"
            time.sleep(0.1)
            now = self.proxmox_calls(), self.kubernetes_writes()
            if now != seen:
                seen, since = now, time.monotonic()


@pytest.fixture(scope="module")
def costs(control_plane: Cluster) -> Iterator[Costs]:
    instant, lifted = {"task_seconds": 0.0}, {"limits": {"allocationsPerStorage": 16}}
    with World(control_plane, sim=instant, cluster=lifted, patient=True) as world:
        world.sim.set_capacity("pve1", memory_gib=64)
        yield Costs(world)


@pytest.fixture(scope="module")
def marginal(costs: Costs) -> tuple[float, float]:
    """Proxmox calls and Kubernetes writes of one VM: 20 VMs compared with 10.

    What a busy machine adds (another look at a task that takes long) is no cost of a VM: the lowest of three counts.
    """
    ten = costs.make(10)
    found: list[tuple[float, float]] = []
    while len(found) < 3 and (not found or min(found) > BUDGET):
        twenty = costs.make(20)
        found.append(((twenty[0] - ten[0]) / 10, (twenty[1] - ten[1]) / 10))
    return min(found)


def test_making_a_vm_takes_at_most_ten_proxmox_calls(marginal: tuple[float, float], record_property):
    record_property(
        "summary", f"budgets: {marginal[0]:g} Proxmox calls, {marginal[1]:g} Kubernetes writes per VM"
    )
    assert marginal[0] <= BUDGET[0]


def test_making_a_vm_takes_at_most_six_kubernetes_writes(marginal: tuple[float, float]):
    assert marginal[1] <= BUDGET[1]


def test_an_idle_operator_writes_nothing_and_asks_at_most_four_times_a_second(
    costs: Costs, marginal: tuple[float, float]
):
    costs.settle()
    writes, asked = costs.kubernetes_writes(), len(costs.world.sim.recorder)
    time.sleep(IDLE_SECONDS)
    assert costs.kubernetes_writes() == writes
    polls = len(costs.world.sim.recorder) - asked
    assert 0 < polls <= 4 * IDLE_SECONDS


def test_a_restarted_operator_changes_nothing(costs: Costs, marginal: tuple[float, float]):
    world = costs.world
    before, calls = world.sim.world(), len(world.sim.recorder.mutating)
    seen = dict(world.looked)
    world.restart()
    looked_at = lambda: all(world.looked[key] > seen[key] for key in seen)  # noqa: E731
    assert len(seen) == len(costs.names)
    world.wait_until(looked_at, "the new operator has looked at every VM", timeout=30)
    costs.settle()
    assert costs.kubernetes_writes() == 0
    assert world.sim.recorder.mutating[calls:] == []
    assert before.diff(world.sim.world()) == []
