"""The world of a bad day: one simulator and one operator for a module, tidied up around each test.

A module says what its world is like in ``WORLD``, the keyword arguments of ``harness.world.World``.
"""

from collections.abc import Iterator

import pytest

from controlplane import Cluster
from harness.world import World


@pytest.fixture(scope="module")
def shared_world(control_plane: Cluster, request: pytest.FixtureRequest) -> Iterator[World]:
    """The module's simulator and operator."""
    with World(control_plane, **getattr(request.module, "WORLD", {})) as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    """The same, in which nothing of an earlier test is left."""
    with shared_world.fresh():
        yield shared_world
