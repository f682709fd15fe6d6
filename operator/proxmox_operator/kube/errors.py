"""What the Kubernetes API can answer, as errors that say what happens next.

Messages name the call and carry the API server's own words, except where these could repeat a secret.
"""

from proxmox_operator import errors


class NotFound(errors.Transient):
    """There is no such object (404)."""

    default_reason = "NotFound"


class Conflict(errors.Outdated):
    """The object changed after it was read (409): read it again."""

    default_reason = "Conflict"


class AlreadyExists(errors.Outdated):
    """An object of this name appeared after it was found absent (409): read it."""

    default_reason = "AlreadyExists"


class Throttled(errors.Transient):
    """The API server is too busy (429, 503) and has done nothing; it asks to wait `after` seconds."""

    default_reason = "Throttled"

    def __init__(self, message: str, *, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class NamespaceTerminating(errors.Waiting):
    """Nothing can be created in a namespace that is being deleted."""

    default_reason = "NamespaceTerminating"


class Unauthorized(errors.NeedsHuman):
    """The API server does not know our credentials (401)."""

    default_reason = "KubernetesUnauthorized"


class Forbidden(errors.NeedsHuman):
    """A rule is missing in the operator's ClusterRole or Role (403)."""

    default_reason = "KubernetesForbidden"


class Invalid(errors.NeedsHuman):
    """The API server refused the content (400, 413, 422), most likely for CRDs of another version."""

    default_reason = "KubernetesRefused"
