"""Real guests in the simulator: a QEMU process each, shared by the tests of a module since a boot takes its time.

`make test` runs them after all others, and says so where it leaves them out: on a machine that lacks QEMU or the image,
and where neither can be made (not Debian, or not root). In CI, and in `make test-guest`, that is a failure.
Two at a time, since two cores bear no more.
"""

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import guest
from controlplane import Cluster
from harness.kubeapi import Raw
from harness.templates import Templates
from harness.world import World
from pvesim import PveSim
from pvesim.client import Api

ORDER = ("test_build", "test_operator", "test_first_boot", "test_power")
"""So that two workers are done at about the same time: the second of them takes what comes second and fourth."""
LAST = len(ORDER)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The guard against a hang leaves a guest the time to boot under emulation; modules come in ORDER."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.timeout(3600))
    items.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.stem in ORDER else LAST)


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
def templates(world: World) -> Iterator[Templates]:
    """The VMTemplates of that world."""
    with Templates(world) as templates:
        yield templates


@pytest.fixture(scope="module")
def image(templates: Templates) -> Raw:
    """``spec.image`` of the real image, as a server on a loopback port has it."""
    data = guest.image().read_bytes()
    return {
        "url": templates.server.serve("/debian-12.qcow2", data),
        "checksum": f"sha256:{hashlib.sha256(data).hexdigest()}",
        "storage": templates.storage,
    }


@pytest.fixture(scope="module")
def inside(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A client of that world's simulator, for a look into guests."""
    with Api(world.sim, tmp_path_factory.mktemp("inside")) as api:
        yield api


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
