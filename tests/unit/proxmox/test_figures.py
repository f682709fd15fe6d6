"""What a client tells of itself: limits and circuits as figures, and each call as it ends."""

import asyncio
import contextlib
import threading
from contextvars import ContextVar

import pytest

from proxmox_operator import errors
from proxmox_operator.proxmox.client import Limits
from proxmox_operator.proxmox.slots import Usage
from proxmox_operator.proxmox.transport import Lost, NotSent, Refused
from unit.proxmox.fakes import MockTransport, client_over, until

UPID = "UPID:pve1:0000A1B2:00C3D4E5:66A1B2C3:qmstart:100:root@pam:"


async def test_calls_in_flight_and_those_that_wait_are_told_by_limit():
    gate = threading.Event()
    answers = {f"GET /nodes/{node}/status": lambda request: gate.wait(10) for node in ("pve1", "pve2")}
    transport = MockTransport(answers, otherwise={})
    with client_over(transport, limits=Limits(calls_per_node=3, threads=4)) as client:
        idle = {"calls_per_node": Usage(3, 0, 0), "threads": Usage(4, 0, 0)}
        assert client.usage() == idle
        paths = ["nodes/pve1/status"] * 7 + ["nodes/pve2/status"] * 2
        calls = [asyncio.create_task(client.get(path)) for path in paths]
        await until(lambda: client.usage() == {"calls_per_node": Usage(3, 3, 4), "threads": Usage(4, 4, 1)})
        gate.set()
        await asyncio.gather(*calls)
        assert client.usage() == idle


async def test_each_endpoint_is_counted_under_what_keeps_it_from_being_used():
    transports = [MockTransport({"GET /version": {}}) for _ in range(4)]
    silent, refusing, foreign, _ = transports
    silent.down = NotSent("refused")
    refusing.down = Refused(401, "authentication failure")
    foreign.ca = "CC:DD"
    with client_over(*transports) as client:
        assert client.endpoint_states() == {"usable": 4, "silent": 0, "unauthorized": 0, "foreign": 0}
        for _ in range(2):
            await client.check_endpoints()
        assert client.endpoint_states() == {"usable": 1, "silent": 1, "unauthorized": 1, "foreign": 1}


async def test_a_node_counts_as_silent_once_its_circuit_is_open():
    transport = MockTransport({"GET /nodes/pve2/status": Refused(595, "No route to host")}, otherwise={})
    with client_over(transport) as client:
        for expected in (set(), set(), {"pve2"}):
            with pytest.raises(errors.Unreachable):
                await client.get("nodes/pve2/status")
            assert client.silent_nodes() == expected


@pytest.mark.parametrize(
    ("answer", "status", "result"),
    [
        (UPID, 200, "ok"),
        (None, 200, "ok"),
        (Refused(403, "Permission check failed"), 403, "PermissionDenied"),
        (Lost("no answer"), None, "Lost"),
    ],
)
async def test_a_call_is_told_with_what_came_of_it_in_the_context_of_who_asked_for_it(answer, status, result):
    asker: ContextVar[str] = ContextVar("asker", default="nobody")
    told = []

    def trace(name, attributes, seconds, /, *, ok):
        told.append((asker.get(), name, attributes, ok))
        assert seconds >= 0

    transport = MockTransport({"POST /nodes/pve1/qemu/100/status/start": answer})
    with client_over(transport, trace=trace) as client:
        asker.set("web")
        with contextlib.suppress(errors.OperatorError):
            await client.post("nodes/pve1/qemu/100/status/start", password="hidden")
    attributes = {
        "http.request.method": "POST",
        "url.template": "status/start",
        "server.address": "pve1",
        "proxmox.cluster": "lab",
        "proxmox.node": "pve1",
        "proxmox.result": result,
    }
    attributes |= {"http.response.status_code": status} if status else {}
    attributes |= {"proxmox.upid": UPID} if answer == UPID else {}
    assert told == [("web", "POST status/start", attributes, result == "ok")]
