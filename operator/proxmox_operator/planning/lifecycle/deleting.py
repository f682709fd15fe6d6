"""The chain of an object that is going away. It ends in the only step that destroys."""

from datetime import timedelta

from proxmox_operator.api.names import FINALIZER
from proxmox_operator.api.quantity import parse_duration
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.lifecycle.checks import (
    Check,
    follow,
    foreign,
    locked,
    on_hold,
    power_unknown,
    settling,
    stop,
    stub,
    the_vm,
    unknown,
    working,
)
from proxmox_operator.planning.lifecycle.facts import Absent, Facts, Present
from proxmox_operator.planning.lifecycle.ha import leave_ha, leave_rules
from proxmox_operator.planning.lifecycle.seeding import drop_seed_of_gone_vm
from proxmox_operator.planning.lifecycle.steps import (
    Blocked,
    Bury,
    Configure,
    Destroy,
    Reclaim,
    Release,
    Settled,
    Step,
    Wait,
)
from proxmox_operator.planning.vmconfig import ConfigDiff


def _nothing_held(facts: Facts) -> Step | None:
    return (
        None
        if FINALIZER in facts.vm.metadata.finalizers
        else Settled(reason="Deleted", message="nothing is held")
    )


def _only_looking(facts: Facts) -> Step | None:
    """An object that was managed before and now only observes deletes nothing."""
    return Release() if facts.vm.spec.management == "Observe" else None


def _settling(facts: Facts) -> Step | None:
    """A call whose answer was lost may still reach Proxmox; only then is absence final.

    An adoption may have been sent for an object that has no VMID yet.
    """
    nothing_found = isinstance(facts.existence, Absent) or (
        facts.vm.status.vmid is None and facts.claimed is None
    )
    return settling(facts, "an unanswered call may still take effect") if nothing_found else None


def _gone(facts: Facts) -> Step | None:
    """Nothing to delete: never made, not ours to claim, or proven absent."""
    if facts.vm.status.vmid is None:
        found = facts.claimed
        return Reclaim(vmid=found.vmid, uuid=found.uuid) if found is not None and found.own else Release()
    if not isinstance(facts.existence, Absent):
        return None
    return drop_seed_of_gone_vm(facts) or Release(left=facts.left)


def _not_ours_to_delete(facts: Facts) -> Step | None:
    """A foreign VM under our VMID means that ours is gone, or never came to be; letting go touches nothing."""
    vm, existence = facts.vm, facts.existence
    if not isinstance(existence, Present) or existence.owner is not Owner.FOREIGN:
        return None
    never_seen = vm.status.provisioning is not None
    if not never_seen and vm.spec.on_deletion != "Retain":
        return foreign(facts)
    return drop_seed_of_gone_vm(facts) or Release()


def _retain(facts: Facts) -> Step | None:
    if facts.vm.spec.on_deletion != "Retain":
        return None
    left = leave_rules(facts) or drop_seed_of_gone_vm(facts)
    return left or (Bury() if the_vm(facts).owner is Owner.OURS else Release())


def _protected(facts: Facts) -> Step | None:
    vm, present = facts.vm, the_vm(facts)
    if vm.spec.protection:
        return Blocked(
            reason="Protected", message="spec.protection is true: set it to false to let the VM be destroyed"
        )
    if not present.protected:
        return None
    if vm.status.protection_set and (puts := [put for put in present.diff.puts if put.key == "protection"]):
        return Configure(diff=ConfigDiff(puts=tuple(puts)))
    return Blocked(
        reason="Protected",
        message=f"VM {vm.status.vmid} is protected in Proxmox: clear that there, or set spec.deletionPolicy to Retain",
    )


def _detached(facts: Facts) -> Step | None:
    detached = the_vm(facts).detached
    if not detached or facts.vm.spec.detached_disks == "Delete":
        return None
    return Blocked(
        reason="DetachedDisks",
        message=(
            f"destroying VM {facts.vm.status.vmid} would destroy its detached disks too: {', '.join(detached)}; "
            "list them in spec.disks again, remove them in Proxmox, or set spec.detachedDisks to Delete"
        ),
    )


def _shut_down(facts: Facts) -> Step | None:
    present = the_vm(facts)
    if present.power == "Unknown":
        return power_unknown()
    if present.power == "Stopped":
        return None
    return on_hold(present) or stop(facts.vm)


def _delayed(facts: Facts) -> Step | None:
    """Second thoughts are possible while the VM only stands still."""
    vm, deleted_at = facts.vm, facts.vm.metadata.deletion_timestamp
    if vm.spec.deletion_delay is None or deleted_at is None:
        return None
    due = deleted_at + parse_duration(vm.spec.deletion_delay)
    if facts.now >= due:
        return None
    return Wait(
        reason="DeletionDelayed",
        message=(
            f"VM {vm.status.vmid} is shut down and will be destroyed at {due:%Y-%m-%d %H:%M:%S} UTC "
            "(spec.deletionDelay): to keep it set spec.deletionPolicy to Retain, to destroy it now remove "
            "spec.deletionDelay"
        ),
        after=min(due - facts.now, timedelta(hours=1)).total_seconds(),
    )


def _destroy(_: Facts) -> Step:
    return Destroy()


DELETING: tuple[Check, ...] = (
    _nothing_held,
    _only_looking,
    working,
    unknown,
    follow,
    _settling,
    _gone,
    _not_ours_to_delete,
    stub,
    locked,
    _retain,
    _protected,
    _detached,
    leave_ha,
    _shut_down,
    _delayed,
    _destroy,
)
