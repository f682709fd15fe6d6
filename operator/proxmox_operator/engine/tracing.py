"""Passes as OpenTelemetry traces, sent by OTLP over HTTP; without an endpoint nothing of it is even imported.

A pass over an object is a trace, each Proxmox call and each Kubernetes write in it a span. No secret can get in: what a
span tells are names, classes, statuses and task ids, never a parameter, a body or the message of an error. A collector
that does not answer holds up nobody: spans wait in a bounded queue; what cannot be delivered is dropped and counted.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol

from proxmox_operator import __version__
from proxmox_operator.engine.queue import Key

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

logger = logging.getLogger(__name__)

QUEUE = 2048
"""Spans that wait for delivery; the oldest are dropped for newer ones."""
EXPORT_SECONDS = 5.0
"""Longest time for the delivery of one batch, with its repetitions."""
FLUSH_SECONDS = 3.0
"""What the last spans get when the process ends."""
PATH = "/v1/traces"

Ended = Callable[[str], None]
"""Told the result of the pass."""
Attributes = Mapping[str, str | int]
Count = Callable[[str, int], None]
"""Told how many spans were ``delivered`` or ``dropped``."""


class Tracing(Protocol):
    """What passes and calls are told to. `call` may be called from any thread, in the context of its pass."""

    def reconcile(self, key: Key, generation: int) -> AbstractContextManager[Ended]: ...
    def call(self, name: str, attributes: Attributes, seconds: float, *, ok: bool) -> None: ...
    async def close(self) -> None: ...


def tracing(endpoint: str | None, ratio: float, count: Count) -> Tracing:
    """Tracing to a collector, of this share of all passes (0 to 1); None turns it off."""
    return _Traces(endpoint, ratio, count) if endpoint is not None else _Nothing()


class _Nothing:
    def reconcile(self, key: Key, generation: int) -> AbstractContextManager[Ended]:
        return nullcontext(lambda result: None)

    def call(self, name: str, attributes: Attributes, seconds: float, *, ok: bool) -> None:
        """Nobody wants to know."""

    async def close(self) -> None:
        """Nothing is open."""


class _Traces:
    def __init__(self, endpoint: str, ratio: float, count: Count) -> None:
        from opentelemetry import trace
        from opentelemetry.context import Context
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        self._trace = trace
        self._root = Context()  # a pass has no parent, whatever started it
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            resource=Resource.create({"service.name": "proxmox-operator", "service.version": __version__}),
            shutdown_on_exit=False,
        )
        exporter = _exporter(_url(endpoint), count)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE))
        self._tracer = self._provider.get_tracer("proxmox_operator", __version__)

    @contextmanager
    def reconcile(self, key: Key, generation: int) -> Iterator[Ended]:
        attributes: dict[str, str | int] = {
            "k8s.object.kind": key.kind,
            "k8s.namespace.name": key.namespace,
            "k8s.object.name": key.name,
            "k8s.object.generation": generation,
        }
        span = self._tracer.start_span(f"reconcile {key.kind}", self._root, attributes=attributes)
        result = "bug"  # unless the pass tells another one

        def ended(told: str) -> None:
            nonlocal result
            result = told

        try:
            with self._trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield ended
        finally:
            span.set_attribute("reconcile.result", result)
            if result == "bug":
                span.set_status(self._trace.StatusCode.ERROR)
            span.end()

    def call(self, name: str, attributes: Attributes, seconds: float, *, ok: bool) -> None:
        """A call that has just ended. One outside of a pass, or after its end, is part of no trace."""
        if not self._trace.get_current_span().is_recording():
            return
        now = time.time_ns()
        span = self._tracer.start_span(
            name,
            kind=self._trace.SpanKind.CLIENT,
            attributes=attributes,
            start_time=now - int(seconds * 1e9),
        )
        if not ok:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(now)

    async def close(self) -> None:
        """Deliver what is left, or give up soon: the SDK itself would wait for half a minute."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True, name="traces-flush")
        ending.start()
        await asyncio.to_thread(ending.join, FLUSH_SECONDS)


def _url(endpoint: str) -> str:
    """As the OpenTelemetry specification has it: an address without a path gets the default one."""
    base = endpoint.rstrip("/")
    return base if "/" in base.partition("://")[2] else base + PATH


def _exporter(url: str, count: Count) -> "SpanExporter":
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    # It would log each batch that fails; we say once when that begins and when it is over.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    session = requests.Session()
    session.trust_env = False

    class Counted(OTLPSpanExporter):
        failing = False

        def export(self, spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
            result = super().export(spans)
            failed = result is not SpanExportResult.SUCCESS
            count("dropped" if failed else "delivered", len(spans))
            if failed and not self.failing:
                logger.warning(
                    "the collector of traces takes none: see what %s answers; they are dropped", url
                )
            elif self.failing and not failed:
                logger.info("the collector of traces takes them again")
            self.failing = failed
            return result

    return Counted(endpoint=url, timeout=EXPORT_SECONDS, session=session)
