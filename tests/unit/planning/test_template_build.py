"""The build of a copy: phase by phase, what it fails of, and what may never become a template."""

from datetime import timedelta
from typing import Any

import pytest

from proxmox_operator.api import CopyBuild
from proxmox_operator.errors import NeedsHuman, Transient
from proxmox_operator.planning.identity import Mark, Owner
from proxmox_operator.planning.templates import (
    Again,
    BuildOn,
    Bury,
    Convert,
    Destroy,
    Drop,
    FailBuild,
    Finish,
    Look,
    RemoveSeed,
    Stop,
    There,
    draft,
    is_draft,
    marked_name,
    marked_version,
    plan,
    version_of,
)
from unit.planning.make import NOW, UUID, later
from unit.planning.making_templates import (
    GONE,
    STORAGE,
    a_copy,
    a_spec,
    a_template,
    facts,
    only,
    seen,
    stuck,
)
from unit.planning.making_templates import (
    planned as planned_for,
)

STEPS: list[dict[str, Any]] = [{"name": "web", "packages": ["nginx"]}, {"name": "tidy", "script": "true\n"}]
BUILD: dict[str, Any] = {"steps": STEPS, "network": {"bridge": "vmbr0"}, "seedStorage": "local"}
VERSION = version_of(a_spec(build=BUILD), storage=STORAGE)
SEED = "local:iso/pvm-seed-10000-1b2c3d4e.iso"
OFF = There(node="pve1", owner=Owner.OURS, complete=True, draft=True)
SEEDED = There(node="pve1", owner=Owner.OURS, complete=True, draft=True, seeded=True)
ON = There(node="pve1", owner=Owner.OURS, complete=True, draft=True, seeded=True, running=True)
SEALED = There(node="pve1", owner=Owner.OURS, complete=True)
HALF = There(node="pve1", owner=Owner.OURS, complete=True, seeded=True)
UNMARKED = There(node="pve1", owner=Owner.UNMARKED, complete=True)
TEMPLATE = There(node="pve1", owner=Owner.OURS, complete=True, is_template=True)
DONE, BUSY = Look(state="Ended"), Look(state="Running", output="halfway")


def building(phase="Running", step=0, *, state="Building", **fields):
    """A copy in this phase, since now."""
    usual = {"phase": phase, "step": step, "begun": NOW, "seed": SEED}
    return a_copy(state=state, version=VERSION, build=CopyBuild(**{**usual, **fields}))


def failed(**fields):
    """A copy whose build has failed."""
    reason = {"failure": "BuildStepFailed", "message": "step 1 of 2 (web) ended with exit code 3"}
    return building(**{"state": "Failed", **reason, **fields})


def planned(standing, copy, *, build=BUILD, deleting=False, now=NOW, policy="Delete", **changes):
    template = a_template(nodes=["pve1"], build=build, deleting=deleting, deletionPolicy=policy)
    return planned_for(template, seen(standing, copy, **changes), version=VERSION, now=now)


def step(standing, copy, *, now=NOW, **changes):
    """The only step."""
    template = a_template(nodes=["pve1"], build=BUILD)
    found = plan(facts(template, version=VERSION, now=now, copies=(seen(standing, copy, **changes),)))
    (result,) = found.steps
    return result


# One phase after the other


@pytest.mark.parametrize(
    ("standing", "copy", "look", "next_"),
    [
        (OFF, a_copy(state="Creating", version=VERSION), None, ("Seeding", 0)),
        (OFF, building("Seeding"), None, ("Seeding", 0)),
        (OFF, building("Attaching"), None, ("Attaching", 0)),
        (SEEDED, building("Attaching"), None, ("Starting", 0)),
        (SEEDED, building("Starting"), None, ("Starting", 0)),
        (ON, building("Starting"), None, ("Running", 0)),
        (ON, building("Running", 0), None, ("Running", 0)),
        (ON, building("Running", 0), BUSY, ("Running", 0)),
        (ON, building("Running", 0), DONE, ("Running", 1)),
        (ON, building("Running", 2), DONE, ("Running", 3)),
        (ON, building("Running", 3), DONE, ("Stopping", 3)),
        (ON, building("Stopping", 3), None, ("Stopping", 3)),
        (ON, building("Stopping", 3), DONE, ("Stopping", 3)),
        (SEEDED, building("Stopping", 3), None, ("Stripping", 0)),
        (SEEDED, building("Stripping"), None, ("Stripping", 0)),
        (UNMARKED, building("Stripping"), None, ("Stripping", 0)),
        (HALF, building("Stripping"), None, ("Stripping", 0)),
    ],
)
def test_a_phase_is_repeated_until_what_it_is_for_is_seen(standing, copy, look, next_):
    found = step(standing, copy, look=look)
    assert isinstance(found, BuildOn)
    assert (found.phase, found.step) == next_


def test_a_copy_that_is_sealed_loses_its_seed_and_is_converted():
    copy = building("Stripping")
    assert planned(SEALED, copy) == only(RemoveSeed, copy)
    assert planned(SEALED, building("Stripping", seed=None)) == only(
        Convert, building("Stripping", seed=None)
    )
    converting = building("Stripping", seed=None, state="Converting")
    assert planned(TEMPLATE, converting) == only(Finish, converting)


@pytest.mark.parametrize("phase", ["Seeding", "Starting", "Stopping", "Stripping"])
def test_a_call_whose_answer_was_lost_is_not_repeated_while_it_may_still_come(phase):
    standing = ON if phase == "Stopping" else OFF
    assert planned(standing, building(phase), settles_at=later(1)) == ([], [], 1)


def test_a_guest_is_not_asked_before_it_is_time():
    assert planned(ON, building("Running", 1), look=BUSY, look_due=False) == ([], [], 1)


def test_what_is_awaited_says_how_far_it_is():
    template = a_template(nodes=["pve1"], build=BUILD)
    copies = (seen(ON, building("Running", 2), look=BUSY, look_due=False),)
    (told,) = plan(facts(template, version=VERSION, copies=copies)).working
    assert told == "building copy 10000 on pve1: step 2 of 2 (tidy)"


# What a build fails of


@pytest.mark.parametrize(
    ("standing", "copy", "look", "reason", "words"),
    [
        (
            ON,
            building(step=1),
            Look(state="Ended", code=3, output="E: no mirror"),
            "BuildStepFailed",
            "(web)",
        ),
        (
            ON,
            building(step=1),
            Look(state="Ended", code=3, output="E: no mirror"),
            "BuildStepFailed",
            "E: no mirror",
        ),
        (ON, building(step=0), Look(state="Ended", code=1), "BuildStepFailed", "the first boot"),
        (ON, building(step=3), Look(state="Ended", code=1), "BuildStepFailed", "sealing"),
        (ON, building(step=2), Look(state="Rebooted"), "BuildGuestStopped", "rebooted"),
        (ON, building("Stopping", 3), Look(state="Rebooted"), "BuildGuestStopped", "rebooted"),
        (SEEDED, building("Stopping", 3), Look(state="Rebooted"), "BuildGuestStopped", "rebooted"),
        (ON, building(step=0), Look(state="Refused", output="disabled"), "BuildAgentSilent", "disabled"),
        (SEEDED, building(step=2), BUSY, "BuildGuestStopped", "halfway"),
        (SEEDED, building(step=2), None, "BuildGuestStopped", "step 2 of 2 (tidy)"),
        (ON, building("Seeding"), None, "BuildDisturbed", "started by somebody"),
        (ON, building("Attaching"), None, "BuildDisturbed", "started by somebody"),
        (ON, building("Stripping"), None, "BuildDisturbed", "started by somebody"),
    ],
)
def test_a_build_that_fails_says_where_and_of_what(standing, copy, look, reason, words):
    found = step(standing, copy, look=look)
    assert isinstance(found, FailBuild)
    assert found.reason == reason
    assert words in found.message


@pytest.mark.parametrize(
    ("standing", "copy", "look", "reason"),
    [
        (ON, building(step=1), BUSY, "BuildTimedOut"),
        (ON, building(step=0), Look(state="Silent"), "BuildAgentSilent"),
        (ON, building(step=2), Look(state="Silent"), "BuildAgentSilent"),
        (ON, building("Stopping", 3), Look(state="Silent"), "BuildTimedOut"),
        (OFF, building("Seeding"), None, "BuildTimedOut"),
        (SEEDED, building("Starting"), None, "BuildTimedOut"),
    ],
)
def test_a_build_ends_with_its_time(standing, copy, look, reason):
    assert isinstance(step(standing, copy, look=look), BuildOn)
    found = step(standing, copy, look=look, now=NOW + timedelta(minutes=31))
    assert isinstance(found, FailBuild)
    assert found.reason == reason
    assert "spec.build.timeout" in found.message


def test_a_guest_is_asked_once_more_though_the_time_was_up_while_the_operator_was_away():
    late = NOW + timedelta(hours=2)
    assert isinstance(step(ON, building(step=1), look=None, now=late), BuildOn)
    assert isinstance(step(ON, building("Stopping", 3), look=None, now=late), BuildOn)


@pytest.mark.parametrize(
    ("standing", "copy", "look", "next_"),
    [
        (ON, building(step=1), DONE, ("Running", 2)),
        (ON, building(step=3), DONE, ("Stopping", 3)),
        (ON, building("Stopping", 3), DONE, ("Stopping", 3)),
        (SEEDED, building("Stopping", 3), None, ("Stripping", 0)),
        (SEEDED, building("Attaching"), None, ("Starting", 0)),
        (ON, building("Starting"), None, ("Running", 0)),
    ],
)
def test_what_has_succeeded_is_not_too_late_though_the_operator_was_away(standing, copy, look, next_):
    found = step(standing, copy, look=look, now=NOW + timedelta(hours=2))
    assert isinstance(found, BuildOn)
    assert (found.phase, found.step) == next_


def test_a_guest_that_does_not_shut_down_has_one_more_try_than_there_is_time():
    late, error = NOW + timedelta(hours=2), NeedsHuman("it did not", reason="ShutdownTimeout")
    found = step(ON, building("Stopping", 3), look=DONE, failed=error, now=late)
    assert isinstance(found, FailBuild)
    assert found.reason == "BuildTimedOut"


def test_once_it_is_shut_down_no_time_is_up_any_more():
    assert isinstance(step(SEEDED, building("Stripping"), now=NOW + timedelta(hours=2)), BuildOn)


def test_what_hinders_a_phase_is_shown_and_is_in_the_failure_in_the_end():
    error = Transient("bridge 'vmbr0' does not exist", reason="TaskFailed")
    assert planned(SEEDED, building("Starting"), failed=error) == stuck("TaskFailed")
    found = step(SEEDED, building("Starting"), failed=error, now=NOW + timedelta(hours=1))
    assert "vmbr0" in found.message


# After a failure


def test_a_failed_copy_is_stopped_destroyed_and_made_again():
    assert planned(ON, failed()) == only(Stop, failed())
    assert planned(SEEDED, failed()) == only(Destroy, failed())
    removing = failed(state="Removing")
    assert planned(SEEDED, removing) == only(Destroy, removing)
    assert planned(GONE, removing) == only(RemoveSeed, removing)
    without = failed(state="Removing", seed=None)
    held = NeedsHuman("it ended with 3", reason="BuildStepFailed")
    assert planned(GONE, without, build_failed=held) == stuck("BuildStepFailed")
    assert planned(GONE, without) == only(Again, without)


def test_a_failed_copy_is_kept_where_that_is_wanted_until_it_is_not():
    kept = BUILD | {"keepFailed": True}
    copy = failed(generation=3)
    assert planned(ON, copy, build=kept) == stuck("BuildStepFailed")
    assert planned(SEEDED, copy, build=kept) == stuck("BuildStepFailed")
    assert planned(ON, copy, build=kept, deleting=True) == only(Stop, copy)
    before = failed(generation=2)
    assert planned(ON, before, build=kept) == only(Stop, before)
    assert planned(SEEDED, before, build=kept) == only(Destroy, before)


def test_a_draft_whose_seed_is_to_be_elsewhere_goes_before_it_is_attached():
    for phase, kind in (("Seeding", Destroy), ("Attaching", BuildOn)):
        template = a_template(nodes=["pve1"], build=BUILD)
        found = facts(template, version=VERSION, copies=(seen(OFF, building(phase)),), seed_storage="nas")
        (taken,) = plan(found).steps
        assert isinstance(taken, kind)
    same = facts(template, version=VERSION, copies=(seen(OFF, building("Seeding")),), seed_storage="local")
    assert isinstance(plan(same).steps[0], BuildOn)


def test_a_draft_that_linked_clones_need_is_not_asked_to_go_again_and_again():
    converted = There(node="pve1", owner=Owner.OURS, complete=True, is_template=True, draft=True)
    template, copies = a_template(nodes=["pve1"], build=BUILD), (seen(converted, building()),)
    held = facts(template, version=VERSION, copies=copies, in_use={10000: "linked clones use its disks"})
    assert plan(held).steps == ()
    assert [each.reason for each in plan(held).troubles] == ["InUse"]


def test_a_copy_that_somebody_deleted_while_it_was_built_leaves_no_seed():
    assert planned(GONE, building()) == only(RemoveSeed, building())
    without = building(seed=None)
    assert planned(GONE, without) == only(Drop, without)


# What may never become a template


@pytest.mark.parametrize("state", ["Creating", "Building", "Failed", "Converting", "Removing"])
@pytest.mark.parametrize("standing", [OFF, SEEDED, ON, HALF, UNMARKED])
@pytest.mark.parametrize("build", [None, building().build, failed().build])
def test_what_was_never_sealed_is_never_converted(state, standing, build):
    copy = a_copy(state=state, version=VERSION, build=build)
    steps, _, _ = planned(standing, copy)
    assert not {Convert, Finish} & {kind for kind, _ in steps}


def test_a_sealed_copy_that_was_started_is_made_anew():
    on = There(node="pve1", owner=Owner.OURS, complete=True, running=True)
    for state in ("Building", "Converting"):
        found = step(on, building("Stripping", state=state))
        assert isinstance(found, FailBuild)
        assert found.reason == "BuildDisturbed"
    assert planned(on, failed(phase="Stripping")) == stuck("CopyRunning")


def test_a_draft_that_somebody_converted_is_destroyed():
    converted = There(node="pve1", owner=Owner.OURS, complete=True, is_template=True, draft=True)
    assert planned(converted, building()) == only(Destroy, building())


def test_only_what_is_marked_as_a_draft_is_stopped():
    on = There(node="pve1", owner=Owner.UNMARKED, complete=True, running=True)
    assert planned(on, failed()) == stuck("CopyRunning")


def test_a_draft_that_is_not_wanted_is_stopped_and_destroyed():
    old = a_copy(10001, version="0123456789", state="Building", build=building().build)
    template = a_template(nodes=["pve1"], build=BUILD)
    new = seen(GONE, a_copy(state="Creating", version=VERSION), settles_at=later(1))
    for standing, kind in ((ON, Stop), (SEEDED, Destroy)):
        steps, _, _ = planned_for(template, seen(standing, old), new, version=VERSION)
        assert (kind, old) in steps


@pytest.mark.parametrize("copy", [building(), failed(), failed(state="Removing")])
def test_what_is_retained_is_no_draft(copy):
    assert planned(ON, copy, deleting=True, policy="Retain") == only(Stop, copy)
    steps, _, _ = planned(SEEDED, copy, deleting=True, policy="Retain")
    assert Bury not in {kind for kind, _ in steps}


def test_a_draft_of_a_lost_status_goes_and_another_is_made():
    found = a_copy(state="Removing", version=VERSION)
    assert planned(ON, found) == only(Stop, found)
    assert planned(SEEDED, found) == only(Destroy, found)
    assert planned(GONE, found) == only(Drop, found)


def test_a_sealed_copy_of_a_lost_status_is_converted():
    found = a_copy(state="Creating", version=VERSION)
    assert planned(SEALED, found) == only(Convert, found)


# Names, versions, hardware


def test_a_draft_is_called_so_in_its_mark():
    name = marked_name("debian-12", VERSION, draft=True)
    assert is_draft(name)
    assert not is_draft(marked_name("debian-12", VERSION))
    assert marked_version("debian-12", name) == VERSION


def test_a_build_makes_another_version_and_its_manners_do_not():
    def version(**build):
        return version_of(a_spec(build=BUILD | build), storage=STORAGE)

    assert version() == VERSION == "c3563ba8de"
    assert version(timeout="1h", keepFailed=True, seedStorage="nas") == VERSION
    assert len({VERSION, version(steps=STEPS[::-1]), version(network={"bridge": "vmbr1"})}) == 3


def test_a_draft_has_the_network_of_its_build_and_no_cloud_init_drive():
    mark = Mark(
        cluster_id="c", namespace_uid="", namespace="", name="n", uid="u", vmid=10000, uuid=UUID
    )  # fmt: skip
    build = BUILD | {"network": {"bridge": "vmbr0", "vlan": 20}}
    config = draft(
        a_spec(build=build),
        template="debian-12",
        version=VERSION,
        mark=mark,
        storage=STORAGE,
        volume="images:x",
    )
    assert config["net0"] == "virtio,bridge=vmbr0,tag=20"
    assert not any(key.startswith("ide") for key in config)
