"""The TLS listeners: one per node, each of which can be stopped, hung, cut off or replaced by another
cluster's.

An endpoint serves a `Http` object. Cutting a node off replaces that object by a frozen copy without quorum;
an impostor replaces it by another cluster's. The port stays, as an address stays when the machine behind it
changes.
"""

import asyncio
import socket
from typing import Any

from aiohttp import web

from .http import ENDPOINT, Http
from .pki import server_context

IDLE_SECONDS = 5.0


class Listener:
    """One listening socket and the server behind it. All methods run in the simulator's loop."""

    def __init__(self, node: str, server: Http, port: int) -> None:
        self.node = node
        self.server = server
        self.port = port
        self._runner: web.AppRunner | None = None

    @property
    def listening(self) -> bool:
        """True while connections are accepted."""
        return self._runner is not None

    async def up(self) -> None:
        """Listen, on the same port as before."""
        if self._runner is not None:
            return
        app: web.Application = self.server._build_app()
        app[ENDPOINT] = self.node
        runner = web.AppRunner(app, access_log=None, keepalive_timeout=IDLE_SECONDS, shutdown_timeout=0.0)
        await runner.setup()
        context = server_context(self.server.cluster_name, self.node, key_usage=self.server.key_usage)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", self.port))
        self.port = sock.getsockname()[1]
        await web.SockSite(runner, sock, ssl_context=context, backlog=512).start()
        self._runner = runner

    async def down(self) -> None:
        """Refuse connections and cut the open ones."""
        runner, self._runner = self._runner, None
        if runner is None:
            return
        for connection in list(getattr(runner.server, "connections", [])):
            transport: Any = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        await runner.cleanup()

    async def serve(self, server: Http) -> None:
        """Put another server behind the port; open connections are cut."""
        await self.down()
        self.server = server
        await self.up()
        await asyncio.sleep(0)
