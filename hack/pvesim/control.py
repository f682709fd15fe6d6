"""The control door: scenarios and the world over plain HTTP on a loopback port of its own.

    GET  /sim/world                 VMs, volumes and running tasks as JSON
    GET  /sim/requests?since=SEQ    the recorded calls with a number above SEQ
    GET  /sim/guests/VMID           the ways into a running real guest: process, ssh ports, serial console
    POST /sim/do/ACTION             a method of `PveSim` below, keyword arguments as a JSON object
    POST /sim/endpoints/NODE/ACTION down, up, hang, resume, cut_off, rejoin

For the demo and for people with curl. It has no authentication: it is for 127.0.0.1 only.
"""

import asyncio
import dataclasses
import json
from functools import partial
from typing import Any

from aiohttp import web
from fakepve.model import PveError

from .sim import PveSim
from .world import snapshot

ACTIONS = frozenset(
    [
        "add_vm",
        "add_template",
        "add_stub",
        "remove_vm",
        "vanish",
        "edit_config",
        "clone_in_gui",
        "migrate",
        "set_lock",
        "start",
        "stop",
        "power_loss",
        "guest_reboot",
        "backup",
        "restore",
        "set_ha",
        "maintenance",
        "hibernate",
        "resize_disk",
        "move_disk",
        "snapshot",
        "delete_snapshot",
        "rollback",
        "stop_all",
        "start_all",
        "add_mapping",
        "migrate_all",
        "write_disk",
        "add_storage",
        "fill_storage",
        "resize_storage",
        "storage_offline",
        "node_down",
        "node_up",
        "shutdown_node",
        "set_capacity",
        "lose_quorum",
        "regain_quorum",
        "grant",
        "revoke",
        "add_pool",
        "fail",
        "clear_failures",
    ]
)
ENDPOINT_ACTIONS = frozenset({"down", "up", "hang", "resume", "cut_off", "rejoin"})


class ControlDoor:
    """The HTTP server of the control door; it shares the simulator's loop."""

    def __init__(self, sim: PveSim) -> None:
        self._sim = sim
        self._runner: web.AppRunner | None = None
        self.url = ""

    def open(self, port: int = 0) -> None:
        """Listen on 127.0.0.1; `url` holds the address then."""
        self._sim.run(self._listen(port))

    def close(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            self._sim.run(self._runner.cleanup())

    async def _listen(self, port: int) -> None:
        app = web.Application()
        app.router.add_get("/sim/world", self._world)
        app.router.add_get("/sim/requests", self._requests)
        app.router.add_get("/sim/guests/{vmid}", self._guest)
        app.router.add_post("/sim/do/{action}", self._do)
        app.router.add_post("/sim/endpoints/{node}/{action}", self._endpoint)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/sim"

    async def _world(self, request: web.Request) -> web.Response:
        return web.json_response(dataclasses.asdict(snapshot(self._sim.server)))

    async def _requests(self, request: web.Request) -> web.Response:
        since = int(request.query.get("since", "0"))
        calls = [dataclasses.asdict(call) for call in self._sim.recorder if call.seq > since]
        return web.json_response(calls, dumps=partial(json.dumps, default=str))

    async def _guest(self, request: web.Request) -> web.Response:
        try:
            door = await self._sim.server.door(int(request.match_info["vmid"]))
        except (PveError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=404)
        return web.json_response(dataclasses.asdict(door), dumps=partial(json.dumps, default=str))

    async def _do(self, request: web.Request) -> web.Response:
        action = request.match_info["action"]
        if action not in ACTIONS:
            return web.json_response({"error": f"no action {action!r}; known: {sorted(ACTIONS)}"}, status=404)
        arguments = await request.json() if request.can_read_body else {}
        return await self._perform(partial(getattr(self._sim, action), **arguments))

    async def _endpoint(self, request: web.Request) -> web.Response:
        endpoint = self._sim.endpoints.get(request.match_info["node"])
        action = request.match_info["action"]
        if endpoint is None or action not in ENDPOINT_ACTIONS:
            return web.json_response(
                {"error": f"no endpoint or action; known: {sorted(ENDPOINT_ACTIONS)}"}, status=404
            )
        return await self._perform(getattr(endpoint, action))

    @staticmethod
    async def _perform(action: Any) -> web.Response:
        # The methods wait for the loop this handler runs in, so they need a thread of their own.
        try:
            result = await asyncio.get_running_loop().run_in_executor(None, action)
        except (PveError, KeyError, TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(
            {"result": result if isinstance(result, str | int | None) else str(type(result).__name__)}
        )
