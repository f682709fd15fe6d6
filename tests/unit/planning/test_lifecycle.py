"""The next step in the life of a VM, case by case."""

from dataclasses import replace
from datetime import timedelta

import pytest

from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.lifecycle import (
    Absent,
    Blocked,
    Bury,
    Claimed,
    Clone,
    Configure,
    Destroy,
    EndMove,
    Follow,
    GrowDisks,
    Hold,
    Migrate,
    MoveDisk,
    Reclaim,
    RecordStart,
    Release,
    Reserve,
    Settled,
    Start,
    Stop,
    Unknown,
    Wait,
    plan,
)
from proxmox_operator.planning.moving import Staying
from proxmox_operator.planning.placement import Unschedulable
from proxmox_operator.planning.vmconfig import ConfigDiff, Grow, Held, Move, Problem, Put
from unit.planning.make import GOING, INTENT, PLACE, a_vm, facts, later, made, present

CHANGED = ConfigDiff(puts=(Put(key="cores", value="4", was="2"),))
TOO_SMALL = ConfigDiff(grows=(Grow(slot="scsi0", size=20 << 30, was=2 << 30),))
MISPLACED = ConfigDiff(moves=(Move(slot="scsi1", volume="a:1", storage="b"),))
HELD = ConfigDiff(held=(Held(reason="DiskInUse", message="mounted"),))
IMPOSSIBLE = ConfigDiff(puts=CHANGED.puts, problems=(Problem(reason="DiskMissing", message="attach it"),))
UNPROTECT = ConfigDiff(puts=(Put(key="protection", value="0", was="1"),))
UNSEEN = Unknown(reason="Unreachable", message="nothing answered")
FULL = Unschedulable(reasons={"pve1": "MemoryFull"})
STUB = present(owner=Owner.PENDING, lock="clone", power="Unknown")
FOREIGN = present(owner=Owner.FOREIGN)
MINE = Claimed(vmid=10007, uuid="u", own=True, granted=True)
THEIRS = Claimed(vmid=10007, uuid="u", own=False, granted=False)
GRANTED = Claimed(vmid=10007, uuid="u", own=False, granted=True)
FROM = {"place": PLACE}
FRESH = made(started=False, provisioning=INTENT)
NEVER_STARTED = made(started=False)
STOP = Stop(grace=timedelta(minutes=3), force=True)


def what(step):
    """A step as the tables name it: its type, and the reason of one that waits or is blocked."""
    return (type(step), step.reason) if isinstance(step, Wait | Blocked | Settled) else type(step)


def table(*rows):
    return pytest.mark.parametrize(
        ("facts_", "expected"),
        [pytest.param(given, then, id=sentence) for sentence, given, then in rows],
    )


NEW, OLD = a_vm(), a_vm(status=made())


@table(
    ("the finalizer comes before anything else", facts(a_vm(held=False), **FROM), Hold),
    ("then a VMID is reserved", facts(NEW, **FROM), Reserve),
    ("a search that is not complete waits", facts(NEW, existence=UNSEEN, **FROM), (Wait, "Unreachable")),
    (
        "what is not granted is not begun",
        facts(a_vm(held=False), denied=("x",), **FROM),
        (Blocked, "AccessDenied"),
    ),
    ("no node fits", facts(NEW, place=FULL), (Blocked, "Unschedulable")),
    ("nothing is known of the source yet", facts(NEW), (Wait, "Waiting")),
    ("our mark is found: taken back", facts(NEW, claimed=MINE), Reclaim),
    ("a mark of another cluster with a grant", facts(NEW, claimed=GRANTED), Reclaim),
    ("a mark of another cluster without a grant", facts(NEW, claimed=THEIRS), (Blocked, "IdentityConflict")),
    ("a mark found is worth more than a place", facts(NEW, claimed=MINE, **FROM), Reclaim),
)
def test_an_object_without_a_vm(facts_, expected):
    assert what(plan(facts_)) == expected


MAKING = a_vm(status=FRESH)


@table(
    ("proven absent: cloned", facts(MAKING, existence=Absent(), **FROM), Clone),
    (
        "proven absent, but the record cannot be followed: recorded anew before the call",
        facts(MAKING, existence=Absent(), place=replace(PLACE, node="pve9")),
        Reserve,
    ),
    ("not proven: waits", facts(MAKING, existence=UNSEEN, **FROM), (Wait, "Unreachable")),
    ("not looked at: waits", facts(MAKING, **FROM), (Wait, "NotObserved")),
    ("absent, source unknown", facts(MAKING, existence=Absent()), (Wait, "Waiting")),
    ("being cloned by us", facts(MAKING, existence=STUB, working="Cloning"), (Wait, "Cloning")),
    ("a stub that nobody works on", facts(MAKING, existence=STUB), (Blocked, "StuckLock")),
    (
        "a clone of ours with a lock left",
        facts(MAKING, existence=present(lock="clone")),
        (Blocked, "StuckLock"),
    ),
    ("the VMID is taken: another one", facts(MAKING, existence=FOREIGN, **FROM), Reserve),
    (
        "taken, and nothing granted any more",
        facts(MAKING, existence=FOREIGN, denied=("x",)),
        (Blocked, "AccessDenied"),
    ),
    (
        "taken, and no place",
        facts(MAKING, existence=FOREIGN, place=FULL),
        (Blocked, "Unschedulable"),
    ),
    (
        "the very VMID that was asked for is taken",
        facts(a_vm(status=FRESH, vmid=10000), existence=FOREIGN, **FROM),
        (Blocked, "VMIDTaken"),
    ),
    ("cloned: configured", facts(MAKING, existence=present(power="Stopped", diff=CHANGED)), Configure),
    ("configured: moved", facts(MAKING, existence=present(power="Stopped", diff=MISPLACED)), MoveDisk),
    ("configured: grown", facts(MAKING, existence=present(power="Stopped", diff=TOO_SMALL)), GrowDisks),
    ("grown: the start is recorded first", facts(MAKING, existence=present(power="Stopped")), RecordStart),
    ("recorded: started", facts(OLD, existence=present(power="Stopped")), Start),
    ("started: settled", facts(OLD, existence=present()), (Settled, "Running")),
    (
        "the object is new but its VM is gone before it was ever started: reserved anew, as no intent is recorded",
        facts(a_vm(status=NEVER_STARTED), existence=Absent(), **FROM),
        Reserve,
    ),
)
def test_a_vm_in_the_making(facts_, expected):
    assert what(plan(facts_)) == expected


WAITS = Wait(reason="AgentNotConnected", message="not yet")


@table(
    (
        "stopped behind our back, and a config that cannot be: it runs again all the same",
        facts(OLD, existence=present(power="Stopped", diff=IMPOSSIBLE)),
        Start,
    ),
    (
        "never started, and a config that cannot be: not started",
        facts(a_vm(status=NEVER_STARTED), existence=present(power="Stopped", diff=IMPOSSIBLE)),
        (Blocked, "DiskMissing"),
    ),
    ("gone after it ran: a person decides", facts(OLD, existence=Absent(), **FROM), (Blocked, "Missing")),
    ("cannot be seen: nothing is done", facts(OLD, existence=UNSEEN), (Wait, "Unreachable")),
    ("somebody else's VM under our VMID", facts(OLD, existence=FOREIGN), (Blocked, "IdentityConflict")),
    (
        "a foreign VM is named before a lost grant",
        facts(OLD, existence=FOREIGN, denied=("x",)),
        (Blocked, "IdentityConflict"),
    ),
    (
        "a grant taken back stops writes",
        facts(OLD, existence=present(diff=CHANGED), denied=("x",)),
        (Blocked, "AccessDenied"),
    ),
    ("the config differs", facts(OLD, existence=present(diff=CHANGED)), Configure),
    ("the mark was lost", facts(OLD, existence=present(owner=Owner.UNMARKED, diff=CHANGED)), Configure),
    (
        "what cannot be written stops the rest",
        facts(OLD, existence=present(diff=IMPOSSIBLE)),
        (Blocked, "DiskMissing"),
    ),
    ("a finalizer taken away is put back", facts(a_vm(status=made(), held=False), existence=present()), Hold),
    ("stopped behind our back", facts(OLD, existence=present(power="Stopped")), Start),
    (
        "the node is shutting down",
        facts(OLD, existence=present(power="Stopped", hold="stopall")),
        (Wait, "PowerOnHold"),
    ),
    ("paused by a person", facts(OLD, existence=present(power="Paused")), (Wait, "Paused")),
    ("power not reported", facts(OLD, existence=present(power="Unknown")), (Wait, "PowerUnknown")),
    (
        "power not reported, and not ours to set: still no verdict",
        facts(a_vm(status=made(), power="Unmanaged"), existence=present(power="Unknown")),
        (Wait, "PowerUnknown"),
    ),
    ("to be stopped", facts(a_vm(status=made(), power="Stopped"), existence=present()), Stop),
    (
        "stopped and left to others",
        facts(a_vm(status=made(), power="Unmanaged"), existence=present(power="Stopped")),
        (Settled, "Stopped"),
    ),
    (
        "a backup makes no settled VM unready",
        facts(OLD, existence=present(lock="backup")),
        (Settled, "Running"),
    ),
    (
        "a change waits for the backup",
        facts(OLD, existence=present(lock="backup", diff=CHANGED)),
        (Wait, "Locked"),
    ),
    (
        "a start waits for the lock",
        facts(OLD, existence=present(lock="backup", power="Stopped")),
        (Wait, "Locked"),
    ),
    ("hibernated", facts(OLD, existence=present(lock="suspended", power="Stopped")), (Wait, "Locked")),
    (
        "restored in its place: never called left over",
        facts(OLD, existence=present(lock="create")),
        (Wait, "Locked"),
    ),
    ("the same without its mark", facts(OLD, existence=STUB), (Wait, "Locked")),
    ("half destroyed", facts(OLD, existence=present(lock="destroyed")), (Blocked, "StuckLock")),
    ("a disk is on the wrong storage", facts(OLD, existence=present(diff=MISPLACED)), MoveDisk),
    (
        "it is moved before it grows: the storage may be the one that is full",
        facts(OLD, existence=present(diff=replace(MISPLACED, grows=TOO_SMALL.grows))),
        MoveDisk,
    ),
    (
        "a VM that ran is up again before its disks grow",
        facts(OLD, existence=present(power="Stopped", diff=TOO_SMALL)),
        Start,
    ),
    (
        "and down again before",
        facts(a_vm(status=made(), power="Stopped"), existence=present(diff=TOO_SMALL)),
        Stop,
    ),
    (
        "options are written first",
        facts(OLD, existence=present(diff=replace(MISPLACED, puts=CHANGED.puts))),
        Configure,
    ),
    (
        "a move on record is looked after first",
        facts(OLD, existence=present(diff=MISPLACED, moved=())),
        EndMove,
    ),
    (
        "a move that was not answered may still come",
        facts(OLD, existence=present(diff=MISPLACED, moved=()), settles_at=later(20)),
        (Wait, "Settling"),
    ),
    (
        "also where none is wanted any more",
        facts(OLD, existence=present(moved=()), settles_at=later(20)),
        (Wait, "Settling"),
    ),
    (
        "it can come no more",
        facts(OLD, existence=present(diff=MISPLACED, moved=()), settles_at=later(-1)),
        EndMove,
    ),
    (
        "it keeps no VM down",
        facts(OLD, existence=present(power="Stopped", diff=MISPLACED, moved=()), settles_at=later(20)),
        Start,
    ),
    (
        "a disk that the guest holds on to makes no VM unready",
        facts(OLD, existence=present(diff=HELD)),
        (Settled, "Running"),
    ),
    (
        "nor does it wait for a lock",
        facts(OLD, existence=present(diff=HELD, lock="backup")),
        (Settled, "Running"),
    ),
    (
        "the agent is waited for",
        facts(OLD, existence=present(), ready_checks=(WAITS,)),
        (Wait, "AgentNotConnected"),
    ),
    ("a task recorded by a newer version", facts(OLD, working="Teleporting"), (Wait, "Teleporting")),
)
def test_a_vm_that_exists(facts_, expected):
    assert what(plan(facts_)) == expected


def going(status=None, **spec):
    return a_vm(status=made() if status is None else status, deleting=True, **spec)


OFF = present(power="Stopped")
WITH_LEFTOVERS = replace(OFF, detached=("local-lvm:vm-10000-disk-3",))


@table(
    ("running: shut down first", facts(going(), existence=present()), Stop),
    ("stopped: destroyed", facts(going(), existence=OFF), Destroy),
    ("its mark lost, its UUID ours", facts(going(), existence=replace(OFF, owner=Owner.UNMARKED)), Destroy),
    ("gone: let go", facts(going(), existence=Absent()), Release),
    ("cannot be seen: held", facts(going(), existence=UNSEEN), (Wait, "Unreachable")),
    ("not looked at: held", facts(going()), (Wait, "NotObserved")),
    ("a destroy of ours is running", facts(going(), working="Destroying"), (Wait, "Destroying")),
    (
        "an unanswered call may come late",
        facts(going(), existence=Absent(), settles_at=later(20)),
        (Wait, "Settling"),
    ),
    ("it can come no more", facts(going(), existence=Absent(), settles_at=later(-1)), Release),
    ("somebody else's VM", facts(going(), existence=FOREIGN), (Blocked, "IdentityConflict")),
    ("ours is given up", facts(going(deletionPolicy="Retain"), existence=FOREIGN), Release),
    ("ours never came to be", facts(going(FRESH), existence=FOREIGN), Release),
    ("kept: the mark becomes a tombstone", facts(going(deletionPolicy="Retain"), existence=present()), Bury),
    (
        "the tombstone is set",
        facts(going(deletionPolicy="Retain"), existence=present(owner=Owner.UNMARKED)),
        Release,
    ),
    ("locked", facts(going(), existence=replace(OFF, lock="backup")), (Wait, "Locked")),
    (
        "locked and kept",
        facts(going(deletionPolicy="Retain"), existence=replace(OFF, lock="migrate")),
        (Wait, "Locked"),
    ),
    ("a stub left by a dead worker", facts(going(FRESH), existence=STUB), (Blocked, "StuckLock")),
    ("protected by the spec", facts(going(protection=True), existence=OFF), (Blocked, "Protected")),
    (
        "protected by a person in Proxmox",
        facts(going(), existence=replace(OFF, protected=True)),
        (Blocked, "Protected"),
    ),
    (
        "protected by us, no longer wanted: cleared first",
        facts(
            going(made(protectionSet=True), protection=False),
            existence=replace(OFF, protected=True, diff=UNPROTECT),
        ),
        Configure,
    ),
    (
        "protected by us, the block left out since: stays",
        facts(going(made(protectionSet=True)), existence=replace(OFF, protected=True)),
        (Blocked, "Protected"),
    ),
    (
        "detached disks would die with it",
        facts(going(), existence=WITH_LEFTOVERS),
        (Blocked, "DetachedDisks"),
    ),
    ("unless that is wanted", facts(going(detachedDisks="Delete"), existence=WITH_LEFTOVERS), Destroy),
    (
        "destroyed but for a volume: let go all the same",
        facts(going(), existence=Absent(), left=("local-lvm:vm-10000-disk-3",)),
        Release,
    ),
    (
        "a delay: shut down first",
        facts(going(deletionDelay="1h"), existence=present()),
        Stop,
    ),
    (
        "then kept for so long",
        facts(going(deletionDelay="1h"), existence=OFF),
        (Wait, "DeletionDelayed"),
    ),
    ("the delay is over", replace(facts(going(deletionDelay="1h"), existence=OFF), now=later(3600)), Destroy),
    ("power not reported", facts(going(), existence=present(power="Unknown")), (Wait, "PowerUnknown")),
    ("the node stops it itself", facts(going(), existence=present(hold="stopall")), (Wait, "PowerOnHold")),
    ("a paused VM is shut down too", facts(going(), existence=present(power="Paused")), Stop),
    ("drift no longer matters", facts(going(), existence=replace(OFF, diff=IMPOSSIBLE)), Destroy),
    ("a lost grant does not keep it", facts(going(), existence=OFF, denied=("x",)), Destroy),
    ("never made", facts(going({})), Release),
    ("never made, as far as can be told", facts(going({}), existence=UNSEEN), (Wait, "Unreachable")),
    ("its status was lost: taken back, to be destroyed", facts(going({}), claimed=MINE), Reclaim),
    ("not ours to take back", facts(going({}), claimed=THEIRS), Release),
    (
        "granted, but of another cluster: a deletion takes nobody else's VM",
        facts(going({}), claimed=GRANTED),
        Release,
    ),
    (
        "nothing is held",
        facts(a_vm(status=made(), deleting=True, held=False), existence=OFF),
        (Settled, "Deleted"),
    ),
    ("managed before, only observed now", facts(going(management="Observe"), existence=OFF), Release),
)
def test_an_object_that_goes_away(facts_, expected):
    assert what(plan(facts_)) == expected


def watched(status=None, **spec):
    return a_vm(status=made() if status is None else status, management="Observe", held=False, **spec)


@table(
    ("as it should be", facts(watched(), existence=present()), (Settled, "Running")),
    ("it differs", facts(watched(), existence=present(diff=CHANGED)), (Blocked, "OutOfSync")),
    ("it is stopped", facts(watched(), existence=OFF), (Blocked, "OutOfSync")),
    ("there is none", facts(watched({})), (Blocked, "ObserveOnly")),
    (
        "its VMID is taken during its creation",
        facts(watched(FRESH), existence=FOREIGN, **FROM),
        (Blocked, "VMIDTaken"),
    ),
    ("gone", facts(watched(NEVER_STARTED), existence=Absent(), **FROM), (Blocked, "ObserveOnly")),
    ("a task of before is still running", facts(watched(FRESH), working="Cloning"), (Wait, "Cloning")),
    ("cannot be seen", facts(watched(), existence=UNSEEN), (Wait, "Unreachable")),
)
def test_an_object_that_only_looks(facts_, expected):
    assert what(plan(facts_)) == expected


def test_a_stop_carries_the_grace_of_the_spec():
    gentle = going(shutdown={"gracePeriod": "90s", "force": False})
    assert plan(facts(gentle, existence=present())) == Stop(grace=timedelta(seconds=90), force=False)
    assert plan(facts(going(), existence=present())) == STOP


def test_settling_waits_exactly_as_long_as_a_late_call_may_take():
    step = plan(facts(going(), existence=Absent(), settles_at=later(12.5)))
    assert step.after == 12.5


@pytest.mark.parametrize(
    ("facts_", "parts"),
    [
        (facts(OLD, existence=Absent()), ("10000", "backup", "delete this object")),
        (facts(MAKING, existence=STUB), ("as root on pve1", "qm unlock 10000 && qm destroy 10000 --purge")),
        (facts(OLD, existence=FOREIGN), ("10000", "pve1", "not touched", "Retain")),
        (facts(going(), existence=WITH_LEFTOVERS), ("local-lvm:vm-10000-disk-3", "spec.detachedDisks")),
        (facts(going(protection=True), existence=OFF), ("spec.protection",)),
        (facts(OLD, existence=present(), denied=("no a", "no b")), ("no a; no b", "spec.access")),
        (facts(NEW, claimed=THEIRS), ("10007", "access[].recover")),
    ],
)
def test_what_a_person_reads_names_the_thing_and_the_remedy(facts_, parts):
    message = plan(facts_).message
    assert [part for part in parts if part not in message] == []


def test_nobody_is_told_to_destroy_a_vm_that_was_started():
    for lock in ("clone", "create"):
        step = plan(facts(OLD, existence=present(lock=lock)))
        assert "qm unlock" in step.message
        assert "destroy" not in step.message


REFUSED = Staying(reason="MoveRefused", message="no bridge")
QUEUED = Staying(reason="MoveQueued", message="one at a time", waits=60.0)
STUCK = Staying(reason="StuckLock", message="qm unlock 10000")
LOST_POWER = present(power="Stopped")


@table(
    ("a VM that is elsewhere is followed first", facts(OLD, existence=present(node="pve2", diff=CHANGED)), Follow),
    ("also before it is destroyed",
     facts(a_vm(status=made(), deleting=True), existence=present(node="pve2", power="Stopped")), Follow),
    ("one that is being made is where it is",
     facts(a_vm(status=FRESH), existence=present(node="pve2", power="Stopped")), RecordStart),
    ("a VM goes where it is to be", facts(OLD, existence=present(), move=GOING), Migrate),
    ("before its config is written", facts(OLD, existence=present(diff=CHANGED), move=GOING), Migrate),
    ("also when that cannot be written here", facts(OLD, existence=present(diff=IMPOSSIBLE), move=GOING), Migrate),
    ("before it is started", facts(OLD, existence=LOST_POWER, move=GOING), Migrate),
    ("where it cannot go it is kept as wanted", facts(OLD, existence=LOST_POWER, move=REFUSED), Start),
    ("and configured", facts(OLD, existence=present(diff=CHANGED), move=REFUSED), Configure),
    ("its disks grow, which may be the remedy", facts(OLD, existence=present(diff=TOO_SMALL), move=REFUSED), GrowDisks),
    ("then it says why it stays", facts(OLD, existence=present(), move=REFUSED), (Blocked, "MoveRefused")),
    ("or what it waits for", facts(OLD, existence=present(), move=QUEUED), (Wait, "MoveQueued")),
    ("a move that runs is waited for", facts(OLD, working="Moving"), (Wait, "Moving")),
    ("a dead migration's lock needs a person",
     facts(OLD, existence=present(lock="migrate"), move=STUCK), (Blocked, "StuckLock")),
    ("also when the VM is to be deleted",
     facts(a_vm(status=made(), deleting=True), existence=present(lock="migrate"), move=STUCK),
     (Blocked, "StuckLock")),
)  # fmt: skip
def test_moving(facts_, expected):
    assert what(plan(facts_)) == expected


def test_a_move_tells_how_far_it_has_come():
    assert plan(facts(OLD, working="Moving", progress="memory: 40 %")).message == (
        "Proxmox is moving the VM to another node (memory: 40 %)"
    )
