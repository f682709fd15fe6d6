"""The life of one VM as a decision: from facts to the next step.

:func:`plan` is pure and total. It looks at what is, not at what happened before, and names one step; after
the step is done the facts are gathered anew. Nothing destructive is ever planned on what is unknown:
a VM that cannot be seen is :class:`Unknown`, which is not :class:`Absent`. Doing the steps is
``controllers.vm.apply``'s part.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.api.quantity import parse_duration
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.placement import Placed, Template, Unschedulable
from proxmox_operator.planning.vmconfig import ConfigDiff

Power = Literal["Running", "Stopped", "Paused", "Unknown"]


# What is known about the VM in Proxmox


@dataclass(frozen=True, kw_only=True)
class Absent:
    """Proven: its VMID is free, the cluster is quorate and the right one, and no task is making it."""


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """It may exist or not; ``reason`` and ``message`` say why nobody can tell."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Present:
    """It exists. ``diff`` is what its config lacks, ``detached`` are its ``unusedN`` volumes."""

    node: str
    power: Power
    lock: str | None
    owner: Owner
    diff: ConfigDiff
    detached: tuple[str, ...] = ()
    protected: bool = False
    hold: str | None = None
    """Why its power must not be touched now (a node shutting down, a backup in stop mode, hibernation)."""


Existence = Absent | Unknown | Present


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A VM found by its mark after the status was lost, and whether the namespace may take it back."""

    vmid: int
    uuid: str
    granted: bool


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything the decision rests on, gathered in one pass.

    ``denied`` lists violations of the cluster's grants. ``working`` names a Proxmox task or call of ours that has not
    ended. ``settles_at``: before this time a call of ours whose answer was lost may still take effect.
    ``source`` and ``place`` are gathered only while there is a VM to be created.
    """

    vm: ProxmoxVM
    now: datetime
    denied: tuple[str, ...] = ()
    existence: Existence | None = None
    working: str | None = None
    settles_at: datetime | None = None
    claimed: Claimed | None = None
    source: Template | None = None
    place: Placed | Unschedulable | None = None
    ready_checks: tuple["Wait", ...] = ()
    pending: tuple[str, ...] = ()
    """Changes that Proxmox applies at the next cold boot, as sentences."""


# What may be done next


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
class Hold:
    """Add the finalizer: from here on the object does not vanish before its VM."""


@dataclass(frozen=True, kw_only=True)
class Clone:
    """Ask Proxmox to clone the source to the reserved VMID."""

    source: Template
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
class RecordStart:
    """Record that the VM is about to be started: from here on its disks may hold data."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Start it."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Shut it down, by force after ``grace`` when ``force`` is set."""

    grace: timedelta
    force: bool


@dataclass(frozen=True, kw_only=True)
class Destroy:
    """Destroy the VM with its disks. Its intent is recorded first."""


@dataclass(frozen=True, kw_only=True)
class Bury:
    """Leave the VM and replace the mark by a tombstone."""


@dataclass(frozen=True, kw_only=True)
class Release:
    """Drop the finalizer: nothing of ours is left."""


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
    Reserve | Reclaim | Hold | Clone | Configure | GrowDisks | RecordStart | Start | Stop
    | Destroy | Bury | Release | Wait | Blocked | Settled
)  # fmt: skip

Check = Callable[[Facts], Step | None]


def plan(facts: Facts) -> Step:
    """The next step. Checks run in order and the first one that has something to say decides."""
    if facts.vm.metadata.deletion_timestamp is not None:
        chain = DELETING
    elif facts.vm.spec.management == "Observe":
        chain = OBSERVING
    elif facts.vm.status.vmid is None:
        chain = UNMADE
    else:
        chain = LIVING
    for check in chain:
        step = check(facts)
        if step is not None:
            return step
    raise AssertionError("every chain ends in a check that always decides")


# Checks shared by chains


def _working(facts: Facts) -> Step | None:
    return Wait(reason=facts.working, message=_WORKING[facts.working]) if facts.working else None


_WORKING = {
    "Cloning": "Proxmox is cloning the source; this takes as long as its disks are large",
    "Configuring": "Proxmox is writing the VM's config",
    "Resizing": "Proxmox is growing a disk",
    "Starting": "Proxmox is starting the VM",
    "Stopping": "the guest is shutting down",
    "Destroying": "Proxmox is destroying the VM",
}


def _unknown(facts: Facts) -> Step | None:
    existence = facts.existence
    if isinstance(existence, Unknown):
        return Wait(reason=existence.reason, message=existence.message, after=15.0, unknown=True)
    return None


def _denied(facts: Facts) -> Step | None:
    if not facts.denied:
        return None
    return Blocked(
        reason="AccessDenied",
        message="; ".join(facts.denied) + ": change the spec, or have it granted in ProxmoxCluster spec.access",
    )


def _foreign(facts: Facts) -> Step | None:
    """Somebody else's VM: another VMID while ours was never seen, else hands off."""
    vm, existence = facts.vm, facts.existence
    if not isinstance(existence, Present) or existence.owner is not Owner.FOREIGN:
        return None
    being_created = vm.status.provisioning is not None
    if being_created and vm.spec.vmid is None and vm.metadata.deletion_timestamp is None:
        return _reserve(facts)
    if being_created:
        return Blocked(
            reason="VMIDTaken",
            message=f"VMID {vm.status.vmid} is taken by a VM that is not ours: free it, or set spec.vmid on a new object",
        )
    return Blocked(
        reason="IdentityConflict",
        message=(
            f"VM {vm.status.vmid} on {existence.node} does not carry this object's mark: it belongs to someone else and "
            f"is not touched. If ours was replaced, move the other VM to another VMID and restore ours as "
            f"{vm.status.vmid}; to give ours up, delete this object with spec.deletionPolicy Retain"
        ),
    )


def _stub(facts: Facts) -> Step | None:
    """A config that a dead worker left locked; a token may not remove it, only root on the node."""
    existence, vmid = facts.existence, facts.vm.status.vmid
    if not isinstance(existence, Present) or facts.working:
        return None
    if existence.lock in ("clone", "create", "destroyed") or existence.owner is Owner.PENDING:
        return Blocked(
            reason="StuckLock",
            message=(
                f"VM {vmid} on {existence.node} is left over from an interrupted Proxmox task (lock: {existence.lock}) "
                f"and no task works on it; as root on {existence.node} run: qm unlock {vmid} && qm destroy {vmid} --purge"
            ),
        )
    return None


def _locked(facts: Facts) -> Step | None:
    """A lock matters only when there is something to do: a backup does not make a VM unready."""
    existence, vm = facts.existence, facts.vm
    if not isinstance(existence, Present) or not existence.lock:
        return None
    deleting = vm.metadata.deletion_timestamp is not None
    if not deleting and existence.diff == ConfigDiff() and vm.spec.power in ("Unmanaged", existence.power):
        return None
    message = f"VM {vm.status.vmid} is locked by Proxmox ({existence.lock}); waiting until that has ended"
    return Wait(reason="Locked", message=message, after=30.0)


# An object that has no VM yet


def _recover(facts: Facts) -> Step | None:
    found = facts.claimed
    if found is None:
        return None
    if not found.granted:
        return Blocked(
            reason="IdentityConflict",
            message=(
                f"VM {found.vmid} carries the mark of this name from another namespace or cluster; to take it back have "
                "access[].recover granted in the ProxmoxCluster, or remove the mark from its description"
            ),
        )
    return Reclaim(vmid=found.vmid, uuid=found.uuid)


def _hold(facts: Facts) -> Step | None:
    return Hold() if FINALIZER not in facts.vm.metadata.finalizers else None


def _reserve(facts: Facts) -> Step:
    if isinstance(facts.place, Placed):
        return Reserve(place=facts.place)
    return _unplaced(facts)


def _unplaced(facts: Facts) -> Step:
    if isinstance(facts.place, Unschedulable):
        return Blocked(reason=facts.place.reason, message=facts.place.message())
    return Wait(reason="Waiting", message="the source is not known yet", unknown=True)


# An object that has one, or is getting it


def _missing(facts: Facts) -> Step | None:
    """Proven absent: made again only while it was never started, else a person decides."""
    vm = facts.vm
    if not isinstance(facts.existence, Absent):
        return None
    if vm.status.started:
        return Blocked(
            reason="Missing",
            message=(
                f"VM {vm.status.vmid} no longer exists in Proxmox and was running before, so data may be gone: restore it "
                f"from a backup as VM {vm.status.vmid} and it is taken up again, or delete this object and apply it anew"
            ),
        )
    if facts.source is None or not isinstance(facts.place, Placed):
        return _unplaced(facts)
    return Clone(source=facts.source, place=facts.place)


def _configure(facts: Facts) -> Step | None:
    diff = _present(facts).diff
    if diff.problems:
        first = diff.problems[0]
        return Blocked(reason=first.reason, message="; ".join(problem.message for problem in diff.problems))
    if diff.writes:
        return Configure(diff=diff)
    return GrowDisks(diff=diff) if diff.grows else None


def _power(facts: Facts) -> Step | None:
    vm, present = facts.vm, _present(facts)
    wanted = vm.spec.power
    if wanted == "Unmanaged" or wanted == present.power:
        return None
    if present.power == "Unknown":
        return Wait(reason="PowerUnknown", message="Proxmox has not reported its power state yet", after=10, unknown=True)
    if present.power == "Paused":
        return Wait(reason="Paused", message="the VM is paused in Proxmox; it is left alone until resumed", after=60)
    if present.hold is not None:
        return Wait(reason="PowerOnHold", message=present.hold, after=30)
    if wanted == "Stopped":
        return _stop(vm)
    return Start() if vm.status.started else RecordStart()


def _stop(vm: ProxmoxVM) -> Stop:
    return Stop(grace=parse_duration(vm.spec.shutdown.grace_period), force=vm.spec.shutdown.force)


def _settled(facts: Facts) -> Step:
    if facts.ready_checks:
        return facts.ready_checks[0]
    power = _present(facts).power
    return Settled(reason=power, message=f"VM {facts.vm.status.vmid} is {power.lower()} on {_present(facts).node}")


def _present(facts: Facts) -> Present:
    if not isinstance(facts.existence, Present):
        raise AssertionError("only asked once the VM is known to be present")
    return facts.existence


# An object that is going away


def _nothing_held(facts: Facts) -> Step | None:
    return None if FINALIZER in facts.vm.metadata.finalizers else Settled(reason="Deleted", message="nothing is held")


def _settling(facts: Facts) -> Step | None:
    """A call whose answer was lost may still reach Proxmox; only then is absence final."""
    if facts.settles_at is not None and facts.now < facts.settles_at and isinstance(facts.existence, Absent):
        left = (facts.settles_at - facts.now).total_seconds()
        return Wait(reason="Settling", message="an unanswered call may still take effect", after=max(left, 0.05))
    return None


def _gone(facts: Facts) -> Step | None:
    """Nothing to delete: never made, not ours to claim, or proven absent."""
    if facts.vm.status.vmid is None:
        found = facts.claimed
        return Reclaim(vmid=found.vmid, uuid=found.uuid) if found is not None and found.granted else Release()
    return Release() if isinstance(facts.existence, Absent) else None


def _not_ours_to_delete(facts: Facts) -> Step | None:
    """A foreign VM under our VMID means that ours is gone; letting go touches nothing."""
    existence = facts.existence
    if isinstance(existence, Present) and existence.owner is Owner.FOREIGN:
        return Release() if facts.vm.spec.deletion_policy == "Retain" else _foreign(facts)
    return None


def _retain(facts: Facts) -> Step | None:
    if facts.vm.spec.deletion_policy != "Retain":
        return None
    return Bury() if _present(facts).owner is Owner.OURS else Release()


def _protected(facts: Facts) -> Step | None:
    vm, present = facts.vm, _present(facts)
    if vm.spec.protection:
        return Blocked(reason="Protected", message="spec.protection is true: set it to false to let the VM be destroyed")
    if not present.protected:
        return None
    if vm.status.protection_set and (puts := [put for put in present.diff.puts if put.key == "protection"]):
        return Configure(diff=ConfigDiff(puts=tuple(puts)))
    return Blocked(
        reason="Protected",
        message=f"VM {vm.status.vmid} has its protection flag set in Proxmox: clear it there, or set deletionPolicy Retain",
    )


def _detached(facts: Facts) -> Step | None:
    detached = _present(facts).detached
    if not detached or facts.vm.spec.detached_disks == "Delete":
        return None
    return Blocked(
        reason="DetachedDisks",
        message=(
            f"destroying VM {facts.vm.status.vmid} would destroy its detached disks too: {', '.join(detached)}; "
            "re-attach or remove them in Proxmox, or set spec.detachedDisks to Delete"
        ),
    )


def _shut_down(facts: Facts) -> Step | None:
    present = _present(facts)
    if present.power == "Unknown":
        return Wait(reason="PowerUnknown", message="Proxmox has not reported its power state yet", after=10, unknown=True)
    return None if present.power == "Stopped" else _stop(facts.vm)


def _destroy(_: Facts) -> Step:
    return Destroy()


# An object that only looks


def _observe(facts: Facts) -> Step:
    existence = facts.existence
    if isinstance(existence, Present) and existence.owner in (Owner.OURS, Owner.UNMARKED):
        pending = existence.diff.sentences()
        if pending or facts.vm.spec.power not in ("Unmanaged", existence.power):
            return Blocked(reason="OutOfSync", message="management is Observe: the differences in status.plan are not written")
        return Settled(reason=existence.power, message="as the spec says; management is Observe")
    return Blocked(reason="ObserveOnly", message="management is Observe: no VM is created; set it to Manage")


UNMADE: tuple[Check, ...] = (_unknown, _denied, _hold, _recover, _reserve)
LIVING: tuple[Check, ...] = (
    _unknown,
    _foreign,
    _working,
    _denied,
    _hold,
    _missing,
    _stub,
    _locked,
    _configure,
    _power,
    _settled,
)
DELETING: tuple[Check, ...] = (
    _nothing_held,
    _working,
    _unknown,
    _settling,
    _gone,
    _not_ours_to_delete,
    _stub,
    _locked,
    _retain,
    _protected,
    _detached,
    _shut_down,
    _destroy,
)
OBSERVING: tuple[Check, ...] = (_unknown, _foreign, _denied, _observe)
