"""What needs a person is told once: which written statuses are news."""

from itertools import pairwise
from typing import Any

import pytest

from proxmox_operator.controllers.telling import Teller

Told = list[tuple[str, str]]


class Events:
    """Takes what is told, in order."""

    def __init__(self) -> None:
        self.told: Told = []

    def warning(self, raw: dict[str, Any], reason: str, message: str) -> None:
        self.told.append((reason, message))


def shown(
    stalled: str,
    reason: str = "StorageFull",
    message: str = "full",
    *,
    generation: int = 1,
    busy: bool = False,
) -> dict[str, Any]:
    """An object with these conditions."""
    common = {"reason": reason, "message": message, "observedGeneration": generation}
    conditions = [
        {"type": "Reconciling", "status": str(busy), **common},
        {"type": "Stalled", "status": stalled, **common},
    ]
    return {"metadata": {"uid": "1"}, "status": {"conditions": conditions}}


NEW = {"metadata": {"uid": "1"}, "status": {"observedGeneration": -1}}
TRYING = shown("False", "Starting", "starting", busy=True)
WELL = shown("False", "Running", "running")
FULL, MISSING = ("StorageFull", "full"), ("Missing", "gone")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ([NEW, WELL], []),
        ([NEW, shown("True")], [FULL]),
        ([NEW, shown("True"), shown("True")], [FULL]),
        ([NEW, shown("True"), shown("True", *MISSING)], [FULL, MISSING]),
        ([NEW, shown("True"), shown("True", message="99 % full")], [FULL]),
        ([NEW, shown("True"), shown("True", generation=2)], [FULL]),
        (
            [NEW, shown("True"), shown("True", message="another is", generation=2)],
            [FULL, ("StorageFull", "another is")],
        ),
        ([NEW, shown("True"), TRYING, shown("True"), TRYING, shown("True")], [FULL]),
        ([NEW, shown("True"), TRYING, shown("True", message="99 % full")], [FULL]),
        ([NEW, shown("True"), TRYING, shown("True", *MISSING), TRYING, shown("True")], [FULL, MISSING]),
        ([NEW, shown("True"), TRYING, WELL, TRYING, shown("True")], [FULL, FULL]),
        ([shown("True"), shown("True", message="of a new leader")], []),
    ],
)
def test_a_person_is_told_once_what_is_needed_until_it_was_well_in_between(
    written: list[dict[str, Any]], told: Told, caplog: pytest.LogCaptureFixture
):
    events = Events()
    teller = Teller(events)  # type: ignore[arg-type]
    for before, after in pairwise(written):
        teller.written(before, after)
    assert events.told == told
    assert [record.getMessage() for record in caplog.records] == [
        f"{reason}: {text}" for reason, text in told
    ]


def test_of_an_object_that_is_gone_nothing_is_remembered():
    teller = Teller(Events())  # type: ignore[arg-type]
    teller.written(NEW, shown("True"))
    assert teller._told
    teller.gone(shown("True"))
    assert not teller._told
