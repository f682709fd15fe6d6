"""Plays a scenario once for each of its crash points, in one mode, and says where the world did not end up as wanted.

A scenario is a row of acts, each something a person does and the state that must follow. The operator is started after
the first person has acted. It dies at the point; another one is started then, with an empty memory, and has to reach
the end alone. A call that is late is delivered after that one's first pass over the object.

The points are the calls of two reference runs, and whatever else the first operator of any run is seen to call. A
point that a run did not come to is played again; that all points were tried is asserted, and the numbers are printed.
Two exceptions are allowed for, and named in the numbers: a call that the reference runs do not agree on (two people's
doings may come in either order), and a few that only repeat an earlier call (a read, a status write after a conflict),
where more runs, each of which noted all its calls, did not make them again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from crash.points import Mode, Point, Switch, news
from crash.stage import PATIENCE, Operator, Stage
from harness.waiting import until

TRIES = 5
"""How often a point is played until a run comes to it."""

TRIES_OF_UNUSUAL = 2
"""The same for a call that the reference runs do not agree on."""

MOST_MISSED = 3
"""Calls that both reference runs made, and that may not be made again."""

TRAIL = 0.4
"""Seconds of quiet after which an operator is taken to have said all it has to say (Events come last)."""


@dataclass(frozen=True, kw_only=True)
class Act:
    """``do`` is done by a person, ``reached`` is what must follow."""

    do: Callable[[Stage], None]
    reached: Callable[[Stage], bool]
    what: str


class Scenario:
    """What happens, and what must be true at the end. Every run has a stage of its own, unless a subclass keeps it."""

    name: str
    acts: tuple[Act, ...]
    exists = True
    """Whether there is a VM in the end."""
    rehearsed = False
    """Whether it is played once before its points are noted: on a stage that is kept and that no operator has seen,
    some calls are made once, and could never be died at."""

    def __init__(self, new_stage: Callable[[], Stage]) -> None:
        self._new_stage = new_stage

    def set_up(self) -> Stage:
        """The stage for one run."""
        stage = self._new_stage()
        self.furnish(stage)
        return stage.__enter__()

    def furnish(self, stage: Stage) -> None:
        """What is different about the stage, before it is entered; usually nothing."""

    def tear_down(self, stage: Stage) -> None:
        stage.__exit__()

    def overheard(self, stage: Stage, call: str) -> None:
        """Something that happens while the operator makes this call; usually nothing."""

    def concerns(self, point: Point) -> bool:
        """Whether the operator is to die at this call; usually at all of them."""
        return True

    def complaints(self, stage: Stage) -> list[str]:
        return stage.complaints(exists=self.exists)


@dataclass(kw_only=True)
class Run:
    """One run of a scenario, with at most one death in it."""

    scenario: Scenario
    stage: Stage
    switch: Switch
    operator: Operator
    heir: Operator | None = None

    def perform(self) -> list[str]:
        """All acts but the first's ``do``; returns what is wrong in the end."""
        for number, act in enumerate(self.scenario.acts):
            if number:
                act.do(self.stage)
            if not self._wait(lambda act=act: act.reached(self.stage)):  # type: ignore[misc]
                return [
                    f"not within {PATIENCE:g} s: {act.what}",
                    *self.scenario.complaints(self.stage),
                    self._state(),
                ]
        if not self.switch.dead:
            self._wait(self._is_quiet)
        last = self.scenario.acts[-1]
        settled = self._wait(lambda: last.reached(self.stage) and not self.scenario.complaints(self.stage))
        wrong = [] if settled else [*self.scenario.complaints(self.stage), self._state()]
        living = self.heir or self.operator
        return wrong + ([living.failure] if living.failure else [])

    def _wait(self, reached: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self.stage.vmid()
            self._bury_and_inherit()
            if not self.switch.owes and reached():
                return True
            time.sleep(0.05)
        return False

    def _bury_and_inherit(self) -> None:
        """A dead operator is followed by another one, and by its last call when that one has looked around."""
        if self.switch.dead and self.heir is None and self.switch.died.wait(PATIENCE):
            self.operator.kill()
            self.heir = self.stage.start(self._switch(), after=self.switch)
        if (
            self.switch.owes
            and self.heir is not None
            and (self.heir.passed or (self.heir.connected and self.stage.is_gone()))
        ):
            self.stage.deliver(self.switch)

    def _switch(self) -> Switch:
        switch = Switch(self.stage.role)
        switch.overheard = lambda call: self.scenario.overheard(self.stage, call)
        return switch

    def _is_quiet(self) -> bool:
        return self.switch.dead or time.monotonic() - self.switch.last_news > TRAIL

    def _state(self) -> str:
        return f"status: {(self.stage.raw() or {}).get('status')}"


def make_ready(stage: Stage) -> None:
    """Have an operator that nothing befalls make the VM, before the scenario begins."""
    seconds, stage.sim.server.task_seconds = stage.sim.server.task_seconds, 0.0
    stage.apply()
    operator = stage.start(Switch(stage.role))
    try:
        until(stage.is_ready, "the VM is Ready", seconds=PATIENCE, seen=lambda: str(stage.raw()))
    finally:
        operator.kill()
        stage.sim.server.task_seconds = seconds


def play(
    scenario: Scenario, point: Point | None = None, mode: Mode = Mode.BEFORE
) -> tuple[Switch, list[str]]:
    """Play once. The switch tells the calls of the first operator and whether it died."""
    stage = scenario.set_up()
    try:
        stage.sim.recorder.clear()
        stage.reserved.clear()
        switch = Switch(stage.role, fatal=point, mode=mode)
        switch.overheard = lambda call: scenario.overheard(stage, call)
        scenario.acts[0].do(stage)
        run = Run(scenario=scenario, stage=stage, switch=switch, operator=stage.start(switch))
        try:
            return switch, run.perform()
        finally:
            for operator in (run.operator, run.heir):
                if operator is not None:
                    operator.kill()
    finally:
        scenario.tear_down(stage)


def play_all(scenario: Scenario, mode: Mode) -> str:
    """Play every point of a scenario; returns the numbers, and fails with all that went wrong."""
    points: list[Point] = []
    references: list[set[Point]] = []
    for rehearsal in (*[True] * scenario.rehearsed, False, False):
        switch, wrong = play(scenario)
        assert not wrong, f"{scenario.name} without any death: {'; '.join(wrong)}"
        if rehearsal:
            continue
        points += filter(scenario.concerns, news(points, switch.points, mode))
        references.append(set(switch.points))
    usual = references[0] & references[1]
    tried: list[Point] = []
    failures: list[str] = []
    runs, started = 0, time.monotonic()
    for point in points:  # which grows
        for _ in range(TRIES if point in usual else TRIES_OF_UNUSUAL):
            switch, wrong = play(scenario, point, mode)
            runs += 1
            points += filter(scenario.concerns, news(points, switch.points, mode))
            if wrong:
                failures.append(f"{mode} {point}:\n    " + "\n    ".join(wrong))
            if switch.dead or wrong:
                tried.append(point)
                break
    missed = [point for point in points if point not in tried]
    rare = [point for point in missed if point.by_chance or point not in usual]
    numbers = (
        f"crash harness: {scenario.name}, {mode}: {len(tried)} of {len(points) - len(rare)} points tried, "
        f"{len(failures)} failed, {(time.monotonic() - started) / runs:.2f} s each"
    )
    if rare:
        numbers += f"; made once and not again: {', '.join(map(str, rare))}"
    assert not failures, "\n".join([numbers, *failures])
    assert missed == rare, (
        f"{numbers}; not reached: {', '.join(str(point) for point in missed if point not in rare)}"
    )
    assert len(usual & set(rare)) <= MOST_MISSED, f"{numbers}; that is too many"
    return numbers
