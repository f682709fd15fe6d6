"""The operator's composition root in a thread of the test's process, against a real API server and the simulator.

It is the operator of production but for kopf: a watch of our own is there at once, and costs nothing to kill.
`tests/integration/test_process.py` runs the real process.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from harness.watch import watch
from proxmox_operator.controllers.manager import Manager
from proxmox_operator.engine.settings import Settings
from proxmox_operator.kube.client import Transport
from proxmox_operator.kube.login import log_in
from proxmox_operator.kube.resources import OWN_KINDS
from proxmox_operator.kube.transport import AioTransport
from proxmox_operator.proxmox.session import Connect, connect

logger = logging.getLogger(__name__)

NAMESPACE = "proxmox-operator-system"

Wrap = Callable[[Transport], Transport]


def settings(kubeconfig: Path, **changes: Any) -> Settings:
    """Settings of a test: fast where production is patient."""
    values: dict[str, Any] = {
        "namespace": NAMESPACE,
        "kubeconfig": kubeconfig,
        "cluster_id": "test",
        "leader_election": False,
        "health_address": "127.0.0.1",
        "health_port": 0,
        "slow_retry": 0.5,
        "takeover_delay": 0.3,
        "stop_grace": 2.0,
    }
    return Settings(**(values | changes))


class RunningOperator:
    """Use in a ``with`` block. ``kill`` ends it between two instructions, as SIGKILL would: nothing is tidied up."""

    def __init__(
        self,
        kubeconfig: Path,
        *,
        namespace: str | None = None,
        wrap: Wrap = lambda transport: transport,
        connect: Connect = connect,
        prepare: Callable[[Manager], None] = lambda manager: None,
        **changes: Any,
    ) -> None:
        """``wrap`` and ``connect`` are its doors to Kubernetes and Proxmox; ``prepare`` sees the manager before."""
        if namespace is not None:
            changes.setdefault("watch_namespaces", (namespace,))
        self.settings = settings(kubeconfig, **changes)
        self._wrap = wrap
        self._connect = connect
        self._prepare = prepare
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, daemon=True, name="operator")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self.manager: Manager | None = None
        self.error: BaseException | None = None

    def __enter__(self) -> "RunningOperator":
        self._thread.start()
        self._started.result(timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End in order."""
        if self._loop is not None and self._thread.is_alive() and self.manager is not None:
            self._loop.call_soon_threadsafe(self.manager.stop)
        self._thread.join(timeout=30)
        assert not self._thread.is_alive(), "the operator did not stop"

    def kill(self) -> None:
        """End at once."""
        if self._loop is not None and self._thread.is_alive() and self._main is not None:
            self._loop.call_soon_threadsafe(self._main.cancel)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self.error = error
            if not self._started.done():
                self._started.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._main = asyncio.get_running_loop(), asyncio.current_task()
        configuration = await log_in(self.settings.kubeconfig)
        transport, eyes = AioTransport(configuration), AioTransport(configuration)
        self.manager = Manager(self.settings, self._wrap(transport), connect=self._connect, rng=Random(1))
        self._prepare(self.manager)
        namespaces = self.settings.watch_namespaces or ("",)
        feeds = [
            asyncio.create_task(watch(eyes, resource, namespace, partial(self.manager.observe, kind)))
            for kind, resource in OWN_KINDS.items()
            for namespace in (namespaces if resource.namespaced else ("",))
        ]
        for feed in feeds:
            feed.add_done_callback(tell)
        self._started.set_result(None)
        try:
            await self.manager.run()
        finally:
            for feed in feeds:
                feed.cancel()
            await asyncio.gather(*feeds, return_exceptions=True)
            await transport.close()
            await eyes.close()


def tell(feed: asyncio.Task[None]) -> None:
    """An operator that is told nothing any more fails its test in some other place."""
    if not feed.cancelled() and (error := feed.exception()) is not None:
        logger.error("a watch has ended", exc_info=error)
