"""Never two leaders, not even for the length of one write, whatever the network does; no needless wait."""

import asyncio
import logging
import random
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.engine.election import Fence, LeaderElector, NoElection, process_identity
from proxmox_operator.engine.metrics import Metrics
from proxmox_operator.errors import LeadershipLost, Transient
from unit.engine.fake_lease import LeaseLink, LeaseServer
from unit.engine.virtual_time import VirtualLoop, in_virtual_time

DURATION, RENEW, POLL, TAKEOVER = 60.0, 10.0, 2.0, 45.0


class Candidate:
    """One process: an elector, its way to the Lease, and what it did while it led."""

    def __init__(self, loop: VirtualLoop, server: LeaseServer, name: str, **more: Any) -> None:
        self.loop = loop
        self.link = LeaseLink(server)
        self.metrics = Metrics()
        moment = datetime(2026, 1, 1, tzinfo=UTC) + more.pop("clock_is_off_by", timedelta())
        self.elector = LeaderElector(self.link, identity=name, clock=loop.time, now=lambda: moment, **more)
        self.metrics.watch_leader(self.elector)
        self.fence = self.elector.fence
        self.led: list[tuple[float, float]] = []
        self.finish = asyncio.Event()
        self.task = asyncio.create_task(self.elector.run(self.lead))

    async def lead(self) -> None:
        began = self.loop.time()
        try:
            await self.finish.wait()
        finally:
            self.led.append((began, self.loop.time()))

    async def vanish(self) -> None:
        """As with SIGKILL: nothing is given back."""
        self.link.fault = "down"
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def until(condition: Callable[[], bool], *, within: float) -> None:
    async with asyncio.timeout(within):
        while True:
            if condition():
                return
            await asyncio.sleep(0.1)


def open_fences(*candidates: Candidate) -> list[str]:
    return [each.elector._identity for each in candidates if each.fence.remaining() > 0]


def test_of_several_exactly_one_leads_at_once():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        all_of_them = [Candidate(loop, server, name) for name in "abc"]
        await asyncio.sleep(1)
        for _ in range(100):
            assert len(open_fences(*all_of_them)) == 1
            await asyncio.sleep(3)
        assert sum(each.elector.leading for each in all_of_them) == 1
        gauges = sorted(b"proxmox_operator_leader 1.0" in each.metrics.render() for each in all_of_them)
        assert gauges == [False, False, True]

    in_virtual_time(scenario)


def test_a_leader_that_ends_in_order_hands_over_within_two_looks():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        first = Candidate(loop, server, "first")
        await asyncio.sleep(1)
        second = Candidate(loop, server, "second")
        await asyncio.sleep(33)
        first.finish.set()
        await first.task
        assert server.holder == ""
        assert first.fence.remaining() < 0
        ended = loop.time()
        await until(lambda: second.fence.remaining() > 0, within=2 * POLL)
        assert loop.time() - ended <= 2 * POLL

    in_virtual_time(scenario)


def test_who_waits_says_once_for_whom(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)

    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        Candidate(loop, server, "first")
        await asyncio.sleep(1)
        Candidate(loop, server, "second")
        await asyncio.sleep(33)

    in_virtual_time(scenario)
    said = [text for record in caplog.records if "waiting for the Lease" in (text := record.getMessage())]
    assert said == ["waiting for the Lease, which first holds; one that vanished keeps it 60 s"]


def test_cancelling_the_leader_as_sigterm_does_hands_over_too():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        first = Candidate(loop, server, "first")
        await asyncio.sleep(1)
        first.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first.task
        assert server.holder == ""
        assert len(first.led) == 1

    in_virtual_time(scenario)


@pytest.mark.parametrize("into_the_renewal", [0.0, 0.2, 0.6, 0.9])
def test_a_renewal_that_is_just_on_its_way_does_not_spoil_the_hand_over(into_the_renewal: float):
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        first = Candidate(loop, server, "first")
        first.link.latency = 0.5
        await until(lambda: first.elector.leading, within=5)
        await asyncio.sleep(RENEW - (loop.time() % 1) + into_the_renewal)
        first.finish.set()
        await first.task
        assert server.holder == ""

    in_virtual_time(scenario)


def test_after_a_leader_that_vanished_the_first_write_waits_until_its_last_one_cannot_be_on_its_way():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        first = Candidate(loop, server, "first")
        await asyncio.sleep(25)
        vanished = loop.time()
        await first.vanish()
        second = Candidate(loop, server, "second")
        await until(lambda: server.holder == "second", within=DURATION + 5)
        assert loop.time() - vanished >= DURATION - 0.1
        taken = loop.time()
        assert second.elector.leading
        with pytest.raises(LeadershipLost):
            second.fence.require(1)
        await until(lambda: second.fence.remaining() > 0, within=TAKEOVER + 1)
        assert loop.time() - taken >= TAKEOVER - 0.2
        second.fence.require(TAKEOVER)

    in_virtual_time(scenario)


def test_one_that_is_stopped_before_its_first_write_was_allowed_does_not_shorten_the_wait_of_the_next():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        await asyncio.sleep(0)
        first = Candidate(loop, server, "first")
        await asyncio.sleep(5)
        await first.vanish()
        second = Candidate(loop, server, "second")
        await until(lambda: server.holder == "second", within=DURATION + 5)
        second.task.cancel()
        await asyncio.gather(second.task, return_exceptions=True)
        assert server.holder == "second"

    in_virtual_time(scenario)


def test_the_clocks_of_other_machines_do_not_matter():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        first = Candidate(loop, server, "first", clock_is_off_by=timedelta(days=-400))
        await asyncio.sleep(1)
        second = Candidate(loop, server, "second", clock_is_off_by=timedelta(days=400))
        await asyncio.sleep(500)
        assert open_fences(first, second) == ["first"]

    in_virtual_time(scenario)


def test_a_leader_that_cannot_renew_stops_before_anybody_else_may_lead():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        first = Candidate(loop, server, "first")
        await asyncio.sleep(5)
        second = Candidate(loop, server, "second")
        first.link.fault = "down"
        with pytest.raises(LeadershipLost, match="could not be renewed"):
            await first.task
        assert loop.time() <= DURATION
        [(_, ended)] = first.led
        assert ended <= DURATION
        assert server.holder == "first"
        await until(lambda: second.fence.remaining() > 0, within=TAKEOVER + DURATION)

    in_virtual_time(scenario)


def test_a_short_outage_of_the_api_server_costs_nothing_but_the_writes_in_it():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        first = Candidate(loop, server, "first")
        await asyncio.sleep(9)
        first.link.fault = "hang"
        await asyncio.sleep(30)
        with pytest.raises(Transient, match="waiting for a renewal") as caught:
            first.fence.require(45)
        assert caught.value.reason == "LeaseTooShort"
        first.link.fault = ""
        await until(lambda: first.fence.remaining() > 45, within=RENEW)
        first.fence.require(45)
        assert first.led == []

    in_virtual_time(scenario)


def test_somebody_who_takes_the_lease_away_ends_the_leader_at_its_next_renewal():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        first = Candidate(loop, server, "first")
        await asyncio.sleep(5)
        assert server.raw is not None
        server.write(
            server.raw["metadata"]["resourceVersion"], server.raw["spec"] | {"holderIdentity": "thief"}
        )
        with pytest.raises(LeadershipLost, match="thief"):
            await first.task
        assert loop.time() < 2 * RENEW
        assert server.holder == "thief"

    in_virtual_time(scenario)


def test_a_deleted_lease_ends_the_leader():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        first = Candidate(loop, server, "first")
        await asyncio.sleep(5)
        server.raw = None
        with pytest.raises(LeadershipLost, match="nobody"):
            await first.task

    in_virtual_time(scenario)


def test_a_lease_deleted_by_hand_does_not_let_another_write_before_the_last_leader_cannot_any_more():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        first = Candidate(loop, server, "first")
        await asyncio.sleep(5)
        second = Candidate(loop, server, "second")
        await asyncio.sleep(4)
        first.link.fault = "hang"
        server.raw = None
        last_write = 0.0
        while second.fence.remaining() <= 0:
            if first.fence.remaining() >= TAKEOVER:
                last_write = loop.time()
            await asyncio.sleep(0.1)
        assert last_write > 9
        assert loop.time() >= last_write + TAKEOVER
        assert loop.time() >= DURATION + TAKEOVER
        await asyncio.gather(first.task, return_exceptions=True)

    in_virtual_time(scenario)


@pytest.mark.parametrize("at", ["acquiring", "renewing"])
def test_a_lost_answer_is_looked_up_and_costs_neither_the_lease_nor_a_wait(at: str):
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        first = Candidate(loop, server, "first")
        if at == "renewing":
            await asyncio.sleep(RENEW - 1)
        first.link.fault = "deaf"
        await asyncio.sleep(2)
        assert server.holder == "first"
        first.link.fault = ""
        await asyncio.sleep(2 * POLL)
        first.fence.require(45)
        await asyncio.sleep(300)
        first.fence.require(45)

    in_virtual_time(scenario)


def test_what_lead_raises_is_raised_and_the_lease_has_to_expire():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        elector = LeaderElector(LeaseLink(server), identity="first", clock=loop.time)

        async def lead() -> None:
            raise RuntimeError("a bug")

        with pytest.raises(RuntimeError, match="a bug"):
            await elector.run(lead)
        assert server.holder == "first"
        with pytest.raises(LeadershipLost):
            elector.fence.require(0)

    in_virtual_time(scenario)


def test_the_lease_is_given_back_only_when_no_write_is_on_its_way():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        quick, stuck = (Candidate(loop, LeaseServer(), name) for name in ("quick", "stuck"))
        await asyncio.sleep(1)
        for candidate, seconds in ((quick, 3.0), (stuck, 40.0)):
            server = candidate.link.server

            async def write(candidate: Candidate = candidate, seconds: float = seconds) -> None:
                with candidate.fence.writing(45):
                    await asyncio.sleep(seconds)

            writing = asyncio.create_task(write())
            await asyncio.sleep(0.1)
            candidate.finish.set()
            await candidate.task
            assert server.holder == ("" if candidate is quick else "stuck")
            assert candidate.fence.in_flight == (0 if candidate is quick else 1)
            await writing

    in_virtual_time(scenario)


def test_an_idle_leader_writes_once_per_renewal_and_the_others_never():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        everyone = [Candidate(loop, server, name) for name in "abc"]
        await asyncio.sleep(1)
        before = server.writes
        await asyncio.sleep(600)
        assert 58 <= server.writes - before <= 61
        assert server.raw is not None
        assert server.raw["spec"]["leaseTransitions"] == 0
        assert everyone

    in_virtual_time(scenario)


def test_without_an_election_the_fence_is_open_for_every_write():
    async def scenario(loop: VirtualLoop) -> None:
        election = NoElection()
        led = []

        async def lead() -> None:
            election.fence.require(1e9)
            led.append(loop.time())

        await election.run(lead)
        assert led == [0.0]

    in_virtual_time(scenario)


def test_a_restarted_process_is_another_candidate_on_the_same_host():
    names = {process_identity() for _ in range(10)}
    assert len(names) == 10
    assert all(name.startswith(f"{socket.gethostname()}_") for name in names)


def test_a_fence_is_closed_until_it_is_extended():
    fence = Fence(clock=lambda: 100.0)
    with pytest.raises(LeadershipLost):
        fence.require(0.001)
    fence.extend(160.0)
    fence.require(60.0)
    with pytest.raises(Transient):
        fence.require(60.1)
    fence.close()
    with pytest.raises(LeadershipLost), fence.writing(1):
        pytest.fail("a write began")


FAULTS = st.tuples(
    st.integers(0, 2), st.sampled_from(["", "", "down", "hang", "deaf", "kill"]), st.floats(0.5, 90)
)


@settings(max_examples=60, deadline=None)
@given(
    faults=st.lists(FAULTS, max_size=10), seed=st.integers(0, 1000), latency=st.sampled_from([0.01, 0.4, 0.9])
)
def test_whatever_the_network_does_a_write_of_one_leader_has_ended_before_another_may_write(
    faults: list[tuple[int, str, float]], seed: int, latency: float
):
    """Before a write of 45 s the fence is asked; it must have ended when another fence opens."""

    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        places: list[Candidate] = []
        may_write_until: dict[str, float] = {}
        names = iter(range(1000))

        def start() -> Candidate:
            made = Candidate(loop, server, f"p{next(names)}")
            made.link.latency, made.link.rng = latency, random.Random(seed)
            return made

        async def watch_over() -> None:
            while True:
                opened = open_fences(*places)
                for candidate in places:
                    name = candidate.elector._identity
                    if candidate.fence.remaining() >= TAKEOVER:
                        may_write_until[name] = loop.time() + TAKEOVER
                for name in opened:
                    rivals = [until for other, until in may_write_until.items() if other != name]
                    assert max(rivals, default=0.0) <= loop.time() + 0.3, (
                        opened,
                        may_write_until,
                        loop.time(),
                    )
                assert len(opened) <= 1
                await asyncio.sleep(0.25)

        def replace_the_ended() -> None:
            for number, candidate in enumerate(places):
                if candidate.task.done():
                    assert isinstance(candidate.task.exception(), LeadershipLost)
                    places[number] = start()

        places.extend(start() for _ in range(3))
        watching = asyncio.create_task(watch_over())
        for place, fault, seconds in faults:
            if fault == "kill":
                await places[place].vanish()
                places[place] = start()
            else:
                places[place].link.fault = fault
            await asyncio.sleep(seconds)
            replace_the_ended()
        for candidate in places:
            candidate.link.fault = ""
        replace_the_ended()
        await asyncio.sleep(DURATION + TAKEOVER + 3 * RENEW)
        if watching.done():
            await watching
        assert len(open_fences(*places)) == 1
        watching.cancel()
        for candidate in places:
            candidate.task.cancel()
        await asyncio.gather(*(each.task for each in places), watching, return_exceptions=True)

    in_virtual_time(scenario)


def test_one_that_cannot_read_the_lease_is_out_of_touch_and_a_standby_is_not():
    async def scenario(loop: VirtualLoop) -> None:
        server = LeaseServer()
        leader, standby = Candidate(loop, server, "a"), Candidate(loop, server, "b")
        assert not leader.elector.in_touch()
        await asyncio.sleep(3)
        assert (leader.elector.leading, standby.elector.leading) == (True, False)
        assert leader.elector.in_touch()
        assert standby.elector.in_touch()
        standby.link.fault = "down"
        await asyncio.sleep(70)
        assert leader.elector.in_touch()
        assert not standby.elector.in_touch()

    in_virtual_time(scenario)
