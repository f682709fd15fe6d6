"""The conditions of an object, as a person reads them. They may be those of another release, or of no release."""

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
    for each in ((raw or {}).get("status") or {}).get("conditions") or ():
        if isinstance(each, dict) and each["type"] == kind and "status" in each:
            return Condition(each["status"], each["reason"], each["message"], each.get("observedGeneration"))
    return None


def is_ready(raw: Raw | None) -> bool:
    """Whether its Ready is True, and about the newest spec."""
    ready = condition_of(raw, "Ready")
    if raw is None or ready is None:
        return False
    return (ready.status, ready.generation) == ("True", raw["metadata"]["generation"])


def lines(raw: Raw | None) -> list[str]:
    """All of its conditions, a line each."""
    conditions = ((raw or {}).get("status") or {}).get("conditions") or ()
    return [f"{each['type']}={each['status']} {each['reason']}: {each['message']}" for each in conditions]
