"""The composition root: puts the operator together, and runs it while it leads.

Takes its two seams as arguments, the transport to Kubernetes and the way to connect to Proxmox, so that tests
run the same operator. Not here: the watch (``handlers``), which only calls :meth:`Manager.observe`.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from random import Random, SystemRandom
from typing import Any, Protocol

from proxmox_operator.api.names import GROUP, VERSION
from proxmox_operator.controllers.cluster import ClusterReconciler
from proxmox_operator.controllers.context import CLUSTER_KIND, TEMPLATE_KIND, VM_KIND, Context
from proxmox_operator.controllers.fleet import Fleet
from proxmox_operator.controllers.outcome import Outcome
from proxmox_operator.controllers.telling import Teller
from proxmox_operator.controllers.template.reconcile import TemplateReconciler
from proxmox_operator.controllers.vm.reconcile import VMReconciler
from proxmox_operator.engine import logs
from proxmox_operator.engine.election import Fence, LeaderElector, NoElection, process_identity
from proxmox_operator.engine.health import Health
from proxmox_operator.engine.metrics import Metrics
from proxmox_operator.engine.queue import Key, WorkQueue
from proxmox_operator.engine.settings import Settings
from proxmox_operator.engine.store import ObjectStore
from proxmox_operator.engine.tracing import tracing
from proxmox_operator.errors import OperatorError, Unreachable
from proxmox_operator.kube.client import Kube, Raw, Transport
from proxmox_operator.kube.events import EventRecorder
from proxmox_operator.kube.lease import KubeLease
from proxmox_operator.kube.resources import NAMESPACES, OWN_KINDS
from proxmox_operator.kube.secrets import SecretReader
from proxmox_operator.kube.status import StatusWriter
from proxmox_operator.proxmox.session import Connect, connect

logger = logging.getLogger(__name__)

UNANSWERED_FOR = 60.0
"""Seconds after which a process that has found no API server ends, to be started anew."""
SERVED_INTERVAL = 2.0
"""Seconds until the API server is asked again for our kinds, which it does not know yet."""
SOON = 5.0
"""Seconds until the first look at what a person may just be doing unseen; the next ones come less and less often."""
WATCH_LAG = 5.0
"""Seconds by which the watch may be behind a list."""


class _StoppedEarlyError(Exception):
    """Told to stop before everything was read."""


class Elector(Protocol):
    """Decides when this process leads."""

    fence: Fence

    @property
    def leading(self) -> bool: ...
    def in_touch(self) -> bool: ...
    async def run(self, lead: Callable[[], Awaitable[None]]) -> None: ...


class Manager:
    """One operator process."""

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        *,
        connect: Connect = connect,
        rng: Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.health = Health(self.metrics)
        self._clock = clock
        self.tracing = tracing(settings.tracing_endpoint, settings.tracing_ratio, self.metrics.traced)
        kube = Kube(transport, observe=self._kube_call)
        identity = process_identity()
        self.elector: Elector = self._elector(kube, identity)
        random = rng or SystemRandom()
        self.queue = WorkQueue(rng=random, grace=settings.stop_grace, metrics=self.metrics)
        self.store = ObjectStore()
        self.metrics.watch_leader(self.elector)
        self.metrics.watch_objects(self.store, tuple(OWN_KINDS))
        self.events = EventRecorder(kube, instance=identity, observe=self.metrics.event)
        self._teller = Teller(self.events)
        self.context = Context(
            settings=settings,
            kube=kube,
            store=self.store,
            queue=self.queue,
            status=StatusWriter(kube, self.store, written=self._teller.written),
            events=self.events,
            secrets=SecretReader(kube, clock=clock),
            metrics=self.metrics,
            trace=self.tracing.call,
            rng=random,
            clock=clock,
        )
        self.fleet = Fleet(self.context)
        self._reconcilers: dict[str, Callable[[Key], Awaitable[Outcome]]] = {
            CLUSTER_KIND: ClusterReconciler(
                self.context,
                self.fleet,
                fence=self.elector.fence,
                connect=connect,
            ).reconcile,
            TEMPLATE_KIND: TemplateReconciler(self.context, self.fleet).reconcile,
            VM_KIND: VMReconciler(self.context, self.fleet).reconcile,
        }
        self._stopping = asyncio.Event()
        self._served = False
        self._untold: dict[Key, int] = {}
        """Versions that a list told and the watch has not told yet."""

    def _elector(self, kube: Kube, identity: str) -> Elector:
        settings = self.settings
        if not settings.leader_election:
            return NoElection()
        return LeaderElector(
            KubeLease(kube, namespace=settings.namespace, name=settings.lease_name),
            identity=identity,
            duration=settings.lease_duration,
            renew=settings.lease_renew,
            poll=settings.lease_poll,
            call_timeout=settings.lease_timeout,
            takeover_delay=settings.takeover_delay,
        )

    def _kube_call(self, verb: str, resource: str, result: str, seconds: float) -> None:
        self.metrics.kube_call(verb, resource, result, seconds)
        if verb not in ("get", "list"):
            told = {"k8s.verb": verb, "k8s.resource": resource, "result": result}
            self.tracing.call(f"{verb} {resource}", told, seconds, ok=result == "ok")

    def observe(self, kind: str, event: str | None, raw: Raw) -> None:
        """What the watch tells: keep it, and have the object looked at if that is news."""
        metadata = raw["metadata"]
        key = Key(kind, metadata.get("namespace") or "", metadata["name"])
        if event == "DELETED" or int(metadata["resourceVersion"]) >= self._untold.get(key, 0):
            self._untold.pop(key, None)
        if event == "DELETED":
            self._teller.gone(raw)
            self.store.remove(kind, raw)
            self.queue.add(key)
        elif self.store.apply(kind, raw):
            self.queue.add(key)

    async def run(self) -> None:
        """Take part in the election and work while leading, until :meth:`stop`.

        Raises LeadershipLost where the Lease was lost; the process must end then.
        """
        await self.health.start(self.settings.health_address, self.settings.health_port)
        self.health.ready_when("lease", self.elector.in_touch)
        self.health.ready_when("caches", lambda: not self.elector.leading or self.store.listed(VM_KIND))
        try:
            leading = asyncio.create_task(self.elector.run(self.lead), name="election")
            stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
            await asyncio.wait({leading, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not leading.done() and self.elector.fence.remaining() <= 0:
                leading.cancel()
            stopping.cancel()
            try:
                await leading
            except asyncio.CancelledError:
                logger.info("stopped while not leading")
        finally:
            await self.tracing.close()
            await self.health.stop()

    async def kinds_are_served(self) -> bool:
        """Wait until the API server knows all our kinds: a watch that begins before is deaf for good.

        False where we are told to stop. Raises Unreachable where the API server has not answered for a minute.
        """
        self.health.ready_when("crds", lambda: self._served)
        began = self._clock()
        while not self._stopping.is_set():
            try:
                served = await self.context.kube.served(GROUP, VERSION)
            except OperatorError as error:
                if isinstance(error, Unreachable) and self._clock() - began > UNANSWERED_FOR:
                    raise
                logger.warning("whether the CRDs are installed cannot be told, trying again: %s", error)
            else:
                missing = [kind.label for kind in OWN_KINDS.values() if kind.plural not in served]
                self._served = not missing
                if self._served:
                    return True
                logger.warning(
                    "not installed yet: the CRDs %s; apply `crds` of this version", ", ".join(missing)
                )
            await self._rest(SERVED_INTERVAL)
        return False

    async def _rest(self, seconds: float) -> None:
        """Let time pass, or less of it where we are told to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def stop(self) -> None:
        """End in order: no new pass begins, running ones end, no Proxmox task is awaited, the Lease is given back."""
        self.queue.stop()
        self._stopping.set()

    async def lead(self) -> None:
        """Read everything once, then work until stopped."""
        configured = self.settings.cluster_id
        try:
            self.context.cluster_id = (
                configured if configured is not None else await self._insist(self._cluster_uid)
            )
            await self._insist(self._list)
        except _StoppedEarlyError:
            return
        helpers = [
            asyncio.create_task(self.events.run(), name="events"),
            asyncio.create_task(self._resync(), name="resync"),
        ]
        try:
            await self.queue.run(self._handle, workers=self.settings.workers)
        finally:
            helpers[1].cancel()
            self.events.stop()
            await asyncio.gather(*helpers, return_exceptions=True)
            await self.fleet.close()

    async def _insist[T](self, read: Callable[[], Awaitable[T]]) -> T:
        """Read until it succeeds or we are stopped: giving up would keep the Lease from everybody until it expires."""
        while not self._stopping.is_set():
            try:
                return await read()
            except OperatorError as error:
                logger.warning("cannot begin yet, trying again: %s", error)
                await self._rest(2.0)
        raise _StoppedEarlyError

    async def _cluster_uid(self) -> str:
        raw: dict[str, Any] = await self.context.kube.get(NAMESPACES, "kube-system")
        return str(raw["metadata"]["uid"])

    async def _list(self) -> None:
        """Read all objects of our kinds, and note what the watch had not told of."""
        namespaces = self.settings.watch_namespaces or ("",)
        for kind in (CLUSTER_KIND, TEMPLATE_KIND, VM_KIND):
            resource = OWN_KINDS[kind]
            items: list[dict[str, Any]] = []
            version = ""
            for namespace in namespaces if resource.namespaced else ("",):
                listing = await self.context.kube.list(resource, namespace=namespace)
                items += listing.items
                version = version or listing.resource_version
            self._untold |= self.store.replace(kind, items, resource_version=version)
            for raw in self.store.list(kind):
                self.queue.add(Key(kind, raw["metadata"].get("namespace") or "", raw["metadata"]["name"]))

    async def _resync(self) -> None:
        """Look at everything again at an interval. A watch that missed something twice in a row is taken for dead."""
        self.health.expect("watch", max_age=self.settings.resync * 2.5)
        while True:
            await asyncio.sleep(self.settings.resync)
            self._untold.clear()
            try:
                await self._list()
            except OperatorError as error:
                logger.warning(
                    "the objects could not be listed, trying again in %.0f s: %s", self.settings.resync, error
                )
                continue
            await asyncio.sleep(WATCH_LAG)
            if self._untold:
                logger.warning("the watch had not told of %d changes", len(self._untold))
            else:
                self.health.beat("watch")

    async def _handle(self, key: Key) -> None:
        started = self._clock()
        generation = (self.store.get(key) or {"metadata": {}})["metadata"].get("generation", 0)
        with logs.about(key), self.tracing.reconcile(key, generation) as ended:
            outcome = await self._reconcilers[key.kind](key)
            ended(outcome.result)
        self.metrics.reconciled(key.kind, outcome.result, self._clock() - started)
        match outcome.result:
            case "transient":
                self.queue.retry(key)
            case "blocked" if outcome.soon:
                self.queue.retry(key, base=SOON, cap=self.settings.slow_retry)
            case "blocked":
                self.queue.forget(key)
                self.queue.add(key, after=max(self.settings.slow_retry, outcome.after))
            case "waiting":
                self.queue.forget(key)
                self.queue.add(key, after=outcome.after)
            case "done":
                self.queue.forget(key)
