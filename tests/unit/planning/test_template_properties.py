"""What holds for every plan for a VMTemplate, whatever the facts are.

They are drawn from every combination, also those that no reading brings about: the plan must not rest on luck.
"""

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxmox_operator.errors import NeedsHuman, Transient
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.templates import (
    Bury,
    Convert,
    Create,
    DeleteImage,
    Destroy,
    Download,
    Drop,
    Finish,
    Gone,
    Hold,
    Keep,
    Release,
    Reserve,
    There,
    Unclear,
    conditions,
    plan,
    wanted_nodes,
)
from unit.planning.make import NOW, later
from unit.planning.making_templates import CURRENT, OLD, a_copy, a_template, an_image, facts, node, seen

NODES = ("pve1", "pve2", "pve3")
LOCKS = (None, "backup", "clone", "create", "destroyed", "migrate")
OURS = (Owner.OURS, Owner.UNMARKED)
TROUBLES = (NeedsHuman("spec.image: no", reason="ImageInvalid"), Transient("later", reason="LockTimeout"))
FLAG = st.booleans()
ORDERS = ((OLD, "abcdef0123", CURRENT), ("abcdef0123", CURRENT, OLD), (CURRENT,))
TYPES = {"Ready", "Reconciling", "Stalled", "Distributed", "Downloaded"}


def mostly(usual, *others):
    """The usual value as often as all the others together."""
    return st.sampled_from((usual,) * len(others) + others)


STANDINGS = st.one_of(
    st.just(Gone()),
    st.just(Unclear(reason="ExistenceUnknown", message="it cannot be told")),
    st.builds(
        There,
        node=st.sampled_from(NODES),
        owner=mostly(Owner.OURS, *Owner),
        lock=mostly(*LOCKS),
        is_template=FLAG,
        complete=FLAG,
        running=FLAG,
    ),
)


@st.composite
def copies(draw):
    vmids = draw(st.lists(st.integers(10000, 10009), max_size=4, unique=True))
    return tuple(
        seen(
            draw(STANDINGS),
            a_copy(
                vmid,
                node=draw(st.sampled_from((*NODES, "pve9"))),
                version=draw(mostly(CURRENT, OLD, "abcdef0123")),
                state=draw(st.sampled_from(("Creating", "Converting", "Ready", "Removing"))),
            ),
            working=draw(mostly(False, True)),
            failed=draw(mostly(None, *TROUBLES)),
            settles_at=draw(st.sampled_from((None, later(-1), later(1)))),
            making=draw(mostly((), ("shop/web-1",))),
        )
        for vmid in vmids
    )


KNOWN = [
    {"online": False},
    {"refusal": "spec.storage: no"},
    {"image": False},
    {"image": False, "downloading": True},
    *({"image": False, "failed": error} for error in TROUBLES),
    *({"image": True} for _ in range(4)),
]
"""What is known of a node: half of them have the image."""


@st.composite
def all_facts(draw, /, *, deleting=None, held=None):
    from_vm = draw(mostly(False, True))
    spec = {
        "distribution": draw(st.sampled_from(("AllNodes", "OnDemand", "Shared"))),
        "nodes": draw(st.lists(st.sampled_from((*NODES, "pve9")), unique=True)),
        "keepVersions": draw(st.integers(0, 2)),
        "deletionPolicy": draw(st.sampled_from(("Delete", "Retain"))),
        **({"fromVM": {"vmid": 500}} if from_vm else {}),
    }
    template = a_template(
        deleting=draw(FLAG) if deleting is None else deleting,
        held=draw(mostly(True, False)) if held is None else held,
        status={"versions": draw(st.sampled_from(ORDERS))},
        **spec,
    )
    found = draw(copies())
    in_use = draw(st.sets(st.sampled_from([each.copy.vmid for each in found]))) if found else set()
    return facts(
        template,
        shared=draw(FLAG),
        nodes={name: node(name, **draw(st.sampled_from(KNOWN))) for name in NODES[: draw(st.integers(0, 3))]},
        copies=found,
        source=draw(st.sampled_from((None, *NODES))) if from_vm else None,
        asked=frozenset(draw(st.sets(st.sampled_from(NODES)))),
        in_use=dict.fromkeys(in_use, "linked clones use its disks"),
        unused=(an_image(),) if draw(FLAG) else (),
        coming=(an_image("pve2"),) if draw(mostly(False, True)) else (),
        **({"file": None} if draw(mostly(False, True)) else {}),
    )


def about(given_facts, step):
    """The facts of the copy that a step names."""
    return next(each for each in given_facts.copies if each.copy == step.copy)


def steps_of(given_facts, *kinds):
    return [step for step in plan(given_facts).steps if isinstance(step, kinds)]


def touched(given_facts):
    """The facts of copies that are changed in Proxmox."""
    return [about(given_facts, step) for step in steps_of(given_facts, Destroy, Convert, Bury)]


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_there_is_a_plan_for_all_facts_and_a_person_can_read_how_it_stands(given_facts):
    todo = plan(given_facts)
    assert todo == plan(given_facts)
    shown = conditions((), given_facts, todo, generation=3, now=NOW)
    assert {"Ready", "Reconciling", "Stalled"} <= {each.type for each in shown} <= TYPES
    assert all(each.reason.isalnum() and each.message for each in shown)
    assert all(trouble.message and trouble.reason.isalnum() for trouble in todo.troubles)


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_what_is_unclear_or_somebody_elses_is_never_changed(given_facts):
    for each in touched(given_facts):
        assert isinstance(each.standing, There)
        assert each.standing.owner in OURS
        assert not each.working


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_no_copy_goes_from_which_a_vm_is_being_cloned(given_facts):
    for step in steps_of(given_facts, Destroy):
        each = about(given_facts, step)
        wanted_half_made = each.copy.version == CURRENT and not each.standing.complete
        assert each.making == () or wanted_half_made


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_a_locked_copy_is_left_to_whoever_locked_it(given_facts):
    for step in steps_of(given_facts, Destroy, Convert, Finish):
        assert about(given_facts, step).standing.lock is None


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_no_copy_is_in_two_steps_and_no_node_is_reserved_twice(given_facts):
    todo = plan(given_facts)
    vmids = [step.copy.vmid for step in todo.steps if hasattr(step, "copy")]
    assert len(vmids) == len(set(vmids))
    reserved = [name for step in steps_of(given_facts, Reserve) for name in step.nodes]
    assert len(reserved) == len(set(reserved))


@given(all_facts(deleting=False, held=True))
@settings(max_examples=100, deadline=None)
def test_copies_are_reserved_only_where_they_are_wanted_and_can_be(given_facts):
    wanted, have = wanted_nodes(given_facts), {each.copy.node for each in given_facts.current}
    for step in steps_of(given_facts, Reserve):
        assert step.nodes
        for name in step.nodes:
            assert name in wanted
            assert name not in have
            assert given_facts.nodes[name].online
            assert given_facts.nodes[name].refusal is None


@given(all_facts(deleting=True))
@settings(max_examples=100, deadline=None)
def test_nothing_is_made_while_it_is_being_deleted(given_facts):
    assert steps_of(given_facts, Hold, Reserve, Download, Create, Convert, Finish) == []


@given(all_facts(deleting=True))
@settings(max_examples=100, deadline=None)
def test_an_object_is_let_go_only_when_no_copy_is_recorded_and_no_image_is_left(given_facts):
    if steps_of(given_facts, Release):
        assert plan(given_facts).steps == (Release(),)
        assert (given_facts.copies, given_facts.unused, given_facts.coming) == ((), (), ())


@given(all_facts(held=False))
@settings(max_examples=100, deadline=None)
def test_before_kubernetes_keeps_the_object_nothing_else_is_done(given_facts):
    deleting = given_facts.template.metadata.deletion_timestamp is not None
    assert plan(given_facts).steps == (() if deleting else (Hold(),))


@given(all_facts(deleting=False))
@settings(max_examples=100, deadline=None)
def test_a_whole_copy_that_is_wanted_is_never_destroyed(given_facts):
    for step in steps_of(given_facts, Destroy):
        each = about(given_facts, step)
        wanted = each.copy.version == CURRENT and each.copy.node in wanted_nodes(given_facts)
        assert not wanted or not (each.standing.complete or each.standing.is_template)


@given(
    st.permutations(("a", "b", "c")),
    st.dictionaries(st.sampled_from("abc"), st.sampled_from(("Ready", "Creating"))),
    st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_of_the_earlier_versions_that_came_to_be_the_newest_are_kept(order, states, keep):
    made = tuple(
        seen(copy=a_copy(10000 + number, version=version, state=state))
        for number, (version, state) in enumerate(states.items())
    )
    template = a_template(nodes=["pve1"], keepVersions=keep, status={"versions": [*order, CURRENT]})
    going = {step.copy.version for step in steps_of(facts(template, copies=made), Destroy)}
    ready = [version for version in order if states.get(version) == "Ready"]
    assert states.keys() - going == set(ready[max(0, len(ready) - keep) :])


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_what_is_taken_off_the_record_is_gone_or_not_ours(given_facts):
    for step in steps_of(given_facts, Drop):
        standing = about(given_facts, step).standing
        assert standing == Gone() or standing.owner is Owner.FOREIGN


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_a_copy_is_created_only_where_absence_is_proven_and_no_lost_call_may_still_make_it(given_facts):
    for step in steps_of(given_facts, Create):
        each = about(given_facts, step)
        assert (each.standing, each.copy.state, each.failed) == (Gone(), "Creating", None)
        assert each.settles_at is None or each.settles_at <= NOW
        known = given_facts.nodes[each.copy.node]
        assert (known.online, known.refusal) == (True, None)
        assert given_facts.volume is None or known.image is True


@given(all_facts(deleting=False, held=True))
@settings(max_examples=100, deadline=None)
def test_when_all_is_as_wanted_nothing_is_done(given_facts):
    wanted = wanted_nodes(given_facts)
    assume(given_facts.template.spec.distribution != "Shared" or given_facts.shared)
    made = tuple(
        seen(
            There(node=name, owner=Owner.OURS, is_template=True, complete=True), a_copy(10000 + n, node=name)
        )
        for n, name in enumerate(wanted)
    )
    assert plan(replace(given_facts, copies=made, unused=())).steps == ()


@given(all_facts(deleting=True, held=True))
@settings(max_examples=100, deadline=None)
def test_a_template_that_is_to_be_retained_is_not_destroyed(given_facts):
    assume(given_facts.template.spec.deletion_policy == "Retain")
    for step in steps_of(given_facts, Destroy, Bury, Keep):
        assert isinstance(step, Destroy) == (
            about(given_facts, step).copy.state in ("Creating", "Converting")
        )


@given(all_facts(deleting=False))
@settings(max_examples=100, deadline=None)
def test_no_image_goes_while_something_is_being_made_of_one(given_facts):
    if steps_of(given_facts, DeleteImage):
        assert steps_of(given_facts, Reserve, Create, Download) == []
