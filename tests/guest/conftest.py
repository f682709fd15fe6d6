"""Real guests in the simulator: a QEMU process each, shared by the tests of a module since a boot takes its time.

`make test` runs them after all others, and says so where it leaves them out: on a machine that lacks QEMU or the image,
and where neither can be made (not Debian, or not root). In CI, and in `make test-guest`, that is a failure.
Two at a time, since two cores bear no more.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane import Cluster
from harness.world import World
from pvesim import PveSim
from pvesim.client import Api

LONGEST_FIRST = ("test_build", "test_operator", "test_power", "test_first_boot")
LAST = len(LONGEST_FIRST)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The guard against a hang leaves a guest the time to boot under emulation; the longest modules come first."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.timeout(3600))
    items.sort(
        key=lambda item: LONGEST_FIRST.index(item.path.stem) if item.path.stem in LONGEST_FIRST else LAST
    )


@pytest.fixture(scope="module")
def sim() -> Iterator[PveSim]:
    """One node whose VMs are real."""
    with PveSim(nodes=1, guests="qemu") as running:
        yield running


@pytest.fixture(scope="module")
def world(control_plane: Cluster) -> Iterator[World]:
    """An operator, and one node whose VMs are real; a Proxmox second is a second."""
    sim = {"nodes": 1, "guests": "qemu", "time_scale": 1.0}
    cluster = {"defaults": {"storage": "local-lvm", "bridge": "vmbr0", "seedStorage": "local"}}
    with World(control_plane, sim=sim, cluster=cluster, template=False) as world:
        yield world


@pytest.fixture(scope="module")
def api(sim: PveSim, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A client with the all-powerful token."""
    with Api(sim, tmp_path_factory.mktemp("api")) as client:
        yield client


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private ssh key; the public one lies beside it, as `.pub`."""
    path = tmp_path_factory.mktemp("ssh") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path
