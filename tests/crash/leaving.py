"""Deletion of a VM that runs and has a data disk, and deletion of one that is being made."""

from collections.abc import Callable

from crash.scenario import Act, make_ready
from crash.stage import Stage


class Delete:
    """A running VM with a data disk. Every run begins with a new Proxmox cluster."""

    name = "delete"
    acts = (Act(do=Stage.delete, reached=Stage.is_gone, what="the object is gone"),)

    def __init__(self, new_stage: Callable[[], Stage]) -> None:
        self._new_stage = new_stage

    def set_up(self) -> Stage:
        stage = self._new_stage().__enter__()
        make_ready(stage)
        return stage

    def tear_down(self, stage: Stage) -> None:
        stage.__exit__()

    def overheard(self, stage: Stage, call: str) -> None:
        """Nothing happens besides."""

    def complaints(self, stage: Stage) -> list[str]:
        return stage.complaints(exists=False)


class DeleteHalfWay:
    """The object is deleted while its VM is being cloned: when the operator looks at the task first."""

    name = "create, deleted half-way"
    moment = "/tasks/qmclone/status"
    acts = (
        Act(do=lambda stage: stage.apply(), reached=lambda stage: stage.is_ready() or stage.is_going(), what="deletion"),
        Act(do=Stage.delete, reached=Stage.is_gone, what="the object is gone"),
    )

    def __init__(self, new_stage: Callable[[], Stage]) -> None:
        self._new_stage = new_stage

    def set_up(self) -> Stage:
        return self._new_stage().__enter__()

    def tear_down(self, stage: Stage) -> None:
        stage.__exit__()

    def overheard(self, stage: Stage, call: str) -> None:
        """Now the person changes their mind."""
        if call.endswith(self.moment) and not stage.is_going():
            stage.delete()

    def complaints(self, stage: Stage) -> list[str]:
        return stage.complaints(exists=False)


class DeleteAtClone(DeleteHalfWay):
    """The object is deleted when the operator is about to ask for the clone."""

    name = "create, deleted at the clone"
    moment = "/clone"
