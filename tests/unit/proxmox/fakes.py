"""A transport that answers from a table, a clock that stands still, and a client over both.

The model is httpx's MockTransport: one function from request to answer. Not a Proxmox: where its behaviour
matters the tests use the simulator (hack/pvesim).
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from proxmox_operator.proxmox.client import Fence, Limits, Metrics, PveClient, Trace
from proxmox_operator.proxmox.credentials import Endpoint
from proxmox_operator.proxmox.identity import ClusterIdentity
from proxmox_operator.proxmox.request import Request

CA = "AA:BB"
HOME = ClusterIdentity(CA, "home")


class FakeClock:
    """Monotonic seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += seconds


class MockTransport:
    """Answers requests by ``METHOD /path`` from ``answers``: a value, an exception to raise, or a function
    of the request. What is not listed is answered by ``otherwise``. Identity and quorum are those of a
    healthy node of HOME unless overridden.
    """

    def __init__(self, answers: dict[str, Any] | None = None, *, otherwise: Any = None) -> None:
        self.ca = CA
        self.name = "home"
        self.quorate = True
        self.down: Exception | None = None
        self.answers = answers or {}
        self.otherwise = otherwise
        self.calls: list[Request] = []
        self.closed = False
        self._guard = threading.Lock()

    def send(self, request: Request) -> Any:
        with self._guard:
            self.calls.append(request)
        if self.down is not None:
            raise self.down
        key = f"{request.method} {request.target}"
        answer = self.answers[key] if key in self.answers else self._identity(key)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _identity(self, key: str) -> Any:
        if key == "GET /cluster/status":
            return [
                {"type": "cluster", "name": self.name, "quorate": int(self.quorate)},
                {"type": "node", "name": "pve1", "local": 1, "online": 1},
            ]
        if key == "GET /nodes/pve1/certificates/info":
            return [
                {"filename": "pve-ssl.pem", "fingerprint": "00:01"},
                {"filename": "pve-root-ca.pem", "fingerprint": self.ca},
            ]
        return self.otherwise

    def close(self) -> None:
        self.closed = True

    def asked(self, key: str) -> int:
        """How often ``METHOD /path`` was sent here."""
        return sum(f"{call.method} {call.target}" == key for call in self.calls)


@contextmanager
def client_over(
    *transports: MockTransport,
    clock: Callable[[], float] | None = None,
    expected: ClusterIdentity | None = HOME,
    limits: Limits | None = None,
    fence: Fence | None = None,
    metrics: Metrics | None = None,
    trace: Trace | None = None,
) -> Iterator[PveClient]:
    """A client whose endpoints are the transports, named pve1, pve2 ...; its threads end with the block."""
    client = PveClient(
        "lab",
        {Endpoint(f"pve{number}"): transport for number, transport in enumerate(transports, 1)},
        limits=limits,
        expected=expected,
        fence=fence,
        metrics=metrics,
        trace=trace,
        clock=clock or FakeClock(),
    )
    try:
        yield client
    finally:
        for pool in (client._node_pool, client._cluster_pool, client._stream_pool):
            pool.shutdown(wait=True, cancel_futures=True)


async def until(condition: Callable[[], Any], *, seconds: float = 5.0) -> None:
    """Wait for something that another task or thread brings about; TimeoutError when it does not."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.005)
