"""The TLS listeners: one per node, each of which can be stopped, hung, cut off or replaced by another
cluster's.

An endpoint serves a `Http` object. Cutting a node off replaces that object by a frozen copy without quorum;
an impostor replaces it by another cluster's. The port stays, as an address stays when the machine behind it
changes.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from aiohttp import web

from .http import Http
from .pki import server_context

IDLE_SECONDS = 5.0
SHUTDOWN_SECONDS = 0.05


class Listener:
    """One listening socket and the server behind it. All methods run in the simulator's loop."""

    def __init__(self, node: str, server: Http, address: str, port: int) -> None:
        self.node = node
        self.server = server
        self.address = address
        self.port = port
        self._runner: web.AppRunner | None = None
        self._socket: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open())

    def _open(self) -> list[Any]:
        return list(getattr(self._runner.server, "connections", [])) if self._runner is not None else []

    @property
    def listening(self) -> bool:
        """True while connections are accepted."""
        return self._runner is not None

    async def up(self) -> None:
        """Listen, on the same port as before."""
        if self._runner is not None:
            return
        context = server_context(
            self.server.cluster_name, self.node, address=self.address, key_usage=self.server.key_usage
        )
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.address, self.port))
        self.port = sock.getsockname()[1]
        app = self.server.application(self.node, self.port)
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=IDLE_SECONDS, shutdown_timeout=0.0)
        await runner.setup()
        # Not aiohttp's own site: pveproxy drops a connection when it closes it, and does not wait for the
        # client's half of the TLS shutdown.
        self._socket = await asyncio.get_running_loop().create_server(
            cast(Callable[[], asyncio.Protocol], runner.server),
            sock=sock,
            ssl=context,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
            backlog=512,
        )
        self._runner = runner

    async def down(self) -> None:
        """Refuse connections and cut the open ones."""
        if self._runner is None:
            return
        if self._socket is not None:
            self._socket.close()
        for connection in self._open():
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        runner, self._runner = self._runner, None
        await runner.cleanup()

    async def serve(self, server: Http) -> None:
        """Put another server behind the port; open connections are cut."""
        await self.down()
        self.server = server
        await self.up()
        await asyncio.sleep(0)
