"""When an object is looked at again, after a pass that ended well or in an error."""

from dataclasses import dataclass
from typing import Literal

from proxmox_operator.errors import NeedsHuman, OperatorError, SecretNotFound, Waiting

Result = Literal["done", "waiting", "blocked", "transient"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a pass ended. ``after`` is in seconds: the interval of ``waiting``, the least one of ``blocked``. ``soon``:
    one that is ``blocked`` is looked at often in the beginning, since nothing tells that a person has acted.

    ``done``: something else must change first. ``waiting``: looked at after an interval, or earlier when woken.
    ``blocked``: a person must act; looked at slowly. ``transient``: repeated with growing delay.
    """

    result: Result
    after: float = 0.0
    soon: bool = False

    @classmethod
    def done(cls) -> "Outcome":
        return cls(result="done")

    @classmethod
    def again(cls, after: float) -> "Outcome":
        return cls(result="waiting", after=after)

    @classmethod
    def blocked(cls, after: float = 0.0) -> "Outcome":
        return cls(result="blocked", after=after)


def outcome_of(error: OperatorError) -> Outcome:
    """The class of an error says who retries (errors.py)."""
    match error:
        case Waiting():
            return Outcome.again(error.after)
        case SecretNotFound():
            return Outcome(result="blocked", soon=True)
        case NeedsHuman():
            return Outcome.blocked()
        case _:
            return Outcome(result="transient")
