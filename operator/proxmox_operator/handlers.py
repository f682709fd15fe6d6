"""The only file with kopf decorators: events become keys, and the operator is started and stopped.

kopf is the informer and the login here. No change-detecting handlers, daemons or timers: they would write annotations
and finalizers of their own into our objects and lose level-triggering.
"""

import asyncio
import logging
import signal
from collections.abc import Mapping
from typing import Any

import aiohttp
import kopf

from proxmox_operator.controllers.manager import Manager
from proxmox_operator.engine.settings import Settings
from proxmox_operator.errors import Unreachable
from proxmox_operator.kube.login import connection, log_in
from proxmox_operator.kube.resources import OWN_KINDS
from proxmox_operator.kube.transport import AioTransport

logger = logging.getLogger(__name__)

UNANSWERED = (aiohttp.ClientConnectionError, TimeoutError)


async def serve(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT.

    Raises LoginFailed, LeadershipLost, Unreachable where the API server has not answered for a minute, and what else
    kopf raises when a watch cannot be kept.
    """
    for handler in logging.getLogger().handlers:
        handler.addFilter(_no_trace_of_silence)
    configuration = await log_in(settings.kubeconfig)
    transport = AioTransport(configuration, timeout=settings.kube_timeout)
    manager = Manager(settings, transport)
    registry = kopf.OperatorRegistry()
    stop_watching = asyncio.Event()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(**await connection(configuration))

    for kind, resource in OWN_KINDS.items():

        @kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)
        async def told(event: Mapping[str, Any], kind: str = kind, **_: Any) -> None:
            manager.observe(kind, event["type"], event["object"])

    def take_signals() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_left_behind)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, manager.stop)

    async def watch() -> None:
        if not await manager.kinds_are_served():
            return
        kept = asyncio.create_task(
            kopf.operator(
                registry=registry,
                settings=_kopf_settings(),
                clusterwide=not settings.watch_namespaces,
                namespaces=list(settings.watch_namespaces),
                standalone=True,
                stop_flag=stop_watching,
            ),
            name="kopf",
        )
        await asyncio.sleep(0.2)  # kopf installs its own signal handlers when it begins; ours must come last
        take_signals()
        await kept

    take_signals()
    watching = asyncio.create_task(watch(), name="watch")
    working = asyncio.create_task(manager.run(), name="manager")
    try:
        await asyncio.wait({watching, working}, return_when=asyncio.FIRST_COMPLETED)
        manager.stop()
        await working
    finally:
        stop_watching.set()
        await asyncio.gather(watching, return_exceptions=True)
        await transport.close()
    error = watching.exception()
    if isinstance(error, UNANSWERED):
        raise Unreachable(f"the Kubernetes API server does not answer: {error}") from error
    if error is not None:
        raise error


def _no_trace_of_silence(record: logging.LogRecord) -> bool:
    """That an API server does not answer is no bug: kopf's sentence is enough."""
    if record.exc_info and isinstance(record.exc_info[1], UNANSWERED):
        record.exc_info = None
    return True


def _left_behind(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Of calls to an API server that does not answer kopf leaves tasks behind; the watch tells of it, once."""
    if not isinstance(context.get("exception"), UNANSWERED):
        loop.default_exception_handler(context)


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf keeps no copy of a spec, and does not copy each object at each event only to compare it with one."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is kept."""


class _NoProgress(kopf.ProgressStorage):
    """kopf keeps no progress of handlers in our objects: ours do nothing but queue a key."""

    def fetch(self, **_: Any) -> None:
        return None

    def store(self, **_: Any) -> None:
        """Nothing is kept."""

    def purge(self, **_: Any) -> None:
        """Nothing was kept."""

    def touch(self, **_: Any) -> None:
        """Nothing is written."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.diffbase_storage = _NoDiffs()
    settings.persistence.progress_storage = _NoProgress()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.watching.server_timeout = 240
    settings.watching.connect_timeout = 10
    return settings
