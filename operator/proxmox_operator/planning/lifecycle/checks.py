"""Checks that more than one chain asks. Each names a step, or ``None`` where it has nothing to say."""

from collections.abc import Callable

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.api.quantity import parse_duration
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.lifecycle.facts import Facts, Present, Unknown
from proxmox_operator.planning.lifecycle.steps import Blocked, Follow, Hold, Reserve, Step, Stop, Wait
from proxmox_operator.planning.moving import Staying
from proxmox_operator.planning.placement import Unschedulable

Check = Callable[[Facts], Step | None]

COPY_TAKES = 300.0
"""Seconds until another look at a VM that waits for a copy of its template, should nothing wake it before."""


def working(facts: Facts) -> Step | None:
    """A call of ours is under way; one that another version recorded has a name unknown here."""
    if facts.working is None:
        return None
    message = _WORKING.get(facts.working, "a Proxmox task of ours is running")
    progress = f" ({facts.progress})" if facts.progress else ""
    return Wait(reason=facts.working, message=message + progress)


_WORKING = {
    "Cloning": "Proxmox is cloning the source; this takes as long as its disks are large",
    "Configuring": "Proxmox is writing the VM's config",
    "Resizing": "Proxmox is growing a disk",
    "Seeding": "Proxmox is taking in the user data",
    "RemovingSeed": "Proxmox is removing the user data from its storage",
    "EmptyingSeed": "Proxmox is overwriting the user data on its storage",
    "MovingDisk": "Proxmox is moving a disk to another storage; this takes as long as it is large",
    "Moving": "Proxmox is moving the VM to another node",
    "Starting": "Proxmox is starting the VM",
    "AskingHA": "the HA manager is being asked to change the VM's power state",
    "Stopping": "the guest is shutting down",
    "Destroying": "Proxmox is destroying the VM",
}


def unknown(facts: Facts) -> Step | None:
    existence = facts.existence
    if existence is None and facts.vm.status.vmid is not None:
        return Wait(reason="NotObserved", message="the VM has not been looked at", after=15.0, unknown=True)
    if isinstance(existence, Unknown):
        return Wait(reason=existence.reason, message=existence.message, after=existence.after, unknown=True)
    return None


def follow(facts: Facts) -> Step | None:
    """It is on another node than before, whoever has moved it: nothing is done by what was recorded there."""
    status, existence = facts.vm.status, facts.existence
    if not isinstance(existence, Present) or existence.owner not in (Owner.OURS, Owner.UNMARKED):
        return None
    moved = status.provisioning is None and status.node not in (None, existence.node)
    return Follow() if moved else None


def denied(facts: Facts) -> Step | None:
    if not facts.denied:
        return None
    return Blocked(
        reason="AccessDenied",
        message="; ".join(facts.denied)
        + ": change the spec, or have it granted in ProxmoxCluster spec.access",
    )


def foreign(facts: Facts) -> Step | None:
    """Somebody else's VM: hands off."""
    vm, existence = facts.vm, facts.existence
    if not isinstance(existence, Present) or existence.owner is not Owner.FOREIGN:
        return None
    if vm.status.provisioning is not None:
        message = f"VMID {vm.status.vmid} is taken by a VM that is not ours: free it, or ask for another one"
        return Blocked(reason="VMIDTaken", message=message)
    return Blocked(
        reason="IdentityConflict",
        message=(
            f"VM {vm.status.vmid} on {existence.node} does not carry this object's mark: it belongs to someone else "
            f"and is not touched. If ours was replaced, move the other VM to another VMID and restore ours as "
            f"{vm.status.vmid}; to give ours up, delete this object with spec.deletionPolicy Retain"
        ),
    )


def stub(facts: Facts) -> Step | None:
    """A config that a dead worker left locked; a token may not remove it, only root on the node.

    A VM that was started before is not called left over: the lock then is that of a restore in its place.
    """
    existence, vmid = facts.existence, facts.vm.status.vmid
    if not isinstance(existence, Present) or facts.working:
        return None
    in_the_making = existence.lock in ("clone", "create") or existence.owner is Owner.PENDING
    if in_the_making and facts.vm.status.started and existence.lock != "destroyed":
        message = (
            f"VM {vmid} is being restored or made anew in Proxmox (lock: {existence.lock}); if no task works on it "
            f"any more, run as root on {existence.node}: qm unlock {vmid}"
        )
        return Wait(reason="Locked", message=message, after=30.0)
    if in_the_making or existence.lock == "destroyed":
        return Blocked(
            reason="StuckLock",
            message=(
                f"VM {vmid} on {existence.node} is left over from an interrupted Proxmox task (lock: "
                f"{existence.lock}) and no task of ours works on it; as root on {existence.node} run: "
                f"qm unlock {vmid} && qm destroy {vmid} --purge"
            ),
        )
    return None


def locked(facts: Facts) -> Step | None:
    """A lock matters only when there is something to do: a backup does not make a VM unready."""
    existence, vm = facts.existence, facts.vm
    if not isinstance(existence, Present) or not existence.lock:
        return None
    if isinstance(facts.move, Staying) and facts.move.reason == "StuckLock":
        return Blocked(reason=facts.move.reason, message=facts.move.message)
    deleting = vm.metadata.deletion_timestamp is not None
    restarting = vm.status.restart is not None and vm.status.restart.under_way
    if (
        not deleting
        and not restarting
        and existence.diff.idle
        and vm.spec.wanted_power in ("Unmanaged", existence.power)
    ):
        return None
    message = f"VM {vm.status.vmid} is locked by Proxmox ({existence.lock}); waiting until that has ended"
    if existence.lock == "suspended":
        message = (
            f"VM {vm.status.vmid} is hibernated; resume it in Proxmox, which boots it from its saved state"
        )
    return Wait(reason="Locked", message=message, after=30.0)


def hold(facts: Facts) -> Step | None:
    return Hold() if FINALIZER not in facts.vm.metadata.finalizers else None


def reserve(facts: Facts) -> Step:
    """The place that was found; its VMTemplate wakes an object that waits for a copy there."""
    place = facts.place
    if isinstance(place, Unschedulable):
        return Blocked(reason=place.reason, message=place.message())
    if place is None:
        return Wait(reason="Waiting", message="the source is not known yet", unknown=True)
    if place.template.vmid is None:
        message = f"{place.template} makes a copy on {place.node} first"
        note = f": {place.template.note}" if place.template.note else ""
        return Wait(reason="TemplatePending", message=message + note, after=COPY_TAKES)
    return Reserve(place=place)


def the_vm(facts: Facts) -> Present:
    """The VM; only asked once it is known to be present."""
    if not isinstance(facts.existence, Present):
        raise AssertionError("only asked once the VM is known to be present")  # noqa: TRY004
    return facts.existence


def power_for_now(vm: ProxmoxVM) -> str:
    """The power state to bring about next: while a restart is under way not always that of the spec."""
    restart, wanted = vm.status.restart, vm.spec.wanted_power
    if restart is None or not restart.under_way or wanted == "Stopped":
        return wanted
    return "Stopped" if restart.phase == "Stopping" else "Running"


def settling(facts: Facts, message: str) -> Wait | None:
    """A call of ours whose answer was lost may still take effect; ``message`` says which."""
    if facts.settles_at is None or facts.now >= facts.settles_at:
        return None
    left = (facts.settles_at - facts.now).total_seconds()
    return Wait(reason="Settling", message=message, after=max(left, 0.05))


def on_hold(present: Present) -> Wait | None:
    """Its power must not be touched now."""
    return Wait(reason="PowerOnHold", message=present.hold, after=10) if present.hold is not None else None


def power_unknown() -> Wait:
    message = "Proxmox has not reported its power state yet"
    return Wait(reason="PowerUnknown", message=message, after=10.0, unknown=True)


def stop(vm: ProxmoxVM) -> Stop:
    return Stop(grace=parse_duration(vm.spec.shutdown.grace_period), force=vm.spec.shutdown.force)
