"""The operator as people have it: the image in pods, from the chart, on a real node, against the simulator.

Nothing of the operator runs in this process and nothing of it is made faster: the intervals are those of production.
"""

import json
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from chartfiles import CHART
from harness.conditions import is_ready
from harness.kubeapi import KubeApi, Raw
from harness.operator import NAMESPACE
from harness.waiting import until
from image import NAME
from node import Node
from proxmox_operator import __version__
from proxmox_operator.kube.resources import (
    LEASES,
    NAMESPACES,
    PROXMOX_CLUSTERS,
    PROXMOX_VMS,
    SECRETS,
    Resource,
)
from pvesim import PveSim
from pvesim.recorder import Call

PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
RELEASE = "proxmox-operator"
TEMPLATE = 9000
PATIENCE = 60.0
SECRET = "proxmox-credentials"
TENANT = "shop"

type Helm = Callable[..., subprocess.CompletedProcess[str]]


class Installed:
    """One installation. ``cluster`` is the ProxmoxCluster's name."""

    cluster = "lab"

    def __init__(self, node: Node, sim: PveSim, helm: Helm, kube: KubeApi) -> None:
        self.node, self.sim, self.kube = node, sim, kube
        self._helm = helm
        registry, _, repository = NAME.partition("/")
        self._values = {
            "image.registry": registry,
            "image.repository": repository,
            "image.tag": __version__,
            "replicas": "2",
        }

    def install(self) -> None:
        """The chart, then what a person applies; returns once the ProxmoxCluster is Ready."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        self.kube.apply(NAMESPACES, {"metadata": {"name": NAMESPACE, "labels": labels}})
        self.kube.apply(NAMESPACES, {"metadata": {"name": TENANT}})
        self.upgrade()
        data = {"tokenID": self.sim.token_id, "tokenSecret": self.sim.token_secret}
        self.kube.apply(SECRETS, {"metadata": {"name": SECRET, "namespace": NAMESPACE}, "stringData": data})
        spec = {
            "endpoints": self.sim.urls,
            "credentialsSecretRef": {"name": SECRET},
            "tls": {"caBundle": self.sim.ca_pem},
            "access": [{"allow": "Everything"}],
        }
        self.kube.apply(PROXMOX_CLUSTERS, {"metadata": {"name": self.cluster}, "spec": spec})
        ready = lambda: is_ready(self.kube.get(PROXMOX_CLUSTERS, self.cluster))  # noqa: E731
        self.until(ready, "the ProxmoxCluster is Ready")

    def upgrade(self, **image: str) -> None:
        """`helm upgrade --install`, and wait for its pods; ``tag`` is of another image."""
        self._values |= {f"image.{name}": value for name, value in image.items()}
        options = [part for name, value in self._values.items() for part in ("--set", f"{name}={value}")]
        wait = ("--wait", "--timeout", "90s")
        argv = ("upgrade", "--install", RELEASE, "-n", NAMESPACE, str(CHART), *options, *wait)
        done = self._helm(*argv, cluster=self.node, check=False)
        assert done.returncode == 0, f"{done.stderr}\n{self._seen()}"

    # Pods

    def pods(self) -> dict[str, Raw]:
        """Those that have not been told to end, by name."""
        found = self.kube.listed(PODS, NAMESPACE)
        return {raw["metadata"]["name"]: raw for raw in found if "deletionTimestamp" not in raw["metadata"]}

    def ready_pods(self) -> set[str]:
        return {
            name
            for name, raw in self.pods().items()
            if any(
                (each["type"], each["status"]) == ("Ready", "True")
                for each in raw["status"].get("conditions", ())
            )
        }

    def leader(self) -> str:
        """The pod that holds the Lease; waits for one that exists."""
        return self.until(self._holder, "a pod holds the Lease")

    def _holder(self) -> str:
        lease = self.kube.get(LEASES, RELEASE, NAMESPACE) or {"spec": {}}
        name = str(lease["spec"].get("holderIdentity") or "").partition("_")[0]
        return name if name in self.pods() else ""

    def process(self, pod: str) -> int:
        """The process id of the operator in a pod, as this machine sees it."""
        uid = self.pods()[pod]["metadata"]["uid"]
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                is_operator = b"proxmox-operator\0run" in (folder / "cmdline").read_bytes()
                if is_operator and uid in (folder / "cgroup").read_text():
                    return int(folder.name)
        raise AssertionError(f"no process of {pod}")

    def inside(self, pod: str, *argv: str) -> str:
        """What a program says that is run in a pod's container, on both of its outputs."""
        done = self.node.kubectl("exec", "-n", NAMESPACE, pod, "--", *argv)
        return done.stdout + done.stderr

    # ProxmoxVMs

    def make(self, name: str) -> int:
        """Apply a ProxmoxVM that clones the template; returns the VMID that was reserved for it."""
        spec = {"source": {"clone": {"vmid": TEMPLATE}}}
        self.kube.apply(PROXMOX_VMS, {"metadata": {"name": name, "namespace": TENANT}, "spec": spec})
        return int(self.until(lambda: self._status(name).get("vmid"), f"{name} has a VMID"))

    def wait_ready(self, name: str) -> int:
        """Returns the VMID."""
        self.until(lambda: is_ready(self.kube.get(PROXMOX_VMS, name, TENANT)), f"{name} is Ready")
        return int(self._status(name)["vmid"])

    def clones(self) -> list[Call]:
        """The calls that asked Proxmox to clone the template."""
        return [
            call for call in self.sim.recorder if call.mutating and call.path.endswith(f"/{TEMPLATE}/clone")
        ]

    def _status(self, name: str) -> Raw:
        return dict((self.kube.get(PROXMOX_VMS, name, TENANT) or {}).get("status") or {})

    def until[T](self, look: Callable[[], T | None], what: str, *, patience: float = PATIENCE) -> T:
        """As :func:`harness.waiting.until`; fails with what can be seen in the cluster."""
        return until(look, what, seconds=patience, seen=self._seen)

    def _seen(self) -> str:
        parts = [self.node.kubectl("get", "pods,pvec,pvm", "-A", "-o", "wide").stdout]
        for name in self.pods():
            parts.append(self.node.kubectl("logs", "-n", NAMESPACE, name, "--tail", "15").stdout)
        events = json.loads(self.node.kubectl("get", "events", "-n", NAMESPACE, "-o", "json").stdout)["items"]
        parts += [f"{event['reason']}: {event['message']}" for event in events[-15:]]
        return "\n".join(parts)
