"""What controllers rely on: no key is lost, none is worked on twice at a time, a failing one backs off."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.engine.metrics import Metrics
from proxmox_operator.engine.queue import Key, WorkQueue
from proxmox_operator.errors import LeadershipLost
from unit.engine.virtual_time import VirtualLoop, in_virtual_time

A, B, C = (Key("ProxmoxVM", "shop", name) for name in "abc")


class Scene:
    """A queue in virtual time whose handler writes down when it worked on what."""

    def __init__(self, loop: VirtualLoop, *, takes: float = 0.0, grace: float = 20.0) -> None:
        self.loop = loop
        self.metrics = Metrics()
        self.queue = WorkQueue(rng=random.Random(1), clock=loop.time, grace=grace, metrics=self.metrics)
        self.takes = takes
        self.started: list[tuple[float, Key]] = []
        self.finished: list[tuple[float, Key]] = []
        self.inside: Callable[[Key], None] = lambda key: None

    async def handle(self, key: Key) -> None:
        self.started.append((self.loop.time(), key))
        self.inside(key)
        if self.takes:
            await asyncio.sleep(self.takes)
        self.finished.append((self.loop.time(), key))

    async def run_for(self, seconds: float, *, workers: int = 2) -> None:
        running = asyncio.create_task(self.queue.run(self.handle, workers=workers))
        await asyncio.sleep(seconds)
        self.queue.stop()
        await running


def scene(play: Callable[[Scene], Awaitable[None]], *, takes: float = 0.0, grace: float = 20.0) -> Scene:
    async def scenario(loop: VirtualLoop) -> Scene:
        made = Scene(loop, takes=takes, grace=grace)
        await play(made)
        return made

    return in_virtual_time(scenario)


def test_a_key_that_is_added_many_times_is_worked_on_once():
    async def play(s: Scene) -> None:
        for _ in range(100):
            s.queue.add(A)
            s.queue.add(A, after=3)
        await s.run_for(10)

    assert scene(play).started == [(0.0, A)]


def test_the_earliest_of_several_times_wins_whatever_the_order():
    async def play(s: Scene) -> None:
        s.queue.add(A, after=50)
        s.queue.add(A, after=5)
        s.queue.add(A, after=20)
        s.queue.add(B, after=40)
        s.queue.add(B)
        await s.run_for(100)

    assert scene(play).started == [(0.0, B), (5.0, A)]


def test_a_key_added_while_it_is_worked_on_runs_once_more_afterwards():
    async def play(s: Scene) -> None:
        def add_again(key: Key) -> None:
            if len(s.started) == 1:
                for _ in range(5):
                    s.queue.add(key)

        s.inside = add_again
        s.queue.add(A)
        await s.run_for(100)

    assert scene(play, takes=7).started == [(0.0, A), (7.0, A)]


def test_a_delay_asked_for_while_working_counts_from_the_asking():
    async def play(s: Scene) -> None:
        s.inside = lambda key: s.queue.add(key, after=10) if len(s.started) == 1 else None
        s.queue.add(A)
        await s.run_for(100)

    assert scene(play, takes=7).started == [(0.0, A), (10.0, A)]


@pytest.mark.parametrize("first", ["retry", "event"])
def test_an_event_during_the_work_is_not_put_off_by_the_retry_the_handler_asks_for(first: str):
    async def play(s: Scene) -> None:
        def fail_and_hear_of_a_change(key: Key) -> None:
            if len(s.started) == 1:
                if first == "event":
                    s.queue.add(key)
                s.queue.retry(key)
                if first == "retry":
                    s.queue.add(key)

        s.inside = fail_and_hear_of_a_change
        s.queue.add(A)
        await s.run_for(100)

    assert scene(play).started == [(0.0, A), (0.0, A)]


def test_the_backoff_doubles_up_to_its_cap_with_jitter_and_starts_anew_after_forget():
    async def play(s: Scene) -> None:
        delays = [s.queue.retry(A) for _ in range(14)]
        for number, delay in enumerate(delays):
            middle = min(0.5 * 2**number, 300.0)
            assert middle * 0.75 <= delay <= middle * 1.25
        assert len({round(delay / min(0.5 * 2**n, 300.0), 6) for n, delay in enumerate(delays)}) > 10
        s.queue.forget(A)
        assert s.queue.retry(A) < 0.7
        assert s.queue.retry(B) < 0.7
        within = [s.queue.retry(C, base=5.0, cap=15.0) for _ in range(4)]
        for delay, middle in zip(within, (5, 10, 15, 15), strict=True):
            assert middle * 0.75 <= delay <= middle * 1.25
        assert s.queue.retry(C) < 0.7, "another kind of failure begins anew"
        assert s.queue.retry(C, base=5.0, cap=15.0) < 7

    scene(play)


def test_a_handler_that_raises_is_reported_as_a_bug_and_retried_while_others_go_on(
    caplog: pytest.LogCaptureFixture,
):
    async def play(s: Scene) -> None:
        def break_on_a(key: Key) -> None:
            if key == A and len([k for _, k in s.started if k == A]) < 3:
                raise KeyError("spec")

        s.inside = break_on_a
        s.queue.add(A)
        s.queue.add(B)
        s.queue.add(C, after=0.1)
        await s.run_for(100, workers=1)

    with caplog.at_level(logging.ERROR):
        done = scene(play)
    assert [key for _, key in done.finished] == [B, C, A]
    assert b'proxmox_operator_handler_bugs_total{kind="ProxmoxVM"} 2.0' in done.metrics.render()
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


def test_something_cancelled_inside_a_handler_does_not_cost_a_worker():
    async def play(s: Scene) -> None:
        async def handle(key: Key) -> None:
            s.started.append((s.loop.time(), key))
            if len(s.started) == 1:
                shared = s.loop.create_future()
                shared.cancel()
                await shared

        s.queue.add(A)
        running = asyncio.create_task(s.queue.run(handle, workers=1))
        await asyncio.sleep(10)
        s.queue.stop()
        await running

    assert len(scene(play).started) == 2


def test_lost_leadership_ends_every_worker_and_is_raised():
    async def play(s: Scene) -> None:
        async def handle(key: Key) -> None:
            s.started.append((s.loop.time(), key))
            if key == B:
                raise LeadershipLost("gone")
            await asyncio.sleep(1000)
            s.finished.append((s.loop.time(), key))

        s.queue.add(A)
        s.queue.add(B, after=3)
        s.queue.add(C, after=4)
        with pytest.raises(LeadershipLost):
            await s.queue.run(handle, workers=4)
        await asyncio.sleep(2000)

    done = scene(play)
    assert [key for _, key in done.started] == [A, B]
    assert done.finished == []


def test_stop_lets_running_handlers_finish_and_starts_nothing_new():
    async def play(s: Scene) -> None:
        s.queue.add(A)
        s.queue.add(B)
        s.queue.add(C, after=4)
        await s.run_for(2, workers=1)
        assert s.loop.time() == 5.0
        s.queue.add(C)
        assert s.queue.depth == 1

    done = scene(play, takes=5)
    assert done.finished == [(5.0, A)]


def test_a_handler_that_outlives_the_grace_is_cancelled():
    async def play(s: Scene) -> None:
        s.queue.add(A)
        await s.run_for(1)
        assert s.loop.time() == 21.0

    done = scene(play, takes=10_000)
    assert done.finished == []


def test_cancelling_run_cancels_the_handlers_at_once():
    async def play(s: Scene) -> None:
        s.queue.add(A)
        running = asyncio.create_task(s.queue.run(s.handle, workers=2))
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert s.loop.time() == 1.0
        assert s.queue.running == 0

    assert scene(play, takes=50).finished == []


def test_ten_thousand_delays_need_one_timer():
    async def play(s: Scene) -> None:
        order = random.Random(2)
        for number in range(10_000):
            s.queue.add(Key("ProxmoxVM", "shop", f"vm-{number}"), after=order.uniform(1, 1000))
        assert s.queue.delayed == 10_000
        assert s.loop.live_timers() == 1
        await s.run_for(1001)
        times = [moment for moment, _ in s.started]
        assert times == sorted(times)

    assert len(scene(play).started) == 10_000


def test_the_figures_tell_what_waits_and_what_runs():
    async def play(s: Scene) -> None:
        running = asyncio.create_task(s.queue.run(s.handle, workers=1))
        s.queue.add(A)
        await asyncio.sleep(3)
        s.queue.add(B)
        s.queue.add(C, after=600)
        assert (s.queue.depth, s.queue.delayed, s.queue.running, s.queue.oldest_running()) == (1, 1, 1, 3.0)
        text = s.metrics.render().decode()
        assert "proxmox_operator_queue_depth 1.0" in text
        assert "proxmox_operator_queue_oldest_running_seconds 3.0" in text
        s.queue.stop()
        await running

    scene(play, takes=10)


@settings(max_examples=150, deadline=None)
@given(
    adds=st.lists(
        st.tuples(st.sampled_from([A, B, C]), st.floats(0, 20), st.sampled_from([0.0, 0.0, 1.0, 5.0, 30.0])),
        max_size=40,
    ),
    durations=st.lists(st.sampled_from([0.0, 0.5, 3.0, 11.0]), min_size=1, max_size=5),
    again=st.lists(st.sampled_from([None, None, 0.0, 2.0, "retry", "raise"]), min_size=1, max_size=7),
    workers=st.integers(1, 4),
)
def test_no_key_is_lost_none_runs_too_early_and_none_twice_at_a_time(
    adds: list[tuple[Key, float, float]],
    durations: list[float],
    again: list[float | str | None],
    workers: int,
):
    async def scenario(loop: VirtualLoop) -> None:
        queue = WorkQueue(rng=random.Random(3), clock=loop.time)
        outstanding: dict[Key, list[float]] = {A: [], B: [], C: []}
        running: set[Key] = set()
        starts = 0

        def add(key: Key, after: float) -> None:
            outstanding[key].append(loop.time() + after)
            queue.add(key, after=after)

        async def handle(key: Key) -> None:
            nonlocal starts
            assert key not in running
            assert min(outstanding[key]) <= loop.time() + 1e-9
            outstanding[key].clear()
            running.add(key)
            number = starts
            starts += 1
            await asyncio.sleep(durations[number % len(durations)])
            wish = again[number % len(again)] if number < 60 else None
            running.discard(key)
            if isinstance(wish, float):
                add(key, wish)
            elif wish == "retry":
                outstanding[key].append(loop.time() + queue.retry(key))
            elif wish == "raise":
                outstanding[key].append(loop.time())  # some time later
                raise RuntimeError("made up")

        work = asyncio.create_task(queue.run(handle, workers=workers))
        for key, moment, after in sorted(adds, key=lambda each: each[1]):
            await asyncio.sleep(max(moment - loop.time(), 0.0))
            assert len(running) <= workers
            add(key, after)
        await asyncio.sleep(200_000)
        assert outstanding == {A: [], B: [], C: []}
        assert running == set()
        assert (queue.depth, queue.delayed, queue.running) == (0, 0, 0)
        queue.stop()
        await work

    logging.getLogger("proxmox_operator.engine.queue").setLevel(logging.CRITICAL)
    try:
        in_virtual_time(scenario)
    finally:
        logging.getLogger("proxmox_operator.engine.queue").setLevel(logging.NOTSET)
