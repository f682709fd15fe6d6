"""What an answer, or its absence, means for the next step; and that nothing secret or needless is sent."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from proxmox_operator import errors
from proxmox_operator.kube import errors as kube_errors
from proxmox_operator.kube.client import Call, Kube
from proxmox_operator.kube.resources import LEASES, NAMESPACES, PROXMOX_VMS, SECRETS
from proxmox_operator.kube.transport import AioTransport, path_of

GET = Call(verb="get", resource=PROXMOX_VMS, namespace="shop", name="web")
WRITE = Call(
    verb="replace", resource=PROXMOX_VMS, namespace="shop", name="web", subresource="status", body={"a": 1}
)
type Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """An HTTP server whose next answer a test decides."""

    def __init__(self) -> None:
        self.requests: list[tuple[web.Request, bytes]] = []
        self.answer: Answer = self.echo
        self.url = ""

    async def echo(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"metadata": {}})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request, await request.read()))
        return await self.answer(request)

    def refuse(self, status: int, told: dict[str, Any], *, headers: dict[str, str] | None = None) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.json_response({"kind": "Status"} | told, status=status, headers=headers)

        self.answer = answer


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def transport(server: Server) -> AsyncIterator[AioTransport]:
    configuration = Configuration(host=server.url, api_key={"BearerToken": "Bearer t0ken"})
    made = AioTransport(configuration, timeout=0.5)
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (GET, "/apis/proxmox-operator.io/v1alpha1/namespaces/shop/proxmoxvms/web"),
        (WRITE, "/apis/proxmox-operator.io/v1alpha1/namespaces/shop/proxmoxvms/web/status"),
        (Call(verb="get", resource=NAMESPACES, name="kube-system"), "/api/v1/namespaces/kube-system"),
        (
            Call(verb="list", resource=PROXMOX_VMS, params={"limit": "5"}),
            "/apis/proxmox-operator.io/v1alpha1/proxmoxvms?limit=5",
        ),
        (
            Call(verb="get", resource=SECRETS, namespace="shop", name="../../nodes?x=1"),
            "/api/v1/namespaces/shop/secrets/..%2F..%2Fnodes%3Fx%3D1",
        ),
    ],
)
def test_a_call_has_one_path_and_no_name_can_leave_it(call: Call, path: str):
    assert path_of(call) == path


@pytest.mark.parametrize(
    "wrong",
    [
        {"verb": "get", "resource": SECRETS, "namespace": "shop"},
        {"verb": "delete", "resource": NAMESPACES},
        {"verb": "patch", "resource": SECRETS, "name": "x"},
        {"verb": "create", "resource": SECRETS},
    ],
)
def test_a_call_on_one_object_cannot_become_one_on_all(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match="is needed"):
        Call(**wrong)


async def test_names_and_parameters_arrive_as_they_are(server: Server, transport: AioTransport):
    await transport.send(
        Call(verb="get", resource=NAMESPACES, name="a/../b?c=%2F", params={"continue": "a+b/c="})
    )
    [(request, _)] = server.requests
    assert request.path == "/api/v1/namespaces/a/../b?c=%2F"
    assert request.raw_path.startswith("/api/v1/namespaces/a%2F..%2Fb%3Fc=%252F?")
    assert request.query["continue"] == "a+b/c="


async def test_a_call_is_sent_with_our_token_name_and_the_content_type_of_its_verb(
    server: Server, transport: AioTransport
):
    kube = Kube(transport)
    await kube.patch(LEASES, "x", {"spec": {"holderIdentity": "é"}}, namespace="ops")
    await kube.create(LEASES, {"metadata": {"name": "x"}}, namespace="ops")
    (patch, body), (create, _) = server.requests
    assert patch.method == "PATCH"
    assert patch.headers["Content-Type"] == "application/merge-patch+json"
    assert patch.headers["Authorization"] == "Bearer t0ken"
    assert patch.headers["User-Agent"].startswith("proxmox-operator/")
    assert patch.query["fieldManager"] == "proxmox-operator"
    assert json.loads(body) == {"spec": {"holderIdentity": "é"}}
    assert create.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("status", "told", "read", "write"),
    [
        (404, {}, kube_errors.NotFound, kube_errors.NotFound),
        (409, {"reason": "Conflict"}, kube_errors.Conflict, kube_errors.Conflict),
        (409, {"reason": "AlreadyExists"}, kube_errors.AlreadyExists, kube_errors.AlreadyExists),
        (410, {"reason": "Expired"}, kube_errors.Conflict, kube_errors.Conflict),
        (401, {}, kube_errors.Unauthorized, kube_errors.Unauthorized),
        (403, {}, kube_errors.Forbidden, kube_errors.Forbidden),
        (422, {}, kube_errors.Invalid, kube_errors.Invalid),
        (429, {}, kube_errors.Throttled, kube_errors.Throttled),
        (503, {}, kube_errors.Throttled, kube_errors.Throttled),
        (500, {}, errors.Unreachable, errors.AnswerLost),
        (504, {}, errors.Unreachable, errors.AnswerLost),
        (302, {}, kube_errors.Invalid, kube_errors.Invalid),
    ],
)
async def test_a_refusal_says_what_happens_next(
    server: Server, transport: AioTransport, status: int, told: dict[str, str], read: type, write: type
):
    server.refuse(status, told | {"message": "the server's words"})
    for call, expected in ((GET, read), (WRITE, write)):
        with pytest.raises(errors.OperatorError, match="the server's words") as caught:
            await transport.send(call)
        assert type(caught.value) is expected
        assert str(call) in caught.value.message


async def test_what_is_refused_for_a_missing_rule_names_the_rule(server: Server, transport: AioTransport):
    server.refuse(403, {"message": "forbidden"})
    with pytest.raises(kube_errors.Forbidden) as caught:
        await transport.send(WRITE)
    assert "'update' on 'proxmoxvms/status' in API group 'proxmox-operator.io'" in caught.value.message


async def test_a_namespace_that_ends_is_waited_for_and_not_a_missing_rule(
    server: Server, transport: AioTransport
):
    server.refuse(403, {"details": {"causes": [{"reason": "NamespaceTerminating"}]}})
    with pytest.raises(kube_errors.NamespaceTerminating):
        await transport.send(Call(verb="create", resource=SECRETS, namespace="shop", body={}))


async def test_the_time_that_the_server_asks_to_wait_is_kept(server: Server, transport: AioTransport):
    server.refuse(429, {"message": "busy"}, headers={"Retry-After": "7"})
    with pytest.raises(kube_errors.Throttled) as caught:
        await transport.send(WRITE)
    assert caught.value.after == 7.0


async def test_the_words_about_a_written_secret_are_not_repeated(server: Server, transport: AioTransport):
    server.refuse(422, {"message": 'data: Invalid value: "S3cr3t"', "reason": "Invalid"})
    with pytest.raises(kube_errors.Invalid) as caught:
        await transport.send(Call(verb="create", resource=SECRETS, namespace="shop", body={"data": "S3cr3t"}))
    assert "S3cr3t" not in str(caught.value) + repr(caught.value)
    assert "S3cr3t" not in repr(
        Call(verb="create", resource=SECRETS, namespace="shop", body={"data": "S3cr3t"})
    )


async def test_nobody_listening_means_that_nothing_was_sent():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    transport = AioTransport(Configuration(host=f"http://127.0.0.1:{port}"), timeout=1)
    for call in (GET, WRITE):
        with pytest.raises(errors.Unreachable, match="does not answer"):
            await transport.send(call)
    await transport.close()


async def hang(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    return web.Response()


async def hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def answer_half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"metadata"')
    assert request.transport is not None
    request.transport.close()
    return response


async def answer_html(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>a proxy's page</html>")


@pytest.mark.parametrize("fault", [hang, hang_up, answer_half, answer_html])
async def test_a_write_without_an_answer_may_have_happened_and_a_read_may_be_repeated(
    server: Server, transport: AioTransport, fault: Answer
):
    server.answer = fault
    with pytest.raises(errors.AnswerLost, match="sent, but no answer"):
        await transport.send(WRITE)
    with pytest.raises(errors.Unreachable, match="no answer"):
        await transport.send(GET)


async def test_a_token_that_is_renewed_is_used_at_the_next_call(server: Server):
    configuration = Configuration(host=server.url, api_key={"BearerToken": "bearer one"})
    tokens = iter(["bearer one", "bearer two\n"])

    def renew(known: Configuration) -> None:
        known.api_key["BearerToken"] = next(tokens)

    configuration.refresh_api_key_hook = renew  # type: ignore[assignment]
    transport = AioTransport(configuration)
    await transport.send(GET)
    await transport.send(GET)
    await transport.close()
    assert [request.headers["Authorization"] for request, _ in server.requests] == [
        "Bearer one",
        "Bearer two",
    ]


async def test_a_list_is_read_page_by_page_and_its_items_say_what_they_are(
    server: Server, transport: AioTransport
):
    async def pages(request: web.Request) -> web.StreamResponse:
        last = request.query.get("continue") == "next"
        metadata = {"resourceVersion": "42"} if last else {"resourceVersion": "42", "continue": "next"}
        name = "second" if last else "first"
        return web.json_response({"metadata": metadata, "items": [{"metadata": {"name": name}}]})

    server.answer = pages
    listing = await Kube(transport).list(PROXMOX_VMS, namespace="shop")
    assert [(item["kind"], item["metadata"]["name"]) for item in listing.items] == [
        ("ProxmoxVM", "first"),
        ("ProxmoxVM", "second"),
    ]
    assert listing.resource_version == "42"


async def test_every_call_is_counted_with_its_result(server: Server, transport: AioTransport):
    counted: list[tuple[str, str, str]] = []
    kube = Kube(
        transport, observe=lambda verb, resource, result, seconds: counted.append((verb, resource, result))
    )
    await kube.get(PROXMOX_VMS, "web", namespace="shop")
    server.refuse(409, {"reason": "Conflict"})
    with pytest.raises(kube_errors.Conflict):
        await kube.replace(PROXMOX_VMS, {"metadata": {"name": "web", "namespace": "shop"}})
    assert counted == [
        ("get", "proxmoxvms.proxmox-operator.io", "ok"),
        ("replace", "proxmoxvms.proxmox-operator.io", "Conflict"),
    ]
