"""A collector of traces: takes OTLP over HTTP on a loopback port and keeps what it was told."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Span:
    """One span as it arrived; ``parent`` is empty for the root of a trace, times are in nanoseconds."""

    trace: bytes
    id: bytes
    parent: bytes
    name: str
    attributes: dict[str, str | int]
    failed: bool
    started: int
    ended: int
    raw: WireSpan = field(repr=False)


@dataclass
class Collector:
    """``status`` is answered to each request; ``bodies`` are the requests taken, ``paths`` what they asked for."""

    url: str = ""
    status: int = 200
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    hanging: threading.Event = field(default_factory=threading.Event)

    def traces(self, name: str) -> list[tuple[Span, list[Span]]]:
        """Roots of this name, each with all its children in the order of their beginning."""
        ordered = sorted(self.spans, key=lambda span: span.started)
        return [
            (root, [span for span in ordered if span.parent == root.id and span.trace == root.trace])
            for root in ordered
            if not root.parent and root.name == name
        ]

    def take(self, path: str, body: bytes) -> None:
        """Keep what one request tells."""
        self.paths.append(path)
        self.bodies.append(body)
        told = ExportTraceServiceRequest.FromString(body)
        for resource in told.resource_spans:
            self.resources.append(_attributes(resource.resource.attributes))
            for scope in resource.scope_spans:
                self.spans += [_span(each) for each in scope.spans]


def _span(wire: WireSpan) -> Span:
    return Span(
        trace=wire.trace_id,
        id=wire.span_id,
        parent=wire.parent_span_id,
        name=wire.name,
        attributes=_attributes(wire.attributes),
        failed=wire.status.code == Status.STATUS_CODE_ERROR,
        started=wire.start_time_unix_nano,
        ended=wire.end_time_unix_nano,
        raw=wire,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@contextmanager
def collector(*, hang: bool = False) -> Iterator[Collector]:
    """Serve until the end of the block. With ``hang`` it takes requests and never answers."""
    kept = Collector()
    if not hang:
        kept.hanging.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept.hanging.wait(60)
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if kept.status == 200:
                kept.take(self.path, body)
            self.send_response(kept.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True, name="collector")
    thread.start()
    kept.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield kept
    finally:
        kept.hanging.set()
        server.shutdown()
        server.server_close()
        thread.join()
