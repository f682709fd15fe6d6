from collections.abc import Iterator

import pytest

from controlplane import Cluster
from harness.world import World


@pytest.fixture(scope="module")
def shared_world(control_plane: Cluster) -> Iterator[World]:
    with World(control_plane) as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    with shared_world.fresh():
        yield shared_world


def test_one(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    before = world.sim.world()
    world.sim.stop(vmid)
    world.wait_until(lambda: world.sim.vm(vmid).status == "running", "the VM was started again")
    world.wait_ready(name)
    assert before.diff(world.sim.world()) == []
    world.passes(name)
    world.delete(name)
    world.wait_gone(name)

def test_two(world):
    world.wait_ready(world.make("web"))
