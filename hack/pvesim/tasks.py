"""Worker tasks: UPIDs, durations, logs, the task lists, and workers that are killed or interrupted.

A worker runs at once up to its first wait, so with `task_seconds=0` most tasks have ended when their UPID is
answered; the protocol stays the same. A task that is killed leaves everything as it was and ends as
`unexpected status`, which is what upid_read_status makes of a log without a last line. Facts:
PVE::RESTEnvironment::fork_worker, PVE::API2::Tasks, PVE::API2::Cluster tasks.
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
from .core import Values, as_task_error, param_error

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
FINISHED_PER_NODE = 25
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
    """Starting, ending and listing tasks."""

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

    # -------------------------------------------------------------------- lists

    def tasks_of(self, node: str, source: str) -> list[Task]:
        """The tasks of a node, newest first; source is active, archive or all."""
        active = [task for task in self.running.values() if task.node == node]
        found = (active if source != "archive" else []) + (
            list(self.archive[node]) if source != "active" else []
        )
        return sorted(found, key=lambda task: -task.pid)

    @staticmethod
    def owns(user: str, task: Task) -> bool:
        """A token sees its own tasks; a user sees its own and those of its tokens."""
        return user in (task.user, task.user.partition("!")[0])

    def _table_tasks(self) -> list[tuple[str, str, Any]]:
        one = "/nodes/{node}/tasks/{upid}"
        return [
            ("GET", "/cluster/tasks", self._cluster_tasks),
            ("GET", "/nodes/{node}/tasks", self._node_tasks),
            ("GET", one + "/status", self._task_status_get),
            ("GET", one + "/log", self._task_log_get),
            ("DELETE", one, self._task_stop),
        ]

    async def _cluster_tasks(self, v: Values, user: str) -> list[Values]:
        everything = self.allowed(user, "/", "Sys.Audit")
        out = []
        for node in sorted(self.nodes):
            recent = self.tasks_of(node, "active") + self.tasks_of(node, "archive")[:FINISHED_PER_NODE]
            for task in recent:
                # The list compares the user without the token, so a token sees nothing without Sys.Audit on
                # /.
                if everything or task.user.partition("!")[0] == user:
                    done = {} if task.running else {"endtime": task.endtime, "status": task.exitstatus}
                    out.append(task.public() | {"saved": "0" if task.running else "1"} | done)
        return sorted(out, key=lambda item: -item["starttime"])

    async def _node_tasks(self, v: Values, user: str) -> list[Values]:
        audit = self.allowed(user, f"/nodes/{v['node']}", "Sys.Audit")
        out = []
        for task in self.tasks_of(v["node"], v.get("source") or "archive"):
            failed = not task.running and task.exitstatus != "OK"
            if (
                (audit or self.owns(user, task))
                and (not v.get("typefilter") or task.type == v["typefilter"])
                and (v.get("vmid") is None or task.id == str(v["vmid"]))
                and task.starttime >= v.get("since", 0)
                and task.starttime <= v.get("until", task.starttime)
                and v.get("userfilter", "").lower() in task.user.lower()
                and (not v.get("errors") or failed)
            ):
                state = (
                    {"status": "RUNNING"}
                    if task.running
                    else {"status": task.exitstatus, "endtime": task.endtime}
                )
                out.append(task.public() | state)
        start = v.get("start", 0)
        return out[start : start + v.get("limit", 50)]

    def _task_for(self, v: Values, user: str, priv: str) -> Task:
        if not v["upid"].startswith("UPID:") or v["upid"].count(":") < 8:
            raise param_error(upid="unable to parse worker upid")
        task = self.by_upid.get(v["upid"])
        if task is None:
            raise param_error(upid="no such task")
        if not self.owns(user, task):
            self.require(user, f"/nodes/{v['node']}", priv)
        return task

    async def _task_status_get(self, v: Values, user: str) -> Values:
        task = self._task_for(v, user, "Sys.Audit")
        state = (
            {"status": "running"} if task.running else {"status": "stopped", "exitstatus": task.exitstatus}
        )
        return task.public() | state

    async def _task_log_get(self, v: Values, user: str) -> list[Values]:
        task = self._task_for(v, user, "Sys.Audit")
        start, limit = v.get("start", 0), v.get("limit", 50)
        lines = [{"n": number, "t": line} for number, line in enumerate(task.log, 1)]
        return lines[start : start + limit] if limit else lines[start:]

    async def _task_stop(self, v: Values, user: str) -> None:
        self.interrupt_task(self._task_for(v, user, "Sys.Modify").upid)
