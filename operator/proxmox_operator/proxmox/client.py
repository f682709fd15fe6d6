"""The policy around the transport: which endpoint, how many at once, what is retried, who may write, what
is recorded.

A read goes to the next endpoint when one does not answer. A write is sent once: another endpoint is tried
only when it is certain that nothing was done. Knows nothing of VMs (vm.py) or tasks (tasks.py).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any, Protocol

from proxmox_operator import errors
from proxmox_operator.errors import LeadershipLost

from . import audit
from .breaker import Breaker
from .credentials import Endpoint
from .endpoint import (
    ENDPOINT_STATES,
    EndpointHealth,
    EndpointState,
    NextEndpoint,
    not_sent,
    summary,
    wrong_cluster,
)
from .errors import NotQuorate, classify_response
from .identity import ClusterIdentity, Proof, read_proof
from .request import Method, ParamValue, Request, Stream, split_path
from .slots import CallSlots, Usage
from .transport import CALL_TIMEOUT, Lost, NotSent, Refused, Transport

PROOF_INTERVAL = 30.0
"""Seconds after which an endpoint must say again which cluster it belongs to, and whether it has quorum."""

CLUSTER_THREADS = 2
"""Threads for cluster-wide calls (inventory, proofs), so that nodes that hang cannot starve them."""

UPLOADS = 2
"""Streams that are sent at once; they take minutes, and have threads of their own."""

_GATEWAY = frozenset({502, 503, 504})
"""Statuses by which the endpoint itself, or a proxy before it, says that it cannot work now."""


class Fence(Protocol):
    """Says no to a write that the lease might not outlive, and holds back the hand-over while one is on its
    way (engine/election.py).
    """

    def writing(self, seconds: float) -> AbstractContextManager[None]: ...


class Metrics(Protocol):
    """Told of every call (from worker threads) and every task's end; labels are bounded
    (engine/metrics.py).
    """

    def pve_call(self, cluster: str, method: str, call_class: str, result: str, seconds: float) -> None: ...

    def task_ended(self, cluster: str, type: str, outcome: str, seconds: float) -> None: ...


class Trace(Protocol):
    """Told of every call that has just ended, from the thread that made it and in the context of the pass that asked
    for it (engine/tracing.py).
    """

    def __call__(
        self, name: str, attributes: Mapping[str, str | int], seconds: float, /, *, ok: bool
    ) -> None: ...


class AlwaysLeading:
    """The fence of a process that needs no lease."""

    def writing(self, seconds: float) -> AbstractContextManager[None]:
        """Never refuses."""
        return nullcontext()


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of Proxmox may be kept busy at once; pveproxy and pvedaemon have three workers each by
    default."""

    calls_per_node: int = 4
    allocations_per_storage: int = 2
    threads: int = 8
    poll_interval: float = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """Data, and the endpoint that gave it: for questions that must be put to the same node."""

    data: Any
    endpoint: Endpoint


class PveClient:
    """Calls to one Proxmox VE cluster. Use from one event loop; close() when done.

    Every call raises the errors of ``proxmox_operator.errors`` and ``.errors``, and LeadershipLost from the
    fence.
    """

    def __init__(
        self,
        name: str,
        transports: Mapping[Endpoint, Transport],
        *,
        limits: Limits | None = None,
        expected: ClusterIdentity | None = None,
        fence: Fence | None = None,
        metrics: Metrics | None = None,
        trace: Trace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.limits = limits or Limits()
        self._endpoints = [
            EndpointState(endpoint, transport, clock) for endpoint, transport in transports.items()
        ]
        self._expected = expected
        self._fence = fence or AlwaysLeading()
        self._metrics = metrics
        self._trace = trace
        self._clock = clock
        self._node_pool = ThreadPoolExecutor(self.limits.threads, thread_name_prefix=f"pve-{name}")
        self._cluster_pool = ThreadPoolExecutor(CLUSTER_THREADS, thread_name_prefix=f"pve-{name}-cluster")
        self._stream_pool = ThreadPoolExecutor(UPLOADS, thread_name_prefix=f"pve-{name}-uploads")
        self._node_slots = CallSlots(self.limits.calls_per_node)
        self._in_threads = 0
        self._node_breakers: dict[str, Breaker] = {}
        self._preferred = 0
        self._closed = False
        self.frozen: Callable[[], str | None] = lambda: None
        """Why writes are held back, or None; the session connects it with the inventory."""

    async def get(self, path: str | Sequence[str], **params: ParamValue) -> Any:
        """The data of a GET; another endpoint is asked when one does not answer."""
        return await self.call(_request("GET", path, params))

    async def post(self, path: str | Sequence[str], **params: ParamValue) -> Any:
        """The data of a POST (often a UPID), sent once."""
        return await self.call(_request("POST", path, params))

    async def put(self, path: str | Sequence[str], **params: ParamValue) -> Any:
        """The data of a PUT, sent once."""
        return await self.call(_request("PUT", path, params))

    async def delete(self, path: str | Sequence[str], **params: ParamValue) -> Any:
        """The data of a DELETE, sent once."""
        return await self.call(_request("DELETE", path, params))

    async def call(self, request: Request) -> Any:
        """The data of any request."""
        return (await self.exchange(request)).data

    async def exchange(self, request: Request, *, endpoint: Endpoint | None = None) -> Answer:
        """Data and the endpoint that gave it; with ``endpoint`` only that one is asked."""
        if request.mutating and (reason := self.frozen()):
            raise errors.Transient(reason, reason="WritesFrozen")
        async with self._node_slots.hold(request.node):
            breaker = self._node_breaker(request.node)
            if breaker is None:
                return await self._try_endpoints(request, endpoint)
            if not breaker.admit():
                raise errors.Unreachable(
                    f"node {request.node} does not answer ({breaker.last_error}); asked again within "
                    f"{breaker.ceiling:.0f} s",
                    reason="NodeUnavailable",
                )
            try:
                return await self._try_endpoints(request, endpoint)
            finally:
                breaker.abandoned()

    @property
    def identity(self) -> ClusterIdentity | None:
        """The cluster this client talks to: given, or learnt at first contact."""
        return self._expected

    @property
    def quorate(self) -> bool | None:
        """Whether the endpoint in use has quorum, at most PROOF_INTERVAL old; None when not known."""
        proof = self._endpoints[self._preferred].proof
        return proof.quorate if proof else None

    async def proof(self) -> Proof:
        """What the endpoint in use proves of itself, at most PROOF_INTERVAL old. Raises like any read."""
        answer = await self.exchange(Request("GET", ("version",)))
        return await self._prove(next(e for e in self._endpoints if e.endpoint == answer.endpoint))

    def usage(self) -> dict[str, Usage]:
        """What is used of the limits on calls, by their names."""
        threads = self.limits.threads
        in_threads = Usage(threads, min(self._in_threads, threads), max(self._in_threads - threads, 0))
        return {"calls_per_node": self._node_slots.usage(), "threads": in_threads}

    def endpoint_states(self) -> dict[str, int]:
        """How many endpoints are usable, silent, unauthorized or foreign."""
        states = Counter(candidate.state for candidate in self._endpoints)
        return {state: states[state] for state in ENDPOINT_STATES}

    def silent_nodes(self) -> set[str]:
        """Nodes that are left alone for now, as they do not answer."""
        return {node for node, breaker in self._node_breakers.items() if breaker.is_open}

    def node_came_back(self, node: str) -> None:
        """The cluster has seen it join again: it is asked at once, however long it was to be left alone."""
        self._node_breakers.pop(node, None)

    def health(self) -> list[EndpointHealth]:
        """The state of every endpoint, as last seen."""
        return [candidate.health() for candidate in self._endpoints]

    async def check_endpoints(self) -> list[EndpointHealth]:
        """Have every endpoint that may be asked prove itself, also those not in use; never raises an
        OperatorError."""
        for candidate in self._endpoints:
            if candidate.refusal() is not None:
                continue
            try:
                await self._prove(candidate)
            except (NextEndpoint, errors.OperatorError):
                continue  # kept in its health
            finally:
                candidate.ended()
        return self.health()

    async def close(self) -> None:
        """Start nothing more; calls under way end by themselves within their time-out, and streams are cut."""
        self._closed = True
        for pool in (self._node_pool, self._cluster_pool, self._stream_pool):
            pool.shutdown(wait=False, cancel_futures=True)
        for candidate in self._endpoints:
            candidate.transport.close()

    # -- one call --------------------------------------------------------------------------------

    async def _try_endpoints(self, request: Request, only: Endpoint | None) -> Answer:
        failures: list[errors.OperatorError] = []
        without_quorum: list[EndpointState] = []
        for candidate in self._candidates(only):
            refusal = candidate.refusal()
            if refusal is not None:
                failures.append(refusal)
                continue
            try:
                proof = await self._prove(candidate)
                if proof.quorate is False and only is None:
                    without_quorum.append(candidate)
                else:
                    return await self._ask(candidate, request)
            except NextEndpoint as failure:
                failures.append(failure.error)
            finally:
                candidate.ended()
        # Nothing better: a read still tells something, a write Proxmox refuses itself.
        for candidate in without_quorum:
            try:
                return await self._ask(candidate, request)
            except NextEndpoint as failure:
                failures.append(failure.error)
        raise summary(failures)

    def _candidates(self, only: Endpoint | None) -> list[EndpointState]:
        """The endpoint that worked last comes first: one node's view of the cluster is consistent with
        itself."""
        if only is not None:
            return [e for e in self._endpoints if e.endpoint == only]
        return self._endpoints[self._preferred :] + self._endpoints[: self._preferred]

    async def _prove(self, candidate: EndpointState) -> Proof:
        """Make sure that the endpoint answers for our cluster; asked anew after a failure and every
        PROOF_INTERVAL."""
        failed_before = candidate.failures
        async with candidate.proving:
            if candidate.failures > failed_before:  # while we waited: the same question would end the same
                raise NextEndpoint(candidate.problem())
            if candidate.proof is not None and self._clock() - candidate.proven_at < PROOF_INTERVAL:
                return candidate.proof
            proof: Proof = await self._guarded(candidate, None, lambda: read_proof(candidate.transport))
            if self._expected is None:
                self._expected = proof.identity
            difference = self._expected.difference(proof.identity)
            if difference is not None:
                candidate.proof = None
                text = f"{candidate.endpoint} answers for another Proxmox cluster: {difference}"
                candidate.belongs.failed(text)
                raise NextEndpoint(wrong_cluster(text))
            if proof.identity.name and not self._expected.name:
                self._expected = proof.identity
            candidate.belongs.succeeded()
            candidate.proof, candidate.proven_at = proof, self._clock()
            if proof.peer is not None:
                candidate.peers |= {proof.peer}
            return proof

    async def _ask(self, candidate: EndpointState, request: Request) -> Answer:
        request = replace(request, peers=candidate.peers)
        data = await self._guarded(candidate, request, lambda: self._send(candidate, request))
        self._preferred = self._endpoints.index(candidate)
        return Answer(data, candidate.endpoint)

    async def _guarded(
        self, candidate: EndpointState, request: Request | None, work: Callable[[], Any]
    ) -> Any:
        """Run ``work`` in a worker thread and keep the circuits; NextEndpoint where another endpoint may be
        tried."""
        on_node = request is not None and request.node is not None
        pool = self._node_pool if on_node else self._cluster_pool
        if request is not None and request.stream is not None:
            pool = self._stream_pool
        if self._closed:
            raise self._reconnecting()
        self._in_threads += on_node
        try:
            data = await asyncio.get_running_loop().run_in_executor(pool, copy_context().run, work)
        except asyncio.CancelledError:
            if self._closed and not _is_being_cancelled():
                # close() took it out of the pool: it was never sent.
                raise self._reconnecting() from None
            raise
        except NotSent as failure:
            candidate.silent(str(failure), untrusted=failure if failure.tls else None)
            raise NextEndpoint(not_sent(failure)) from None
        except Lost as failure:
            candidate.silent(str(failure))
            if request is not None and request.mutating:
                raise errors.AnswerLost(
                    f"{request.method} {request.target}: {failure}; looks first whether it happened"
                ) from None
            raise NextEndpoint(errors.Unreachable(f"{failure}; retried")) from None
        except Refused as refused:
            raise self._refused(candidate, request, refused) from None
        finally:
            self._in_threads -= on_node
        candidate.answered()
        if request is not None and (breaker := self._node_breaker(request.node)) is not None:
            breaker.succeeded()
        return data

    def _reconnecting(self) -> errors.OperatorError:
        return errors.Transient(
            f"the connection to {self.name} is being renewed; retried", reason="Reconnecting"
        )

    def _refused(self, candidate: EndpointState, request: Request | None, refused: Refused) -> Exception:
        """The error to raise for an HTTP error, after the circuits have been told."""
        where = f"{request.method} {request.target}" if request else "asking who it is"
        mutating = request is not None and request.mutating
        error = classify_response(
            refused.status, refused.message, refused.errors, where=where, mutating=mutating
        )
        if refused.status == 401:
            # Refused before anything was done, and perhaps by an endpoint of another cluster: the next one
            # may accept.
            candidate.unauthorized(error.message)
            return NextEndpoint(error)
        if refused.status in _GATEWAY:
            candidate.silent(error.message)
            return error if isinstance(error, errors.AnswerLost) else NextEndpoint(error)
        candidate.answered()
        if isinstance(error, NotQuorate):
            candidate.proof = None
        breaker = self._node_breaker(request.node) if request is not None else None
        if breaker is not None and refused.status >= 595:
            breaker.failed(f"{refused.status} {refused.message}")
        elif breaker is not None:
            breaker.succeeded()
        return error

    def _send(self, candidate: EndpointState, request: Request) -> Any:
        """In the worker thread: nothing comes between the fence and the send, of a stream: of what completes it."""
        started = time.perf_counter()
        status, result, answer = 0, "Error", None
        try:
            with ExitStack() as writing:
                if request.stream is not None:
                    request = self._guarding(request, *request.stream, writing)
                elif request.mutating:
                    writing.enter_context(self._fence.writing(CALL_TIMEOUT))
                answer = candidate.transport.send(request)
            status, result = 200, "ok"
        except Refused as refused:
            error = classify_response(
                refused.status, refused.message, refused.errors, mutating=request.mutating
            )
            status, result = refused.status, error.reason
            raise
        except errors.OperatorError as error:
            result = error.reason
            raise
        except (NotSent, Lost, LeadershipLost) as failure:
            result = type(failure).__name__
            raise
        finally:
            seconds = time.perf_counter() - started
            self._record(request, result, answer, seconds)
            self._tell(candidate.endpoint, request, status, result, answer, seconds)
        return answer

    def _guarding(self, request: Request, key: str, stream: Stream, writing: ExitStack) -> Request:
        """The same, cut when the client is closed, and completed only behind the fence, which could not outlast all of
        it: Proxmox acts when it has the last byte."""

        def pieces() -> Iterator[bytes]:
            for piece in stream.pieces:
                if self._closed:
                    raise self._reconnecting()
                yield piece
            if self._closed or self.frozen():
                raise self._reconnecting()
            writing.enter_context(self._fence.writing(CALL_TIMEOUT))

        return replace(request, params={**request.params, key: replace(stream, pieces=pieces())})

    def _record(self, request: Request, result: str, answer: object, seconds: float) -> None:
        if request.mutating:
            audit.record(
                request,
                cluster=self.name,
                actor=audit.current_actor.get(),
                result=result,
                answer=answer,
                milliseconds=seconds * 1000,
            )
        if self._metrics is not None:
            self._metrics.pve_call(self.name, request.method, request.call_class, result, seconds)

    def _tell(
        self, endpoint: Endpoint, request: Request, status: int, result: str, answer: object, seconds: float
    ) -> None:
        """Make it a span of the pass that asked for it. ``status`` is 0 where no answer came."""
        if self._trace is None:
            return
        told: dict[str, str | int] = {
            "http.request.method": request.method,
            "url.template": request.call_class,
            "server.address": endpoint.host,
            "proxmox.cluster": self.name,
            "proxmox.result": result,
        }
        if status:
            told["http.response.status_code"] = status
        if request.node is not None:
            told["proxmox.node"] = request.node
        if audit.is_upid(answer):
            told["proxmox.upid"] = str(answer)
        self._trace(f"{request.method} {request.call_class}", told, seconds, ok=result == "ok")

    # -- limits ----------------------------------------------------------------------------------

    def _node_breaker(self, node: str | None) -> Breaker | None:
        if node is None:
            return None
        return self._node_breakers.setdefault(node, Breaker(self._clock))


def _request(method: Method, path: str | Sequence[str], params: Mapping[str, ParamValue]) -> Request:
    return Request(method, split_path(path) if isinstance(path, str) else tuple(path), params)


def _is_being_cancelled() -> bool:
    """Whether the running asyncio task itself was cancelled, and not just what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
