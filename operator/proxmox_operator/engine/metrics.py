"""What Prometheus reads. One object with its own registry, passed to whoever has something to count.

Labels are bounded by construction: kinds, verbs, methods, result classes and ProxmoxCluster names; never an
object's name, a message or a path with ids.
"""

from collections.abc import Callable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_FAST = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
_CALLS = (0.01, 0.05, 0.2, 1.0, 5.0, 15.0, 45.0)
_TASKS = (0.5, 2.0, 10.0, 30.0, 120.0, 600.0, 3600.0)
PREFIX = "proxmox_operator"


class QueueFigures(Protocol):
    """What a queue tells about itself when it is asked."""

    @property
    def depth(self) -> int: ...
    @property
    def delayed(self) -> int: ...
    @property
    def running(self) -> int: ...
    def oldest_running(self) -> float: ...


class Metrics:
    """All metrics of one operator process, named ``proxmox_operator_*``; durations in seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = self._histogram(
            "reconcile_seconds", "One pass over an object, by its result.", ("kind", "result"), _FAST
        )
        self.queue_wait = self._histogram(
            "queue_wait_seconds", "From the time a key could run to its start.", ("kind",), _FAST
        )
        self.queue_retries = self._counter("queue_retries", "Passes repeated with backoff.", ("kind",))
        self.handler_bugs = self._counter(
            "handler_bugs", "Passes that ended in an unforeseen error.", ("kind",)
        )
        self.kube_calls = self._histogram(
            "kube_call_seconds", "Calls to the Kubernetes API.", ("verb", "resource", "result"), _CALLS
        )
        self.kube_writes = self._counter(
            "kube_writes", "Writes that the Kubernetes API accepted.", ("verb", "resource")
        )
        self.events = self._counter("events", "Kubernetes Events, by what became of them.", ("result",))
        self.pve_calls = self._histogram(
            "proxmox_call_seconds",
            "Calls to Proxmox VE.",
            ("cluster", "method", "call_class", "result"),
            _CALLS,
        )
        self.tasks = self._histogram(
            "proxmox_task_seconds",
            "Proxmox VE tasks, by type and outcome.",
            ("cluster", "type", "outcome"),
            _TASKS,
        )
        self.drift = self._counter(
            "drift", "Deviations of a VM found outside of a change.", ("kind", "handled")
        )
        self.leader = self._gauge("leader", "1 where this process holds the Lease.")
        self.loop_lag = self._gauge("loop_lag_seconds", "How late the event loop woke its heartbeat last.")
        self._inventory_age = self._gauge(
            "inventory_age_seconds",
            "Age of the last complete inventory of a Proxmox VE cluster.",
            ("cluster",),
        )
        self._queue_depth = self._gauge("queue_depth", "Keys that could run, were there a free worker.")
        self._queue_delayed = self._gauge("queue_delayed", "Keys that wait for their time.")
        self._queue_running = self._gauge("queue_running", "Keys being worked on.")
        self._oldest = self._gauge("queue_oldest_running_seconds", "Age of the longest-running pass.")

    def render(self) -> bytes:
        """Everything in the Prometheus text format."""
        return generate_latest(self.registry)

    def reconciled(self, kind: str, result: str, seconds: float) -> None:
        """One pass ended. `result` is a class (``done``, ``waiting``...), not a condition's reason."""
        self.reconciles.labels(kind, result).observe(seconds)

    def kube_call(self, verb: str, resource: str, result: str, seconds: float) -> None:
        """One call to the Kubernetes API; `result` is ``ok`` or the name of an error class."""
        self.kube_calls.labels(verb, resource, result).observe(seconds)
        if result == "ok" and verb not in ("get", "list"):
            self.kube_writes.labels(verb, resource).inc()

    def event(self, result: str) -> None:
        """One was ``posted``, ``counted`` into an earlier one, ``limited``, ``dropped`` or ``failed``."""
        self.events.labels(result).inc()

    def pve_call(self, cluster: str, method: str, call_class: str, result: str, seconds: float) -> None:
        """One call to Proxmox VE; `call_class` is what is called (``clone``), never a path with ids."""
        self.pve_calls.labels(cluster, method, call_class, result).observe(seconds)

    def task_ended(self, cluster: str, type: str, outcome: str, seconds: float) -> None:
        """One Proxmox VE task ended; `type` as in its UPID (``qmclone``)."""
        self.tasks.labels(cluster, type, outcome).observe(seconds)

    def drifted(self, kind: str, handled: str) -> None:
        """A deviation was found and ``corrected`` or only ``shown``."""
        self.drift.labels(kind, handled).inc()

    def watch_inventory(self, cluster: str, age: Callable[[], float]) -> None:
        """Ask `age` for the seconds since the last complete inventory whenever metrics are read."""
        self._inventory_age.labels(cluster).set_function(age)

    def forget_cluster(self, cluster: str) -> None:
        """Stop showing a Proxmox VE cluster that is no longer managed."""
        self._inventory_age.remove(cluster)

    def watch_queue(self, queue: QueueFigures) -> None:
        """Ask the queue for its figures whenever metrics are read."""
        self._queue_depth.set_function(lambda: queue.depth)
        self._queue_delayed.set_function(lambda: queue.delayed)
        self._queue_running.set_function(lambda: queue.running)
        self._oldest.set_function(queue.oldest_running)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", text, labels, registry=self.registry, buckets=buckets)
