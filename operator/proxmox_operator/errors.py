"""What went wrong, told apart by what happens next.

    OperatorError
    ├── Transient            retried with backoff; nobody has to do anything
    │   ├── Unreachable      no endpoint, node or API server answered: the state is unknown, not absent
    │   ├── Outdated         what was read has changed since (digest, resourceVersion): read again
    │   ├── NotReadYet       this process has just begun and has not read what it needs; shown to nobody
    │   ├── Contended        Proxmox holds a lock for a moment
    │   └── AnswerLost       a write was sent and its answer never came: it may have happened
    ├── Waiting              something else must move first, and wakes the object when it does
    └── NeedsHuman           retried slowly; the condition holds the exact remedy
        ├── SecretNotFound   nothing tells when it is made: looked for again soon, then slowly
        ├── Unauthorized     credentials refused (401)
        ├── Forbidden        a privilege is missing on a path (403)
        └── Rejected         Proxmox refused the parameters for good
    LeadershipLost           not an OperatorError: the process must end before it writes again

Anything else that escapes a reconcile is a bug: logged with its traceback, retried with
backoff, and the object keeps the conditions it had. Each error carries the ``reason`` that a condition
shows, so a reason is decided where the cause is known and nowhere else. Messages never hold a
secret: they end up in conditions, events and logs.
"""


class OperatorError(Exception):
    """Base of everything a reconcile may raise on purpose.

    ``reason`` is the CamelCase condition reason, ``message`` a sentence for a person.
    """

    default_reason = "Error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason


class Transient(OperatorError):
    """Will pass by itself: retried with exponential backoff and jitter."""

    default_reason = "Retrying"


class Unreachable(Transient):
    """Nothing answered; whatever was asked about is Unknown, never absent."""

    default_reason = "Unreachable"


class Outdated(Transient):
    """The thing changed after it was read (config digest, resourceVersion)."""

    default_reason = "Outdated"


class NotReadYet(Transient):
    """This process has not read what it needs yet; the object keeps the conditions it has."""

    default_reason = "NotReadYet"


class Contended(Transient):
    """A Proxmox lock is held by someone else right now."""

    default_reason = "Locked"


class AnswerLost(Transient):
    """A write was sent and the connection ended before its answer.

    The write may have happened, may still happen, or may never happen. It is never repeated
    blindly: the next pass looks first.
    """

    default_reason = "AnswerLost"


class Waiting(OperatorError):
    """Another object or a Proxmox task must move first and will wake this one.

    ``after`` is a fallback in seconds, for wake-ups that could be missed.
    """

    default_reason = "Waiting"

    def __init__(self, message: str, *, reason: str | None = None, after: float = 60.0) -> None:
        super().__init__(message, reason=reason)
        self.after = after


class NeedsHuman(OperatorError):
    """Only a person can mend it; the message names the field or path and the remedy."""

    default_reason = "NeedsHuman"


class SecretNotFound(NeedsHuman):
    """A Secret that is named is not there, or not yet: they are read by name, and not watched."""

    default_reason = "SecretNotFound"


class Unauthorized(NeedsHuman):
    """Proxmox refused the credentials (HTTP 401)."""

    default_reason = "Unauthorized"


class Forbidden(NeedsHuman):
    """The credentials lack a privilege (HTTP 403) on ``path``, where that is known; the message names both."""

    default_reason = "PermissionDenied"

    def __init__(self, message: str, *, reason: str | None = None, path: str = "") -> None:
        super().__init__(message, reason=reason)
        self.path = path


class Rejected(NeedsHuman):
    """Proxmox refused the request for good (bad parameter, root-only option, not implemented)."""

    default_reason = "Rejected"


class LeadershipLost(BaseException):
    """The Lease is gone or too short for another write.

    A ``BaseException``: no handler that recovers from errors may swallow it.
    """
