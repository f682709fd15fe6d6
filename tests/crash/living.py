"""Power change and recovery: the VM exists, is changed, and is in the end what it was.

So one stage serves all runs.
"""

from collections.abc import Callable
from typing import Self

from crash.scenario import Act, Scenario, make_ready
from crash.stage import Stage


class OnOneStage(Scenario):
    """The stage with a VM that runs is made at the first run, and kept. Use as a context manager."""

    def __init__(self, new_stage: Callable[[], Stage]) -> None:
        super().__init__(new_stage)
        self._stage: Stage | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stage is not None:
            self._stage.__exit__()

    def set_up(self) -> Stage:
        if self._stage is None:
            self._stage = super().set_up()
            self.prepare(self._stage)
        return self._stage

    def prepare(self, stage: Stage) -> None:
        """What is there before the first run."""
        make_ready(stage)

    def tear_down(self, stage: Stage) -> None:
        """It is used again."""


class ChangePower(OnOneStage):
    """Running, then Stopped, then Running."""

    name = "power change"
    acts = (
        Act(
            do=lambda stage: stage.apply(power="Stopped"),
            reached=lambda stage: stage.is_ready() and not stage.complaints(exists=True, power="Stopped"),
            what="the VM is stopped",
        ),
        Act(do=lambda stage: stage.apply(power="Running"), reached=Stage.is_ready, what="the VM runs again"),
    )


class Recover(OnOneStage):
    """The object is applied anew without a status, as from Git: the VM that carries its mark is taken back."""

    name = "recovery of a lost status"
    acts = (Act(do=Stage.apply_anew, reached=Stage.is_ready, what="the VM is taken back"),)
