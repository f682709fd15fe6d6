"""What Prometheus reads. One object with its own registry, passed to whoever has something to count.

Labels are bounded by construction: kinds, verbs, methods, result classes and ProxmoxCluster names; never an
object's name, a message or a path with ids. What is counted only when it is asked for is in figures.py.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from proxmox_operator import __version__
from proxmox_operator.engine.figures import (
    OF_CLUSTERS,
    OF_OBJECTS,
    PREFIX,
    ClusterCollector,
    ClusterFigures,
    Family,
    ObjectCollector,
    Objects,
)

# They are a series more for each counter and histogram, which no query here needs.
disable_created_metrics()  # type: ignore[no-untyped-call]

_FAST = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0)
_CALLS = (0.01, 0.05, 0.2, 1.0, 5.0, 15.0, 45.0)
_TASKS = (0.5, 2.0, 10.0, 30.0, 120.0, 600.0, 3600.0)


class QueueFigures(Protocol):
    """What a queue tells about itself when it is asked."""

    @property
    def depth(self) -> int: ...
    @property
    def delayed(self) -> int: ...
    @property
    def running(self) -> int: ...
    def oldest_running(self) -> float: ...


class Fence(Protocol):
    """How long this process may still write."""

    def remaining(self) -> float: ...


class Leading(Protocol):
    """Whether this process leads, and how long that is certain."""

    @property
    def leading(self) -> bool: ...
    @property
    def fence(self) -> Fence: ...


class Metrics:
    """All metrics of one operator process, named ``proxmox_operator_*``; durations in seconds.

    Where several processes run, sums over them are right: only the leader tells of the queue, objects and clusters.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._families: list[Family] = []
        self._process = ProcessCollector(registry=self.registry)
        self._clusters = ClusterCollector()
        self.registry.register(self._clusters)
        self._leading: Callable[[], bool] = lambda: True
        build = self._gauge("build_info", "1; the label tells which version runs.", ("version",))
        build.labels(__version__).set(1)
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
        self.trace_spans = self._counter(
            "trace_spans",
            "Spans that were handed to the collector of traces, by what became of them.",
            ("result",),
        )
        self._leader = self._gauge("leader", "1 where this process holds the Lease.")
        self._lease_left = self._gauge(
            "lease_remaining_seconds",
            "Seconds until another process may lead; 0 where this one may not write.",
        )
        self._heartbeat_age = self._gauge(
            "heartbeat_age_seconds",
            "Since when a part that must move has not moved; /livez looks at it, too.",
            ("part",),
        )
        self.loop_lag = self._gauge("loop_lag_seconds", "How late the event loop woke its heartbeat last.")
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

    def traced(self, result: str, spans: int) -> None:
        """So many spans were ``delivered`` or ``dropped``."""
        self.trace_spans.labels(result).inc(spans)

    def watch_cluster(self, cluster: str, figures: Callable[[], ClusterFigures]) -> None:
        """Ask for the figures of a Proxmox VE cluster whenever metrics are read."""
        self._clusters.sources[cluster] = figures

    def forget_cluster(self, cluster: str) -> None:
        """Stop showing a Proxmox VE cluster that is no longer managed."""
        self._clusters.sources.pop(cluster, None)
        for metric in (self.pve_calls, self.tasks):
            metric.remove_by_labels({"cluster": cluster})

    def watch_heartbeat(self, part: str, age: Callable[[], float]) -> None:
        """Ask for the age of a heartbeat whenever metrics are read."""
        self._heartbeat_age.labels(part).set_function(age)

    def watch_leader(self, elector: Leading) -> None:
        """Ask whether this process leads whenever metrics are read."""
        self._leading = lambda: elector.leading
        self._leader.set_function(lambda: elector.leading)
        self._lease_left.set_function(lambda: max(elector.fence.remaining(), 0.0))

    def watch_objects(self, objects: Objects, kinds: Sequence[str]) -> None:
        """Count the objects of these kinds whenever metrics are read, while this process leads.

        What is rare begins at 0 for each kind: Prometheus sees no increase in a series that begins at 1.
        """
        for kind in kinds:
            self.handler_bugs.labels(kind)
            self.queue_retries.labels(kind)
        self.registry.register(ObjectCollector(objects, kinds, lambda: self._leading()))

    def watch_queue(self, queue: QueueFigures) -> None:
        """Ask the queue for its figures whenever metrics are read. One that nobody works on tells nothing: 0."""
        self._queue_depth.set_function(lambda: queue.depth if self._leading() else 0)
        self._queue_delayed.set_function(lambda: queue.delayed if self._leading() else 0)
        self._queue_running.set_function(lambda: queue.running)
        self._oldest.set_function(queue.oldest_running)

    def families(self) -> list[Family]:
        """Every metric there can be, whether it has values yet or not."""
        of_process = [
            Family(f"{each.name}_total", "counter", (), each.documentation)
            if each.type == "counter"
            else Family(each.name, "gauge", (), each.documentation)
            for each in self._process.collect()
        ]
        return [*self._families, *OF_OBJECTS, *OF_CLUSTERS, *of_process]

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        self._note(f"{name}_total", "counter", labels, text)
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
        self._note(name, "gauge", labels, text)
        return Gauge(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        self._note(name, "histogram", labels, text)
        return Histogram(f"{PREFIX}_{name}", text, labels, registry=self.registry, buckets=buckets)

    def _note(
        self, name: str, type: Literal["counter", "gauge", "histogram"], labels: tuple[str, ...], text: str
    ) -> None:
        self._families.append(Family(f"{PREFIX}_{name}", type, labels, text))
