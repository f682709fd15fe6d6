"""A real node for each module, whose pods reach a simulated Proxmox cluster.

`make test` runs this where the machine can be a node, and says so where it cannot (no root, no control groups, no
packages), in CI too. In `make test-node` that is a failure.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chart.conftest import Helm, helm  # noqa: F401 - a fixture
from harness.installed import TEMPLATE, Installed
from harness.kubeapi import KubeApi
from image import image
from node import ADDRESS, Node
from pvesim import PveSim

LOGS = Path(__file__).resolve().parents[2] / ".logs" / "node"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The guard against a hang leaves the time to pull a node up."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(300))


@pytest.fixture(scope="module")
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    with Node(log_dir=LOGS / request.module.__name__.rpartition(".")[2]) as node:
        node.load(image())
        yield node


@pytest.fixture(scope="module")
def kube(node: Node) -> Iterator[KubeApi]:
    with KubeApi(node.kubeconfig) as kube:
        yield kube


@pytest.fixture(scope="module")
def sim(node: Node) -> Iterator[PveSim]:
    """A simulated Proxmox cluster that pods can reach."""
    with PveSim(address=ADDRESS) as sim:
        sim.add_template(vmid=TEMPLATE)
        yield sim


@pytest.fixture(scope="module")
def installed(node: Node, sim: PveSim, helm: Helm, kube: KubeApi) -> Installed:  # noqa: F811
    """The operator, from the chart by Helm, with two replicas."""
    installed = Installed(node, sim, helm, kube)
    installed.install()
    return installed
