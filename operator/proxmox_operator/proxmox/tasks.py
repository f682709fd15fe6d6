"""Proxmox tasks: watched until they end, found again after a lost answer.

A task's end is not its effect: HA tasks only queue, and a killed worker leaves anything. Who is woken by a
result reads the VM before acting. Nothing here is persistent: after a restart the UPID in ``status.task``
is watched anew.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from proxmox_operator import errors

from .client import PveClient
from .errors import NODE_NOT_FOUND, NoSuchTask, OutcomeUnknown, classify_task, clip

logger = logging.getLogger(__name__)

FASTEST, SLOWEST = 0.1, 2.0
FEW = 4
"""Watched tasks on a node up to which a list saves nothing: each that has ended is asked for its status anyway."""
LOG_LINES = 20
LOG_PAGE, LOG_PAGES = 500, 10
CLONES = 500
"""Clones of one template, the newest first, among which a lost one is searched (Proxmox tells 50 unless asked)."""
RUNNING = "RUNNING"


class Outcome(StrEnum):
    """How a task ended; Unknown: it may have done all, some or nothing."""

    OK = "Ok"
    WARNINGS = "Warnings"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class UPID:
    """A parsed task id. ``id`` is what the task is about, often a VMID; for qmclone the *source's*."""

    text: str
    node: str
    started: int
    type: str
    id: str
    user: str

    @classmethod
    def parse(cls, text: str) -> "UPID":
        """From ``UPID:node:pid:pstart:starttime:type:id:user:``; raises ``ValueError``."""
        parts = text.split(":")
        if len(parts) != 9 or parts[0] != "UPID" or parts[8]:
            raise ValueError(f"{text!r} is not a Proxmox task id")
        return cls(text, parts[1], int(parts[4], 16), parts[5], parts[6], parts[7])


@dataclass(frozen=True, slots=True)
class TaskResult:
    """A task that ended. ``error`` is None after success; ``log_tail`` holds the last lines of a task that
    did not go well.
    """

    upid: str
    outcome: Outcome
    exitstatus: str
    error: errors.OperatorError | None = None
    log_tail: tuple[str, ...] = ()

    def explained(self) -> errors.OperatorError | None:
        """The error with what the task's log says last of its own, which people look for."""
        said = [line for line in self.log_tail if not line.startswith("TASK ")]
        if self.error is not None and said and said[-1] not in self.error.message:
            self.error.message = f"{self.error.message} (task log: {said[-1]})"
        return self.error


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task in a list; ``status`` is RUNNING or its exit status."""

    upid: UPID
    status: str

    @property
    def running(self) -> bool:
        return self.status == RUNNING


Done = Callable[[TaskResult], None]
"""Told of a task's end; must not block and should not raise."""


class TaskTracker:
    """Watches tasks with few calls: a few tasks on a node are asked themselves, more share one list of active
    tasks.
    """

    def __init__(
        self,
        client: PveClient,
        *,
        on_end: Callable[[TaskResult, float], None] = lambda result, seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._on_end = on_end
        self._clock = clock
        self._watched: dict[str, dict[str, list[Done]]] = {}
        self._since: dict[str, float] = {}
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._hurry: dict[str, asyncio.Event] = {}
        self._targets: dict[str, int | None] = {}

    def watch(self, upid: str, done: Done) -> None:
        """Call ``done`` once when the task has ended; watching the same task twice calls both. Raises
        ``ValueError``.
        """
        node = UPID.parse(upid).node
        watched = self._watched.setdefault(node, {})
        hurry = self._hurry.setdefault(node, asyncio.Event())
        if upid not in watched:
            self._since[upid] = self._clock()
            hurry.set()
        watched.setdefault(upid, []).append(done)
        loop = self._loops.get(node)
        if loop is None or loop.done():
            self._loops[node] = asyncio.create_task(
                self._poll_node(node), name=f"tasks-{self._client.name}-{node}"
            )

    def watches(self, upid: UPID) -> bool:
        """Whether somebody is to be told of its end."""
        return upid.text in self._watched.get(upid.node, ())

    @property
    def watched(self) -> int:
        """How many tasks are being watched."""
        return sum(len(tasks) for tasks in self._watched.values())

    async def close(self) -> None:
        """Stop watching; no task is awaited or stopped."""
        loops = list(self._loops.values())
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)

    async def result(self, upid: str) -> TaskResult | None:
        """The task's result now; None while it runs. Raises Unreachable and the like."""
        task = UPID.parse(upid)
        path = ("nodes", task.node, "tasks", upid, "status")
        try:
            status: Mapping[str, Any] = await self._client.get(path)
        except NoSuchTask as gone:
            return TaskResult(upid, Outcome.UNKNOWN, "no such task", gone)
        except errors.Forbidden as denied:
            # A task of another user or token: it may run or not, we are never told its end.
            unknown = OutcomeUnknown(f"{denied.message}; looks at what the task left")
            return TaskResult(upid, Outcome.UNKNOWN, "permission denied", unknown)
        except errors.NeedsHuman as gone:
            if gone.reason != NODE_NOT_FOUND:
                raise
            return TaskResult(upid, Outcome.UNKNOWN, "the node is no longer in the cluster", gone)
        if status.get("status") != "stopped":
            return None
        exitstatus = str(status.get("exitstatus") or "unexpected status")
        error = classify_task(exitstatus)
        if error is None:
            outcome = Outcome.OK if exitstatus == "OK" else Outcome.WARNINGS
        else:
            outcome = Outcome.UNKNOWN if isinstance(error, OutcomeUnknown) else Outcome.FAILED
        tail = () if outcome is Outcome.OK else await self.log_tail(upid)
        return TaskResult(upid, outcome, exitstatus, error, tail)

    async def log_tail(self, upid: str, *, lines: int = LOG_LINES) -> tuple[str, ...]:
        """The last lines of the task's log, cut and without anything that looks like a secret; () when it
        cannot be read.
        """
        texts: list[str] = []
        try:
            for start in range(0, LOG_PAGES * LOG_PAGE, LOG_PAGE):
                page = await self._log(upid, start=start, limit=LOG_PAGE)
                texts = texts[-lines:] + page
                if len(page) < LOG_PAGE:
                    break
        except errors.OperatorError:
            return ()
        return tuple(mask(clip(text)) for text in texts[-lines:] if text.strip())

    async def log_since(self, upid: str, start: int) -> list[str]:
        """The next lines of the task's log from this line on, at most a page of them."""
        return await self._log(upid, start=start, limit=LOG_PAGE)

    async def running_for(self, vmid: int) -> list[TaskInfo]:
        """Live tasks about the VM anywhere, as /cluster/tasks tells, seconds old. Not clones to it."""
        items = await self._client.get("cluster/tasks")
        return [task for task in _parse(items) if task.running and task.upid.id == str(vmid)]

    async def active(self, node: str) -> list[TaskInfo]:
        """Everybody's live tasks on one node (``GET /nodes/{node}/tasks?source=active``); those of others
        need Sys.Audit."""
        items = await self._client.get(("nodes", node, "tasks"), source="active", limit=1000)
        return [task for task in _parse(items) if task.running]

    async def latest(self, node: str, vmid: int, *, limit: int) -> list[UPID]:
        """The latest tasks about the VM on this node, running or ended (``GET /nodes/{node}/tasks?vmid=``); those of
        others need Sys.Audit.
        """
        items = await self._client.get(("nodes", node, "tasks"), source="all", vmid=vmid, limit=limit)
        return [task.upid for task in _parse(items)]

    async def find_clone(self, template_vmid: int, newid: int, *, node: str, since: float) -> TaskInfo | None:
        """The newest ``qmclone`` on ``node`` from the template to ``newid``, started at or after ``since``
        (Unix seconds).

        Its UPID names the template, so its log tells the new id: ``creating a clone of VM T with ID N``
        (qemu-server, PVE/API2/Qemu.pm), printed once the locks are held. A running task whose log does not
        say it yet may be ours: it is returned too when no other is.
        """
        items = await self._client.get(
            ("nodes", node, "tasks"),
            source="all",
            typefilter="qmclone",
            vmid=template_vmid,
            since=max(0, int(since) - CLOCK_SKEW),
            limit=CLONES,
        )
        undecided: TaskInfo | None = None
        for task in sorted(_parse(items), key=lambda task: task.upid.started, reverse=True):
            target = await self._clone_target(task)
            if target == newid:
                return task
            if target is None and task.running:
                undecided = task
        return undecided

    async def _clone_target(self, task: TaskInfo) -> int | None:
        """What the task's log names as new id, read once: it never changes, nor does that of an ended task."""
        upid = task.upid.text
        if upid in self._targets:
            return self._targets[upid]
        target = clone_target(await self._log(upid, limit=50))
        if target is not None or not task.running:
            self._targets[upid] = target
            while len(self._targets) > CLONES:
                del self._targets[next(iter(self._targets))]
        return target

    async def _log(self, upid: str, *, limit: int, start: int = 0) -> list[str]:
        node = UPID.parse(upid).node
        items = await self._client.get(("nodes", node, "tasks", upid, "log"), start=start, limit=limit)
        return [str(item.get("t") or "") for item in items or ()]

    async def _poll_node(self, node: str) -> None:
        delay = FASTEST
        due = self._clock() + delay
        hurry = self._hurry[node]
        while self._watched.get(node):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(hurry.wait(), max(0.0, due - self._clock()))
            if hurry.is_set():
                hurry.clear()
                delay = FASTEST
                due = min(due, self._clock() + delay)
                continue
            try:
                await self._look(node)
                delay = min(delay * 2, SLOWEST)
            except errors.OperatorError as error:
                delay = SLOWEST
                logger.debug("tasks of %s: %s", node, error)
            except Exception:
                delay = SLOWEST
                logger.exception("tasks of %s: the answer could not be understood", node)
            due = self._clock() + delay

    async def _look(self, node: str) -> None:
        """One pass over the watched tasks of a node."""
        upids = list(self._watched[node])
        if len(upids) > FEW:
            active = {task.upid.text for task in await self.active(node)}
            upids = [upid for upid in upids if upid not in active]
        results = await asyncio.gather(*(self.result(upid) for upid in upids), return_exceptions=True)
        for upid, result in zip(upids, results, strict=True):
            if isinstance(result, TaskResult):
                self._finish(node, upid, result)
        for failed in results:
            if isinstance(failed, BaseException):
                raise failed

    def _finish(self, node: str, upid: str, result: TaskResult) -> None:
        for done in self._watched[node].pop(upid, ()):
            try:
                done(result)
            except Exception:
                logger.exception("a callback for %s failed", upid)
        self._on_end(result, self._clock() - self._since.pop(upid, self._clock()))


CLOCK_SKEW = 120
"""Seconds by which our clock and a node's may differ when tasks are searched by start time."""

_CLONE = re.compile(r"creating a clone of VM (\d+) with ID (\d+)")
_SECRET = re.compile(r"(?i)\b(cipassword|password|secret|token|ticket|key)(['\"]?\s*[=: ]\s*)\S+")


def clone_target(lines: list[str]) -> int | None:
    """The new VMID that a qmclone log names."""
    for line in lines:
        match = _CLONE.search(line)
        if match:
            return int(match[2])
    return None


_UNFREED = re.compile(r"Could not remove disk '([^']+)'")


def unfreed(lines: Iterable[str]) -> tuple[str, ...]:
    """The volumes that a qmdestroy log names as not removed; the task has succeeded all the same (``WARNINGS``)."""
    return tuple(match[1] for line in lines if (match := _UNFREED.search(line)) is not None)


def mask(text: str) -> str:
    """``text`` with the values of things named like secrets replaced."""
    return _SECRET.sub(r"\1\2***", text)


def _parse(items: list[dict[str, Any]] | None) -> list[TaskInfo]:
    """Tasks of a list. /nodes/{n}/tasks says RUNNING; /cluster/tasks leaves status and endtime out."""
    found = []
    for item in items or ():
        try:
            upid = UPID.parse(str(item["upid"]))
        except (KeyError, ValueError):
            continue
        status = str(item.get("status") or ("unexpected status" if item.get("endtime") else RUNNING))
        found.append(TaskInfo(upid, status))
    return found
