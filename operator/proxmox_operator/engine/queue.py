"""The work queue: which object is looked at next, and never by two workers at once.

Keys carry no event, so a hundred changes of one object are one pass over its latest state. Delays share one
heap and one timer. Not a place for results: who has to be tried again is decided by the handler, through
`add` and `retry`; the queue itself retries only a handler that raised, which is a bug.
"""

import asyncio
import heapq
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from proxmox_operator.engine.metrics import Metrics

logger = logging.getLogger(__name__)


class Key(NamedTuple):
    """Names one object. `namespace` is empty for a cluster-scoped kind."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class WorkQueue:
    """Deduplicated, delayed and rate-limited keys for a bounded number of workers.

    Belongs to one event loop and is not thread-safe: other threads use `loop.call_soon_threadsafe(queue.add,
    key)`.
    """

    def __init__(
        self,
        *,
        rng: random.Random,
        clock: Callable[[], float] = time.monotonic,
        base: float = 0.5,
        cap: float = 300.0,
        grace: float = 20.0,
        metrics: Metrics | None = None,
    ) -> None:
        """`base` and `cap` bound the backoff, `grace` is for running handlers after `stop`; in seconds."""
        self._rng = rng
        self._clock = clock
        self._base = base
        self._cap = cap
        self._grace = grace
        self._metrics = metrics or Metrics()
        self._ready: deque[Key] = deque()
        self._ready_since: dict[Key, float] = {}
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._pushes = 0
        self._running: dict[Key, float] = {}
        self._again: dict[Key, float] = {}
        self._failures: dict[Key, tuple[float, int]] = {}
        self._idle: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._stopping = asyncio.Event()
        self._metrics.watch_queue(self)

    @property
    def depth(self) -> int:
        """How many keys could run now, were there a free worker."""
        return len(self._ready)

    @property
    def delayed(self) -> int:
        """How many keys wait for their time."""
        return len(self._due)

    @property
    def running(self) -> int:
        """How many keys are being worked on."""
        return len(self._running)

    def oldest_running(self) -> float:
        """Seconds since the longest-running handler started; 0 where none runs."""
        return self._clock() - min(self._running.values()) if self._running else 0.0

    def add(self, key: Key, *, after: float = 0.0) -> None:
        """Have the key worked on in `after` seconds at the latest; an earlier time already asked for stays.

        A key that is being worked on runs once more afterwards. After `stop` nothing is added any more.
        """
        if self._stopping.is_set():
            return
        now = self._clock()
        due = now + max(after, 0.0)
        if key in self._running:
            self._again[key] = min(due, self._again.get(key, due))
        elif key not in self._ready_since:
            self._schedule(key, due, now)

    def retry(self, key: Key, *, base: float | None = None, cap: float | None = None) -> float:
        """Add the key with an exponentially growing delay (±25 % jitter); returns that delay in seconds.

        ``base`` and ``cap`` are those of the queue where they are not given. Another ``base`` is another kind of
        failure, whose delay grows from its beginning.
        """
        first, most = base or self._base, cap or self._cap
        before, failures = self._failures.get(key, (first, 0))
        failures = failures if before == first else 0
        self._failures[key] = (first, failures + 1)
        delay = min(first * 2.0 ** min(failures, 64), most) * self._rng.uniform(0.75, 1.25)
        self._metrics.queue_retries.labels(key.kind).inc()
        self.add(key, after=delay)
        return delay

    def forget(self, key: Key) -> None:
        """The key did well: its next `retry` starts with the shortest delay."""
        self._failures.pop(key, None)

    async def run(self, handle: Callable[[Key], Awaitable[None]], *, workers: int) -> None:
        """Hand every due key to `handle`, at most `workers` at a time, until `stop`.

        After `stop` running handlers get `grace` seconds and are cancelled then. What a handler raises on
        purpose is its own business: an `Exception` here is logged as a bug and retried, a `BaseException`
        (LeadershipLost) ends all workers and is raised.
        """
        tasks = {
            asyncio.create_task(self._work(handle), name=f"worker-{number}") for number in range(workers)
        }
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({*tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if self._stopping.is_set():
                await asyncio.wait(tasks, timeout=self._grace)
        finally:
            self.stop()
            for task in (*tasks, stopping):
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for result in ended:
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    def stop(self) -> None:
        """Start nothing new; `run` returns when the handlers that are running have ended."""
        self._stopping.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._idle:
            _wake(self._idle.popleft())

    def _schedule(self, key: Key, due: float, now: float) -> None:
        if due <= now:
            self._due.pop(key, None)  # its heap entry is recognised as stale later
            self._make_ready(key, now)
        elif due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._pushes += 1
            heapq.heappush(self._heap, (due, self._pushes, key))
            self._arm()

    def _make_ready(self, key: Key, now: float) -> None:
        self._ready.append(key)
        self._ready_since[key] = now
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                break

    def _arm(self) -> None:
        """Keep one timer, for the earliest entry of the heap."""
        due = self._heap[0][0]
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = asyncio.get_running_loop().call_later(max(due - self._clock(), 0.0), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == due:
                del self._due[key]
                self._make_ready(key, now)
        if self._heap:
            self._arm()

    async def _next(self) -> Key | None:
        while not self._stopping.is_set():
            if self._ready:
                return self._ready.popleft()
            waiter = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter
        return None

    async def _work(self, handle: Callable[[Key], Awaitable[None]]) -> None:
        while (key := await self._next()) is not None:
            started = self._clock()
            self._metrics.queue_wait.labels(key.kind).observe(started - self._ready_since.pop(key))
            self._running[key] = started
            try:
                await handle(key)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                self._report_bug(key)  # something the handler waited for was cancelled, not the handler
            except Exception:
                self._report_bug(key)
            finally:
                self._done(key)

    def _report_bug(self, key: Key) -> None:
        logger.exception("%s: the handler failed; this is a bug, retrying", key)
        self._metrics.handler_bugs.labels(key.kind).inc()
        self.retry(key)

    def _done(self, key: Key) -> None:
        del self._running[key]
        due = self._again.pop(key, None)
        if due is not None and not self._stopping.is_set():
            self._schedule(key, due, self._clock())


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
