"""What the simulator saw and what a test may do to it: the list of calls, and the verdicts of an interceptor.

An interceptor decides, per call, the three ways in which a client can lose an answer: the call never arrived
(`DropBefore`), it was executed and the answer got lost (`DropAfter`), or it is still on its way and is
executed when the test says so (`Late`). This is the crash harness's hand on the network; it knows nothing of
the operator.
"""

import asyncio
import concurrent.futures
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

SECRETS = frozenset(
    {
        "password",
        "cipassword",
        "new-password",
        "confirmation-password",
        "input-data",
        "content",
        "otp",
        "ticket",
        "vncticket",
        "tfa-challenge",
        "crypted",
    }
)
STORAGE_CONTENTS = ("iso", "vztmpl", "import", "images", "backup")
MASK = "***"
# Calls that change nothing although they are not GETs.
HARMLESS = re.compile(
    r"/access/ticket$|/agent/(ping|info|get-[a-z-]+|network-get-interfaces|fsfreeze-status)$|proxy$"
)


@dataclass
class Call:
    """One API request. `status` is None while it runs and for one that was dropped; `params` holds no
    secret."""

    seq: int
    endpoint: str
    method: str
    path: str
    params: dict[str, Any]
    user: str | None
    mutating: bool
    status: int | None = None
    upid: str | None = None
    error: str | None = None
    fate: str = "answered"

    def __str__(self) -> str:
        return f"#{self.seq} {self.method} {self.path} -> {self.status or self.fate}"


class Verdict:
    """What an interceptor says about a call; None lets it pass."""


class DropBefore(Verdict):
    """The request is lost: nothing is executed, the connection is cut."""


class DropAfter(Verdict):
    """The operation is executed, then the connection is cut: the answer is lost."""


@dataclass
class Answer(Verdict):
    """The call is answered with this status and message; nothing is executed."""

    status: int
    message: str


class Late(Verdict):
    """The connection is cut now; the operation is executed when `release()` is called."""

    def __init__(self) -> None:
        self._armed = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._run: Callable[[], Coroutine[Any, Any, None]] | None = None

    def arm(self, loop: asyncio.AbstractEventLoop, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Called by the simulator: what to execute, and where."""
        self._loop, self._run = loop, run
        self._armed.set()

    def release(self, timeout: float = 10.0) -> None:
        """Execute the operation now and return when it is done (for a task: when it has started). A second
        call does nothing.

        :raises TimeoutError: the call was not intercepted, or did not finish, within `timeout` seconds.
        """
        if not self._armed.wait(timeout):
            raise TimeoutError("no call was intercepted with this Late")
        if self._run is None or self._loop is None:
            return
        run, self._run = self._run, None
        try:
            asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout)
        except concurrent.futures.TimeoutError as error:
            raise TimeoutError("the late call did not finish") from error


Interceptor = Callable[[Call], Verdict | None]


def masked(params: dict[str, Any]) -> dict[str, Any]:
    """The parameters with the values of secret ones replaced; `content` is one of a file written by the agent, and the
    kind of a storage's content elsewhere."""
    return {
        key: MASK if key in SECRETS and value not in STORAGE_CONTENTS else value
        for key, value in params.items()
    }


def is_mutating(method: str, path: str) -> bool:
    """True if the call can change the world."""
    return method != "GET" and not HARMLESS.search(path)


@dataclass
class Recorder:
    """Every request in order of arrival, the oldest forgotten beyond `limit`. Reading is safe from any
    thread."""

    limit: int = 50_000
    _calls: list[Call] = field(default_factory=list)
    _count: int = 0

    def add(self, **fields: Any) -> Call:
        """Record a call and return it."""
        self._count += 1
        call = Call(seq=self._count, **fields)
        self._calls.append(call)
        if len(self._calls) > self.limit:
            del self._calls[: self.limit // 10]
        return call

    def clear(self) -> None:
        """Forget all calls; the numbering goes on."""
        self._calls = []

    def __iter__(self) -> Iterator[Call]:
        return iter(list(self._calls))

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, index: int) -> Call:
        return self._calls[index]

    @property
    def mutating(self) -> list[Call]:
        """The calls that can change the world."""
        return [call for call in self if call.mutating]

    def matching(self, method: str, pattern: str) -> list[Call]:
        """The calls of a method whose path (below /api2/json) matches a regular expression."""
        wanted = re.compile(pattern)
        return [call for call in self if call.method == method and wanted.search(call.path)]
