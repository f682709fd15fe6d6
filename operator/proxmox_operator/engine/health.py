"""Tells Kubernetes and Prometheus how this process does: /livez, /readyz and /metrics.

Alive means that everything that must move has moved lately: whoever must move has a named heartbeat with a
greatest age. Ready means that every check given to `ready_when` holds. Not here: what Proxmox VE or a VM
does; restarting the operator mends neither.
"""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE

from proxmox_operator.engine.metrics import Metrics
from proxmox_operator.errors import NeedsHuman

LOOP = "event loop"


class Health:
    """Heartbeats and checks, served over HTTP. For one event loop; `beat` is cheap enough for every event."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        loop_interval: float = 1.0,
        loop_max_age: float = 30.0,
    ) -> None:
        """The event loop has a heartbeat of its own while this serves, every `loop_interval` seconds."""
        self._metrics = metrics
        self._clock = clock
        self._loop_interval = loop_interval
        self._loop_max_age = loop_max_age
        self._beats: dict[str, tuple[float, float]] = {}
        self._checks: dict[str, Callable[[], bool]] = {}
        self._runner: web.AppRunner | None = None
        self._heart: asyncio.Task[None] | None = None
        self.port = 0
        """The port that is served, once it is."""

    def expect(self, name: str, *, max_age: float) -> None:
        """From now on `beat(name)` is due at least every `max_age` seconds."""
        self._beats[name] = (self._clock(), max_age)
        self._metrics.watch_heartbeat(name, lambda: self._clock() - self._beats[name][0])

    def beat(self, name: str) -> None:
        """Whoever is called so has moved. Ignored for a name that is not expected."""
        known = self._beats.get(name)
        if known is not None:
            self._beats[name] = (self._clock(), known[1])

    def ready_when(self, name: str, check: Callable[[], bool]) -> None:
        """/readyz is 200 only while `check` returns True; `name` tells people what is missing."""
        self._checks[name] = check

    def stalled(self) -> list[str]:
        """Everything that has not moved for too long, as sentences."""
        now = self._clock()
        return [
            f"{name}: no sign of life for {now - last:.0f} s, at most {max_age:.0f} s are expected"
            for name, (last, max_age) in self._beats.items()
            if now - last > max_age
        ]

    def missing(self) -> list[str]:
        """The names of the checks that do not hold."""
        return [name for name, check in self._checks.items() if not check()]

    async def start(self, address: str, port: int) -> Self:
        """Serve until `stop`. Port 0 takes a free one (see `port`). Raises NeedsHuman where that cannot be."""
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._serve_metrics)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, address, port).start()
        except OSError as error:
            await self._runner.cleanup()
            number = error.errno or 0
            why = os.strerror(number) if number > 0 else error.strerror
            raise NeedsHuman(
                f"cannot listen on {address}, port {port}: {why}: name others with --health-address and --health-port"
            ) from error
        self.port = self._runner.addresses[0][1]
        self.expect(LOOP, max_age=self._loop_max_age)
        self._heart = asyncio.create_task(self._beat_for_the_loop(), name="heartbeat")
        return self

    async def stop(self) -> None:
        """Stop serving."""
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.gather(self._heart, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    async def _beat_for_the_loop(self) -> None:
        while True:
            started = self._clock()
            await asyncio.sleep(self._loop_interval)
            self._metrics.loop_lag.set(max(self._clock() - started - self._loop_interval, 0.0))
            self.beat(LOOP)

    async def _livez(self, _: web.Request) -> web.Response:
        return _verdict(self.stalled())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _verdict([f"{name}: not yet" for name in self.missing()])

    async def _serve_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE})


def _verdict(problems: list[str]) -> web.Response:
    return web.Response(text="\n".join(problems or ["ok"]) + "\n", status=503 if problems else 200)
