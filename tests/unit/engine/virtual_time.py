"""An event loop whose clock jumps to the next timer: an hour of retries takes a millisecond."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """Not for code that waits for sockets or threads: what is awaited there never comes in virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self.now

    def live_timers(self) -> int:
        return sum(not timer.cancelled() for timer in self._scheduled)  # type: ignore[attr-defined]


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everything waits for something that never comes")
        self._loop.now += max(timeout, 0.0)
        return super().select(0)


def in_virtual_time[T](scenario: Callable[[VirtualLoop], Awaitable[T]]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)

        async def run() -> T:
            return await scenario(loop)

        return runner.run(run())
