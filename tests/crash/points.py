"""Crash points: every call of an operator to Proxmox and to Kubernetes has a name, and can be its last.

A :class:`Switch` stands in both doors of one operator. It notes each call as a :class:`Point`, a stable name (method,
path with roles instead of ids) and its ordinal among the calls of that name, and kills the operator at one of them:

- ``before``: the operator dies, the call is never sent;
- ``answer lost`` (calls with an effect): the call is executed, the operator is dead when the answer comes;
- ``late`` (writes): the operator dies, the call is still on its way; :meth:`Switch.deliver` executes it later.

A read whose answer is lost leaves behind what a read that was never sent does: ``before`` covers it.

From the moment of death nothing of that operator reaches a server, whatever its ``finally`` blocks try: both doors
refuse.

Polls (the inventory, the state of a task) are calls like others, but how many there are is a matter of timing: only
the first :data:`POLLS` of a name are points. All other calls are points, each of them.

Not here: what is done before, after and in between (``scenario``), and what must be true at the end.
"""

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from proxmox_operator import errors
from proxmox_operator.kube import client as kube
from proxmox_operator.proxmox import transport as proxmox
from proxmox_operator.proxmox.credentials import Credentials, Endpoint, TLSSettings
from proxmox_operator.proxmox.request import Request
from proxmox_operator.proxmox.session import connect
from proxmox_operator.proxmox.tasks import UPID

POLLS = 2
"""How many calls of one polling name are points."""

_POLL = re.compile(
    r"^(GET (cluster/resources|nodes/[^/]+/tasks/[^/]+/status)|\w+ nodes/[^/]+/qemu/vm/agent/exec(-status)?)$"
)
_SEED = re.compile(r"^pvm-seed-\d+-\w+\.iso$")

_CHECKSUM = re.compile(r"-[0-9a-f]{16}(?=(-uploaded)?\.)")
"""In the name of a downloaded or uploaded image."""


class Mode(StrEnum):
    """How the call ends at which the operator dies."""

    BEFORE = "before"
    LOST = "answer lost"
    LATE = "late"


class Point(NamedTuple):
    """The ``ordinal``-th call of a name, from 1."""

    name: str
    ordinal: int
    writes: bool

    @property
    def by_chance(self) -> bool:
        """It repeats a call without making or changing a VM: a conflict or a slow machine may have brought it about."""
        return self.ordinal > 1 and not (self.writes and self.name.partition(" ")[0].isupper())

    def __str__(self) -> str:
        return f"{self.name} #{self.ordinal}"


Role = Callable[[int], str]
"""What a VMID is in a scenario: a VMID of its own would make each run's points different."""


class Switch:
    """In both doors of one operator: notes its calls, and kills it at ``fatal``. Called from many threads."""

    def __init__(self, role: Role, *, fatal: Point | None = None, mode: Mode = Mode.BEFORE) -> None:
        self._role = role
        self._fatal = fatal
        self._mode = mode
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._late: Callable[[], object] | None = None
        self._late_call: kube.Call | None = None
        self._dead = False
        self.points: list[Point] = []
        self.died = threading.Event()
        self.died_at: datetime
        """Known from the moment of death, as the operators write times: to the second."""
        self.last_news = time.monotonic()
        """When it made a call last that is no poll (monotonic seconds)."""
        self.overheard: Callable[[str], None] = lambda name: None
        """Told of each call before it is made: for a scenario in which something happens just then."""

    def connect(self, endpoint: Endpoint, credentials: Credentials, tls: TLSSettings) -> "_PveDoor":
        """The way to Proxmox: ``Manager(connect=...)``."""
        return _PveDoor(self, endpoint, credentials, tls)

    def wrap(self, transport: kube.Transport) -> "_KubeDoor":
        """The way to Kubernetes: ``RunningOperator(wrap=...)``."""
        return _KubeDoor(self, transport)

    @property
    def dead(self) -> bool:
        """Nothing of this operator reaches a server any more."""
        return self._dead

    @property
    def owes(self) -> bool:
        """Its last call is still on its way."""
        return self._late is not None or self._late_call is not None

    def admit(self, name: str, *, writes: bool) -> Mode | None:
        """Note a call. None: go on; else the operator is dead now, and this is how its last call ends.

        Raises Dead when it has died before.
        """
        self.overheard(name)
        with self._lock:
            if self._dead:
                raise Dead
            self._counts[name] += 1
            point = Point(name, self._counts[name], writes)
            self.points.append(point)
            if not _POLL.match(name):
                self.last_news = time.monotonic()
            self._dead = point == self._fatal
            if self._dead:
                self.died_at = datetime.now(UTC).replace(microsecond=0)
            return self._mode if self._dead else None

    def proxmox_name(self, request: Request) -> str:
        parts = list(request.path)
        for index, part in enumerate(parts):
            if part.startswith("UPID:"):
                parts[index] = UPID.parse(part).type
            elif index and parts[index - 1] == "qemu":
                parts[index] = self._role(int(part))
            elif _SEED.match(part):
                parts[index] = "seed"
            elif index and parts[index - 1].endswith(":import"):
                parts[index] = _CHECKSUM.sub("", part)
        asked = [
            f"{key}={request.params[key]}"
            for key in ("source", "type", "typefilter")
            if key in request.params
        ]
        return " ".join([request.method, "/".join(parts), *asked])

    def kube_name(self, call: kube.Call) -> str:
        where = "/".join(part for part in (call.resource.plural, call.subresource) if part)
        reason = (call.body or {}).get("reason", "") if call.resource.plural == "events" else ""
        return f"{call.verb} {where} {reason}".rstrip()

    def keep(self, late: Callable[[], object] | None = None, call: kube.Call | None = None) -> None:
        self._late, self._late_call = late, call

    def deliver(self, send: Callable[[kube.Call], object]) -> None:
        """Execute the late call now, whatever Proxmox or Kubernetes (through ``send``) say to it."""
        try:
            if self._late is not None:
                self._late()
            if self._late_call is not None:
                send(self._late_call)
        except (proxmox.Refused, errors.OperatorError):
            pass  # that it comes too late is what the servers have preconditions for
        finally:
            self.keep()


class Dead(Exception):
    """The operator is dead; it can call nobody."""


class _PveDoor:
    """A ``proxmox.transport.Transport``."""

    def __init__(
        self, switch: Switch, endpoint: Endpoint, credentials: Credentials, tls: TLSSettings
    ) -> None:
        self._switch = switch
        self._open: Callable[[], proxmox.Transport] = lambda: connect(endpoint, credentials, tls)
        self._inner = self._open()

    def send(self, request: Request) -> Any:
        try:
            mode = self._switch.admit(self._switch.proxmox_name(request), writes=request.mutating)
            if mode is None:
                return self._send(request)
        except Dead:
            raise proxmox.Lost("the operator is dead") from None
        if mode is Mode.LOST:
            self._deliver(request)
        if mode is Mode.LATE:
            whole = _read(request)
            self._switch.keep(late=lambda: self._deliver(whole))
        self._switch.died.set()
        raise proxmox.Lost("the operator is dead")

    def _send(self, request: Request) -> Any:
        try:
            return self._inner.send(request)
        finally:
            if self._switch.dead:
                raise Dead

    def _deliver(self, request: Request) -> None:
        """Through a connection of its own: the operator's may be closed already."""
        transport = self._open()
        try:
            transport.send(request)
        except proxmox.Refused:
            return
        finally:
            transport.close()

    def close(self) -> None:
        self._inner.close()


def _read(request: Request) -> Request:
    """The same, with the bytes of a stream in hand: they are under way already."""
    if request.stream is None:
        return request
    key, stream = request.stream
    pieces = iter(list(stream.pieces))
    return replace(request, params={**request.params, key: replace(stream, pieces=pieces)})


class _KubeDoor:
    """A ``kube.client.Transport``."""

    def __init__(self, switch: Switch, inner: kube.Transport) -> None:
        self._switch = switch
        self._inner = inner

    async def send(self, call: kube.Call) -> dict[str, Any]:
        try:
            mode = self._switch.admit(self._switch.kube_name(call), writes=call.writes)
            if mode is None:
                return await self._send(call)
        except Dead:
            raise errors.Unreachable("the operator is dead") from None
        if mode is Mode.LOST:
            with suppress(errors.OperatorError):
                await self._inner.send(call)
        if mode is Mode.LATE:
            self._switch.keep(call=call)
        self._switch.died.set()
        raise errors.Unreachable("the operator is dead")

    async def _send(self, call: kube.Call) -> dict[str, Any]:
        try:
            return await self._inner.send(call)
        finally:
            if self._switch.dead:
                raise Dead


def news(known: list[Point], run: list[Point], mode: Mode) -> list[Point]:
    """The points of a run that are not known yet, and are points in this mode."""
    old = set(known)
    return [
        point
        for point in run
        if point not in old
        and _counts_in(mode, point)
        and (point.ordinal <= POLLS or not _POLL.match(point.name))
    ]


def _counts_in(mode: Mode, point: Point) -> bool:
    """Whether dying there in this mode is another case than one that is played anyway."""
    told_once = mode is Mode.LOST and point.name.endswith(
        "/agent/exec-status"
    )  # the agent forgets what it told
    return point.writes or told_once or mode is Mode.BEFORE
