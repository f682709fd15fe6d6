"""What a person sees of a pass: conditions, the plan, and the facts of the status.

``Ready`` is the summary; ``Reconciling`` and ``Stalled`` are kstatus' (abnormal-true), so that Flux and Argo CD
understand. No phase is stored. Nothing here decides anything.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from proxmox_operator.api import Condition, find_condition, set_condition
from proxmox_operator.api.names import PAUSED as ANNOTATION
from proxmox_operator.errors import NeedsHuman, OperatorError, Unreachable, Waiting
from proxmox_operator.planning.firstboot import DONE, NOT_RUNNING, matters
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.lifecycle import (
    Absent,
    Adopt,
    AlignHA,
    Blocked,
    Bury,
    ClearHAError,
    Clone,
    Configure,
    Destroy,
    DropSeed,
    EndMove,
    Facts,
    Follow,
    GrowDisks,
    Hold,
    JoinHA,
    LeaveHA,
    Migrate,
    MoveDisk,
    NoteCloudInit,
    NoteRestart,
    Present,
    PutSeed,
    Reclaim,
    RecordStart,
    Release,
    Reserve,
    SetRule,
    Settled,
    Start,
    Step,
    Stop,
    Unknown,
    Wait,
    differences,
    ha_sentences,
    ha_verdict,
)
from proxmox_operator.planning.lifecycle.restarting import outlook
from proxmox_operator.planning.seed import comes_too_late

PLAN_LENGTH = 50
"""Sentences kept in ``status.plan``; a count stands for the rest."""

PAUSED = "Paused"
"""Condition that is there only while an object is paused; the others then say how it stood before."""

_DOING: dict[type, tuple[str, str]] = {
    Hold: ("Creating", "a VMID is being chosen"),
    Reserve: ("Cloning", "the source is being cloned"),
    Adopt: ("Adopting", "the mark of this object is being written into the VM's description"),
    Reclaim: ("Recovering", "a VM that carries this object's mark is being taken back"),
    Clone: ("Cloning", "the source is being cloned"),
    Configure: ("Configuring", "the config is being written"),
    MoveDisk: ("MovingDisk", "a disk is being moved to another storage"),
    EndMove: ("MovingDisk", "a disk was moved to another storage"),
    GrowDisks: ("Resizing", "a disk is being grown"),
    PutSeed: ("Seeding", "the user data is being uploaded"),
    DropSeed: ("RemovingSeed", "the user data is being removed from its storage"),
    NoteCloudInit: ("CloudInitDone", "cloud-init has finished the first boot"),
    Follow: ("Moved", "the VM is on another node, and followed"),
    Migrate: ("Moving", "the VM is being moved to another node"),
    RecordStart: ("Starting", "the VM is being started"),
    Start: ("Starting", "the VM is being started"),
    Stop: ("Stopping", "the guest is being shut down"),
    NoteRestart: ("Restarting", "the VM is being restarted"),
    JoinHA: ("JoiningHA", "the VM is being put under HA"),
    AlignHA: ("ConfiguringHA", "the settings of HA are being written"),
    ClearHAError: ("HARecovering", "the HA manager's error state is being cleared"),
    LeaveHA: ("LeavingHA", "the VM is being taken out of HA"),
    SetRule: ("ConfiguringHA", "a rule of HA is being written"),
    Destroy: ("Destroying", "the VM is being destroyed"),
    Bury: ("Releasing", "the VM is being left in Proxmox, without our mark"),
    Release: ("Releasing", "nothing of this object is left in Proxmox"),
}


class Verdict(NamedTuple):
    """The state of the summary condition: ``ready`` is None for Unknown."""

    ready: bool | None
    reason: str
    message: str
    progressing: bool
    stalled: bool


def verdict_of_step(step: Step) -> Verdict:
    """How far the object is from Ready, judged by what would be done next."""
    match step:
        case Settled(reason=reason, message=message):
            return Verdict(True, reason, message, progressing=False, stalled=False)
        case Blocked(reason=reason, message=message):
            return Verdict(False, reason, message, progressing=False, stalled=True)
        case Wait(reason=reason, message=message, unknown=unknown):
            return Verdict(None if unknown else False, reason, message, progressing=True, stalled=False)
        case Stop(restart=restart):
            reason, message = _DOING[NoteRestart if restart is not None else Stop]
            return Verdict(False, reason, message, progressing=True, stalled=False)
        case _:
            reason, message = _DOING[type(step)]
            return Verdict(False, reason, message, progressing=True, stalled=False)


def verdict_of_error(error: OperatorError) -> Verdict:
    """The same for a pass that ended in an error."""
    match error:
        case NeedsHuman():
            return Verdict(False, error.reason, error.message, progressing=False, stalled=True)
        case Waiting():
            return Verdict(False, error.reason, error.message, progressing=True, stalled=False)
        case Unreachable():
            return Verdict(None, error.reason, error.message, progressing=True, stalled=False)
        case _:
            return Verdict(False, error.reason, error.message, progressing=True, stalled=False)


def summarise(
    conditions: Sequence[Condition], verdict: Verdict, *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """Ready, Reconciling and Stalled, for any kind."""
    result = tuple(condition for condition in conditions if condition.type != PAUSED)
    for name, state in (
        ("Ready", verdict.ready),
        ("Reconciling", verdict.progressing),
        ("Stalled", verdict.stalled),
    ):
        result = set_condition(
            result, name, state, verdict.reason, verdict.message, generation=generation, now=now
        )
    return result


def asks_anew(was: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether Stalled, which is True ``now``, asks a person for something that ``was`` not asked before.

    Another message is news only after an edit, as it may hold figures that change by themselves.
    """
    asks_the_same = all(was.get(field) == now[field] for field in ("status", "reason"))
    edited = was.get("observedGeneration") != now.get("observedGeneration")
    return not asks_the_same or (edited and was["message"] != now["message"])


def paused_message(what: str) -> str:
    """What is said of an object while it, or its ProxmoxCluster, is paused."""
    return f"{what} is paused: nothing is read or written until the annotation {ANNOTATION} is removed"


def paused_conditions(
    conditions: Sequence[Condition], message: str, *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The conditions as they were, and that nobody keeps them up to date."""
    result = tuple(conditions)
    if not any(condition.type == "Ready" for condition in result):
        result = set_condition(result, "Ready", None, PAUSED, message, generation=generation, now=now)
    return set_condition(result, PAUSED, True, PAUSED, message, generation=generation, now=now)


def vm_conditions(facts: Facts, verdict: Verdict) -> tuple[Condition, ...]:
    """All conditions of a ProxmoxVM after a pass that has these facts.

    What was not looked at, because a task of ours is running, keeps its conditions.
    """
    generation, now = facts.vm.metadata.generation, facts.now
    result = summarise(facts.vm.status.conditions, verdict, generation=generation, now=now)
    unseen = facts.existence is None and facts.vm.status.vmid is not None
    for name, (state, reason, message) in {
        "Provisioned": _provisioned(facts),
        "Synced": _synced(facts),
    }.items():
        if not unseen or find_condition(result, name) is None:
            result = set_condition(result, name, state, reason, message, generation=generation, now=now)
    if unseen:
        return result
    if isinstance(facts.existence, Present) and facts.existence.owner in (Owner.OURS, Owner.UNMARKED):
        required, reason, message, _ = outlook(facts)
        if required or find_condition(result, "RestartRequired") is not None:
            result = set_condition(
                result, "RestartRequired", required, reason, message, generation=generation, now=now
            )
    verdict_of_ha = ha_verdict(facts)
    if verdict_of_ha is None:
        result = tuple(condition for condition in result if condition.type != "HighlyAvailable")
    else:
        state, reason, message = verdict_of_ha
        result = set_condition(
            result, "HighlyAvailable", state, reason, message, generation=generation, now=now
        )
    held = facts.existence.diff.held if isinstance(facts.existence, Present) else ()
    if held or find_condition(result, "DisksPending") is not None:
        reason = held[0].reason if held else "NothingPending"
        message = "; ".join(each.message for each in held)[:1000] or "no change of a disk waits"
        result = set_condition(
            result, "DisksPending", bool(held), reason, message, generation=generation, now=now
        )
    if facts.vm.spec.readiness.agent:
        state, reason, message = _agent(facts)
        result = set_condition(
            result, "AgentConnected", state, reason, message, generation=generation, now=now
        )
    if matters(facts.vm):
        boot = DONE if facts.vm.status.cloud_init_done else facts.first_boot or NOT_RUNNING
        result = set_condition(
            result, "CloudInit", boot.holds, boot.reason, boot.message, generation=generation, now=now
        )
    return result


def _agent(facts: Facts) -> tuple[bool | None, str, str]:
    if not isinstance(facts.existence, Present) or facts.existence.power != "Running":
        return None, "NotRunning", "the guest agent answers only while the VM runs"
    for wait in facts.ready_checks:
        if wait.reason == "AgentNotConnected":
            return False, wait.reason, wait.message
    return True, "AgentConnected", "the guest agent answers"


def _provisioned(facts: Facts) -> tuple[bool | None, str, str]:
    match facts.existence:
        case Present(owner=Owner.OURS | Owner.UNMARKED, node=node):
            return True, "Provisioned", f"VM {facts.vm.status.vmid} exists on {node}"
        case Present(owner=Owner.PENDING, lock="destroyed"):
            return False, "Destroying", f"VM {facts.vm.status.vmid} is half destroyed"
        case Present(owner=Owner.PENDING):
            return False, "Cloning", f"VM {facts.vm.status.vmid} is being cloned"
        case Present():
            return False, "IdentityConflict", f"VM {facts.vm.status.vmid} is not ours"
        case Unknown(reason=reason, message=message):
            return None, reason, message
        case Absent():
            return False, "Absent", f"VM {facts.vm.status.vmid} does not exist"
        case _:
            return False, "NotCreated", "no VM has been created yet"


def _synced(facts: Facts) -> tuple[bool | None, str, str]:
    existence = facts.existence
    if not isinstance(existence, Present) or existence.owner not in (Owner.OURS, Owner.UNMARKED):
        return None, "NotObserved", "the config has not been compared yet"
    if existence.diff.problems:
        problem = existence.diff.problems[0]
        return False, problem.reason, problem.message
    if due := existence.diff.due():
        return False, "OutOfSync", "; ".join(due)[:1000]
    waiting = ", but for what waits (DisksPending)" if existence.diff.held else ""
    return True, "InSync", f"the config says what the spec says{waiting}"


def plan_sentences(facts: Facts) -> tuple[str, ...]:
    """``status.plan``: what would be written, then what waits for a cold boot."""
    existence = facts.existence
    if facts.vm.spec.management == "Observe":
        sentences = list(differences(facts))
    else:
        sentences = list(existence.diff.sentences()) if isinstance(existence, Present) else []
        sentences += ha_sentences(facts)
    if isinstance(existence, Present):
        sentences += [f"at the next cold boot: {change.sentence()}" for change in existence.pending]
    sentences += [late] if (late := comes_too_late(facts.vm)) is not None else []
    if len(sentences) > PLAN_LENGTH:
        sentences = [*sentences[:PLAN_LENGTH], f"and {len(sentences) - PLAN_LENGTH} more"]
    return tuple(sentences)
