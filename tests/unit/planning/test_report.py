"""What a person reads of a pass."""

import typing

import pytest

from proxmox_operator import errors
from proxmox_operator.api import Availability, Condition, find_condition
from proxmox_operator.planning import report
from proxmox_operator.planning.adoption import Adoptee
from proxmox_operator.planning.availability import HAResource
from proxmox_operator.planning.harules import DropRule
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
    Follow,
    GrowDisks,
    Hold,
    JoinHA,
    LeaveHA,
    Migrate,
    MoveDisk,
    NoteCloudInit,
    NoteRestart,
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
)
from proxmox_operator.planning.vmconfig import ConfigDiff, Held, PendingChange, Problem, Put
from unit.planning.make import GOING, NOW, PLACE, a_vm, facts, later, made, present

EMPTY = ConfigDiff()
STEPS = (
    Reserve(place=PLACE),
    Reclaim(vmid=1, uuid="u"),
    Hold(),
    Clone(place=PLACE),
    Adopt(adoptee=Adoptee(vmid=104, node="pve1")),
    Configure(diff=EMPTY),
    MoveDisk(diff=EMPTY),
    EndMove(left=()),
    GrowDisks(diff=EMPTY),
    Migrate(move=GOING),
    Follow(),
    PutSeed(),
    DropSeed(),
    NoteCloudInit(),
    RecordStart(),
    Start(),
    Stop(grace=later(1) - NOW, force=True),
    NoteRestart(restart=None, restarted_for="1"),
    JoinHA(state="started", wish=Availability(ha=True)),
    AlignHA(changes={"state": "started"}, was=HAResource()),
    ClearHAError(),
    LeaveHA(),
    SetRule(change=DropRule(id="pvm-10000-nodes")),
    Destroy(),
    Bury(),
    Release(),
)

WAITS = PendingChange(key="cores", was="2", becomes="4", field="spec.cpu.cores")


def condition(type, status, reason="Before", message="before"):
    return {
        "type": type,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-11-01T00:00:00Z",
    }


def conditions(given_facts, step: Step | None = None) -> dict[str, Condition]:
    verdict = report.verdict_of_step(step or Settled(reason="Running", message="it runs"))
    return {each.type: each for each in report.vm_conditions(given_facts, verdict)}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_step_that_does_something_is_progress(step):
    verdict = report.verdict_of_step(step)
    assert (verdict.ready, verdict.progressing, verdict.stalled) == (False, True, False)
    assert verdict.reason
    assert verdict.message


def test_the_steps_of_this_test_and_those_that_only_say_something_are_all_there_are():
    assert {type(step) for step in STEPS} | {Wait, Blocked, Settled} == set(typing.get_args(Step))


@pytest.mark.parametrize(
    ("step", "ready", "progressing", "stalled"),
    [
        (Settled(reason="Running", message="m"), True, False, False),
        (Blocked(reason="Missing", message="m"), False, False, True),
        (Wait(reason="Locked", message="m"), False, True, False),
        (Wait(reason="Invisible", message="m", unknown=True), None, True, False),
    ],
)
def test_what_a_step_that_only_says_something_means(step, ready, progressing, stalled):
    assert report.verdict_of_step(step) == report.Verdict(ready, step.reason, "m", progressing, stalled)


@pytest.mark.parametrize(
    ("error", "ready", "progressing", "stalled"),
    [
        (errors.Unreachable("m"), None, True, False),
        (errors.Outdated("m"), False, True, False),
        (errors.Contended("m"), False, True, False),
        (errors.Waiting("m"), False, True, False),
        (errors.NeedsHuman("m"), False, False, True),
        (errors.Unauthorized("m"), False, False, True),
        (errors.Rejected("m"), False, False, True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_error_means(error, ready, progressing, stalled):
    assert report.verdict_of_error(error) == report.Verdict(ready, error.reason, "m", progressing, stalled)


def test_the_summary_is_ready_and_the_two_of_kstatus():
    shown = conditions(facts(a_vm(status=made()), existence=present()))
    assert {name: shown[name].status for name in ("Ready", "Reconciling", "Stalled")} == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
    }
    assert {each.observed_generation for each in shown.values()} == {3}


@pytest.mark.parametrize(
    ("existence", "status", "reason"),
    [
        (present(), "True", "Provisioned"),
        (present(owner=Owner.UNMARKED), "True", "Provisioned"),
        (present(owner=Owner.PENDING), "False", "Cloning"),
        (present(owner=Owner.FOREIGN), "False", "IdentityConflict"),
        (Absent(), "False", "Absent"),
        (Unknown(reason="Unreachable", message="no answer"), "Unknown", "Unreachable"),
    ],
)
def test_provisioned_says_whether_the_vm_exists_and_is_ours(existence, status, reason):
    shown = conditions(facts(a_vm(status=made()), existence=existence))["Provisioned"]
    assert (shown.status, shown.reason) == (status, reason)


@pytest.mark.parametrize(
    ("existence", "status", "reason", "words"),
    [
        (present(), "True", "InSync", "spec"),
        (
            present(diff=ConfigDiff(puts=(Put(key="cores", value="4", was="2"),))),
            "False",
            "OutOfSync",
            "cores: 2 -> 4",
        ),
        (
            present(diff=ConfigDiff(held=(Held(reason="DiskInUse", message="mounted"),))),
            "True",
            "InSync",
            "DisksPending",
        ),
        (
            present(diff=ConfigDiff(problems=(Problem(reason="DiskMissing", message="attach it"),))),
            "False",
            "DiskMissing",
            "attach it",
        ),
        (present(owner=Owner.FOREIGN), "Unknown", "NotObserved", "compared"),
        (Absent(), "Unknown", "NotObserved", "compared"),
    ],
)
def test_synced_says_whether_the_config_is_as_the_spec_says(existence, status, reason, words):
    shown = conditions(facts(a_vm(status=made()), existence=existence))["Synced"]
    assert (shown.status, shown.reason) == (status, reason)
    assert words in shown.message


def test_while_a_task_of_ours_runs_what_was_known_of_the_vm_stays():
    before = tuple(
        condition(name, "True") for name in ("Provisioned", "Synced", "RestartRequired", "AgentConnected")
    )
    vm = a_vm(status=made(), conditions=before, readiness={"agent": True})
    shown = conditions(facts(vm, working="Stopping"), Wait(reason="Stopping", message="m"))
    assert {shown[each["type"]].reason for each in before} == {"Before"}
    assert shown["Ready"].status == "False"


def test_on_first_sight_a_task_leaves_no_condition_out():
    shown = conditions(facts(a_vm(status=made()), working="Cloning"), Wait(reason="Cloning", message="m"))
    assert {"Ready", "Reconciling", "Stalled", "Provisioned", "Synced"} <= shown.keys()


@pytest.mark.parametrize(
    ("existence", "checks", "status", "reason"),
    [
        (present(), (), "True", "AgentConnected"),
        (present(), (Wait(reason="AgentNotConnected", message="silent"),), "False", "AgentNotConnected"),
        (present(power="Stopped"), (), "Unknown", "NotRunning"),
        (Absent(), (), "Unknown", "NotRunning"),
    ],
)
def test_the_agent_is_connected_only_where_it_answers(existence, checks, status, reason):
    vm = a_vm(status=made(), readiness={"agent": True})
    shown = conditions(facts(vm, existence=existence, ready_checks=checks))["AgentConnected"]
    assert (shown.status, shown.reason) == (status, reason)
    assert shown.message


def test_the_agent_has_no_condition_where_nobody_asked_for_it():
    assert "AgentConnected" not in conditions(facts(a_vm(status=made()), existence=present()))


def test_a_restart_is_required_until_nothing_waits_for_it():
    vm = a_vm(status=made(), cpu={"cores": 4})
    assert "RestartRequired" not in conditions(facts(vm, existence=present()))
    shown = conditions(facts(vm, existence=present(pending=(WAITS,))))["RestartRequired"]
    assert (shown.status, shown.reason) == ("True", "PendingChanges")
    assert shown.message.startswith("spec.cpu.cores (cores): 2 -> 4; stop and start the VM")
    asked = a_vm(status=made(), conditions=(condition("RestartRequired", "True"),))
    assert conditions(facts(asked, existence=present()))["RestartRequired"].status == "False"


def test_a_condition_keeps_its_time_until_its_status_changes():
    vm = a_vm(status=made(), conditions=(condition("Ready", "True"), condition("Stalled", "True")))
    shown = conditions(facts(vm, existence=present()))
    assert shown["Ready"].last_transition_time < NOW
    assert shown["Stalled"].last_transition_time == NOW


def test_pausing_says_so_and_keeps_the_rest_and_resuming_takes_it_away():
    vm = a_vm(status=made(), conditions=(condition("Ready", "True"),))
    paused = report.paused_conditions(vm.status.conditions, "stopped by hand", generation=3, now=NOW)
    assert find_condition(paused, "Ready").reason == "Before"
    assert find_condition(paused, "Paused").status == "True"
    verdict = report.verdict_of_step(Settled(reason="Running", message="m"))
    assert find_condition(report.summarise(paused, verdict, generation=3, now=NOW), "Paused") is None


def test_an_object_that_is_paused_from_the_start_is_not_ready():
    paused = report.paused_conditions((), "stopped by hand", generation=1, now=NOW)
    assert find_condition(paused, "Ready").status == "Unknown"


def test_the_plan_is_bounded_and_counts_the_rest():
    many = ConfigDiff(puts=tuple(Put(key=f"k{number}", value="1") for number in range(70)))
    plan = report.plan_sentences(facts(a_vm(status=made()), existence=present(diff=many, pending=(WAITS,))))
    assert len(plan) == report.PLAN_LENGTH + 1
    assert plan[-1] == "and 21 more"


def test_what_waits_for_a_boot_stands_in_the_plan():
    plan = report.plan_sentences(facts(a_vm(status=made()), existence=present(pending=(WAITS,))))
    assert plan == ("at the next cold boot: spec.cpu.cores (cores): 2 -> 4",)
