"""The chart, Helm, and API servers of their own: an installation is cluster-wide, so nothing else may be there."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chartfiles import CHART, ROOT
from controlplane import ControlPlane
from gotools import locate

NAMESPACE = "proxmox-operator-system"

type Helm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Run helm, with nothing of the person's own configuration; ``cluster`` says where to."""
    home = tmp_path_factory.mktemp("helm")
    program = locate("helm")

    def run(
        *args: str, cluster: ControlPlane | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "NO_PROXY": "127.0.0.1"}
        if cluster is not None:
            environment["KUBECONFIG"] = str(cluster.kubeconfig)
        done = subprocess.run(
            [str(program), *args], env=environment, capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == 0 or not check, done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[ControlPlane]:
    """An API server that knows nothing of us yet, and records what it is asked."""
    logs = ROOT / ".logs" / request.module.__name__
    with ControlPlane(with_controller_manager=True, audited=True, log_dir=logs) as server:
        yield server


@pytest.fixture(scope="session")
def chart() -> Path:
    return CHART
