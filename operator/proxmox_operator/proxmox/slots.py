"""How much may be under way at once: calls on a node, and allocations on a storage.

A call waits for its place. An allocation does not: its slot is held until the *task* ends, not the call; who finds
none free gets Waiting, and is woken when one is, first come first served. All of it lives in memory: the limits begin
anew with the session, and tasks that a former one started do not count.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from proxmox_operator import errors

from .audit import Actor

Wake = Callable[[Actor], None]


@dataclass(frozen=True, slots=True)
class Usage:
    """A limit, what of it is used where it is used most, and how many wait anywhere."""

    limit: int
    used: int
    waiting: int


class CallSlots:
    """``limit`` calls at once on each node."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._nodes: dict[str, asyncio.Semaphore] = {}
        self._asked: Counter[str] = Counter()

    @asynccontextmanager
    async def hold(self, node: str | None) -> AsyncIterator[None]:
        """Wait for one of the node's slots, and hold it; cluster-wide calls (None) need none."""
        if node is None:
            yield
            return
        self._asked[node] += 1
        try:
            async with self._nodes.setdefault(node, asyncio.Semaphore(self._limit)):
                yield
        finally:
            self._asked[node] -= 1

    def usage(self) -> Usage:
        """Calls that hold a slot, and calls that wait for one."""
        return Usage(
            self._limit,
            min(max(self._asked.values(), default=0), self._limit),
            sum(max(asked - self._limit, 0) for asked in self._asked.values()),
        )


class AllocationSlots:
    """``limit`` slots per storage. ``wake`` is called with the actor that waited longest when one becomes
    free.
    """

    def __init__(self, limit: int, wake: Wake = lambda actor: None) -> None:
        self._limit = limit
        self._wake = wake
        self._held: dict[str, int] = {}
        self._waiting: dict[str, dict[tuple[str, str, str], Actor]] = {}

    def take(self, storage: str, actor: Actor | None) -> None:
        """Take a slot or raise Waiting (reason StorageBusy); every take needs one ``release``."""
        if self.held(storage) >= self._limit:
            if actor is not None:
                self._waiting.setdefault(storage, {}).setdefault(_key(actor), actor)
            raise errors.Waiting(
                f"storage {storage}: {self._limit} allocations are under way, the most at once "
                "(ProxmoxCluster spec.limits.allocationsPerStorage); goes on when one ends",
                reason="StorageBusy",
                after=5.0 if actor is not None else 1.0,
            )
        self._held[storage] = self.held(storage) + 1
        if actor is not None:
            self._waiting.get(storage, {}).pop(_key(actor), None)

    def release(self, storage: str) -> None:
        """The allocation has ended, or never began."""
        self._held[storage] = max(0, self.held(storage) - 1)
        waiting = self._waiting.get(storage)
        if waiting and self._held[storage] < self._limit:
            self._wake(waiting.pop(next(iter(waiting))))

    def held(self, storage: str) -> int:
        """Allocations under way on the storage."""
        return self._held.get(storage, 0)

    def usage(self) -> Usage:
        """Allocations under way, and objects that wait for one."""
        waiting = sum(len(each) for each in self._waiting.values())
        return Usage(self._limit, max(self._held.values(), default=0), waiting)


def _key(actor: Actor) -> tuple[str, str, str]:
    return actor.kind, actor.namespace, actor.name
