"""Which tasks a pass takes up before it looks at the VM."""

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

from proxmox_operator.controllers.vm.memory import Memory, Work
from proxmox_operator.controllers.vm.reconcile import VMReconciler
from proxmox_operator.proxmox.tasks import Outcome, TaskResult
from unit.planning.make import a_vm, made

CLONE = "UPID:pve1:000003E9:00001B5F:6B07D77E:qmclone:9000:operator@pve!operator:"
RESIZE = "UPID:pve1:000003EA:00001B6F:6B07D77F:resize:10000:operator@pve!operator:"


def test_a_task_that_an_earlier_process_recorded_late_is_taken_up_when_our_own_has_ended() -> None:
    """The write was on its way when this process looked first. Nothing else would wake the object for it: between two
    tasks of our own, and after the last one, its time has come."""
    vm = a_vm(
        status=made(
            task={"action": "Cloning", "upid": CLONE, "node": "pve1", "since": "2026-01-01T00:00:00Z"}
        )
    )
    memory = Memory()
    memory.work = Work(action="Resizing", upid=RESIZE, result=TaskResult(RESIZE, Outcome.OK, "OK"))
    context: Any = SimpleNamespace(clock=lambda: 0.0, store=Mock(), events=Mock(), queue=Mock())
    VMReconciler(context, cast(Any, []))._take_up(vm, Mock(end_move=lambda uid: None), memory, Mock())
    assert memory.work is not None
    assert memory.work.upid == CLONE
