"""A fresh simulated cluster per test and a plain HTTP client: these tests know nothing of the operator."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.images import GIB, ImageServer, qcow2
from pvesim import PveSim
from pvesim.client import Api


@pytest.fixture
def sim() -> Iterator[PveSim]:
    """Three nodes, tasks that end at once, fresh statistics."""
    with PveSim(nodes=3) as running:
        yield running


@pytest.fixture
def api(sim: PveSim, tmp_path: Path) -> Iterator[Api]:
    """A client of pve1 with the all-powerful token."""
    with Api(sim, tmp_path) as client:
        yield client


@pytest.fixture
def images() -> Iterator[ImageServer]:
    """A web server with an image of 3 GiB, /debian.qcow2."""
    with ImageServer() as server:
        server.serve("/debian.qcow2", qcow2(3 * GIB))
        yield server
