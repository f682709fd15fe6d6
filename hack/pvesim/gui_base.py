"""How the scenarios reach the simulator, and its tasks: the base of the modules `gui_*`."""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from .core import die
from .model import SimVm
from .server import Server
from .tasks import Hold, Task, succeeded

T = TypeVar("T")


class GuiBase:
    """Actions of other people, nodes and networks. `PveSim` provides `server`, `run` and `call`."""

    server: Server

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the simulator's loop and return its result."""
        raise NotImplementedError

    def call(self, function: Callable[[], T]) -> T:
        """Run a function in the simulator's loop and return its result."""
        raise NotImplementedError

    def vm(self, vmid: int) -> SimVm:
        """The live VM object: look, or change it as a test needs.

        :raises KeyError: there is no such VM.
        """
        found = self.server.vm(vmid)
        if found is None:
            raise KeyError(f"no VM {vmid}")
        return found

    def tasks(self, ttype: str | None = None, *, running: bool | None = None) -> list[Task]:
        """All tasks, oldest first."""
        found = self.call(lambda: list(self.server.by_upid.values()))
        return [
            task
            for task in found
            if (ttype is None or task.type == ttype) and (running is None or task.running == running)
        ]

    def wait_task(self, upid: str) -> Task:
        """The task, once it has ended."""
        return self.run(self.server.wait_for_task(upid))

    def kill_tasks(self, ttype: str) -> list[Task]:
        """Shoot the running workers of a type: no clean-up, exit status `unexpected status`."""
        found = self.tasks(ttype, running=True)
        for task in found:
            self.call(lambda task=task: self.server.kill_task(task.upid))  # type: ignore[misc]
            self.wait_task(task.upid)
        return found

    @contextmanager
    def hold(self, stage: str) -> Iterator[Hold]:
        """Stop every worker that comes to a stage; `hold.reached.wait(t)` tells when one did. Leaving the
        context lets them go on. Stages: clone:stub, clone:copying, clone:moving, clone:joining,
        create:allocated, config:write, start:qemu, destroy:freeing, destroy:zombie, migrate:copying,
        migrate:moving, migrate:unlocking, move:copying, snapshot:taking, snapshot:deleting, snapshot:rolling,
        suspend:saving, restore:copying, stopall:stopping, startall:starting, download:fetching,
        upload:copying, import:copying, template:converting.
        """
        hold = Hold()

        def let_go() -> None:
            self.server.holds.pop(stage, None)
            hold.released.set()

        self.call(lambda: self.server.holds.__setitem__(stage, hold))
        try:
            yield hold
        finally:
            self.call(let_go)

    def finish(self, start: Coroutine[Any, Any, str]) -> Task:
        """Start a task and wait for its success."""
        return self.require_ok(self.wait_task(self.run(start)))

    @staticmethod
    def require_ok(task: Task) -> Task:
        """The task, which has ended well.

        :raises PveError: it has not.
        """
        if not succeeded(str(task.exitstatus)):
            raise die(str(task.exitstatus))
        return task
