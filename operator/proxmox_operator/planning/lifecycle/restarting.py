"""Restarts: when a running VM is shut down in order to be started again, and how far that has come.

One is due for another value of the restart annotation, or, with ``updates.restart: Automatic`` and inside the window,
for changes of managed keys that wait for a cold boot. What is recorded in ``status.restart`` before the shutdown makes
it one restart whoever dies in between: a VM seen stopped is started again, one seen running afterwards is done. A boot
by anybody counts. A VM that is off needs no restart: its next start is one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from proxmox_operator.api import ProxmoxVM, Restart, find_condition
from proxmox_operator.api.names import RESTART
from proxmox_operator.planning.lifecycle.checks import on_hold, settling, stop, the_vm
from proxmox_operator.planning.lifecycle.facts import Facts, Power, Present
from proxmox_operator.planning.lifecycle.ha import error_message, through_ha
from proxmox_operator.planning.lifecycle.steps import Due, NoteRestart, Start, Step, Stop, Wait
from proxmox_operator.planning.vmconfig import PendingChange, fingerprint
from proxmox_operator.planning.window import next_span

_TOKEN, _PENDING = "token=", "pending="

TOKEN_LENGTH = 63
"""Longer values of the annotation are recorded by a hash of theirs."""


def under_way(vm: ProxmoxVM) -> Restart | None:
    """The restart that has begun and is not over."""
    restart = vm.status.restart
    return restart if restart is not None and restart.under_way else None


def token_of(vm: ProxmoxVM) -> str | None:
    """The value of the restart annotation, as it is recorded; an empty one says nothing."""
    value = vm.metadata.annotations.get(RESTART) or None
    if value is None or len(value) <= TOKEN_LENGTH:
        return value
    return hashlib.sha256(value.encode()).hexdigest()[:TOKEN_LENGTH]


def is_wished(vm: ProxmoxVM) -> bool:
    """Whether the object alone says that there is a restart to be made or to be finished."""
    if vm.spec.management == "Observe":
        return False
    return under_way(vm) is not None or token_of(vm) not in (None, vm.status.restarted_for)


def awaits_window(vm: ProxmoxVM) -> bool:
    """Whether changes wait that the VM may be restarted for, so that the window's opening matters."""
    required = find_condition(vm.status.conditions, "RestartRequired")
    return vm.spec.updates.restart == "Automatic" and required is not None and required.status == "True"


def due(vm: ProxmoxVM, power: Power, pending: Sequence[PendingChange], now: datetime) -> Due | None:
    """The restart that is to begin now; locks, the node and a boot that would fail may still stand in its way."""
    return None if under_way(vm) is not None else _asked(vm, power, pending, now)


def _asked(vm: ProxmoxVM, power: Power, pending: Sequence[PendingChange], now: datetime) -> Due | None:
    """The restart that object, changes and window ask for now, begun or not."""
    if (
        power != "Running"
        or vm.spec.wanted_power == "Stopped"
        or vm.spec.management == "Observe"
        or vm.metadata.deletion_timestamp is not None
    ):
        return None
    token, failed = token_of(vm), vm.status.restart
    if token not in (None, vm.status.restarted_for):
        return Due(cause=f"{_TOKEN}{token}", why=f"the annotation {RESTART} asks for it")
    cause, span = cause_of(pending), _span(vm, now)
    if vm.spec.updates.restart != "Automatic" or cause is None or span is None or span > now:
        return None
    if failed is not None and not failed.under_way and failed.cause == cause:
        obeys_now = failed.phase == "TimedOut" and vm.spec.shutdown.force
        if not obeys_now:
            return None
    return Due(cause=cause, why=f"changes wait for it: {_sentences(_managed(pending))}")


def begin(facts: Facts) -> Step | None:
    """Begin the restart that is due, unless something stands in its way, which makes no VM unready."""
    present = the_vm(facts)
    if present.restart is None or present.power != "Running":
        return None
    if present.lock or present.hold or present.obstacle or _ha_objects(facts):
        return None
    return _shut_down(facts, present.restart)


def go_on(facts: Facts) -> Step | None:
    """The next step of a restart that is under way."""
    vm, present = facts.vm, the_vm(facts)
    restart = under_way(vm)
    if restart is None:
        return None
    fulfilled = restart.cause.removeprefix(_TOKEN) if restart.cause.startswith(_TOKEN) else None
    if vm.spec.wanted_power == "Stopped":
        return NoteRestart(restart=None, restarted_for=fulfilled or vm.status.restarted_for)
    if present.power == "Stopped":
        if restart.phase == "Stopping":
            starting = restart.model_copy(update={"phase": "Starting"})
            # Whatever the annotation says by now: the boot that follows is what it asks for.
            latest = token_of(vm) or fulfilled or vm.status.restarted_for
            return NoteRestart(restart=starting, restarted_for=latest)
        if facts.ha is not None and facts.ha.governs:
            return through_ha(facts, facts.ha)
        return on_hold(present) or Start()
    if present.power == "Paused":
        message = "the VM is paused in Proxmox; its restart goes on when it is resumed"
        return Wait(reason="Paused", message=message, after=60)
    if restart.phase == "Starting" or _booted_since(present, restart):
        return _over(facts, restart, fulfilled)
    if facts.stop_failed is not None:
        failed = restart.model_copy(update={"phase": "TimedOut"})
        told = f"the VM was left running: {facts.stop_failed}"
        return NoteRestart(
            restart=failed, restarted_for=fulfilled or vm.status.restarted_for, told=told, failed=True
        )
    unanswered = "whether Proxmox was asked to shut the VM down is not known; it may still do so"
    if (wait := settling(facts, unanswered)) is not None:
        return wait
    again = _asked(vm, present.power, present.pending, facts.now)
    if again is None:  # taken back, or the window has closed, and the guest was never shut down
        return NoteRestart(restart=None, restarted_for=vm.status.restarted_for)
    if facts.ha is not None and facts.ha.governs:
        step = through_ha(facts, facts.ha)
        return replace(step, restart=again) if isinstance(step, Stop) else step
    return on_hold(present) or _shut_down(facts, again)


def _ha_objects(facts: Facts) -> str | None:
    """Why the HA manager is not to be asked for a restart."""
    if facts.ha is None or not facts.ha.governs:
        return None
    if facts.ha.failed:
        return error_message(facts)
    if not facts.vm.spec.shutdown.force:
        return (
            "the HA manager switches it off when the grace period is over, and spec.shutdown.force is false: set it to "
            "true, or stop and start the VM yourself"
        )
    return None


def _shut_down(facts: Facts, restart: Due) -> Stop:
    how = stop(facts.vm)
    return Stop(grace=how.grace, force=how.force, restart=restart)


def _over(facts: Facts, restart: Restart, fulfilled: str | None) -> NoteRestart:
    """The VM has been booted; if what it was booted for still waits, another boot would not help."""
    vm, present = facts.vm, the_vm(facts)
    restarted_for = vm.status.restarted_for  # recorded when it was seen stopped
    if restart.phase == "Stopping":
        restarted_for = fulfilled or restarted_for
    if restart.cause == cause_of(present.pending):
        failed = restart.model_copy(update={"phase": "NotApplied"})
        told = f"the VM was restarted, and these changes still wait: {_sentences(present.pending)}"
        return NoteRestart(restart=failed, restarted_for=restarted_for, told=told, failed=True)
    told = f"VM {vm.status.vmid} runs again on {present.node}"
    return NoteRestart(restart=None, restarted_for=restarted_for, told=told)


def _booted_since(present: Present, restart: Restart) -> bool:
    """Whether it was certainly booted after the restart began.

    A live migration makes a new QEMU process, too, which boots nothing and applies nothing: an uptime counts on the
    same node only, and not while the same changes wait.
    """
    return (
        present.node == restart.node
        and present.booted_after is not None
        and present.booted_after > restart.since
        and restart.cause != cause_of(present.pending)
    )


class Recorded(NamedTuple):
    """What the status keeps of restarts."""

    restart: Restart | None
    restarted_for: str | None


def recorded(vm: ProxmoxVM, present: Present) -> Recorded:
    """What is still true of the record after a pass that has seen the VM: a failure until what it was about has gone,
    and a wish that is fulfilled by the next start, as the VM is off."""
    restart, restarted_for = vm.status.restart, vm.status.restarted_for
    if under_way(vm) is not None:
        return Recorded(restart, restarted_for)
    if present.power == "Stopped":
        return Recorded(None, token_of(vm) or restarted_for)
    if restart is not None and restart.cause.startswith(_PENDING):
        restart = restart if restart.cause == cause_of(present.pending) else None
    elif restart is not None and _booted_since(present, restart):
        restart = None
    return Recorded(restart, restarted_for)


class Outlook(NamedTuple):
    """The condition RestartRequired, and the moment from which on something else may be true of it."""

    required: bool
    reason: str
    message: str
    again: datetime | None = None


def outlook(facts: Facts) -> Outlook:
    """Whether something waits for a cold boot, and when that will come."""
    vm, present, now = facts.vm, the_vm(facts), facts.now
    pending, failed = present.pending, recorded(vm, present).restart
    waiting = _sentences(pending)
    if under_way(vm) is not None:
        return Outlook(True, "Restarting", _join(waiting, "the VM is being restarted"))
    if present.restart is not None:
        return _in_the_way(facts, present.restart, waiting)
    if failed is not None and failed.phase == "TimedOut":
        remedy = (
            f"the guest did not shut down within {vm.spec.shutdown.grace_period} and was left running: stop and start "
            "the VM yourself, or set spec.shutdown.force to true"
        )
        another = f" and another value of the annotation {RESTART}" if failed.cause.startswith(_TOKEN) else ""
        return Outlook(True, "ShutdownTimedOut", _join(waiting, remedy + another))
    if not pending:
        return Outlook(False, "NothingPending", "no change waits for a cold boot")
    if failed is not None:
        message = (
            "the restart did not apply them and is not repeated; Proxmox's log of the start may tell why"
        )
        return Outlook(True, "NotApplied", _join(waiting, message))
    if vm.spec.updates.restart == "Automatic" and vm.spec.management == "Manage" and _managed(pending):
        opens = _span(vm, now)
        if opens is not None and opens > now:
            local = f"{opens:%Y-%m-%d %H:%M} UTC"
            message = f"the VM is restarted in the maintenance window, which opens at {local}"
            return Outlook(True, "OutsideWindow", _join(waiting, message), again=opens)
    message = f"stop and start the VM, or set the annotation {RESTART}"
    return Outlook(True, "PendingChanges", _join(waiting, message))


def _in_the_way(facts: Facts, due: Due, waiting: str) -> Outlook:
    present, now = the_vm(facts), facts.now
    if (objection := _ha_objects(facts)) is not None:
        message = f"the VM is not restarted: {objection}"
        return Outlook(True, "HAForbids", _join(waiting, message), again=now + timedelta(seconds=60))
    if present.obstacle is not None:
        message = f"the VM is not restarted, as it would not start again: {present.obstacle}"
        return Outlook(True, "WouldNotStart", _join(waiting, message), again=now + timedelta(seconds=60))
    if present.lock is not None:
        message = f"the restart waits: Proxmox has locked the VM ({present.lock})"
        return Outlook(True, "Locked", _join(waiting, message), again=now + timedelta(seconds=30))
    if present.hold is not None:
        message = f"the restart waits: {present.hold}"
        return Outlook(True, "PowerOnHold", _join(waiting, message), again=now + timedelta(seconds=10))
    return Outlook(True, "Restarting", _join(waiting, f"the VM is about to be restarted: {due.why}"))


def cause_of(pending: Sequence[PendingChange]) -> str | None:
    """What a restart for these changes is recorded as; None where the spec manages none of them."""
    managed = _managed(pending)
    return f"{_PENDING}{fingerprint(managed)}" if managed else None


def _managed(pending: Sequence[PendingChange]) -> list[PendingChange]:
    return [change for change in pending if change.field is not None]


def _span(vm: ProxmoxVM, now: datetime) -> datetime | None:
    """When the window opens, or has opened; None where its time zone is unknown."""
    window = vm.spec.updates.window
    if window is None:
        return now
    span = next_span(window, now)
    return span.opens if span is not None else None


def _sentences(pending: Sequence[PendingChange]) -> str:
    """At most ten of them."""
    told = [change.sentence() for change in pending[:10]]
    return "; ".join(told + ([f"and {len(pending) - 10} more"] if len(pending) > 10 else []))


def _join(waiting: str, rest: str) -> str:
    return f"{waiting[:700]}; {rest}" if waiting else rest
