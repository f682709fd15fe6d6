"""What holds for every plan for a copy that is built, whatever the facts are."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.api import CopyBuild
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.templates import (
    Again,
    BuildOn,
    Bury,
    Convert,
    Destroy,
    FailBuild,
    Finish,
    Gone,
    Look,
    RemoveSeed,
    Stop,
    There,
    conditions,
    plan,
)
from unit.planning.make import NOW, later
from unit.planning.making_templates import OLD, a_copy, a_template, facts, seen
from unit.planning.test_template_build import BUILD, SEED, VERSION
from unit.planning.test_template_properties import TROUBLES, mostly

FLAG = st.booleans()
PHASES = ("Seeding", "Attaching", "Starting", "Running", "Stopping", "Stripping")
STATES = ("Creating", "Building", "Failed", "Converting", "Ready", "Removing")
OURS = (Owner.OURS, Owner.UNMARKED)

STANDINGS = st.one_of(
    st.just(Gone()),
    st.builds(
        There,
        node=st.just("pve1"),
        owner=mostly(Owner.OURS, *Owner),
        lock=mostly(None, "backup", "clone"),
        is_template=mostly(False, True),
        complete=mostly(True, False),
        running=FLAG,
        draft=FLAG,
        seeded=FLAG,
    ),
)
BUILDS = st.one_of(
    st.none(),
    st.builds(
        CopyBuild,
        phase=st.sampled_from(PHASES),
        step=st.integers(0, 3),
        begun=st.sampled_from((NOW, later(-7200))),
        seed=st.sampled_from((None, SEED)),
        failure=mostly(None, "BuildStepFailed"),
        generation=st.sampled_from((None, 3)),
        message=st.just("it failed"),
    ),
)
LOOKS = st.one_of(
    st.none(),
    st.builds(
        Look,
        state=st.sampled_from(("Running", "Ended", "Rebooted", "Silent", "Refused")),
        code=mostly(0, 1),
        output=st.sampled_from(("", "some words")),
    ),
)


@st.composite
def all_facts(draw):
    spec: dict[str, Any] = {"build": BUILD | {"keepFailed": draw(FLAG)}} if draw(mostly(True, False)) else {}
    template = a_template(
        nodes=["pve1"],
        deleting=draw(FLAG),
        deletionPolicy=draw(st.sampled_from(("Delete", "Retain"))),
        **spec,
    )
    copy = a_copy(version=draw(mostly(VERSION, OLD)), state=draw(st.sampled_from(STATES)), build=draw(BUILDS))
    each = seen(
        draw(STANDINGS),
        copy,
        working=draw(mostly(False, True)),
        failed=draw(mostly(None, *TROUBLES)),
        settles_at=draw(st.sampled_from((None, later(-1), later(1)))),
        look=draw(LOOKS),
        look_due=draw(FLAG),
        build_failed=draw(mostly(None, *TROUBLES)),
    )
    return facts(template, version=VERSION, copies=(each,))


def steps_of(given_facts, *kinds):
    """The steps of these kinds, each beside how its copy stands."""
    (each,) = given_facts.copies
    found = [step for step in plan(given_facts).steps if isinstance(step, kinds)]
    return [(step, each) for step in found]


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_there_is_a_plan_and_a_person_can_read_it(given_facts):
    todo = plan(given_facts)
    shown = conditions((), given_facts, todo, generation=3, now=NOW)
    assert all(each.reason.isalnum() and each.message for each in shown)
    assert all(trouble.message and trouble.reason.isalnum() for trouble in todo.troubles)


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_no_draft_becomes_a_template_or_is_left_as_one(given_facts):
    for _, each in steps_of(given_facts, Convert, Finish, Bury):
        assert not each.standing.draft
        assert not each.standing.seeded
        assert each.copy.build is None or each.copy.build.failure is None
        assert not (each.copy.build is not None and each.standing.owner is Owner.UNMARKED)


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_only_a_running_draft_that_is_ours_is_stopped(given_facts):
    for _, each in steps_of(given_facts, Stop):
        there = each.standing
        assert (there.draft, there.running, there.lock, each.working) == (True, True, None, False)
        assert there.owner in OURS
        assert each.copy.state != "Ready"


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_only_what_is_wanted_and_ours_is_built_and_what_failed_is_not_built_on(given_facts):
    for _, each in steps_of(given_facts, BuildOn, FailBuild):
        there = each.standing
        assert given_facts.template.metadata.deletion_timestamp is None
        assert given_facts.template.spec.build is not None
        assert each.copy.version == VERSION
        assert each.copy.state in ("Creating", "Building", "Converting")
        assert there.owner in OURS
        assert (there.lock, there.is_template, there.complete) == (None, False, True)


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_nothing_that_runs_is_destroyed_of_a_build_that_is_wanted(given_facts):
    if given_facts.template.metadata.deletion_timestamp is None:
        for _, each in steps_of(given_facts, Destroy):
            assert each.copy.version != VERSION or not each.standing.running


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_a_copy_is_made_again_only_after_it_is_gone_and_its_seed_too(given_facts):
    for _, each in steps_of(given_facts, Again):
        assert (each.standing, each.copy.build.seed, each.build_failed) == (Gone(), None, None)


@given(all_facts())
@settings(max_examples=100, deadline=None)
def test_no_seed_goes_that_a_vm_still_needs(given_facts):
    for _, each in steps_of(given_facts, RemoveSeed):
        assert each.standing == Gone() or not each.standing.draft
