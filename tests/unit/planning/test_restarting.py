"""When a VM is restarted, how that goes on, and what a person reads of it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from proxmox_operator.api.names import RESTART
from proxmox_operator.planning.lifecycle import (
    Blocked,
    Configure,
    Due,
    NoteRestart,
    Settled,
    Start,
    Stop,
    Wait,
    plan,
    restarting,
)
from proxmox_operator.planning.vmconfig import ConfigDiff, PendingChange, Problem, Put
from unit.planning.make import NOW, a_vm, facts, later, made, present

CORES = PendingChange(key="cores", was="1", becomes="2", field="spec.cpu.cores")
MEMORY = PendingChange(key="memory", was="512", becomes="1024", field="spec.memory.size")
THEIRS = PendingChange(key="vga", was=None, becomes="std")
WAITING = restarting.cause_of((CORES,))
OPEN = {"start": "11:00", "end": "13:00"}
SHUT = {"start": "02:00", "end": "04:00", "timeZone": "Europe/Berlin"}
AUTOMATIC = {"updates": {"restart": "Automatic"}}


def record(phase, cause=WAITING, since=NOW, node="pve1"):
    return {"cause": cause, "phase": phase, "since": since.isoformat(), "node": node}


def a_vm_with(token=None, *, restart=None, restarted_for=None, deleting=False, **spec):
    status = made(restart=restart, restartedFor=restarted_for)
    vm = a_vm(
        status={key: value for key, value in status.items() if value is not None}, deleting=deleting, **spec
    )
    annotations = {} if token is None else {RESTART: token}
    return vm.model_copy(update={"metadata": vm.metadata.model_copy(update={"annotations": annotations})})


def cause(vm, *pending, power="Running"):
    found = restarting.due(vm, power, pending, NOW)
    return found and found.cause


@pytest.mark.parametrize(
    ("vm", "pending", "expected"),
    [
        pytest.param(*row, id=sentence)
        for sentence, *row in (
            ("nothing is asked for", a_vm_with(), (), None),
            ("changes wait, and that is all right", a_vm_with(), (CORES,), None),
            ("changes wait and may be restarted for", a_vm_with(**AUTOMATIC), (CORES,), WAITING),
            ("nothing waits", a_vm_with(**AUTOMATIC), (), None),
            ("only somebody else's change waits", a_vm_with(**AUTOMATIC), (THEIRS,), None),
            ("somebody else's waits beside ours", a_vm_with(**AUTOMATIC), (CORES, THEIRS), WAITING),
            (
                "the window is open",
                a_vm_with(updates={"restart": "Automatic", "window": OPEN}),
                (CORES,),
                WAITING,
            ),
            (
                "the window is shut",
                a_vm_with(updates={"restart": "Automatic", "window": SHUT}),
                (CORES,),
                None,
            ),
            (
                "the window is of no zone",
                a_vm_with(updates={"restart": "Automatic", "window": OPEN | {"timeZone": "Mars"}}),
                (CORES,),
                None,
            ),
            ("it is to be stopped", a_vm_with(**AUTOMATIC, power="Stopped"), (CORES,), None),
            (
                "its power is left to others, its restarts are not",
                a_vm_with(**AUTOMATIC, power="Unmanaged"),
                (CORES,),
                WAITING,
            ),
            ("it is only looked at", a_vm_with("1", **AUTOMATIC, management="Observe"), (CORES,), None),
            ("it is being deleted", a_vm_with("1", **AUTOMATIC, deleting=True), (CORES,), None),
            (
                "the same changes wait after a restart for them",
                a_vm_with(restart=record("NotApplied"), **AUTOMATIC),
                (CORES,),
                None,
            ),
            (
                "others wait after a restart",
                a_vm_with(restart=record("NotApplied"), **AUTOMATIC),
                (CORES, MEMORY),
                restarting.cause_of((CORES, MEMORY)),
            ),
            (
                "the guest did not shut down for the same changes",
                a_vm_with(restart=record("TimedOut"), shutdown={"force": False}, **AUTOMATIC),
                (CORES,),
                None,
            ),
            (
                "and is forced to by now",
                a_vm_with(restart=record("TimedOut"), **AUTOMATIC),
                (CORES,),
                WAITING,
            ),
            (
                "a restart is under way",
                a_vm_with("1", restart=record("Stopping"), **AUTOMATIC),
                (CORES,),
                None,
            ),
            ("a token is new", a_vm_with("1"), (), "token=1"),
            ("a token is empty", a_vm_with(""), (), None),
            ("a token is another one", a_vm_with("2", restarted_for="1"), (), "token=2"),
            ("a token is the same", a_vm_with("1", restarted_for="1"), (CORES,), None),
            ("a token was taken away", a_vm_with(None, restarted_for="1"), (), None),
            (
                "a token counts outside the window",
                a_vm_with("1", updates={"restart": "Automatic", "window": SHUT}),
                (),
                "token=1",
            ),
            ("a token is for a VM that is to be stopped", a_vm_with("1", power="Stopped"), (), None),
        )
    ],
)
def test_a_restart_is_due(vm, pending, expected):
    assert cause(vm, *pending) == expected


@pytest.mark.parametrize("power", ["Stopped", "Paused", "Unknown"])
def test_no_restart_is_due_for_a_vm_that_does_not_run(power):
    assert cause(a_vm_with("1", **AUTOMATIC), CORES, power=power) is None


def test_a_long_token_is_recorded_by_its_hash_and_still_told_apart():
    long, longer = a_vm_with("x" * 64), a_vm_with("x" * 65)
    assert len(restarting.token_of(long) or "") == restarting.TOKEN_LENGTH
    assert restarting.token_of(long) != restarting.token_of(longer)
    assert restarting.token_of(a_vm_with("x" * 63)) == "x" * 63


TOKEN = Due(cause="token=1", why="asked for")
IMPOSSIBLE = ConfigDiff(problems=(Problem(reason="DiskMissing", message="attach it"),))
CHANGED = ConfigDiff(puts=(Put(key="cores", value="2", was="1"),))
OFF = present(power="Stopped")
STOPPING = a_vm_with("1", restart=record("Stopping", "token=1"))
STARTING = a_vm_with(restart=record("Starting"))
BEGUN = record("Stopping")


def step(vm, existence, **more):
    found = plan(facts(vm, existence=existence, **more))
    if isinstance(found, Wait | Blocked | Settled):
        return type(found), found.reason
    if isinstance(found, NoteRestart):
        return NoteRestart, found.restart and found.restart.phase, found.restarted_for
    return type(found)


@pytest.mark.parametrize(
    ("vm", "existence", "expected"),
    [
        pytest.param(*row, id=sentence)
        for sentence, *row in (
            ("due: shut down", a_vm_with("1"), present(restart=TOKEN), Stop),
            (
                "due and locked: it stays Ready",
                a_vm_with("1"),
                present(restart=TOKEN, lock="backup"),
                (Settled, "Running"),
            ),
            (
                "due and on hold: it stays Ready",
                a_vm_with("1"),
                present(restart=TOKEN, hold="stopall"),
                (Settled, "Running"),
            ),
            (
                "due and would not start",
                a_vm_with("1"),
                present(restart=TOKEN, obstacle="no bridge"),
                (Settled, "Running"),
            ),
            (
                "what is to be written comes first",
                a_vm_with("1"),
                present(restart=TOKEN, diff=CHANGED),
                Configure,
            ),
            (
                "a config that cannot be brought about is no time to restart",
                a_vm_with("1"),
                present(restart=TOKEN, diff=IMPOSSIBLE),
                (Blocked, "DiskMissing"),
            ),
            ("begun, and still running: asked again", STOPPING, present(), Stop),
            (
                "begun for changes that still wait",
                a_vm_with(restart=BEGUN, **AUTOMATIC),
                present(pending=(CORES,)),
                Stop,
            ),
            (
                "begun, and the window has closed: dropped",
                a_vm_with(restart=BEGUN, updates={"restart": "Automatic", "window": SHUT}),
                present(pending=(CORES,)),
                (NoteRestart, None, None),
            ),
            (
                "begun, and no longer allowed: dropped",
                a_vm_with(restart=BEGUN),
                present(pending=(CORES,)),
                (NoteRestart, None, None),
            ),
            (
                "begun, and the changes were taken back: dropped",
                a_vm_with(restart=BEGUN, **AUTOMATIC),
                present(),
                (NoteRestart, None, None),
            ),
            (
                "begun, and the annotation was taken away: dropped",
                a_vm_with(restart=record("Stopping", "token=1"), restarted_for="0"),
                present(),
                (NoteRestart, None, "0"),
            ),
            (
                "begun, and the annotation is another one",
                a_vm_with("2", restart=record("Stopping", "token=1")),
                present(),
                Stop,
            ),
            (
                "a new QEMU process on another node was a migration, and no boot",
                STOPPING.model_copy(update={"status": STOPPING.status.model_copy(update={"node": "pve2"})}),
                present(node="pve2", booted_after=later(1)),
                Stop,
            ),
            (
                "while the same changes wait there was no boot",
                a_vm_with(restart=BEGUN, **AUTOMATIC),
                present(pending=(CORES,), booted_after=later(1)),
                Stop,
            ),
            ("begun and locked", STOPPING, present(lock="backup"), (Wait, "Locked")),
            ("begun and on hold", STOPPING, present(hold="stopall"), (Wait, "PowerOnHold")),
            ("begun and paused", STOPPING, present(power="Paused"), (Wait, "Paused")),
            ("begun and not told", STOPPING, present(power="Unknown"), (Wait, "PowerUnknown")),
            ("seen stopped", STOPPING, OFF, (NoteRestart, "Starting", "1")),
            (
                "seen stopped: the wish of that moment is fulfilled",
                a_vm_with("2", restart=record("Stopping", "token=1")),
                OFF,
                (NoteRestart, "Starting", "2"),
            ),
            ("to be started again", STARTING, OFF, Start),
            (
                "with unmanaged power too",
                a_vm_with(restart=record("Starting"), power="Unmanaged"),
                OFF,
                Start,
            ),
            (
                "with a config that cannot be brought about too",
                STARTING,
                replace(OFF, diff=IMPOSSIBLE),
                Start,
            ),
            (
                "the node is shutting down meanwhile",
                STARTING,
                replace(OFF, hold="stopall"),
                (Wait, "PowerOnHold"),
            ),
            ("running again: over", STARTING, present(), (NoteRestart, None, None)),
            (
                "seen stopped, the annotation taken away since: the wish it was made for is fulfilled",
                a_vm_with(restart=record("Stopping", "token=1"), restarted_for="0"),
                OFF,
                (NoteRestart, "Starting", "1"),
            ),
            (
                "running again, with the wish of the moment at which it was seen stopped",
                a_vm_with("2", restart=record("Starting", "token=1"), restarted_for="2"),
                present(),
                (NoteRestart, None, "2"),
            ),
            (
                "running again after a token",
                a_vm_with("1", restart=record("Starting", "token=1"), restarted_for="1"),
                present(),
                (NoteRestart, None, "1"),
            ),
            (
                "booted by somebody else before it was seen stopped",
                STOPPING,
                present(booted_after=later(1)),
                (NoteRestart, None, "1"),
            ),
            ("booted before it began", STOPPING, present(booted_after=later(-1)), Stop),
            (
                "the same changes wait afterwards",
                STARTING,
                present(pending=(CORES,)),
                (NoteRestart, "NotApplied", None),
            ),
            (
                "other changes wait afterwards",
                STARTING,
                present(pending=(MEMORY,)),
                (NoteRestart, None, None),
            ),
            (
                "it is to be stopped by now",
                a_vm_with(restart=record("Starting"), power="Stopped"),
                OFF,
                (NoteRestart, None, None),
            ),
            (
                "the config is written first, as it takes effect now",
                STARTING,
                replace(OFF, diff=CHANGED),
                Configure,
            ),
        )
    ],
)
def test_the_next_step_of_a_restart(vm, existence, expected):
    assert step(vm, existence) == expected


def test_a_shutdown_that_may_have_been_asked_for_is_not_asked_for_again_before_it_has_settled():
    assert step(STOPPING, present(), settles_at=later(30)) == (Wait, "Settling")
    assert step(STOPPING, present(), settles_at=later(-1)) is Stop
    assert step(STOPPING, OFF, settles_at=later(30)) == (NoteRestart, "Starting", "1")


def test_a_guest_that_does_not_shut_down_is_left_running_and_not_asked_again():
    token = a_vm_with("1", restart=record("Stopping", "token=1"))
    assert step(token, present(), stop_failed="no answer") == (NoteRestart, "TimedOut", "1")
    assert step(token, OFF, stop_failed="no answer") == (NoteRestart, "Starting", "1")
    given_up = a_vm_with("1", restart=record("TimedOut", "token=1"), restarted_for="1")
    assert step(given_up, present()) == (Settled, "Running")


def shown(vm, existence):
    found = restarting.outlook(facts(vm, existence=existence))
    return found.required, found.reason


@pytest.mark.parametrize(
    ("vm", "existence", "expected"),
    [
        (a_vm_with(), present(), (False, "NothingPending")),
        (a_vm_with(), present(pending=(CORES,)), (True, "PendingChanges")),
        (a_vm_with(**AUTOMATIC), present(pending=(THEIRS,)), (True, "PendingChanges")),
        (STOPPING, present(pending=(CORES,)), (True, "Restarting")),
        (a_vm_with("1"), present(restart=TOKEN), (True, "Restarting")),
        (a_vm_with("1"), present(restart=TOKEN, lock="backup"), (True, "Locked")),
        (a_vm_with("1"), present(restart=TOKEN, hold="stopall"), (True, "PowerOnHold")),
        (a_vm_with("1"), present(restart=TOKEN, obstacle="no bridge"), (True, "WouldNotStart")),
        (a_vm_with(restart=record("NotApplied")), present(pending=(CORES,)), (True, "NotApplied")),
        (a_vm_with(restart=record("NotApplied")), present(pending=(MEMORY,)), (True, "PendingChanges")),
        (a_vm_with(restart=record("NotApplied")), present(), (False, "NothingPending")),
        (a_vm_with(restart=record("TimedOut")), present(pending=(CORES,)), (True, "ShutdownTimedOut")),
        (a_vm_with(restart=record("TimedOut", "token=1")), present(), (True, "ShutdownTimedOut")),
        (
            a_vm_with(restart=record("TimedOut", "token=1")),
            present(booted_after=later(1)),
            (False, "NothingPending"),
        ),
        (a_vm_with(restart=record("TimedOut", "token=1")), OFF, (False, "NothingPending")),
    ],
)
def test_what_a_person_reads_of_a_restart(vm, existence, expected):
    assert shown(vm, existence) == expected


def test_the_next_opening_of_the_window_is_told_and_woken_up_for():
    vm = a_vm_with(updates={"restart": "Automatic", "window": SHUT})
    found = restarting.outlook(facts(vm, existence=present(pending=(CORES,))))
    assert (found.reason, found.again) == ("OutsideWindow", NOW + timedelta(hours=13))
    assert "spec.cpu.cores (cores): 1 -> 2" in found.message
    assert "opens at 2026-11-24 01:00 UTC" in found.message


@pytest.mark.parametrize(
    ("vm", "existence", "phase", "restarted_for"),
    [
        (a_vm_with("1"), present(), None, None),
        (a_vm_with("1"), OFF, None, "1"),
        (a_vm_with(None, restarted_for="1"), OFF, None, "1"),
        (a_vm_with("2", restart=record("Starting"), restarted_for="1"), OFF, "Starting", "1"),
        (a_vm_with(restart=record("NotApplied")), present(pending=(CORES,)), "NotApplied", None),
        (a_vm_with(restart=record("NotApplied")), OFF, None, None),
    ],
)
def test_what_stays_on_record(vm, existence, phase, restarted_for):
    restart, fulfilled = restarting.recorded(vm, existence)
    assert (restart and restart.phase, fulfilled) == (phase, restarted_for)


def test_many_waiting_changes_are_told_in_part():
    many = tuple(replace(CORES, key=f"k{number}") for number in range(40))
    message = restarting.outlook(facts(a_vm_with(), existence=present(pending=many))).message
    assert "and 30 more" in message
    assert len(message) < 1000
