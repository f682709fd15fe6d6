"""Worker tasks: UPIDs, durations, logs, and workers that are killed or interrupted. What the API tells of them is in
task_lists.py.

A worker runs at once up to its first wait, so with `task_seconds=0` most tasks have ended when their UPID is
answered; the protocol stays the same. A task that is killed leaves everything as it was and ends as
`unexpected status`, which is what upid_read_status makes of a log without a last line. Facts:
PVE::RESTEnvironment::fork_worker.
"""

import asyncio
import contextvars
import re
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from fakepve.model import PveError, TaskError

from .access import Access
from .core import Values, as_task_error

# Length of a task relative to `task_seconds`.
WEIGHTS = {
    "qmclone": 1.0,
    "qmcreate": 0.6,
    "qmstart": 0.4,
    "qmstop": 0.2,
    "qmshutdown": 0.2,
    "qmreboot": 0.3,
    "qmconfig": 0.1,
    "resize": 0.2,
    "qmdestroy": 0.4,
    "qmigrate": 1.0,
    "qmmove": 1.0,
    "vzdump": 2.0,
    "qmtemplate": 0.3,
    "download": 1.0,
    "imgcopy": 0.5,
}
DEFAULT_WEIGHT = 0.2
ARCHIVE = 5_000


@dataclass(eq=False)
class Task:
    """A worker, running or finished. `exitstatus` is None while it runs."""

    upid: str
    node: str
    type: str
    id: str
    user: str
    pid: int
    pstart: int
    starttime: int
    log: list[str] = field(default_factory=list)
    warnings: int = 0
    exitstatus: str | None = None
    endtime: int | None = None
    worker: asyncio.Task[None] | None = None
    fate: str | None = None

    @property
    def running(self) -> bool:
        """True until the exit status is known."""
        return self.exitstatus is None

    def public(self) -> Values:
        """The decoded UPID with the token split off the user, as the API shows it."""
        user, _, token = self.user.partition("!")
        out = {
            "upid": self.upid,
            "node": self.node,
            "pid": self.pid,
            "pstart": self.pstart,
            "starttime": self.starttime,
            "type": self.type,
            "id": self.id,
            "user": user,
        }
        return out | ({"tokenid": token} if token else {})


class Hold:
    """A stage at which workers wait. `reached` may be waited for in any thread, `released` belongs to the
    loop."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.released = asyncio.Event()


def succeeded(exitstatus: str) -> bool:
    """True for the exit status of a task that did its work, be it with warnings."""
    return re.fullmatch(r"OK|WARNINGS: \d+", exitstatus) is not None


_current: contextvars.ContextVar[Task | None] = contextvars.ContextVar("pvesim_task", default=None)


class Tasks(Access):
    """Starting and ending tasks."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.by_upid: dict[str, Task] = {}
        self.running: dict[str, Task] = {}
        self.archive: dict[str, deque[Task]] = {node: deque(maxlen=ARCHIVE) for node in self.nodes}
        self.task_weights = dict(WEIGHTS)
        self.holds: dict[str, Hold] = {}
        self._last_pid = 1000
        self.background: set[asyncio.Task[Any]] = set()

    # ------------------------------------------------------------------ workers

    async def task(
        self,
        node: str,
        ttype: str,
        tid: object,
        user: str,
        body: Callable[[], Awaitable[str | None]],
        vm: Any = None,
        lock: bool = True,
        log: Iterable[str] = (),
    ) -> str:
        """Fork a worker that runs `body` and return its UPID. With `vm` the config lock file is held
        meanwhile."""
        self._last_pid += 1
        pid, start = self._last_pid, int(time.time())
        upid = f"UPID:{node}:{pid:08X}:{pid * 7:08X}:{start:08X}:{ttype}:{tid}:{user}:"
        task = Task(upid, node, ttype, str(tid), user, pid, pid * 7, start, list(log))
        self.by_upid[upid] = self.running[upid] = task

        async def locked() -> str | None:
            if vm is None or not lock:
                return await body()
            async with self.flock(vm.vmid):
                return await body()

        async def run() -> None:
            _current.set(task)
            status = "OK"
            try:
                note = await locked()
                task.log.extend(note.splitlines() if note else [])
            except PveError as error:
                status = str(as_task_error(error))
            except TaskError as error:
                status = str(error)
            except asyncio.CancelledError:
                self._finish(task, "unexpected status")
                return
            except Exception as error:  # a defect of the simulator must show up in the task, not hang it
                self._finish(task, f"pvesim bug: {error!r}")
                raise
            if status == "OK" and task.warnings:
                status = f"WARNINGS: {task.warnings}"
            task.log.append(
                f"TASK {status}" if status.startswith(("OK", "WARNINGS")) else f"TASK ERROR: {status}"
            )
            self._finish(task, status)

        task.worker = asyncio.Task(run(), loop=asyncio.get_running_loop(), eager_start=True)
        return upid

    def _finish(self, task: Task, status: str) -> None:
        task.exitstatus, task.endtime = status, int(time.time())
        self.running.pop(task.upid, None)
        done = self.archive[task.node]
        if len(done) == done.maxlen:
            self.by_upid.pop(done[0].upid, None)
        done.append(task)

    async def work(self, share: float = 1.0) -> None:
        """Spend a share of the current task's duration. An interrupted task dies here."""
        task = _current.get()
        seconds = self.task_seconds * self.task_weights.get(task.type if task else "", DEFAULT_WEIGHT) * share
        await self.wait_seconds(seconds)

    async def wait_seconds(self, seconds: float) -> None:
        """Wait real seconds inside a task body; an interrupted task dies here."""
        if seconds > 0:
            await self.interruptible(asyncio.sleep(seconds))

    async def checkpoint(self, stage: str) -> None:
        """A point where a test can stop workers: see `PveSim.hold`."""
        while (hold := self.holds.get(stage)) is not None:
            hold.reached.set()
            await self.interruptible(hold.released.wait())

    @staticmethod
    async def interruptible(waiting: Coroutine[Any, Any, Any]) -> None:
        """Await something in a worker; an interrupted one dies here with an error, a killed one without a word."""
        task = _current.get()
        try:
            await waiting
        except asyncio.CancelledError:
            if task is not None and task.fate == "interrupt":
                raise TaskError("interrupted by signal") from None
            raise

    async def pause(self, secs: float) -> None:
        """fakepve's pause, in Proxmox seconds."""
        await self.wait_seconds(self.scaled(secs))

    @staticmethod
    def worker_pid() -> int:
        """The process id of the current worker."""
        task = _current.get()
        return task.pid if task is not None else 0

    @staticmethod
    def say(line: str) -> None:
        """A line in the current task's log."""
        task = _current.get()
        if task is not None:
            task.log.append(line)

    def warn(self, line: str) -> None:
        """log_warn: the task will end as `WARNINGS: n`."""
        task = _current.get()
        if task is not None:
            task.warnings += 1
            task.log.append(f"WARN: {line}")

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run something beside the requests, as a daemon of a node; cancelled when the simulator ends."""
        job = asyncio.create_task(coroutine)
        self.background.add(job)
        job.add_done_callback(self.background.discard)

    async def wait_for_task(self, upid: str) -> Task:
        """The task, once it has ended."""
        task = self.by_upid[upid]
        if task.worker is not None:
            await asyncio.wait({task.worker})
        return task

    async def ended_within(self, upid: str, seconds: float) -> str | None:
        """The exit status of a task that ends within so many Proxmox seconds; None: it still runs."""
        task = self.by_upid[upid]
        if task.worker is not None:
            await asyncio.wait({task.worker}, timeout=self.scaled(seconds))
        return task.exitstatus

    def kill_task(self, upid: str) -> None:
        """SIGKILL: no clean-up runs, the exit status is `unexpected status`."""
        self._end(upid, "kill")

    def interrupt_task(self, upid: str) -> None:
        """SIGTERM: the worker cleans up and ends with an error."""
        self._end(upid, "interrupt")

    def _end(self, upid: str, fate: str) -> None:
        task = self.running.get(upid)
        if task is not None and task.worker is not None:
            task.fate = fate
            task.worker.cancel()
