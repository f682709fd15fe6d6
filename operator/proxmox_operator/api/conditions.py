"""Conditions: what a person and other controllers read of an object's state.

``metav1.Condition`` as a model, and the one function that changes a list of them. Which conditions a kind has
and what they mean is decided elsewhere (``planning.report``).
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime

from proxmox_operator.api.base import ListMap, Wire

ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(Wire):
    """One aspect of the object's state."""

    type: str
    """Aspect that the condition is about, such as Ready."""
    status: ConditionStatus
    """Whether the aspect holds: True, False or Unknown."""
    observed_generation: int | None = None
    """The metadata.generation that the condition was set for; an older one means that it may be out of date."""
    last_transition_time: AwareDatetime
    """When status last changed."""
    reason: str
    """Why, as one CamelCase word that programs may rely on."""
    message: str
    """Why, as a sentence for a person, with the remedy where there is one."""


Conditions = Annotated[tuple[Condition, ...], ListMap("type")]


def set_condition(
    conditions: Sequence[Condition],
    type: str,
    status: bool | None,
    reason: str,
    message: str,
    *,
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """``conditions`` with the one of this type replaced, or appended; None is Unknown.

    ``lastTransitionTime`` (whole seconds, as Kubernetes writes it) moves only when the status changes.
    """
    state: ConditionStatus = "Unknown" if status is None else "True" if status else "False"
    old = find_condition(conditions, type)
    since = now.astimezone(UTC).replace(microsecond=0)
    if old is not None and old.status == state:
        since = old.last_transition_time
    new = Condition(
        type=type,
        status=state,
        observed_generation=generation,
        last_transition_time=since,
        reason=reason,
        message=message,
    )
    if old is None:
        return (*conditions, new)
    return tuple(new if condition.type == type else condition for condition in conditions)


def find_condition(conditions: Sequence[Condition], type: str) -> Condition | None:
    """The condition of this type, or None, which means the same as Unknown."""
    return next((condition for condition in conditions if condition.type == type), None)


def raw_condition(raw: Mapping[str, Any], type: str) -> Mapping[str, Any]:
    """The condition of this type of an object that is not parsed; empty where it has none."""
    conditions = (raw.get("status") or {}).get("conditions") or ()
    return next((each for each in conditions if each["type"] == type), {})
