"""From a request to its answer: authentication, recording, interception, checks, dispatch, and the proxy's
manners.

Facts: PVE::APIServer::AnyEvent and PVE::HTTPServer. Permissions are checked before the call is proxied to
its node, the parameters after that; 401 is late by 3 s and has no body; a response of 400 or above closes
the connection; one that takes longer than the proxy waits (30 s) is 596 while the operation goes on; the
reason phrase is the message's first line.
"""

import asyncio
import contextvars
import re
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from fakepve import schema
from fakepve.model import PveError, TaskError
from fakepve.server import API, GENERIC, USER, error, params

from .backups import Backups
from .core import Values
from .recorder import Answer, Call, DropAfter, DropBefore, Interceptor, Late, Recorder, is_mutating, masked
from .uploads import CutShort
from .validation import bad_booleans

REQUESTS_PER_CONNECTION = 100
VOLUME = re.compile(r"/api2/\w+(/nodes/[^/]+/storage/[^/]+/content)/(.+)")
HA_RULES = "/cluster/ha/rules"
Route = Callable[[Values, Any], Awaitable[Any]]


class Http(Backups):
    """The middleware every request goes through."""

    def __init__(self, *, auth_delay: float, proxy_timeout: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.auth_delay = auth_delay
        self.proxy_timeout = proxy_timeout
        self.api_latency = 0.0
        self.recorder = Recorder()
        # In a dict, so that the frozen copy of a cut-off node has the same interceptor.
        self.hooks: dict[str, Interceptor | None] = {"intercept": None}
        self.answering: contextvars.ContextVar[str] = contextvars.ContextVar("pvesim_endpoint", default="")
        self.hung: dict[str, asyncio.Event] = {}
        self._served: weakref.WeakKeyDictionary[asyncio.BaseTransport, int] = weakref.WeakKeyDictionary()
        self._routes: dict[tuple[str, str], Route] = {}
        self._app: web.Application | None = None
        self.nodes_of_ports: dict[int, str] = {}
        self.rebind()

    def rebind(self) -> None:
        """Collect the routes of all areas (again, for a copy of a server)."""
        self._app = None
        self._routes = {}
        for name in sorted(dir(type(self))):
            if name.startswith("_table_"):
                self._routes |= {(method, path): handler for method, path, handler in getattr(self, name)()}

    def application(self, node: str, port: int) -> web.Application:
        """What answers on this port, as this node; made once, since it has some thousand routes."""
        self.nodes_of_ports[port] = node
        if self._app is None:
            self._app = self._build_app()
        return self._app

    # ---------------------------------------------------------------- requests

    def resolve(self, request: web.Request, prefix: str) -> Any:
        """The schema's match of a path; a volume id is the rest of it, slashes included."""
        volume = VOLUME.fullmatch(request.path)
        if volume is None:
            return super().resolve(request, prefix)
        match = schema.load().match(volume[1] + "/any")
        match.params["volume"] = volume[2]
        return match

    @web.middleware
    async def _middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[Any]]
    ) -> Any:
        if (address := request.get_extra_info("sockname")) is None:
            raise ConnectionResetError("the client is gone")
        endpoint = self.nodes_of_ports[address[1]]
        self.answering.set(endpoint)
        while resumed := self.hung.get(endpoint):
            await resumed.wait()
        if self.api_latency:
            await asyncio.sleep(self.api_latency)
        match = self.resolve(request, API)
        if match is not None and match.params.get("node") == "localhost":
            match.params["node"] = endpoint
        request[GENERIC] = match if "tail" in request.match_info else None
        path = request.path.removeprefix(API)
        try:
            upload = request.content_type == "multipart/form-data"
            values = await (self.receive_upload(request) if upload else params(request))
        except PveError as problem:
            return self._refuse(problem)
        except CutShort:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # never sent
        call = self.recorder.add(
            endpoint=endpoint,
            method=request.method,
            path=path,
            params=masked(values),
            user=None,
            mutating=is_mutating(request.method, path),
        )

        async def execute() -> web.StreamResponse:
            response = await self._bounded(request, handler, match, values, call)
            call.status = response.status
            if response.status >= 400:
                self.drop_upload(values)
            return response

        try:
            call.user = self._authenticate(request)
        except PveError as problem:
            if not (match and self.is_world(match, request.method)):
                self.drop_upload(values)
                await asyncio.sleep(self.auth_delay)
                call.status = 401
                return self._refuse(problem)
        request[USER] = call.user
        intercept = self.hooks["intercept"]
        verdict = intercept(call) if intercept is not None else None
        if verdict is None:
            return self._closing_rules(request, await execute())
        if isinstance(verdict, Answer | DropBefore):
            self.drop_upload(values)
        return await self._follow(verdict, request, call, execute)

    async def _follow(
        self,
        verdict: Any,
        request: web.Request,
        call: Call,
        execute: Callable[[], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        if isinstance(verdict, Answer):
            call.status, call.fate = verdict.status, "replaced"
            return self._closed(error(verdict.status, verdict.message))
        if isinstance(verdict, Late):
            call.fate = "late"

            async def run() -> None:
                await execute()
                call.fate = "executed late"

            verdict.arm(asyncio.get_running_loop(), run)
        elif isinstance(verdict, DropAfter):
            call.fate = "answer lost"
            await execute()
        elif isinstance(verdict, DropBefore):
            call.fate = "request lost"
        else:
            raise TypeError(f"an interceptor returns a Verdict or None, not {verdict!r}")
        if request.transport is not None:
            request.transport.abort()
        return web.Response()  # never sent: the connection is gone

    async def _bounded(
        self, request: web.Request, handler: Any, match: Any, values: Values, call: Call
    ) -> web.StreamResponse:
        """Execute, but answer 596 when it takes longer than pveproxy waits; the operation goes on."""
        work = asyncio.Task(
            self._guarded(request, handler, match, values, call),
            loop=asyncio.get_running_loop(),
            eager_start=True,
        )
        if not work.done():
            await asyncio.wait({work}, timeout=self.proxy_timeout)
        if not work.done():
            return self._closed(error(596, "Connection timed out"))
        return work.result()

    async def _guarded(
        self, request: web.Request, handler: Any, match: Any, values: Values, call: Call
    ) -> web.StreamResponse:
        async def attempt() -> web.StreamResponse:
            route = self._routes.get((request.method, match.template)) if match is not None else None
            if match is not None and self.pve < 9 and match.template.startswith(HA_RULES):
                raise PveError(501, f"Method '{request.method} {call.path}' not implemented")
            if route is None:
                response: web.StreamResponse = await handler(request)
                return response
            data = await self._call(route, match, values, request)
            if isinstance(data, str) and data.startswith("UPID:"):
                call.upid = data
            return web.json_response({"data": data})

        async def dispatch(_request: web.Request) -> web.StreamResponse:
            try:
                return await attempt()
            except TaskError as problem:
                call.error = str(problem)
                return self._refuse(PveError(500, call.error))
            except PveError as problem:
                call.error = problem.message
                if problem.status == 401:
                    await asyncio.sleep(self.auth_delay)
                return self._refuse(problem)

        node = match.params.get("node") if match is not None else None
        response: web.StreamResponse = await self._answer(request, dispatch, request[GENERIC], node)
        return response

    async def _call(self, route: Route, match: Any, values: Values, request: web.Request) -> Any:
        """Permissions, then the node, then the parameters, then the operation."""
        info = match.methods.get(request.method)
        if info is None:
            raise PveError(501, f"Method '{request.method} {match.template}' not implemented")
        spec = info.get("parameters") or {}
        declared = spec.get("properties", {})
        user = request[USER]
        everything = {**values, **match.params}
        self.check_permissions(user, info.get("permissions"), everything, declared)
        node = match.params.get("node")
        if node is not None and node not in self.nodes:
            why = f"failed to get address info for: {node}: Name or service not known"
            raise PveError(500, f"hostname lookup '{node}' failed - {why}")
        if is_mutating(request.method, request.path):
            self.need_quorum()
        checked, errors = schema.validate(
            spec, {**values, **{k: x for k, x in match.params.items() if k in declared}}
        )
        errors |= {name: text for name, text in bad_booleans(declared, values) if name not in errors}
        if errors:
            raise PveError(400, "Parameter verification failed.", errors)
        return await route({**match.params, **checked}, user)

    # --------------------------------------------------------------- responses

    def _closing_rules(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        if request.transport is None:
            return response
        served = self._served[request.transport] = self._served.get(request.transport, 0) + 1
        if response.status >= 400 or served >= REQUESTS_PER_CONNECTION:
            response.force_close()
        return response

    def _refuse(self, problem: PveError) -> web.StreamResponse:
        if problem.status == 401:
            return self._closed(web.Response(status=401, reason=problem.message))
        return self._closed(error(problem.status, problem.message.rstrip(), problem.errors))

    @staticmethod
    def _closed(response: web.StreamResponse) -> web.StreamResponse:
        response.force_close()
        return response

    def resume(self, endpoint: str) -> None:
        """Let the requests of a hung endpoint go on."""
        resumed = self.hung.pop(endpoint, None)
        if resumed is not None:
            resumed.set()
