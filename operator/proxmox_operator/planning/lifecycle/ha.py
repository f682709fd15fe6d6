"""Into HA, out of it, and power through it. The HA manager acts late: what it was asked for is waited for."""

from proxmox_operator.planning.availability import HA, KEPT_OFF, differences, sentences
from proxmox_operator.planning.harules import DropRule, PutRule, RuleProblem, next_rule
from proxmox_operator.planning.lifecycle.checks import power_for_now, stop, the_vm
from proxmox_operator.planning.lifecycle.facts import Facts, Present
from proxmox_operator.planning.lifecycle.steps import (
    AlignHA,
    Blocked,
    ClearHAError,
    JoinHA,
    LeaveHA,
    RecordStart,
    SetRule,
    Start,
    Step,
    Wait,
)

_REQUESTS = {"Running": "started", "Stopped": "stopped"}
_ANSWERS = {"Running": frozenset({"started"}), "Stopped": KEPT_OFF}
"""Requested states under which the manager brings a power state about."""


def availability(facts: Facts) -> Step | None:
    """What is to be written for ``spec.availability``; what stands in the way :func:`ha_verdict` says."""
    ha, wish = facts.ha, facts.vm.spec.availability
    if ha is None or wish is None or ha.unreadable or ha.lacking or the_vm(facts).lock:
        return None
    if not wish.ha:
        return (_rule(facts, ha) or LeaveHA()) if ha.is_ours(facts.vm) else None
    if ha.resource is None:
        state = None if ha.local else _requested(facts, ha)
        return None if state is None else JoinHA(state=state, wish=wish)
    if ha.failed:
        return _clear_error(facts, ha)
    changes = differences(wish, ha.resource, _requested(facts, ha))
    return AlignHA(changes=changes, was=ha.resource) if changes else _rule(facts, ha)


def _requested(facts: Facts, ha: HA) -> str | None:
    """The state to request; None as long as it has to stay as it is.

    A VM that is to be stopped is asked for with its grace period first, and the first start is recorded first.
    """
    power, wanted = the_vm(facts).power, power_for_now(facts.vm)
    if wanted == "Unmanaged":
        is_left_to_others = ha.resource is not None and ha.resource.state != "ignored"
        return None if is_left_to_others else _REQUESTS.get(power)
    if wanted == "Stopped":  # off for a restart, it stays as it is requested
        return "stopped" if power == "Stopped" == facts.vm.spec.wanted_power else None
    if power == "Stopped" and not facts.vm.status.started:
        return None
    return "started" if power != "Unknown" else None


def _clear_error(facts: Facts, ha: HA) -> Step | None:
    """Once in a generation, until the VM was as wanted again: what failed twice will fail again.

    Not while the VM runs: ``disabled``, which clears it, has the manager switch it off. It is recorded after the
    request, which is sent again until then: asking for ``disabled`` twice is asking once.
    """
    vm, resource = facts.vm, ha.resource
    if resource is None or vm.spec.wanted_power == "Unmanaged" or the_vm(facts).power != "Stopped":
        return None
    recovered = vm.status.ha.recovered if vm.status.ha is not None else None
    if recovered != vm.metadata.generation:
        return ClearHAError()
    if resource.state == "disabled":
        return Wait(reason="HARecovering", message="the HA manager is clearing its error state", after=15.0)
    return None


def _rule(facts: Facts, ha: HA) -> Step | None:
    change = _rule_change(facts, ha)
    if not isinstance(change, PutRule | DropRule) or _refusal(ha, change) is not None:
        return None
    return SetRule(change=change)


def _refusal(ha: HA, change: object) -> str | None:
    """What Proxmox has just said to this very rule."""
    is_the_same = isinstance(change, PutRule) and ha.refused is not None and ha.refused.rule == change.rule
    return ha.refused.message if is_the_same and ha.refused is not None else None


def _rule_change(facts: Facts, ha: HA) -> PutRule | DropRule | RuleProblem | None:
    vm, wish = facts.vm, facts.vm.spec.availability
    if ha.rules is None:
        return None
    stays = vm.metadata.deletion_timestamp is None and wish is not None and wish.ha
    return next_rule(vm, wish.rule if wish is not None and stays else None, ha.rules)


def through_ha(facts: Facts, ha: HA) -> Step:
    """Bring the wanted power about by way of the manager: Proxmox makes a request of each start and shutdown."""
    vm, wanted = facts.vm, power_for_now(facts.vm)
    if ha.failed:
        return Blocked(reason="HAError", message=error_message(facts))
    requested = ha.resource is not None and ha.resource.state in _ANSWERS[wanted]
    if ha.asked == wanted or requested:
        doing = "starting" if wanted == "Running" else "stopping"
        return Wait(
            reason="HAStarting" if wanted == "Running" else "HAStopping",
            message=(
                f"the HA manager is {doing} the VM; it takes some 20 seconds, and longer while its node is in "
                "maintenance or being fenced"
            ),
            after=15.0,
        )
    if wanted == "Running":
        return Start() if vm.status.started else RecordStart()
    if not vm.spec.shutdown.force:
        return Blocked(
            reason="HAForcesShutdown",
            message=(
                "the VM is under HA, which switches it off when the grace period is over, and spec.shutdown.force is "
                "false: set it to true, shut the guest down from inside, or take the VM out of HA"
            ),
        )
    return stop(vm)


def leave_ha(facts: Facts) -> Step | None:
    """A VM that is to be destroyed leaves HA first: the manager would start it again, or be left with a dead entry."""
    ha = facts.ha
    if ha is None or (ha.resource is None and not (ha.unreadable and ha.governs)):
        return None
    if ha.unreadable or ha.lacking:
        why = ha.unreadable or ha.lacking
        message = f"the VM has to leave HA before it is destroyed: {why}, or take it out of HA in Proxmox"
        return Blocked(reason="PermissionDenied", message=message)
    return _rule(facts, ha) or LeaveHA()


def leave_rules(facts: Facts) -> Step | None:
    """A VM that is kept stays under HA; rules of ours would bind it with nobody left who changes them.

    What cannot be read or written keeps nobody from letting the VM go.
    """
    ha = facts.ha
    return None if ha is None or ha.unreadable or ha.lacking else _rule(facts, ha)


def error_message(facts: Facts) -> str:
    """The remedy for a resource in error state."""
    vmid = facts.vm.status.vmid
    return (
        f"the HA manager has given VM {vmid} up (state error): mend what its last start or stop failed of (its "
        f"task log in Proxmox tells), then request the states disabled, which shuts it down if it runs, and started in "
        f"Datacenter > HA, or on a node: "
        f"ha-manager set vm:{vmid} --state disabled && ha-manager set vm:{vmid} --state started"
    )


def ha_sentences(facts: Facts) -> tuple[str, ...]:
    """What would be written for HA next, for a person."""
    match availability(facts) if isinstance(facts.existence, Present) else None:
        case JoinHA(state=state):
            return (f"HA: put under HA, requested state {state}",)
        case AlignHA(changes=changes, was=was):
            return sentences(changes, was)
        case LeaveHA():
            return ("HA: taken out of HA",)
        case SetRule(change=PutRule(rule=rule)):
            return (f"HA rule {rule.id}: written",)
        case SetRule(change=DropRule(id=name)):
            return (f"HA rule {name}: removed",)
        case _:
            return ()


def ha_verdict(facts: Facts) -> tuple[bool | None, str, str] | None:
    """The condition HighlyAvailable: all of ``spec.availability`` is in force. None where it is left out."""
    ha, wish = facts.ha, facts.vm.spec.availability
    if wish is None:
        return None
    if not wish.ha:
        if ha is not None and ha.lacking and ha.is_ours(facts.vm):
            return False, "PermissionDenied", f"the VM cannot be taken out of HA: {ha.lacking}"
        return False, "NotWanted", "spec.availability.ha is false"
    if ha is None or ha.unreadable:
        return None, "HAUnknown", (ha.unreadable if ha else None) or "the HA manager has not been asked yet"
    if ha.failed:
        return False, "HAError", error_message(facts)
    if ha.local:
        return (
            False,
            "HAStorageLocal",
            f"HA could not start the VM on another node, as these drives are local: {', '.join(ha.local)}; move them "
            "to shared storage or remove them"
            + ("" if ha.resource else "; until then it is not put under HA"),
        )
    if ha.lacking:
        return False, "PermissionDenied", f"spec.availability: {ha.lacking}"
    if ha.resource is None:
        return False, "Joining", "the VM is about to be put under HA"
    if ha.resource.state in ("ignored", "disabled"):
        return (
            False,
            "HANotActive",
            f"somebody has requested the state {ha.resource.state}, in which HA leaves the VM alone",
        )
    change = _rule_change(facts, ha)
    if isinstance(change, RuleProblem):
        return False, change.reason, change.message
    if (refusal := _refusal(ha, change)) is not None:
        return False, "RuleRefused", f"spec.availability.rule: {refusal}"
    return True, "HighlyAvailable", f"the HA manager keeps the VM {ha.resource.state}"
