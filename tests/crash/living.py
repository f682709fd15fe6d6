"""Power change and recovery: the VM exists, is changed, and is in the end what it was, so that one stage serves all runs."""

from collections.abc import Callable
from typing import Self

from crash.scenario import Act, make_ready
from crash.stage import Stage


class _OnOneStage:
    """The stage with a VM that runs is made at the first run, and kept."""

    def __init__(self, new_stage: Callable[[], Stage]) -> None:
        self._new_stage = new_stage
        self._stage: Stage | None = None

    def set_up(self) -> Stage:
        if self._stage is None:
            self._stage = self._new_stage().__enter__()
            make_ready(self._stage)
        return self._stage

    def tear_down(self, stage: Stage) -> None:
        """It is used again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stage is not None:
            self._stage.__exit__()

    def overheard(self, stage: Stage, call: str) -> None:
        """Nothing happens besides."""

    def complaints(self, stage: Stage) -> list[str]:
        return stage.complaints(exists=True)


class ChangePower(_OnOneStage):
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


class Recover(_OnOneStage):
    """The object is applied anew without a status, as from Git in a new cluster: the VM that carries its mark is taken back."""

    name = "recovery of a lost status"
    acts = (
        Act(
            do=lambda stage: stage.apply_anew(),
            reached=Stage.is_ready,
            what="the VM is taken back",
        ),
    )
