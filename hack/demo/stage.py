"""The cast: a Kubernetes API server, a simulated Proxmox VE cluster, a server of images, and room for the operator.

Leaving the `with` block stops everything, also on an exception, Ctrl-C and SIGTERM. What was asked for by KUBECONFIG
is not started, and not stopped either: there, only what was made is removed.
"""

import hashlib
import json
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from controlplane import Cluster, ControlPlaneError, ExternalCluster, open_cluster
from demo.kube import CLUSTERS, Kube
from demo.processes import Operator, Simulator, StageError
from imageserver import GIB, ImageServer, qcow2

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "manifests" / "examples"
SYSTEM = "proxmox-operator-system"
LEASE_SECONDS = 30.0
FAILURES = (StageError, ControlPlaneError)
"""What a person is told in a sentence, without a traceback."""


class Stage:
    """What the acts play on. Made by :func:`set_up`."""

    def __init__(
        self, cluster: Cluster, kube: Kube, simulator: Simulator, images: ImageServer, logs: Path
    ) -> None:
        self.cluster = cluster
        self.kube = kube
        self.simulator = simulator
        self.images = images
        self.logs = logs
        self.operator: Operator | None = None
        self.port = _free_port()

    def start_operator(self, *, command: Sequence[str] = ()) -> Operator:
        """Start it (again) and wait until it leads. Raises StageError."""
        self.stop_operator()
        self.operator = Operator(
            self.cluster.kubeconfig,
            self.logs / "operator.log",
            port=self.port,
            namespace=SYSTEM,
            command=command,
        )
        self.operator.await_leading(LEASE_SECONDS)
        return self.operator

    def stop_operator(self) -> None:
        """Stop it in order, so that it gives its Lease back."""
        if self.operator is not None:
            self.operator.stop()
            self.operator = None

    def example(self, name: str) -> list[dict[str, Any]]:
        """The objects of one file of manifests/examples, with the simulator's endpoints, CA and token filled in, and a
        small image of our own in place of a distribution's."""
        objects: list[dict[str, Any]] = list(yaml.safe_load_all((EXAMPLES / name).read_text()))
        for raw in objects:
            if raw["kind"] == "ProxmoxCluster":
                raw["spec"]["endpoints"] = self.simulator.urls
                raw["spec"]["tls"] = {"caBundle": self.simulator.ca_file.read_text()}
            elif raw["kind"] == "VMTemplate":
                data = qcow2(3 * GIB)
                path = "/" + raw["spec"]["image"]["url"].rpartition("/")[2]
                raw["spec"]["image"]["url"] = self.images.serve(path, data)
                raw["spec"]["image"]["checksum"] = f"sha256:{hashlib.sha256(data).hexdigest()}"
            elif "tokenID" in raw.get("stringData", {}):
                raw["stringData"] = {
                    "tokenID": self.simulator.token_id,
                    "tokenSecret": self.simulator.token_secret,
                }
        return objects

    def kubectl_apply(self, objects: Sequence[dict[str, Any]], *, namespace: str) -> None:
        """What `kubectl apply -f` does. Raises ControlPlaneError with kubectl's words."""
        text = yaml.safe_dump_all(objects)
        self.cluster.kubectl("apply", "-n", namespace, "-f", "-", input=text, check=True)


@contextmanager
def set_up(*, simulator: Sequence[str], namespaces: Sequence[str]) -> Iterator[Stage]:
    """Start everything but the operator. Raises StageError or ControlPlaneError; logs are kept where it does."""
    with _logs() as logs, ExitStack() as stack:
        cluster = open_cluster(with_controller_manager=True, log_dir=logs / "controlplane")
        stack.callback(cluster.stop)  # not its own exit, which would tell of logs that we tell of
        cluster.__enter__()
        cluster.install_crds(ROOT / "crds")
        kube = stack.enter_context(Kube(cluster))
        if isinstance(cluster, ExternalCluster) and kube.items(CLUSTERS):
            raise StageError(
                "the cluster of KUBECONFIG has ProxmoxClusters already, which this would disturb: unset KUBECONFIG"
            )
        for namespace in (SYSTEM, *namespaces):
            if kube.get(f"/api/v1/namespaces/{namespace}") is None:
                cluster.create_namespace(namespace)
                if isinstance(cluster, ExternalCluster):
                    stack.callback(cluster.delete_namespace, namespace)
        pve = Simulator(logs / "simulator.log", *simulator)
        stack.callback(pve.stop)
        images = stack.enter_context(ImageServer())
        stage = Stage(cluster, kube, pve, images, logs)
        stack.callback(stage.stop_operator)
        if isinstance(cluster, ExternalCluster):
            stack.callback(_forget_objects, stage)
        yield stage


@contextmanager
def _logs() -> Iterator[Path]:
    """A folder for logs that is only kept when something failed, with a note of where it is."""
    logs = Path(tempfile.mkdtemp(prefix="proxmox-operator-demo-logs-"))
    try:
        yield logs
    except Exception as error:
        for complaint in _complaints(logs / "operator.log"):
            error.add_note(f"the operator said: {complaint}")
        error.add_note(f"logs: {logs}")
        raise
    except BaseException:  # Ctrl-C: nothing to explain
        shutil.rmtree(logs, ignore_errors=True)
        raise
    shutil.rmtree(logs, ignore_errors=True)


def _complaints(log: Path) -> list[str]:
    """The last thing of its own that the operator logged as an error."""
    if not log.exists():
        return []
    records = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [each["message"] for each in records if each.get("level") == "ERROR" and _is_ours(each)][-1:]


def _is_ours(record: dict[str, str]) -> bool:
    return record.get("logger", "").startswith("proxmox_operator.")


def _forget_objects(stage: Stage) -> None:
    """On somebody's own cluster: the VMs are simulated, so finalizers may go without asking Proxmox."""
    stage.stop_operator()
    for kind in ("proxmoxvm", "vmtemplate", "proxmoxcluster"):
        listed = stage.cluster.kubectl("get", kind, "-A", "-o", "yaml").stdout
        for raw in (yaml.safe_load(listed) or {}).get("items", []):
            where = ["-n", raw["metadata"]["namespace"]] if "namespace" in raw["metadata"] else []
            name = f"{kind}/{raw['metadata']['name']}"
            stage.cluster.kubectl("delete", name, *where, "--wait=false")
            stage.cluster.kubectl(
                "patch", name, *where, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
            )


@contextmanager
def orderly() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the program through every `with` block; a second one does not interrupt that."""

    def end(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
