"""Copies that wait for their turn on a storage."""

from collections.abc import Iterator

import pytest

from harness.templates import Templates
from harness.world import World

WORLD = {
    "cluster": {"limits": {"configReadsPerSecond": 100, "allocationsPerStorage": 1}},
    "operator": {"takeover_delay": 20.0, "lease_duration": 30.0},
}


@pytest.fixture
def templates(world: World) -> Iterator[Templates]:
    with Templates(world) as templates:
        yield templates


def test_a_copy_that_waited_for_its_turn_is_made_as_soon_as_it_comes(templates: Templates) -> None:
    """Not only once a call that was never sent could take effect no more."""
    assert sorted(templates.wait_ready(templates.make())) == ["pve1", "pve2", "pve3"]
