"""What every controller is given: the doors to Kubernetes, the queue, and the clocks.

Built once by ``controllers.manager`` (and by tests); nothing here is a global.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.api.names import PAUSED
from proxmox_operator.engine.metrics import Metrics
from proxmox_operator.engine.queue import Key, WorkQueue
from proxmox_operator.engine.settings import Settings
from proxmox_operator.engine.store import ObjectStore
from proxmox_operator.kube.client import Kube, Raw
from proxmox_operator.kube.events import EventRecorder
from proxmox_operator.kube.resources import NAMESPACES, PROXMOX_CLUSTERS, PROXMOX_VMS, VM_TEMPLATES
from proxmox_operator.kube.secrets import SecretReader
from proxmox_operator.kube.status import StatusWriter
from proxmox_operator.proxmox.cache import Remembered
from proxmox_operator.proxmox.client import Trace

VM_KIND, CLUSTER_KIND, TEMPLATE_KIND = PROXMOX_VMS.kind, PROXMOX_CLUSTERS.kind, VM_TEMPLATES.kind


@dataclass(frozen=True, kw_only=True)
class NamespaceFacts:
    """What a namespace says about itself; read at most once a minute."""

    uid: str
    labels: dict[str, str]


@dataclass(kw_only=True)
class Context:
    """The operator's surroundings, shared by all controllers of one process."""

    settings: Settings
    kube: Kube
    store: ObjectStore
    queue: WorkQueue
    status: StatusWriter
    events: EventRecorder
    secrets: SecretReader
    metrics: Metrics
    trace: Trace
    rng: Random
    clock: Callable[[], float]
    cluster_id: str = ""
    now: Callable[[], datetime] = lambda: datetime.now(UTC).replace(microsecond=0)
    namespaces: Remembered[str, NamespaceFacts] = field(init=False)

    def __post_init__(self) -> None:
        self.namespaces = Remembered(self.read_namespace, seconds=60.0, clock=self.clock)

    async def namespace(self, name: str) -> NamespaceFacts:
        """UID and labels of a namespace, at most 60 s old: grants follow a label change within that time."""
        return await self.namespaces.get(name)

    async def read_namespace(self, name: str) -> NamespaceFacts:
        """The same as it is now: a namespace may have been deleted and made again by somebody else."""
        metadata: dict[str, Any] = (await self.kube.get(NAMESPACES, name))["metadata"]
        return NamespaceFacts(uid=metadata["uid"], labels=dict(metadata.get("labels") or {}))

    def wake_users(self, cluster: str, *kinds: str) -> None:
        """Have every object of these kinds looked at that uses, or may be waiting for, this ProxmoxCluster."""
        for kind in kinds or (TEMPLATE_KIND, VM_KIND):
            for raw in self.store.list(kind):
                used = (raw.get("status") or {}).get("cluster")
                if used in (None, cluster):
                    self.queue.add(key_of(raw))


def key_of(raw: Raw) -> Key:
    """The queue's key of an object."""
    metadata = raw["metadata"]
    return Key(raw["kind"], metadata.get("namespace") or "", metadata["name"])


def vm_key(vm: ProxmoxVM) -> Key:
    """The queue's key of a parsed ProxmoxVM."""
    return Key(VM_KIND, vm.metadata.namespace, vm.metadata.name)


def is_paused(annotations: dict[str, str] | Any) -> bool:
    """Whether the pause annotation is set."""
    return bool(annotations) and str(annotations.get(PAUSED, "")).lower() == "true"
