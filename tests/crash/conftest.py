"""What crash tests share: a person's hands on the API server, and the numbers at the end of a run."""

from collections.abc import Callable, Iterator

import pytest

from controlplane import Cluster
from crash.stage import Stage
from crash.witness import Witness
from proxmox_operator.kube.resources import PROXMOX_VMS, VM_TEMPLATES


@pytest.fixture(scope="module")
def kube(control_plane: Cluster) -> Iterator[Witness]:
    with Witness(control_plane.kubeconfig, PROXMOX_VMS, VM_TEMPLATES) as api:
        yield api


@pytest.fixture(scope="module")
def new_stage(control_plane: Cluster, kube: Witness, request: pytest.FixtureRequest) -> Callable[[], Stage]:
    """Makes stages for this module, one at a time."""
    namespace = request.module.__name__.rpartition(".")[2].replace("_", "-")
    return lambda: Stage(control_plane, kube, namespace)
