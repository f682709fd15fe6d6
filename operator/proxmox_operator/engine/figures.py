"""Figures counted only when Prometheus asks: our objects by condition, and how busy each Proxmox VE cluster is.

Costs nothing between two scrapes and no API call ever: it reads what is in memory. Not here: what happens and is
counted as it happens (metrics.py).
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX = "proxmox_operator"

CONDITIONS = frozenset(
    {
        *("Ready", "Reconciling", "Stalled", "Paused"),
        *("Provisioned", "Synced", "RestartRequired", "HighlyAvailable"),
        *("DisksPending", "AgentConnected", "CloudInit"),
        *("Distributed", "Downloaded"),
        *("Reachable", "Authorized", "Quorate"),
    }
)
"""The types of conditions that have a label value of their own; any other one is counted as ``Other``."""

_STATUSES = frozenset({"True", "False", "Unknown"})


class Family(NamedTuple):
    """A metric: its name as in queries but for the suffixes of a histogram, and the labels of its series."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str

    @property
    def series(self) -> tuple[str, ...]:
        """The names that a query can use."""
        if self.type == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_sum", f"{self.name}_count")
        return (self.name,)

    def empty(self) -> GaugeMetricFamily:
        """For a collector: the gauge without values yet."""
        return GaugeMetricFamily(self.name, self.text, labels=self.labels)


def _gauge(name: str, text: str, *labels: str) -> Family:
    return Family(f"{PREFIX}_{name}", "gauge", labels, text)


OBJECTS = _gauge("objects", "Objects by kind.", "kind")
CONDITION = _gauge(
    "object_conditions",
    "Objects by the status of each of their conditions, and by where the object as a whole stands: settled, "
    "progressing, stalled (a person must act) or paused.",
    *("kind", "condition", "status", "reason_class"),
)
NOT_READY = _gauge(
    "oldest_not_ready_seconds",
    "For how long the object has not been Ready that has not been for the longest time; paused ones and those being "
    "deleted aside.",
    "kind",
)
DELETING = _gauge("deleting_objects", "Objects that are being deleted.", "kind")
DELETION = _gauge("oldest_deletion_seconds", "For how long the oldest deletion has been under way.", "kind")

INVENTORY_AGE = _gauge(
    "inventory_age_seconds", "Age of the last complete inventory of a Proxmox VE cluster.", "cluster"
)
FROZEN = _gauge(
    "writes_frozen",
    "1 while nothing is written because many VMs vanished from sight at once.",
    "cluster",
)
ENDPOINTS = _gauge(
    "endpoints",
    "Endpoints of a Proxmox VE cluster: usable, silent (circuit open), unauthorized or foreign (of another cluster).",
    *("cluster", "state"),
)
SILENT_NODES = _gauge(
    "silent_nodes", "Nodes whose circuit is open: they did not answer, and are left alone for now.", "cluster"
)
TASKS = _gauge("proxmox_tasks_running", "Proxmox VE tasks of ours that have not ended.", "cluster")
LIMIT = _gauge(
    "limit",
    "What a Proxmox VE cluster may be asked for at once: calls per node, calls in all (threads), "
    "allocations per storage.",
    *("cluster", "limit"),
)
LIMIT_USED = _gauge(
    "limit_used", "What is in use of a limit, on the node or storage where it is most.", *("cluster", "limit")
)
LIMIT_WAITING = _gauge(
    "limit_waiting", "Calls, or objects, that wait for a place under a limit.", *("cluster", "limit")
)

OF_OBJECTS = (OBJECTS, CONDITION, NOT_READY, DELETING, DELETION)
OF_CLUSTERS = (
    *(INVENTORY_AGE, FROZEN, ENDPOINTS, SILENT_NODES, TASKS),
    *(LIMIT, LIMIT_USED, LIMIT_WAITING),
)


class Usage(Protocol):
    """One limit at this moment: what it allows, what is used where it is most, and who waits."""

    @property
    def limit(self) -> int: ...
    @property
    def used(self) -> int: ...
    @property
    def waiting(self) -> int: ...


class ClusterFigures(Protocol):
    """One Proxmox VE cluster at this moment. The keys of ``endpoints`` and ``limits`` become label values."""

    @property
    def inventory_age(self) -> float: ...
    @property
    def frozen(self) -> bool: ...
    @property
    def endpoints(self) -> Mapping[str, int]: ...
    @property
    def silent_nodes(self) -> int: ...
    @property
    def tasks(self) -> int: ...
    @property
    def limits(self) -> Mapping[str, Usage]: ...


class ClusterCollector(Collector):
    """Asks each watched cluster for its figures. For one event loop, in which metrics are rendered too."""

    def __init__(self) -> None:
        self.sources: dict[str, Callable[[], ClusterFigures]] = {}
        """By the name of the ProxmoxCluster."""

    def describe(self) -> Iterable[Metric]:
        """What there can be, without asking anybody."""
        return [family.empty() for family in OF_CLUSTERS]

    def collect(self) -> Iterator[Metric]:
        """All clusters now."""
        found = {family: family.empty() for family in OF_CLUSTERS}
        for name, ask in self.sources.items():
            now = ask()
            found[INVENTORY_AGE].add_metric([name], now.inventory_age)
            found[FROZEN].add_metric([name], now.frozen)
            found[SILENT_NODES].add_metric([name], now.silent_nodes)
            found[TASKS].add_metric([name], now.tasks)
            for state, count in now.endpoints.items():
                found[ENDPOINTS].add_metric([name, state], count)
            for limit, usage in now.limits.items():
                found[LIMIT].add_metric([name, limit], usage.limit)
                found[LIMIT_USED].add_metric([name, limit], usage.used)
                found[LIMIT_WAITING].add_metric([name, limit], usage.waiting)
        yield from found.values()


class Objects(Protocol):
    """The known objects (engine/store.py)."""

    def list(self, kind: str) -> Sequence[Mapping[str, Any]]: ...


class ObjectCollector(Collector):
    """Counts objects; nothing is told while ``leading`` is False, so that several processes can be added up."""

    def __init__(
        self,
        objects: Objects,
        kinds: Sequence[str],
        leading: Callable[[], bool],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._objects = objects
        self._kinds = kinds
        self._leading = leading
        self._now = now

    def describe(self) -> Iterable[Metric]:
        """What there can be, without counting."""
        return [family.empty() for family in OF_OBJECTS]

    def collect(self) -> Iterator[Metric]:
        """All objects now."""
        found = {family: family.empty() for family in OF_OBJECTS}
        for kind in self._kinds if self._leading() else ():
            self._count(kind, found)
        yield from found.values()

    def _count(self, kind: str, found: Mapping[Family, GaugeMetricFamily]) -> None:
        raws, now = self._objects.list(kind), self._now()
        conditions: Counter[tuple[str, str, str]] = Counter()
        deletions, unready = [], []
        for raw in raws:
            metadata, status = raw["metadata"], raw.get("status") or {}
            states = {
                each["type"]: each
                for each in status.get("conditions") or ()
                if each.get("status") in _STATUSES
            }
            stands = _reason_class(states)
            for name, each in states.items():
                conditions[name if name in CONDITIONS else "Other", each["status"], stands] += 1
            if "deletionTimestamp" in metadata:
                deletions.append(_moment(metadata["deletionTimestamp"]))
            elif stands != "paused" and _status(states, "Ready") != "True":
                since = states.get("Ready", {}).get("lastTransitionTime")
                unready.append(_moment(since or metadata["creationTimestamp"]))
        found[OBJECTS].add_metric([kind], len(raws))
        found[DELETING].add_metric([kind], len(deletions))
        found[DELETION].add_metric([kind], max(now - min(deletions, default=now), 0.0))
        found[NOT_READY].add_metric([kind], max(now - min(unready, default=now), 0.0))
        for labels, count in conditions.items():
            found[CONDITION].add_metric([kind, *labels], count)


def _status(states: Mapping[str, Mapping[str, Any]], name: str) -> str:
    return str(states[name]["status"]) if name in states else "Unknown"


def _reason_class(states: Mapping[str, Mapping[str, Any]]) -> str:
    """By kstatus' two conditions, which say of any reason what happens next."""
    if _status(states, "Paused") == "True":
        return "paused"
    if _status(states, "Stalled") == "True":
        return "stalled"
    return "progressing" if _status(states, "Reconciling") == "True" else "settled"


def _moment(text: str) -> float:
    """Seconds since 1970 of a time as Kubernetes writes it."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
