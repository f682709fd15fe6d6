"""What the client does with endpoints, limits, the fence and the audit log, over transports that answer
from a table.
"""

import asyncio
import logging
import threading
from contextlib import contextmanager

import pytest

from proxmox_operator import errors
from proxmox_operator.proxmox.audit import Actor, current_actor
from proxmox_operator.proxmox.client import Limits
from proxmox_operator.proxmox.identity import ClusterIdentity, WrongCluster
from proxmox_operator.proxmox.request import Request, Stream
from proxmox_operator.proxmox.transport import CALL_TIMEOUT, Lost, NotSent, Refused

from .fakes import HOME, FakeClock, MockTransport, client_over, until

START = ("nodes", "pve1", "qemu", "100", "status", "start")
POST_START = "POST /nodes/pve1/qemu/100/status/start"
UPID = "UPID:pve1:000003E9:00001B5F:6B04B2F5:qmstart:100:operator@pve!operator:"


@pytest.mark.parametrize(
    "failure", [NotSent("refused"), Lost("no answer"), Refused(503, "busy"), Refused(502, "bad gateway")]
)
async def test_a_read_goes_to_the_next_endpoint(failure):
    first, second = MockTransport(), MockTransport({"GET /version": {"version": "9.2"}})
    first.down = failure
    with client_over(first, second) as client:
        assert await client.get("version") == {"version": "9.2"}
        assert await client.get("version") == {"version": "9.2"}
        health = client.health()
    assert (bool(health[0].error), bool(health[1].error)) == (True, False)
    assert len(first.calls) == 1, "the endpoint that worked last comes first"


async def test_a_write_goes_to_the_next_endpoint_only_when_nothing_was_sent():
    first, second = MockTransport({POST_START: NotSent("refused")}), MockTransport({POST_START: UPID})
    with client_over(first, second) as client:
        assert await client.post(START) == UPID
    assert (first.asked(POST_START), second.asked(POST_START)) == (1, 1)


@pytest.mark.parametrize(
    "failure", [Lost("closed"), Refused(596, "timed out"), Refused(502, "bad gateway"), Refused(599, "x")]
)
async def test_a_write_whose_answer_is_lost_is_sent_once(failure):
    first, second = MockTransport({POST_START: failure}), MockTransport({POST_START: UPID})
    with client_over(first, second) as client, pytest.raises(errors.AnswerLost, match=r"looks first"):
        await client.post(START)
    assert (first.asked(POST_START), second.asked(POST_START)) == (1, 0)


async def test_a_write_to_a_node_that_cannot_be_reached_did_not_happen():
    transport = MockTransport({POST_START: Refused(595, "No route to host")})
    with client_over(transport) as client, pytest.raises(errors.Unreachable) as caught:
        await client.post(START)
    assert caught.value.reason == "NodeUnavailable"


async def test_without_any_endpoint_the_error_names_each_of_them():
    first, second = MockTransport(), MockTransport()
    first.down, second.down = NotSent("https://pve1: refused"), Lost("https://pve2: no answer")
    match = r"pve1: refused.*pve2: no answer"
    with client_over(first, second) as client, pytest.raises(errors.Unreachable, match=match):
        await client.get("version")


async def test_a_certificate_that_nobody_trusts_needs_a_person():
    first = MockTransport()
    first.down = NotSent("https://pve1: certificate not trusted", tls=True)
    with client_over(first) as client, pytest.raises(errors.NeedsHuman, match=r"tls\.caBundle") as caught:
        await client.get("version")
    assert caught.value.reason == "TLSUntrusted"


async def test_a_certificate_that_nobody_trusts_needs_a_person_also_while_its_circuit_is_open():
    clock, first = FakeClock(), MockTransport({"GET /version": {}})
    first.down = NotSent("https://pve1: certificate not trusted", tls=True)
    with client_over(first, clock=clock) as client:
        for _ in range(5):
            with pytest.raises(errors.NeedsHuman, match=r"tls\.caBundle") as caught:
                await client.get("version")
            assert caught.value.reason == "TLSUntrusted"
        first.down = NotSent("https://pve1: refused")
        clock.now += 60
        for _ in range(2):
            with pytest.raises(errors.Unreachable):
                await client.get("version")


async def test_one_endpoint_that_is_only_down_keeps_a_person_from_being_asked():
    first, second = MockTransport(), MockTransport()
    first.down, second.down = NotSent("not trusted", tls=True), NotSent("refused")
    with client_over(first, second) as client, pytest.raises(errors.Unreachable):
        await client.get("version")


# Identity


async def test_an_endpoint_of_another_cluster_gets_no_call_and_is_reported():
    foreign, ours = MockTransport({POST_START: UPID}), MockTransport({POST_START: UPID})
    foreign.ca = "CC:DD"
    with client_over(foreign, ours) as client:
        assert await client.post(START) == UPID
        health = client.health()
    assert (foreign.asked(POST_START), ours.asked(POST_START)) == (0, 1)
    assert health[0].foreign
    assert "CC:DD" in health[0].error
    assert not health[1].foreign


async def test_when_every_endpoint_is_of_another_cluster_a_person_is_told():
    foreign = MockTransport()
    foreign.name = "elsewhere"
    with client_over(foreign) as client, pytest.raises(WrongCluster, match="elsewhere"):
        await client.get("version")


async def test_a_foreign_endpoint_is_looked_at_again_after_a_minute():
    clock, transport = FakeClock(), MockTransport({"GET /version": {}})
    transport.ca = "CC:DD"
    with client_over(transport, clock=clock) as client:
        with pytest.raises(WrongCluster):
            await client.get("version")
        transport.ca = "AA:BB"
        with pytest.raises(WrongCluster):
            await client.get("version")
        clock.pass_seconds(61)
        assert await client.get("version") == {}
        assert not client.health()[0].foreign


async def test_the_cluster_met_first_is_the_one_that_is_expected_ever_after():
    first, second = MockTransport({"GET /version": {}}), MockTransport({"GET /version": {}})
    second.ca = "CC:DD"
    with client_over(first, second, expected=None) as client:
        await client.get("version")
        assert client.identity == HOME
        first.down = Lost("gone")
        with pytest.raises(errors.Unreachable, match="another Proxmox cluster"):
            await client.get("version")


async def test_a_lone_node_that_founds_a_cluster_is_known_by_its_name_from_then_on():
    clock, transport = FakeClock(), MockTransport({"GET /version": {}})
    with client_over(transport, clock=clock, expected=ClusterIdentity("AA:BB", "")) as client:
        await client.get("version")
        assert client.identity == HOME
        transport.name = "elsewhere"
        clock.pass_seconds(31)
        with pytest.raises(WrongCluster, match="elsewhere"):
            await client.get("version")


async def test_a_changed_cluster_is_noticed_within_the_proof_interval_even_without_a_failure():
    clock, transport = FakeClock(), MockTransport({"GET /version": {}, POST_START: UPID})
    with client_over(transport, clock=clock) as client:
        await client.get("version")
        transport.ca = "CC:DD"
        clock.pass_seconds(31)
        with pytest.raises(WrongCluster):
            await client.post(START)
    assert transport.asked(POST_START) == 0


async def test_after_a_failure_an_endpoint_must_prove_itself_before_it_is_written_to():
    transport = MockTransport({"GET /version": {}, POST_START: UPID})
    with client_over(transport) as client:
        await client.get("version")
        transport.down = Lost("restarted")
        with pytest.raises(errors.Unreachable):
            await client.get("version")
        transport.down, transport.ca = None, "CC:DD"
        with pytest.raises(WrongCluster):
            await client.post(START)
    assert transport.asked(POST_START) == 0


async def test_proofs_are_not_repeated_within_the_interval():
    transport = MockTransport({"GET /version": {}})
    with client_over(transport) as client:
        for _ in range(20):
            await client.get("version")
    assert transport.asked("GET /cluster/status") == 1


async def test_a_node_that_shows_no_status_is_known_by_its_ca_alone():
    transport = MockTransport(
        {"GET /version": {}, "GET /cluster/status": Refused(403, "Permission check failed (/, Sys.Audit)")}
    )
    transport.answers["GET /nodes/localhost/certificates/info"] = [
        {"filename": "pve-root-ca.pem", "fingerprint": "aabb"}
    ]
    with client_over(transport) as client:
        assert await client.get("version") == {}
        assert client.quorate is None


@pytest.mark.parametrize(
    ("expected", "found", "same"),
    [
        (("AA:BB", "home"), ("aabb", "home"), True),
        (("AA:BB", None), ("AA:BB", "home"), True),
        (("AA:BB", "home"), ("AA:BB", None), True),
        (("AA:BB", ""), ("AA:BB", "home"), True),
        (("AA:BB", "home"), ("AA:BB", ""), False),
        (("AA:BB", "home"), ("AA:BB", "other"), False),
        (("AA:BB", "home"), ("CC:DD", "home"), False),
    ],
)
def test_what_makes_two_answers_the_same_cluster(expected, found, same):
    assert (ClusterIdentity(*expected).difference(ClusterIdentity(*found)) is None) is same


# Quorum


async def test_a_node_without_quorum_is_passed_over_while_another_one_has_it():
    cut_off, healthy = MockTransport({POST_START: "wrong"}), MockTransport({POST_START: UPID})
    cut_off.quorate = False
    with client_over(cut_off, healthy) as client:
        assert await client.post(START) == UPID
        assert client.quorate is True
    assert cut_off.asked(POST_START) == 0


async def test_without_quorum_anywhere_reads_still_tell_something():
    transport = MockTransport({"GET /version": {"version": "9"}})
    transport.quorate = False
    with client_over(transport) as client:
        assert await client.get("version") == {"version": "9"}
        assert client.quorate is False


async def test_a_refusal_for_lack_of_quorum_makes_the_endpoint_prove_itself_anew():
    cut_off, healthy = (
        MockTransport({POST_START: Refused(500, "cluster not ready - no quorum?")}),
        MockTransport({POST_START: UPID}),
    )
    with client_over(cut_off, healthy) as client:
        with pytest.raises(errors.Transient) as caught:
            await client.post(START)
        assert caught.value.reason == "NotQuorate"
        cut_off.quorate = False
        assert await client.post(START) == UPID


# Credentials


async def test_refused_credentials_are_not_tried_again_for_a_minute():
    clock, transport = FakeClock(), MockTransport()
    transport.down = Refused(401, "No ticket")
    with client_over(transport, clock=clock) as client:
        for _ in range(50):
            with pytest.raises(errors.Unauthorized):
                await client.get("version")
        assert len(transport.calls) == 1
        transport.down = None
        clock.pass_seconds(61)
        await client.get("version")
        assert client.health()[0].error == ""


async def test_credentials_that_one_endpoint_refuses_may_be_good_for_another():
    foreign, ours = MockTransport(), MockTransport({POST_START: UPID})
    foreign.down = Refused(401, "No ticket")
    with client_over(foreign, ours) as client:
        assert await client.post(START) == UPID
        assert await client.post(START) == UPID
    assert len(foreign.calls) == 1


# Circuits


async def test_a_silent_endpoint_is_left_alone_and_then_tried_by_one_call():
    clock, transport = FakeClock(), MockTransport()
    transport.down = Lost("no answer")
    with client_over(transport, clock=clock) as client:
        for _ in range(10):
            with pytest.raises(errors.Unreachable):
                await client.get("version")
        assert len(transport.calls) == 2
        clock.pass_seconds(2.5)
        await asyncio.gather(*(client.get("version") for _ in range(5)), return_exceptions=True)
        assert len(transport.calls) == 3
        clock.pass_seconds(4.5)
        transport.down = None
        await client.get("version")
        assert client.health()[0].error == ""


async def test_a_silent_node_fails_fast_and_does_not_hurt_the_others():
    clock = FakeClock()
    transport = MockTransport({"GET /nodes/pve2/status": Refused(595, "No route to host")}, otherwise={})
    with client_over(transport, clock=clock) as client:
        for _ in range(10):
            with pytest.raises(errors.Unreachable):
                await client.get("nodes/pve2/status")
        assert transport.asked("GET /nodes/pve2/status") == 3
        await client.get("nodes/pve3/status")
        transport.answers.clear()
        clock.pass_seconds(6)
        await client.get("nodes/pve2/status")
        await client.get("nodes/pve2/status")


async def test_a_trial_that_ended_for_another_reason_leaves_room_for_the_next_one():
    """The one call that may try a silent node, or a foreign endpoint, fails because the endpoint itself is
    down.
    """
    clock = FakeClock()
    transport = MockTransport({"GET /nodes/pve2/status": Refused(595, "No route to host")}, otherwise={})
    with client_over(transport, clock=clock) as client:
        for _ in range(3):
            with pytest.raises(errors.Unreachable):
                await client.get("nodes/pve2/status")
        transport.answers.clear()
        transport.ca = "CC:DD"
        clock.pass_seconds(31)
        with pytest.raises(WrongCluster):
            await client.get("nodes/pve2/status")
        transport.ca = "AA:BB"
        clock.pass_seconds(61)
        transport.down = Lost("restarting")
        with pytest.raises(errors.Unreachable, match="restarting"):
            await client.get("nodes/pve2/status")
        transport.down = None
        await client.get("nodes/pve2/status")


async def test_a_foreign_endpoint_that_is_down_when_looked_at_again_is_looked_at_once_more():
    clock, transport = FakeClock(), MockTransport()
    transport.ca = "CC:DD"
    with client_over(transport, clock=clock) as client:
        await client.check_endpoints()
        clock.pass_seconds(61)
        transport.down = NotSent("refused")
        await client.check_endpoints()
        transport.down, transport.ca = None, "AA:BB"
        (health,) = await client.check_endpoints()
    assert health.error == ""


async def test_an_ordinary_refusal_opens_no_circuit():
    transport = MockTransport({"GET /nodes/pve1/qemu/1/config": Refused(500, "something is wrong")})
    with client_over(transport) as client:
        for _ in range(10):
            with pytest.raises(errors.Transient, match="something is wrong"):
                await client.get("nodes/pve1/qemu/1/config")
    assert transport.asked("GET /nodes/pve1/qemu/1/config") == 10


# Who may write


class LostLease:
    def writing(self, seconds):
        assert seconds == CALL_TIMEOUT
        raise errors.LeadershipLost


async def test_without_the_lease_nothing_is_written_but_reads_go_on():
    transport = MockTransport({POST_START: UPID, "GET /version": {}})
    with client_over(transport, fence=LostLease()) as client:
        await client.get("version")
        with pytest.raises(errors.LeadershipLost):
            await client.post(START)
    assert transport.asked(POST_START) == 0


async def test_frozen_writes_are_refused_with_the_reason_and_reads_go_on():
    transport = MockTransport({POST_START: UPID, "GET /version": {}})
    with client_over(transport) as client:
        client.frozen = lambda: "half of the guests vanished"
        await client.get("version")
        with pytest.raises(errors.Transient, match="half of the guests") as caught:
            await client.post(START)
        ping = Request("POST", ("nodes", "pve1", "qemu", "100", "agent", "ping"), mutating=False)
        await client.call(ping)
    assert caught.value.reason == "WritesFrozen"
    assert transport.asked(POST_START) == 0


class CountedLease:
    def __init__(self):
        self.writing_now = 0

    @contextmanager
    def writing(self, seconds):
        assert seconds == CALL_TIMEOUT
        self.writing_now += 1
        yield
        self.writing_now -= 1


UPLOAD = ("nodes", "pve1", "storage", "local", "upload")
POST_UPLOAD = "POST /nodes/pve1/storage/local/upload"


def read(stream):
    """What a transport does with a stream that it sends."""
    return b"".join(stream.pieces)


async def test_a_stream_is_under_the_fence_from_its_last_byte_on_and_not_before():
    fence, seen = CountedLease(), []

    def pieces():
        for piece in (b"ab", b"c"):
            seen.append(fence.writing_now)
            yield piece

    def answer(request):
        assert read(request.params["filename"]) == b"abc"
        seen.append(fence.writing_now)
        return UPID

    transport = MockTransport({POST_UPLOAD: answer})
    with client_over(transport, fence=fence) as client:
        assert await client.post(UPLOAD, filename=Stream("x", 3, pieces())) == UPID
    assert seen == [0, 0, 1]
    assert fence.writing_now == 0


@pytest.mark.parametrize(
    ("fence", "frozen", "kind"),
    [
        (LostLease(), None, errors.LeadershipLost),
        (CountedLease(), "half of the guests vanished", errors.Transient),
    ],
    ids=["without the lease", "while writes are frozen"],
)
async def test_a_stream_is_not_completed(fence, frozen, kind):
    done = []
    begun, goes_on = threading.Event(), threading.Event()

    def pieces():
        yield b"a"
        begun.set()
        goes_on.wait(10)

    def answer(request):
        read(request.params["filename"])
        done.append(request)

    transport = MockTransport({POST_UPLOAD: answer})
    with client_over(transport, fence=fence) as client:
        call = asyncio.ensure_future(client.post(UPLOAD, filename=Stream("x", 1, pieces())))
        await until(begun.is_set)
        client.frozen = lambda: frozen
        goes_on.set()
        with pytest.raises(kind):
            await call
    assert done == []


async def test_a_stream_is_cut_when_the_client_is_closed():
    begun = threading.Event()

    def pieces():
        while True:
            yield b"a"
            begun.set()

    transport = MockTransport({POST_UPLOAD: lambda request: read(request.params["filename"])})
    with client_over(transport) as client:
        call = asyncio.ensure_future(client.post(UPLOAD, filename=Stream("x", 1, pieces())))
        await until(begun.is_set)
        await client.close()
        with pytest.raises(errors.Transient) as caught:
            await call
    assert caught.value.reason == "Reconnecting"


async def test_streams_take_no_place_of_other_calls_on_their_node_nor_of_cluster_wide_ones():
    goes_on = threading.Event()

    def pieces():
        goes_on.wait(10)
        yield b"a"

    def answer(request):
        return read(request.params["filename"]) and UPID

    transport = MockTransport({POST_UPLOAD: answer, POST_START: UPID, "GET /version": {}})
    with client_over(transport, limits=Limits(calls_per_node=1, threads=1)) as client:
        calls = [client.post(UPLOAD, filename=Stream("x", 1, pieces())) for _ in range(6)]
        uploads = [asyncio.ensure_future(call) for call in calls]
        await until(lambda: transport.asked(POST_UPLOAD) == 2)
        async with asyncio.timeout(5):
            assert await client.post(START) == UPID
            assert await client.get("version") == {}
        goes_on.set()
        assert await asyncio.gather(*uploads) == [UPID] * 6


async def test_what_a_stream_raises_is_the_error_of_the_call():
    def pieces():
        yield b"a"
        raise errors.NeedsHuman("another checksum", reason="ChecksumMismatch")

    transport = MockTransport({POST_UPLOAD: lambda request: read(request.params["filename"])})
    with client_over(transport) as client, pytest.raises(errors.NeedsHuman) as caught:
        await client.post(UPLOAD, filename=Stream("x", 2, pieces()))
    assert caught.value.reason == "ChecksumMismatch"


async def test_a_closed_client_says_that_it_is_being_renewed():
    transport = MockTransport()
    with client_over(transport) as client:
        await client.close()
        with pytest.raises(errors.Transient) as caught:
            await client.get("version")
    assert caught.value.reason == "Reconnecting"
    assert transport.closed


# Limits


class Gate:
    """Holds calls until opened, and counts how many are inside at once."""

    def __init__(self):
        self.open = threading.Event()
        self.inside = 0
        self.most = 0
        self._guard = threading.Lock()

    def __call__(self, request):
        with self._guard:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.open.wait(10)
        with self._guard:
            self.inside -= 1
        return {}


async def test_a_node_gets_no_more_calls_at_once_than_its_limit():
    gate = Gate()
    transport = MockTransport({"GET /nodes/pve1/status": gate}, otherwise={})
    with client_over(transport, limits=Limits(calls_per_node=3, threads=8)) as client:
        calls = [asyncio.create_task(client.get("nodes/pve1/status")) for _ in range(12)]
        await until(lambda: gate.inside == 3)
        await client.get("nodes/pve2/status")
        assert gate.most == 3
        gate.open.set()
        await asyncio.gather(*calls)
    assert gate.most == 3


async def test_nodes_that_hang_do_not_keep_the_cluster_from_being_read():
    gate = Gate()
    transport = MockTransport({"GET /nodes/pve1/status": gate, "GET /nodes/pve2/status": gate}, otherwise={})
    with client_over(transport, limits=Limits(calls_per_node=4, threads=4)) as client:
        calls = [asyncio.create_task(client.get(f"nodes/pve{1 + n % 2}/status")) for n in range(8)]
        await until(lambda: gate.inside == 4)
        async with asyncio.timeout(2):
            assert await client.get("cluster/resources") == {}
        gate.open.set()
        await asyncio.gather(*calls)


async def test_a_call_that_closing_takes_from_the_queue_was_never_sent_and_says_so():
    gate = Gate()
    transport = MockTransport({"GET /nodes/pve1/status": gate, POST_START: UPID}, otherwise={})
    with client_over(transport, limits=Limits(threads=2)) as client:
        busy = [asyncio.create_task(client.get("nodes/pve1/status")) for _ in range(2)]
        await until(lambda: gate.inside == 2)
        queued = asyncio.create_task(client.post(START))
        cancelled = asyncio.create_task(client.post(START))
        await asyncio.sleep(0.02)
        cancelled.cancel()
        await client.close()
        gate.open.set()
        results = await asyncio.gather(queued, cancelled, return_exceptions=True)
        await asyncio.gather(*busy, return_exceptions=True)
    assert isinstance(results[0], errors.Transient)
    assert results[0].reason == "Reconnecting"
    assert isinstance(results[1], asyncio.CancelledError)
    assert transport.asked(POST_START) == 0


async def test_many_calls_that_wait_for_the_same_proof_share_its_failure():
    gate = Gate()
    transport = MockTransport()

    def fail(request):
        gate(request)
        raise Lost("no answer")

    transport.answers["GET /cluster/status"] = fail
    with client_over(transport) as client:
        calls = [asyncio.create_task(client.get("version")) for _ in range(20)]
        await until(lambda: gate.inside == 1)
        gate.open.set()
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, errors.Unreachable) for result in results)
    assert len(transport.calls) == 1


# Audit and metrics


async def test_every_write_leaves_a_record_with_keys_but_no_values(caplog):
    transport = MockTransport({POST_START: UPID})
    actor = Actor("ProxmoxVM", "shop", "web-1", "uid-1", 7)
    with caplog.at_level(logging.INFO, "proxmox_operator.audit"), client_over(transport) as client:
        current_actor.set(actor)
        await client.get("version")
        await client.post(START, cipassword="hunter2", timeout=5)
    (record,) = caplog.records
    assert record.actor == "ProxmoxVM/shop/web-1"
    assert (record.actor_uid, record.actor_generation) == ("uid-1", 7)
    assert (record.method, record.path) == ("POST", "/nodes/pve1/qemu/100/status/start")
    assert record.parameters == ["cipassword", "timeout"]
    assert (record.result, record.upid, record.cluster) == ("ok", UPID, "lab")
    assert record.duration_ms >= 0
    assert "hunter2" not in str(record.__dict__)


@pytest.mark.parametrize(
    ("failure", "result"),
    [
        (Refused(500, "VM is locked (backup)"), "Locked"),
        (Lost("x"), "Lost"),
        (NotSent("x"), "NotSent"),
        (Refused(596, "x"), "AnswerLost"),
    ],
)
async def test_a_write_that_failed_leaves_its_reason(caplog, failure, result):
    with (
        caplog.at_level(logging.INFO, "proxmox_operator.audit"),
        client_over(MockTransport({POST_START: failure})) as client,
        pytest.raises(errors.OperatorError),
    ):
        await client.post(START)
    assert [record.result for record in caplog.records] == [result]


async def test_a_write_is_recorded_even_when_nobody_waits_for_it_any_more(caplog):
    gate = Gate()
    with (
        caplog.at_level(logging.INFO, "proxmox_operator.audit"),
        client_over(MockTransport({POST_START: gate})) as client,
    ):
        waiting = asyncio.create_task(client.post(START))
        await until(lambda: gate.inside == 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        gate.open.set()
        await until(lambda: caplog.records)
    assert caplog.records[0].result == "ok"


class Counted:
    def __init__(self):
        self.calls = []

    def pve_call(self, cluster, method, call_class, result, seconds):
        self.calls.append((cluster, method, call_class, result))

    def task_ended(self, cluster, type, outcome, seconds):
        raise AssertionError("no task here")


async def test_calls_are_counted_by_what_is_called_without_ids():
    metrics, transport = (
        Counted(),
        MockTransport({POST_START: UPID, "GET /nodes/pve1/qemu/7/config": Refused(403, "no")}),
    )
    with client_over(transport, metrics=metrics) as client:
        await client.post(START)
        with pytest.raises(errors.Forbidden):
            await client.get("nodes/pve1/qemu/7/config")
    assert metrics.calls == [
        ("lab", "POST", "status/start", "ok"),
        ("lab", "GET", "config", "PermissionDenied"),
    ]


async def test_endpoints_that_are_not_in_use_are_looked_at_too():
    ours, foreign, down = MockTransport({"GET /version": {}}), MockTransport(), MockTransport()
    foreign.ca = "CC:DD"
    down.down = NotSent("refused")
    with client_over(ours, foreign, down) as client:
        await client.get("version")
        health = await client.check_endpoints()
    assert [(bool(h.error), h.foreign) for h in health] == [(False, False), (True, True), (True, False)]
