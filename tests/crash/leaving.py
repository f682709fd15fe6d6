"""Deletion of a VM that runs and has a data disk, and deletion of one that is being made."""

from crash.scenario import Act, Scenario, make_ready
from crash.stage import Stage


class Delete(Scenario):
    """A running VM with a data disk."""

    name = "delete"
    acts = (Act(do=Stage.delete, reached=Stage.is_gone, what="the object is gone"),)
    exists = False

    def set_up(self) -> Stage:
        stage = super().set_up()
        make_ready(stage)
        return stage


class DeleteHalfWay(Scenario):
    """The object is deleted while its VM is being cloned: when the operator looks at the task first."""

    name = "create, deleted half-way"
    moment = "/tasks/qmclone/status"
    acts = (
        Act(
            do=Stage.apply,
            reached=lambda stage: stage.is_ready() or stage.is_going(),
            what="it is being deleted, or was Ready before",
        ),
        Act(do=Stage.delete, reached=Stage.is_gone, what="the object is gone"),
    )
    exists = False

    def overheard(self, stage: Stage, call: str) -> None:
        """Now the person changes their mind."""
        if call.endswith(self.moment) and not stage.is_going():
            stage.delete()


class DeleteAtClone(DeleteHalfWay):
    """The object is deleted when the operator is about to ask for the clone."""

    name = "create, deleted at the clone"
    moment = "/clone"
