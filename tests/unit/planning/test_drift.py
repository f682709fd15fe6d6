"""Whose a change was, as far as the task list tells, and what counts as one that nobody asked for."""

import pytest

from proxmox_operator.planning import drift
from proxmox_operator.planning.drift import Deed, who_edited, who_switched
from unit.planning.make import a_vm, made

OURS = "operator@pve!k8s"


def deed(kind, at, user="alice@pam"):
    return Deed(type=kind, user=user, started=float(at))


@pytest.mark.parametrize(
    ("deeds", "since", "who"),
    [
        ([], 100, None),
        ([deed("qmconfig", 150)], 100, "alice@pam"),
        ([deed("qmconfig", 150), deed("qmconfig", 160, "bob@pve")], 100, "bob@pve"),
        ([deed("qmconfig", 150), deed("qmconfig", 160, OURS)], 100, "alice@pam"),
        ([deed("qmconfig", 160, "operator@pve!other")], 100, "operator@pve!other"),
        ([deed("qmconfig", 50)], 100, None),
        ([deed("qmconfig", 95)], 100, "alice@pam"),
        ([deed("qmstart", 150), deed("vzdump", 160)], 100, None),
        ([deed("qmrollback", 150)], 100, "alice@pam"),
        ([deed("qmconfig", 150)], None, None),
    ],
)
def test_who_edited_is_whoever_did_last_since_all_was_well_and_nobody_rather_than_the_wrong_one(
    deeds, since, who
):
    assert who_edited(deeds, OURS, since) == who
    assert who_edited(reversed(deeds), OURS, since) == who


@pytest.mark.parametrize(
    ("deeds", "power", "who"),
    [
        ([], "Stopped", None),
        ([deed("qmstart", 10, OURS), deed("qmstop", 20)], "Stopped", "alice@pam"),
        ([deed("qmstart", 10, OURS), deed("qmshutdown", 20, "root@pam")], "Stopped", "root@pam"),
        ([deed("qmstop", 10), deed("qmstart", 20, OURS)], "Stopped", None),
        ([deed("qmstop", 10, OURS), deed("qmstart", 20)], "Running", "alice@pam"),
        ([deed("qmstart", 20)], "Stopped", None),
        ([deed("qmstop", 20, OURS)], "Stopped", None),
        ([deed("qmstop", 20), deed("qmconfig", 30, "bob@pve")], "Stopped", "alice@pam"),
    ],
)
def test_who_switched_it_is_named_unless_it_went_off_by_itself_since(deeds, power, who):
    assert who_switched(deeds, OURS, power) == who


def synced(status, generation):
    return {
        "type": "Synced",
        "status": status,
        "reason": "x",
        "message": "x",
        "observedGeneration": generation,
        "lastTransitionTime": "2026-11-01T00:00:00Z",
    }


@pytest.mark.parametrize(
    ("conditions", "was"),
    [
        ((), False),
        ((synced("True", 3),), True),
        ((synced("True", 2),), False),
        ((synced("False", 3),), False),
    ],
)
def test_a_vm_was_in_sync_if_it_was_seen_so_in_this_generation(conditions, was):
    assert drift.was_in_sync(a_vm(status=made(), conditions=conditions)) is was


@pytest.mark.parametrize(
    ("status", "had"),
    [
        (made(power="Running", observedGeneration=3), True),
        (made(power="Running", observedGeneration=2), False),
        (made(power="Stopped", observedGeneration=3), False),
        (made(observedGeneration=3), False),
    ],
)
def test_a_vm_had_its_power_if_it_was_seen_so_in_this_generation(status, had):
    assert drift.had_power(a_vm(status=status), "Running") is had


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        pytest.param((synced("True", 3),), ["b: 1 -> 2"], id="it was as it should be"),
        pytest.param((synced("False", 3),), ["b: 1 -> 2"], id="one more on top of others"),
        pytest.param((synced("False", 2),), [], id="the spec was edited"),
        pytest.param((synced("Unknown", 3),), [], id="never compared yet"),
        pytest.param((), [], id="never looked at yet"),
    ],
)
def test_only_what_changed_since_the_vm_was_compared_is_said(conditions, said):
    vm = a_vm(status=made(observedGeneration=3, plan=["a: 1 -> 2"]), conditions=conditions)
    assert drift.unsaid(vm, ("a: 1 -> 2", "b: 1 -> 2")) == said


def test_many_changes_are_told_in_part_and_counted():
    text = drift.told([f"key{number}: {'x' * 40} -> {'y' * 40}" for number in range(40)])
    assert text.startswith("key0: ")
    assert text.endswith("; and 30 more")
    assert len(text) < 1000
    assert drift.told(["x" * 5000]) == "x" * 900
    assert drift.told(["a", "b"]) == "a; b"
