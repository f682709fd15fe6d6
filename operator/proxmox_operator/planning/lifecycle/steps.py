"""What may be done next. Doing it is ``controllers.vm.apply``'s part."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from proxmox_operator.api import Availability, Restart
from proxmox_operator.planning.adoption import Adoptee
from proxmox_operator.planning.availability import HAResource
from proxmox_operator.planning.harules import DropRule, PutRule
from proxmox_operator.planning.moving import Going
from proxmox_operator.planning.placement import Placed
from proxmox_operator.planning.vmconfig import ConfigDiff


@dataclass(frozen=True, kw_only=True)
class Reserve:
    """Record VMID, UUID and node in the status, before anything is created."""

    place: Placed


@dataclass(frozen=True, kw_only=True)
class Reclaim:
    """Take back a VM found by its mark: write the mark anew, then record it."""

    vmid: int
    uuid: str


@dataclass(frozen=True, kw_only=True)
class Adopt:
    """Write our mark beside the text of an existing VM's description, under the digest of what was judged.

    It is ours only when the mark has been read back (:class:`Reclaim`).
    """

    adoptee: Adoptee


@dataclass(frozen=True, kw_only=True)
class Hold:
    """Add the finalizer: from here on the object does not vanish before its VM."""


@dataclass(frozen=True, kw_only=True)
class Clone:
    """Ask Proxmox to clone the template to the reserved VMID."""

    place: Placed


@dataclass(frozen=True, kw_only=True)
class Configure:
    """Write the config under its digest."""

    diff: ConfigDiff


@dataclass(frozen=True, kw_only=True)
class GrowDisks:
    """Grow the first disk that is too small."""

    diff: ConfigDiff


@dataclass(frozen=True, kw_only=True)
class Follow:
    """Record that it is on another node than before, and the names that its disks have there."""


@dataclass(frozen=True, kw_only=True)
class Migrate:
    """Move it to another node."""

    move: Going


@dataclass(frozen=True, kw_only=True)
class MoveDisk:
    """Move the first disk that is on another storage than it should be. Its intent is recorded first."""

    diff: ConfigDiff


@dataclass(frozen=True, kw_only=True)
class EndMove:
    """Take a move that has ended off the record, and tell which volumes it ``left`` behind."""

    left: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PutSeed:
    """Upload the seed of the first boot. Its intent is recorded first."""


@dataclass(frozen=True, kw_only=True)
class DropSeed:
    """Delete the seed from its storage, or overwrite it where it may not be deleted."""


@dataclass(frozen=True, kw_only=True)
class NoteCloudInit:
    """Record that cloud-init has finished the first boot."""


@dataclass(frozen=True, kw_only=True)
class RecordStart:
    """Record that the VM is about to be started: from here on its disks may hold data."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Start it."""


@dataclass(frozen=True, kw_only=True)
class Due:
    """A restart that is to begin: its ``cause`` as the status records it, and ``why``, for a person."""

    cause: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Shut it down, by force after ``grace`` when ``force`` is set.

    ``restart``: in order to start it again. Its intent is recorded first.
    """

    grace: timedelta
    force: bool
    restart: Due | None = None


@dataclass(frozen=True, kw_only=True)
class NoteRestart:
    """Record how far a restart has come, and which annotation's value it has fulfilled.

    ``restart`` is None once it is over. ``told``: an Event's message; a warning where ``failed``.
    """

    restart: Restart | None
    restarted_for: str | None
    told: str | None = None
    failed: bool = False


@dataclass(frozen=True, kw_only=True)
class JoinHA:
    """Put it under HA with this requested state. That it was us is recorded first."""

    state: str
    wish: Availability


@dataclass(frozen=True, kw_only=True)
class AlignHA:
    """Bring settings of its HA resource, by Proxmox's names, to what the spec says."""

    changes: Mapping[str, str | int]
    was: HAResource


@dataclass(frozen=True, kw_only=True)
class ClearHAError:
    """Take the HA manager out of its error state by requesting ``disabled``. That it was tried is recorded first."""


@dataclass(frozen=True, kw_only=True)
class LeaveHA:
    """Take it out of HA."""


@dataclass(frozen=True, kw_only=True)
class SetRule:
    """Write or remove one rule of HA."""

    change: PutRule | DropRule


@dataclass(frozen=True, kw_only=True)
class Destroy:
    """Destroy the VM with its disks. Its intent is recorded first."""


@dataclass(frozen=True, kw_only=True)
class Bury:
    """Leave the VM and replace the mark by a tombstone."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """Drop the finalizer: nothing of ours is left, but for what Proxmox could not destroy: these volumes."""

    left: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Nothing to do until something else moves; ``after`` is the fallback in seconds."""

    reason: str
    message: str
    after: float = 60.0
    unknown: bool = False


@dataclass(frozen=True, kw_only=True)
class Blocked:
    """Only a person can go on; retried slowly."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Settled:
    """As it should be."""

    reason: str
    message: str


Step = (
    Reserve | Adopt | Reclaim | Hold | Clone | Follow | Migrate | Configure | MoveDisk | EndMove | GrowDisks
    | PutSeed | DropSeed | NoteCloudInit | RecordStart | Start | Stop | NoteRestart | JoinHA | AlignHA | ClearHAError
    | LeaveHA | SetRule | Destroy | Bury | Release | Wait | Blocked | Settled
)  # fmt: skip
