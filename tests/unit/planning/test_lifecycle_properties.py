"""What holds for every step that is ever planned, whatever the facts are.

The facts are drawn from every combination, also those that no reading brings about: the plan must not rest on luck.
"""

from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.api.names import FINALIZER
from proxmox_operator.planning import report
from proxmox_operator.planning.adoption import Adoptee
from proxmox_operator.planning.availability import HA, HAResource
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.lifecycle import (
    Absent,
    Adopt,
    AlignHA,
    Blocked,
    Bury,
    Claimed,
    ClearHAError,
    Clone,
    Configure,
    Destroy,
    Due,
    GrowDisks,
    Hold,
    JoinHA,
    LeaveHA,
    Migrate,
    MoveDisk,
    Present,
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
    plan,
)
from proxmox_operator.planning.lifecycle.restarting import under_way
from proxmox_operator.planning.moving import Staying
from proxmox_operator.planning.placement import Unschedulable
from proxmox_operator.planning.vmconfig import ConfigDiff, Grow, Held, Move, PendingChange, Problem, Put
from unit.planning.make import GOING, INTENT, MARK, NOW, PLACE, UUID, a_vm, facts, later, present

HA_STEPS = (JoinHA, AlignHA, ClearHAError, LeaveHA, SetRule)
TOUCHES = (
    Adopt,
    Clone,
    Configure,
    MoveDisk,
    GrowDisks,
    Migrate,
    RecordStart,
    Start,
    Stop,
    Destroy,
    Bury,
    Reclaim,
    *HA_STEPS,
)
"""Steps that change something in Proxmox, or announce it."""

OURS = (Owner.OURS, Owner.UNMARKED)
LOCKS = (None, "backup", "clone", "create", "destroyed", "migrate", "rollback", "snapshot", "suspended")
PUT = Put(key="cores", value="2", was="1")
UNPROTECT = Put(key="protection", value="0", was="1")
DIFFS = (
    ConfigDiff(),
    ConfigDiff(puts=(PUT,)),
    ConfigDiff(puts=(PUT, UNPROTECT)),
    ConfigDiff(grows=(Grow(slot="scsi0", size=2, was=1),)),
    ConfigDiff(moves=(Move(slot="scsi0", volume="a:1", storage="b"),)),
    ConfigDiff(held=(Held(reason="DiskInUse", message="mounted"),)),
    ConfigDiff(puts=(PUT,), problems=(Problem(reason="DiskMissing", message="gone"),)),
)
WAITS = PendingChange(key="cores", was="1", becomes="2", field="spec.cpu.cores")
NOT_OURS = PendingChange(key="vga", was=None, becomes="std")
STAYING = Staying(reason="MoveRefused", message="no bridge")
STUCK = Staying(reason="StuckLock", message="qm unlock")
UNSEEN = Unknown(reason="Unreachable", message="nothing answered")


def mostly(usual, *others):
    """``usual`` in most cases, so that the facts get past the first checks and all the others meet too."""
    return st.sampled_from((usual,) * 4 * len(others) + others)


def presents(**fixed):
    usual = {
        "node": st.just("pve1"),
        "power": st.sampled_from(("Running", "Stopped", "Paused", "Unknown")),
        "lock": mostly(None, *LOCKS),
        "owner": mostly(Owner.OURS, *Owner),
        "diff": st.sampled_from(DIFFS),
        "detached": mostly((), ("local-lvm:vm-10000-disk-3",)),
        "protected": mostly(False, True),
        "hold": mostly(None, "the node is shutting down"),
        "pending": st.sampled_from(((), (WAITS,), (NOT_OURS,))),
        "restart": mostly(None, Due(cause="token=1", why="asked for")),
        "obstacle": mostly(None, "the node has no such bridge"),
        "booted_after": st.sampled_from((None, later(-60), later(60))),
        "moved": mostly(None, (), ("a:1",)),
    }
    return st.builds(Present, **(usual | fixed))


EXISTENCES = st.one_of(st.none(), st.just(Absent()), st.just(UNSEEN), *[presents()] * 5)

STATUS = {
    "vmid": mostly(10000, None),
    "uuid": mostly(UUID, None),
    "started": st.booleans(),
    "provisioning": st.sampled_from((None, INTENT)),
    "protectionSet": st.booleans(),
    "restartedFor": mostly(None, "1"),
    "restart": mostly(
        None,
        *(
            {"cause": cause, "phase": phase, "since": NOW.isoformat()}
            for cause in ("token=1", "pending=0")
            for phase in ("Stopping", "Starting", "TimedOut", "NotApplied")
        ),
    ),
}
WINDOW = {"start": "02:00", "end": "04:00"}
ADOPTS = {"adopt": {"vmid": 104}}
SPEC = {
    "source": mostly({"clone": {"vmid": 9000}}, ADOPTS),
    "power": st.sampled_from(("Running", "Stopped", "Unmanaged")),
    "management": mostly("Manage", "Observe"),
    "deletionPolicy": mostly("Delete", "Retain"),
    "detachedDisks": st.sampled_from(("Keep", "Delete")),
    "protection": mostly(None, True, False),
    "vmid": mostly(None, 10000),
    "shutdown": mostly({}, {"force": False}),
    "readiness": mostly({}, {"agent": True}),
    "availability": st.sampled_from((None, {"ha": True}, {"ha": False}, {"ha": True, "maxRestart": 2})),
    "updates": mostly({}, {"restart": "Automatic"}, {"restart": "Automatic", "window": WINDOW}),
}

RESOURCES = st.builds(
    HAResource,
    state=st.sampled_from(("started", "stopped", "disabled", "ignored")),
    comment=st.sampled_from(("ours", "by hand")),
)
ADOPTEES = st.builds(
    Adoptee,
    vmid=st.sampled_from((104, 105)),
    node=st.just("pve1"),
    kind=mostly("VM", "template", "container"),
    holder=mostly(None, "ProxmoxVM db/pg"),
    lock=mostly(None, *LOCKS),
    mark=mostly(None, MARK),
    uuid=st.sampled_from((None, UUID)),
    description=mostly("notes", "x" * 8000),
)
HAS = st.builds(
    HA,
    resource=st.one_of(st.none(), RESOURCES),
    state=st.sampled_from((None, "started", "stopped", "request_stop", "error", "ignored")),
    unreadable=mostly(None, "it cannot be read"),
    lacking=mostly(None, "grant it"),
    local=mostly((), ("scsi0 on local-lvm",)),
    comment=st.just("ours"),
    asked=st.sampled_from((None, "Running", "Stopped")),
)


@st.composite
def objects(draw, /, *, deleting=None, **fixed):
    status = draw(st.fixed_dictionaries(STATUS | {key: fixed[key] for key in fixed.keys() & STATUS.keys()}))
    spec = draw(st.fixed_dictionaries(SPEC | {key: fixed[key] for key in fixed.keys() & SPEC.keys()}))
    status, spec = (
        {key: value for key, value in each.items() if value is not None} for each in (status, spec)
    )
    gone = draw(st.booleans() if deleting is None else st.just(deleting))
    return a_vm(status=status, deleting=gone, held=draw(mostly(True, False)), **spec)


def all_facts(vm=None, **fixed):
    """Facts of every combination, but for what is ``fixed``."""
    usual = {
        "denied": mostly((), ("no",)),
        "existence": EXISTENCES,
        "working": mostly(None, "Cloning", "Stopping", "Destroying", "Teleporting"),
        "settles_at": st.sampled_from((None, later(-1), later(30))),
        "claimed": mostly(
            None,
            *(
                Claimed(vmid=10007, uuid="u", own=own, granted=granted)
                for own, granted in ((True, True), (False, True), (False, False))
            ),
        ),
        "adoptees": st.one_of(st.none(), st.lists(ADOPTEES, max_size=2).map(tuple)),
        "place": mostly(PLACE, None, Unschedulable(reasons={"pve1": "MemoryFull"})),
        "ready_checks": mostly((), (Wait(reason="AgentNotConnected", message="not yet"),)),
        "ha": st.one_of(st.none(), HAS),
        "stop_failed": mostly(None, "the guest did not obey"),
        "move": mostly(None, GOING, STAYING, STUCK),
        "progress": mostly(None, "memory: 40 %"),
    }
    return st.builds(facts, objects() if vm is None else vm, **(usual | fixed))


FACTS = all_facts()
RESERVED = {"vmid": st.just(10000)}

always = settings(deadline=None, max_examples=150)


@given(FACTS)
@always
def test_there_is_a_step_for_all_facts_and_a_person_can_read_it(given_facts):
    step = plan(given_facts)
    assert isinstance(step, Step)
    conditions = report.vm_conditions(given_facts, report.verdict_of_step(step))
    assert {"Ready", "Reconciling", "Stalled", "Provisioned", "Synced"} <= {each.type for each in conditions}
    assert all(each.reason and each.message for each in conditions)
    report.plan_sentences(given_facts)


@given(FACTS)
@always
def test_the_same_facts_give_the_same_step(given_facts):
    assert plan(given_facts) == plan(given_facts)


@given(all_facts(objects(**RESERVED), existence=st.sampled_from((None, UNSEEN))))
@always
def test_nothing_is_touched_that_cannot_be_seen(given_facts):
    step = plan(given_facts)
    assert not isinstance(step, (*TOUCHES, Reserve))
    assert not isinstance(step, Release) or given_facts.vm.spec.management == "Observe"


@given(all_facts(objects(**RESERVED), existence=presents(owner=st.just(Owner.FOREIGN))))
@always
def test_a_vm_of_somebody_else_is_never_touched(given_facts):
    assert not isinstance(plan(given_facts), TOUCHES)


@given(all_facts(objects(**RESERVED), existence=presents(owner=st.just(Owner.PENDING))))
@always
def test_a_stub_without_a_mark_is_never_touched(given_facts):
    assert not isinstance(plan(given_facts), TOUCHES)


@given(all_facts(objects(**RESERVED), existence=presents(lock=st.sampled_from(LOCKS[1:]))))
@always
def test_a_locked_vm_is_never_touched(given_facts):
    assert not isinstance(plan(given_facts), TOUCHES)


@given(all_facts(objects(**RESERVED), working=st.sampled_from(("Cloning", "Stopping", "Teleporting"))))
@always
def test_while_a_task_of_ours_runs_nothing_else_is_begun(given_facts):
    step = plan(given_facts)
    unbound = given_facts.vm.metadata.deletion_timestamp is not None
    assert isinstance(step, Wait) or (unbound and isinstance(step, Settled | Release))


@given(all_facts(objects(deleting=False), existence=st.one_of(st.just(Absent()), EXISTENCES)))
@always
def test_a_clone_is_made_only_where_absence_is_proven_and_nothing_was_ever_started(given_facts):
    if isinstance(plan(given_facts), Clone):
        vm = given_facts.vm
        assert isinstance(given_facts.existence, Absent)
        assert not vm.status.started
        assert vm.status.vmid is not None
        assert vm.status.provisioning is not None
        assert not given_facts.denied


@given(FACTS)
@always
def test_only_what_the_object_may_delete_is_destroyed(given_facts):
    if isinstance(plan(given_facts), Destroy):
        vm, existence = given_facts.vm, given_facts.existence
        assert vm.metadata.deletion_timestamp is not None
        assert vm.spec.on_deletion == "Delete"
        assert vm.spec.management == "Manage"
        assert not vm.spec.protection
        assert isinstance(existence, Present)
        assert existence.owner in OURS
        assert existence.power == "Stopped"
        assert not existence.protected
        assert existence.lock is None
        assert not existence.detached or vm.spec.detached_disks == "Delete"


@given(all_facts(objects(management=st.just("Observe"))))
@always
def test_an_object_that_only_looks_changes_nothing(given_facts):
    assert not isinstance(plan(given_facts), (*TOUCHES, Reserve, Hold))


@given(all_facts(objects(deleting=False), denied=st.just(("no",))))
@always
def test_without_a_grant_nothing_is_made_and_nothing_is_changed(given_facts):
    assert isinstance(plan(given_facts), Blocked | Wait)


@given(
    all_facts(
        objects(**RESERVED),
        existence=st.one_of(
            presents(hold=st.just("the node is shutting down")),
            presents(power=st.sampled_from(("Paused", "Unknown"))),
        ),
    )
)
@always
def test_a_paused_vm_or_one_on_hold_keeps_its_power_state(given_facts):
    step, existence = plan(given_facts), given_facts.existence
    deleting = given_facts.vm.metadata.deletion_timestamp is not None
    assert not isinstance(step, Start | RecordStart)
    assert not isinstance(step, Stop) or (deleting and existence.power == "Paused" and existence.hold is None)


@given(all_facts(objects(deleting=False, started=st.just(True), **RESERVED), existence=st.just(Absent())))
@always
def test_what_was_ever_started_is_never_made_anew(given_facts):
    assert isinstance(plan(given_facts), Blocked | Wait | Hold)


@given(FACTS)
@always
def test_the_power_is_changed_only_towards_what_is_wanted(given_facts):
    vm, step = given_facts.vm, plan(given_facts)
    restarting = under_way(vm) is not None
    if isinstance(step, Start | RecordStart):
        assert vm.spec.wanted_power == "Running" or restarting
        assert restarting or vm.status.started == isinstance(step, Start)
    if isinstance(step, Stop) and step.restart is None:
        assert vm.spec.wanted_power == "Stopped" or vm.metadata.deletion_timestamp is not None


@given(FACTS)
@always
def test_a_vm_is_shut_down_to_be_started_again_only_while_it_runs_and_nothing_stands_in_the_way(given_facts):
    vm, step, existence = given_facts.vm, plan(given_facts), given_facts.existence
    if isinstance(step, Stop) and step.restart is not None:
        assert vm.spec.wanted_power != "Stopped"
        assert (existence.power, existence.lock, existence.hold) == ("Running", None, None)
        assert under_way(vm) is not None or existence.obstacle is None
        assert under_way(vm) is None or under_way(vm).phase == "Stopping"


@given(
    all_facts(
        objects(deleting=False, started=st.just(True), **RESERVED),
        existence=presents(power=st.just("Stopped")),
        ha=st.none(),
    )
)
@always
def test_a_vm_that_was_shut_down_to_be_started_again_is_started_whatever_its_config_lacks(given_facts):
    vm, existence = given_facts.vm, given_facts.existence
    begun = under_way(vm) is not None and vm.spec.management == "Manage" and vm.spec.wanted_power != "Stopped"
    free = existence.lock is None and existence.hold is None and existence.owner in OURS
    if begun and free and not given_facts.denied and not given_facts.working:
        assert not isinstance(plan(given_facts), Settled | Blocked | Stop)


@given(FACTS)
@always
def test_an_object_is_let_go_only_when_nothing_of_it_is_left_or_it_is_given_up(given_facts):
    if isinstance(plan(given_facts), Release):
        vm, existence = given_facts.vm, given_facts.existence
        assert vm.metadata.deletion_timestamp is not None
        if vm.status.vmid and isinstance(existence, Present) and existence.owner is not Owner.FOREIGN:
            assert vm.spec.on_deletion == "Retain" or vm.spec.management == "Observe"


@given(FACTS)
@always
def test_ready_is_claimed_only_for_a_vm_that_is_seen_and_ours(given_facts):
    step = plan(given_facts)
    if isinstance(step, Settled) and given_facts.vm.metadata.deletion_timestamp is None:
        existence = given_facts.existence
        assert isinstance(existence, Present)
        assert existence.owner in OURS
        assert existence.power != "Unknown" or given_facts.vm.spec.management == "Observe"
        assert existence.diff.idle or given_facts.vm.spec.management == "Observe"
        assert given_facts.vm.spec.wanted_power in ("Unmanaged", existence.power)


@given(all_facts(objects(**RESERVED), existence=presents()))
@always
def test_ha_is_written_only_for_who_asks_and_where_it_may_be(given_facts):
    step, vm, ha = plan(given_facts), given_facts.vm, given_facts.ha
    if isinstance(step, HA_STEPS):
        assert ha is not None
        assert ha.unreadable is None
        assert ha.lacking is None
        assert vm.metadata.deletion_timestamp is not None or vm.spec.availability is not None
    if isinstance(step, JoinHA):
        assert vm.spec.availability.ha
        assert ha.resource is None
        assert not ha.local
    if isinstance(step, LeaveHA) and vm.metadata.deletion_timestamp is None:
        assert not vm.spec.availability.ha
        assert ha.is_ours(vm)


@given(all_facts(objects(deleting=True, **RESERVED), existence=presents()))
@always
def test_nothing_that_is_under_ha_is_destroyed(given_facts):
    if isinstance(plan(given_facts), Destroy):
        ha = given_facts.ha
        assert ha is None or (ha.resource is None and not ha.governs)


@given(all_facts(objects(deleting=False, **RESERVED), existence=presents(), ha=HAS))
@always
def test_a_vm_under_ha_is_asked_for_nothing_that_was_asked_already(given_facts):
    step, ha = plan(given_facts), given_facts.ha
    if ha.governs and ha.asked == given_facts.vm.spec.wanted_power:
        assert not isinstance(step, Start | Stop)
    if ha.failed:
        assert not isinstance(step, Start | Stop)


def test_of_all_ways_to_delete_exactly_the_safe_ones_destroy():
    """Not sampled: every one of them."""
    destroyed = 0
    for policy, management, detached_disks, protection, started in product(
        ("Delete", "Retain"), ("Manage", "Observe"), ("Keep", "Delete"), (None, True, False), (True, False)
    ):
        vm = a_vm(
            status={"vmid": 10000, "uuid": UUID, "started": started},
            deleting=True,
            deletionPolicy=policy,
            management=management,
            detachedDisks=detached_disks,
            protection=protection,
        )
        for owner, power, lock, detached, protected in product(
            Owner, ("Running", "Stopped", "Paused", "Unknown"), LOCKS, ((), ("x",)), (True, False)
        ):
            existence = present(owner=owner, power=power, lock=lock, detached=detached, protected=protected)
            safe = (
                (policy, management, power) == ("Delete", "Manage", "Stopped")
                and owner in OURS
                and lock is None
                and not protection
                and not protected
                and (not detached or detached_disks == "Delete")
            )
            assert isinstance(plan(facts(vm, existence=existence)), Destroy) == safe
            destroyed += safe
    assert destroyed == 24


@given(all_facts(objects(**RESERVED), move=st.sampled_from((GOING, STAYING, STUCK))))
@always
def test_a_vm_is_moved_only_where_it_is_to_go_and_one_that_stays_is_never_called_ready(given_facts):
    step, existence = plan(given_facts), given_facts.existence
    managed = given_facts.vm.spec.management == "Manage"
    if isinstance(step, Migrate):
        assert managed
        assert given_facts.move is GOING
        assert given_facts.vm.metadata.deletion_timestamp is None
        assert existence.owner in OURS
    if isinstance(step, Settled) and managed and given_facts.vm.metadata.deletion_timestamp is None:
        assert given_facts.move is GOING
        assert existence.lock  # which no reading brings about together


@given(all_facts(objects(source=st.just(ADOPTS))))
@always
def test_an_object_that_adopts_never_makes_a_vm(given_facts):
    assert not isinstance(plan(given_facts), Clone | Reserve | RecordStart)


@given(FACTS)
@always
def test_only_one_unlocked_vm_that_is_nobodys_is_taken_over_by_an_object_that_holds_on(given_facts):
    step = plan(given_facts)
    if isinstance(step, Adopt):
        vm, [found] = given_facts.vm, given_facts.adoptees
        assert step.adoptee == found
        assert (found.kind, found.holder, found.mark, found.lock) == ("VM", None, None, None)
        assert vm.spec.source.adopt is not None
        assert vm.spec.management == "Manage"
        assert FINALIZER in vm.metadata.finalizers
        assert vm.metadata.deletion_timestamp is None
        assert not given_facts.denied
        assert given_facts.claimed is None
