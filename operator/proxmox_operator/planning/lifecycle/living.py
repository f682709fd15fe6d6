"""The chains of an object that is to have a VM, or that only looks at one."""

from proxmox_operator.planning.adoption import refusal
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.lifecycle.checks import (
    Check,
    denied,
    follow,
    foreign,
    hold,
    locked,
    on_hold,
    power_unknown,
    reserve,
    settling,
    stop,
    stub,
    the_vm,
    unknown,
    working,
)
from proxmox_operator.planning.lifecycle.facts import Absent, Facts, Present
from proxmox_operator.planning.lifecycle.ha import availability, ha_sentences, through_ha
from proxmox_operator.planning.lifecycle.restarting import begin, go_on
from proxmox_operator.planning.lifecycle.seeding import (
    await_first_boot,
    drop_seed_of_gone_vm,
    drop_spent_seed,
    first_boot,
    put_seed,
)
from proxmox_operator.planning.lifecycle.steps import (
    Adopt,
    Blocked,
    Clone,
    Configure,
    EndMove,
    GrowDisks,
    Migrate,
    MoveDisk,
    Reclaim,
    RecordStart,
    Settled,
    Start,
    Step,
    Wait,
)
from proxmox_operator.planning.moving import Going, Staying
from proxmox_operator.planning.placement import Placed


def _recover(facts: Facts) -> Step | None:
    found = facts.claimed
    if found is None:
        return None
    if not found.granted:
        return Blocked(
            reason="IdentityConflict",
            message=(
                f"VM {found.vmid} carries the mark of this name from another namespace or cluster; to take it back "
                "have access[].recover granted in the ProxmoxCluster, or remove the mark from its description"
            ),
        )
    return Reclaim(vmid=found.vmid, uuid=found.uuid)


def _not_to_be_adopted(facts: Facts) -> Step | None:
    """Said before the finalizer is added: an object that takes nothing over holds nothing."""
    if facts.vm.spec.source.adopt is None or facts.claimed is not None:
        return None
    if facts.adoptees is None:
        return Wait(
            reason="NotObserved", message="the VM to be taken over has not been looked at", unknown=True
        )
    why = refusal(facts.vm, facts.adoptees)
    if why is None:
        return None
    if why.passes:
        return Wait(reason=why.reason, message=why.message, after=30.0)
    return Blocked(reason=why.reason, message=why.message)


def _adopt(facts: Facts) -> Step | None:
    """The one VM that was found and not refused."""
    if facts.vm.spec.source.adopt is None or not facts.adoptees:
        return None
    return Adopt(adoptee=facts.adoptees[0])


def _taken(facts: Facts) -> Step | None:
    """Somebody else's VM on the VMID we were about to use: another VMID, unless this very one was asked for."""
    vm, existence = facts.vm, facts.existence
    if not isinstance(existence, Present) or existence.owner is not Owner.FOREIGN:
        return None
    if vm.status.provisioning is not None and vm.spec.vmid is None:
        return denied(facts) or reserve(facts)
    return foreign(facts)


def _missing(facts: Facts) -> Step | None:
    """Proven absent: made again only while it was never started, else a person decides."""
    vm = facts.vm
    if not isinstance(facts.existence, Absent):
        return None
    if vm.status.started or vm.spec.source.adopt is not None:
        adopted = vm.spec.source.adopt is not None
        before, otherwise = (
            ("was taken over as it was", "delete this object")
            if adopted
            else ("was running before, so data may be gone", "delete this object and apply it anew")
        )
        return Blocked(
            reason="Missing",
            message=(
                f"VM {vm.status.vmid} no longer exists in Proxmox and {before}: restore it from a backup as VM "
                f"{vm.status.vmid} and it is taken up again, or {otherwise}"
            ),
        )
    intent, place = vm.status.provisioning, facts.place
    if intent is None:
        return drop_seed_of_gone_vm(facts) or reserve(facts)
    if not isinstance(place, Placed):
        return reserve(facts)
    recorded = (vm.status.node, intent.source_node, intent.source_vmid)
    if (place.node, place.template.node, place.template.vmid) != recorded:
        return reserve(facts)  # the record can no longer be followed: recorded anew, before the call
    return Clone(place=place)


def _move(facts: Facts) -> Step | None:
    """Before config and power: what the spec now says may be possible only where the VM is going."""
    present = the_vm(facts)
    if not isinstance(facts.move, Going) or present.lock or present.power == "Unknown":
        return None
    return Migrate(move=facts.move)


def _stay(facts: Facts) -> Step | None:
    """A VM that cannot move is kept as wanted where it is; then this is said."""
    move = facts.move
    if not isinstance(move, Staying):
        return None
    if move.waits is not None:
        return Wait(reason=move.reason, message=move.message, after=move.waits)
    return Blocked(reason=move.reason, message=move.message)


def _problems(facts: Facts) -> Step | None:
    problems = the_vm(facts).diff.problems
    if not problems:
        return None
    return Blocked(reason=problems[0].reason, message="; ".join(problem.message for problem in problems))


def _keep_power(facts: Facts) -> Step | None:
    """A config that cannot be brought about is no reason to leave a VM down that ran before."""
    return _power(facts) if facts.vm.status.started and the_vm(facts).diff.problems else None


def _moved(facts: Facts) -> Step | None:
    left = the_vm(facts).moved
    return None if left is None or settling(facts, _MAY_MOVE) is not None else EndMove(left=left)


_MAY_MOVE = "whether Proxmox was asked to move a disk is not known; it may still do so"


def _configure(facts: Facts) -> Step | None:
    diff = the_vm(facts).diff
    return Configure(diff=diff) if diff.writes else None


def _first_volumes(facts: Facts) -> Step | None:
    """A guest finds its disks in place and full size when it boots first."""
    return None if facts.vm.status.started else _volumes(facts)


def _volumes(facts: Facts) -> Step | None:
    """Moving comes before growing: the storage that is left may be the one that is full.

    Both come after the power of a VM that ran before, which a full storage is no reason to leave down.
    """
    diff = the_vm(facts).diff
    if the_vm(facts).moved is not None and (wait := settling(facts, _MAY_MOVE)) is not None:
        return wait
    if diff.moves:
        return MoveDisk(diff=diff)
    return GrowDisks(diff=diff) if diff.grows else None


def _power(facts: Facts) -> Step | None:
    vm, present = facts.vm, the_vm(facts)
    wanted = vm.spec.wanted_power
    if present.power == "Unknown":
        return power_unknown()
    if (step := go_on(facts)) is not None:
        return step
    if wanted in ("Unmanaged", present.power):
        return None
    if present.power == "Paused":
        return Wait(
            reason="Paused", message="the VM is paused in Proxmox; it is left alone until resumed", after=60
        )
    if facts.ha is not None and facts.ha.governs:
        return through_ha(facts, facts.ha)
    if (wait := on_hold(present)) is not None:
        return wait
    if wanted == "Stopped":
        return stop(vm)
    return Start() if vm.status.started else RecordStart()


def _settled(facts: Facts) -> Step:
    if facts.ready_checks:
        return facts.ready_checks[0]
    power = the_vm(facts).power
    return Settled(
        reason=power, message=f"VM {facts.vm.status.vmid} is {power.lower()} on {the_vm(facts).node}"
    )


def _not_there_to_observe(facts: Facts) -> Step | None:
    """Whatever would refuse an adoption is said to an object that only looks, too."""
    if facts.vm.status.vmid is not None:
        return None
    step = _recover(facts)
    return step if isinstance(step, Blocked) else _not_to_be_adopted(facts)


def differences(facts: Facts) -> tuple[str, ...]:
    """What would be done next, were it not only looked at: config, HA and power, as sentences."""
    existence, wanted = facts.existence, facts.vm.spec.wanted_power
    if not isinstance(existence, Present):
        return ()
    found = existence.diff.sentences() + ha_sentences(facts)
    if wanted not in ("Unmanaged", existence.power):
        found += (f"power: {existence.power} -> {wanted}",)
    return found


def _observe(facts: Facts) -> Step:
    existence = facts.existence
    if isinstance(existence, Present) and existence.owner in (Owner.OURS, Owner.UNMARKED):
        if differences(facts):
            return Blocked(
                reason="OutOfSync",
                message="management is Observe: the differences in status.plan are not written",
            )
        return Settled(reason=existence.power, message="as the spec says; management is Observe")
    return Blocked(reason="ObserveOnly", message="management is Observe: no VM is created; set it to Manage")


UNMADE: tuple[Check, ...] = (unknown, denied, _not_to_be_adopted, hold, _recover, _adopt, reserve)

LIVING: tuple[Check, ...] = (
    working,
    unknown,
    follow,
    _taken,
    denied,
    hold,
    _missing,
    stub,
    _moved,
    locked,
    _move,
    _keep_power,
    _problems,
    _configure,
    availability,
    _first_volumes,
    put_seed,
    begin,
    _power,
    _volumes,
    first_boot,
    drop_spent_seed,
    _stay,
    await_first_boot,
    _settled,
)

OBSERVING: tuple[Check, ...] = (working, unknown, follow, foreign, denied, _not_there_to_observe, _observe)
