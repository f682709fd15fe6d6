"""The conditions of an object, as a person reads them. What is none, as of another release, is passed over."""

from typing import NamedTuple

from harness.kubeapi import Raw


class Condition(NamedTuple):
    """``generation`` is the one it was observed at."""

    status: str
    reason: str
    message: str
    generation: int | None


def condition_of(raw: Raw | None, kind: str) -> Condition | None:
    """One of the conditions of an object."""
    return next((condition for type_, condition in _conditions(raw) if type_ == kind), None)


def current_condition(raw: Raw | None, kind: str) -> Condition | None:
    """The same, where it is about the newest spec."""
    found = condition_of(raw, kind)
    return found if raw is not None and found and found.generation == raw["metadata"]["generation"] else None


def is_ready(raw: Raw | None, kind: str = "Ready") -> bool:
    """Whether this condition is True, and about the newest spec."""
    found = current_condition(raw, kind)
    return found is not None and found.status == "True"


def lines(raw: Raw | None) -> list[str]:
    """All of its conditions, a line each."""
    return [f"{type_}={each.status} {each.reason}: {each.message}" for type_, each in _conditions(raw)]


def _conditions(raw: Raw | None) -> list[tuple[str, Condition]]:
    found = ((raw or {}).get("status") or {}).get("conditions")
    return [
        (
            each["type"],
            Condition(each["status"], each["reason"], each["message"], each.get("observedGeneration")),
        )
        for each in (found if isinstance(found, list) else ())
        if isinstance(each, dict) and {"type", "status", "reason", "message"} <= each.keys()
    ]
