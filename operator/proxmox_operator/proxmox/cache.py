"""Remembering answers for a short while, so that a hundred VMs made at once ask a question once."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable


class Remembered[K: Hashable, V]:
    """Answers of ``load`` by key, good for ``seconds``. Who asks while a load is under way waits for it;
    failures are not remembered.
    """

    def __init__(
        self, load: Callable[[K], Awaitable[V]], *, seconds: float, clock: Callable[[], float]
    ) -> None:
        self._load = load
        self._seconds = seconds
        self._clock = clock
        self._known: dict[K, tuple[float, V]] = {}
        self._loading: dict[K, asyncio.Lock] = {}
        self._forgotten = 0

    def forget(self) -> None:
        """Nothing is known any more; an answer that is on its way is not remembered either."""
        self._known.clear()
        self._forgotten += 1

    async def get(self, key: K) -> V:
        """The answer, at most ``seconds`` old; raises what ``load`` raises."""
        async with self._loading.setdefault(key, asyncio.Lock()):
            asked_at, forgotten = self._clock(), self._forgotten
            known = self._known.get(key)
            if known is not None and asked_at - known[0] < self._seconds:
                return known[1]
            value = await self._load(key)
            if forgotten == self._forgotten:
                self._known[key] = (asked_at, value)
            return value
