"""Answers that may be a minute old: asked once, shared by all passes that need them meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable

MAX_AGE = 60.0


class Aging[K: Hashable, V]:
    """Remembers what ``read`` returned for a key, for ``max_age`` seconds; an error is not remembered."""

    def __init__(self, clock: Callable[[], float], *, max_age: float = MAX_AGE) -> None:
        self._clock = clock
        self._max_age = max_age
        self._known: dict[K, tuple[float, V]] = {}
        self._reading: dict[K, asyncio.Lock] = {}

    async def get(self, key: K, read: Callable[[], Awaitable[V]]) -> V:
        """The remembered answer, or a new one; who asks while it is being read waits for it."""
        async with self._reading.setdefault(key, asyncio.Lock()):
            asked_at = self._clock()
            known = self._known.get(key)
            if known is not None and asked_at - known[0] < self._max_age:
                return known[1]
            value = await read()
            self._known[key] = (asked_at, value)
            return value

    def forget(self, key: K) -> None:
        """Ask anew at the next ``get``."""
        self._known.pop(key, None)
