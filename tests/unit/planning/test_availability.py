"""High availability, case by case: in, out, power through it, what stands in the way, and what the condition says."""

from datetime import timedelta
from typing import Any

import pytest

from proxmox_operator.planning import report
from proxmox_operator.planning.availability import HA, HAResource, differences, local_drives
from proxmox_operator.planning.harules import DropRule, RefusedRule, Rule, RuleFacts
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.lifecycle import (
    AlignHA,
    Blocked,
    Bury,
    ClearHAError,
    Configure,
    Destroy,
    JoinHA,
    LeaveHA,
    RecordStart,
    Release,
    SetRule,
    Settled,
    Start,
    Stop,
    Unknown,
    Wait,
    ha_verdict,
    plan,
)
from proxmox_operator.planning.vmconfig import ConfigDiff, Put
from unit.planning.make import a_vm, facts, made, present

STARTED = HAResource(comment="ours")
OURS = HA(resource=STARTED, state="started", comment="ours")
FOREIGN = HA(resource=HAResource(comment="by hand"), state="started", comment="ours")
OUT = HA(comment="ours")
STOP = Stop(grace=timedelta(minutes=3), force=True)
OFF = present(power="Stopped")
JOINED = {"ha": {"joined": True, "state": "started"}}


def wants(ha=True, status=None, **spec):
    """A VM that wants HA and existed before."""
    wish = spec.pop("availability", {"ha": ha})
    return a_vm(status=made() if status is None else status, availability=wish, **spec)


def under(state="started", *, manager=None, ours=True, **changes):
    """A VM that is under HA with this requested state; the manager has the same one unless said otherwise."""
    resource = HAResource(state=state, comment="ours" if ours else "by hand")
    return HA(resource=resource, state=state if manager is None else manager, comment="ours", **changes)


def what(step):
    return (type(step), step.reason) if isinstance(step, Wait | Blocked | Settled) else type(step)


def table(*rows):
    return pytest.mark.parametrize(
        ("facts_", "expected"),
        [pytest.param(given, then, id=sentence) for sentence, given, then in rows],
    )


@table(
    ("not in yet: joined", facts(wants(), existence=present(), ha=OUT), JoinHA),
    (
        "the first start is recorded before HA makes it",
        facts(wants(status=made(started=False)), existence=OFF, ha=OUT),
        RecordStart,
    ),
    ("recorded: joining starts it", facts(wants(), existence=OFF, ha=OUT), JoinHA),
    (
        "the config comes first",
        facts(
            wants(),
            existence=present(diff=ConfigDiff(puts=(Put(key="cores", value="2", was="1"),))),
            ha=OUT,
        ),
        Configure,
    ),
    (
        "to be stopped, and running: stopped before it joins",
        facts(wants(power="Stopped"), existence=present(), ha=OUT),
        Stop,
    ),
    ("to be stopped, and off: joined", facts(wants(power="Stopped"), existence=OFF, ha=OUT), JoinHA),
    (
        "a local disk: not joined, but it runs",
        facts(wants(), existence=present(), ha=HA(local=("scsi0 on local-lvm",))),
        (Settled, "Running"),
    ),
    (
        "a local disk: started all the same",
        facts(wants(), existence=OFF, ha=HA(local=("scsi0 on local-lvm",))),
        Start,
    ),
    (
        "no privilege: not joined, but it runs",
        facts(wants(), existence=present(), ha=HA(lacking="grant it")),
        (Settled, "Running"),
    ),
    ("joined and running", facts(wants(), existence=present(), ha=OURS), (Settled, "Running")),
    (
        "locked: HA is left alone until the lock is gone",
        facts(wants(), existence=present(lock="backup"), ha=OUT),
        (Settled, "Running"),
    ),
    ("taken out of the spec's wish", facts(wants(False), existence=present(), ha=OURS), LeaveHA),
    (
        "somebody else's resource stays",
        facts(wants(False), existence=present(), ha=FOREIGN),
        (Settled, "Running"),
    ),
    (
        "ours by the status, whatever its comment says now",
        facts(wants(False, status=made(**JOINED)), existence=present(), ha=FOREIGN),
        LeaveHA,
    ),
    (
        "left out of the spec: stays",
        facts(a_vm(status=made()), existence=present(), ha=OURS),
        (Settled, "Running"),
    ),
)
def test_into_ha_and_out_of_it(facts_, expected):
    assert what(plan(facts_)) == expected


@table(
    (
        "the manager is starting it",
        facts(wants(), existence=OFF, ha=under(manager="request_start")),
        (Wait, "HAStarting"),
    ),
    (
        "the manager is stopping it",
        facts(wants(power="Stopped"), existence=present(), ha=under("stopped", manager="request_stop")),
        (Wait, "HAStopping"),
    ),
    (
        "to be stopped: asked for with the grace period",
        facts(wants(power="Stopped"), existence=present(), ha=OURS),
        Stop,
    ),
    (
        "asked a moment ago: not again",
        facts(wants(power="Stopped"), existence=present(), ha=under(asked="Stopped")),
        (Wait, "HAStopping"),
    ),
    (
        "stopped, and still requested to run: the request is corrected",
        facts(wants(power="Stopped"), existence=OFF, ha=under(manager="stopped")),
        AlignHA,
    ),
    (
        "asked to stop, and the wish has changed since: requested to run",
        facts(wants(), existence=present(), ha=under("stopped", manager="request_stop", asked="Stopped")),
        AlignHA,
    ),
    ("a person has disabled it", facts(wants(), existence=OFF, ha=under("disabled")), AlignHA),
    ("a person has it ignored", facts(wants(), existence=present(), ha=under("ignored")), AlignHA),
    (
        "ignored and to be stopped: Proxmox bypasses HA",
        facts(wants(power="Stopped"), existence=present(), ha=under("ignored")),
        Stop,
    ),
    (
        "power is left to others: so is the state",
        facts(wants(power="Unmanaged"), existence=OFF, ha=under("disabled")),
        (Settled, "Stopped"),
    ),
    (
        "power is left to others, but to be under HA it must not be ignored",
        facts(wants(power="Unmanaged"), existence=present(), ha=under("ignored")),
        AlignHA,
    ),
    (
        "put under HA by a person: its power goes through HA too",
        facts(a_vm(status=made(), power="Stopped"), existence=present(), ha=FOREIGN),
        Stop,
    ),
    (
        "put under HA by a person, stopped there: asked to start",
        facts(a_vm(status=made()), existence=OFF, ha=under("stopped", ours=False)),
        Start,
    ),
    (
        "put under HA by a person, being started",
        facts(a_vm(status=made()), existence=OFF, ha=under("started", manager="stopped", ours=False)),
        (Wait, "HAStarting"),
    ),
    (
        "the configuration cannot be read, the inventory says HA: asked once",
        facts(a_vm(status=made()), existence=OFF, ha=HA(state="stopped", unreadable="no")),
        Start,
    ),
    (
        "and then waited for",
        facts(a_vm(status=made()), existence=OFF, ha=HA(state="stopped", unreadable="no", asked="Running")),
        (Wait, "HAStarting"),
    ),
    (
        "a node that stops its guests is no reason to keep HA from doing its work",
        facts(wants(), existence=present(power="Stopped", hold="stopall"), ha=under(manager="freeze")),
        (Wait, "HAStarting"),
    ),
    (
        "never switched off against the spec",
        facts(wants(power="Stopped", shutdown={"force": False}), existence=present(), ha=OURS),
        (Blocked, "HAForcesShutdown"),
    ),
)
def test_power_goes_through_ha(facts_, expected):
    assert what(plan(facts_)) == expected


RECOVERED = made(ha={"joined": True, "recovered": 3})


@table(
    ("an error is cleared", facts(wants(), existence=OFF, ha=under(manager="error")), ClearHAError),
    (
        "the manager is at it",
        facts(wants(status=RECOVERED), existence=OFF, ha=under("disabled", manager="error")),
        (Wait, "HARecovering"),
    ),
    (
        "requested, but not recorded",
        facts(wants(), existence=OFF, ha=under("disabled", manager="error")),
        ClearHAError,
    ),
    (
        "cleared: requested to run again",
        facts(wants(status=RECOVERED), existence=OFF, ha=under("disabled", manager="stopped")),
        AlignHA,
    ),
    (
        "a second error in one generation is a person's",
        facts(wants(status=RECOVERED), existence=OFF, ha=under(manager="error")),
        (Blocked, "HAError"),
    ),
    (
        "another spec is another try",
        facts(
            wants(status=made(ha={"joined": True, "recovered": 2})), existence=OFF, ha=under(manager="error")
        ),
        ClearHAError,
    ),
    (
        "one that runs is not cleared: that would switch it off",
        facts(wants(), existence=present(), ha=under(manager="error")),
        (Settled, "Running"),
    ),
    (
        "nor one that is to be stopped, and runs",
        facts(wants(power="Stopped"), existence=present(), ha=under(manager="error")),
        (Blocked, "HAError"),
    ),
    (
        "nor one whose power is not known",
        facts(wants(), existence=present(power="Unknown"), ha=under(manager="error")),
        (Wait, "PowerUnknown"),
    ),
    (
        "what a person has put under HA is theirs to mend",
        facts(a_vm(status=made()), existence=OFF, ha=under(manager="error", ours=False)),
        (Blocked, "HAError"),
    ),
    (
        "a VM that runs as wanted stays Ready",
        facts(wants(status=RECOVERED), existence=present(), ha=under(manager="error")),
        (Settled, "Running"),
    ),
    (
        "nobody wants its power: shown only",
        facts(wants(power="Unmanaged"), existence=OFF, ha=under(manager="error")),
        (Settled, "Stopped"),
    ),
)
def test_an_error_of_the_manager_is_recovered_once(facts_, expected):
    assert what(plan(facts_)) == expected


def going(**spec):
    return a_vm(status=made(**JOINED), deleting=True, **spec)


@table(
    ("running: it leaves HA first", facts(going(), existence=present(), ha=OURS), LeaveHA),
    ("stopped: it leaves HA first", facts(going(), existence=OFF, ha=OURS), LeaveHA),
    ("somebody else's resource would be left dead", facts(going(), existence=OFF, ha=FOREIGN), LeaveHA),
    (
        "out of HA: shut down, though the manager has not noticed",
        facts(going(), existence=present(), ha=HA(state="started")),
        Stop,
    ),
    ("in error: it leaves all the same", facts(going(), existence=OFF, ha=under(manager="error")), LeaveHA),
    ("out of HA: destroyed", facts(going(), existence=OFF, ha=HA()), Destroy),
    (
        "no privilege",
        facts(going(), existence=OFF, ha=under(lacking="grant Sys.Console on /")),
        (Blocked, "PermissionDenied"),
    ),
    (
        "cannot be read",
        facts(going(), existence=OFF, ha=HA(state="started", unreadable="no")),
        (Blocked, "PermissionDenied"),
    ),
    ("kept: HA stays as it is", facts(going(deletionPolicy="Retain"), existence=present(), ha=OURS), Bury),
    (
        "kept and released: HA stays as it is",
        facts(going(deletionPolicy="Retain"), existence=present(owner=Owner.UNMARKED), ha=OURS),
        Release,
    ),
)
def test_a_vm_leaves_ha_before_it_is_destroyed(facts_, expected):
    assert what(plan(facts_)) == expected


def test_a_vm_that_is_kept_leaves_our_rules_unless_they_cannot_be_written():
    rule = Rule(
        id="pvm-10000-nodes",
        type="node-affinity",
        resources=frozenset({"vm:10000"}),
        comment="us shop/web-1",
        nodes=frozenset({("pve1", 0)}),
    )
    rules = RuleFacts(
        supported=True, owner="us", found={rule.id: rule}, digest="d", peers={}, nodes=frozenset({"pve1"})
    )
    wish = {"ha": True, "rule": {"nodeAffinity": {"nodes": [{"name": "pve1"}]}}}
    vm = going(deletionPolicy="Retain", availability=wish)
    bound = facts(vm, existence=present(), ha=under(rules=rules))
    assert plan(bound) == SetRule(change=DropRule(id=rule.id))
    unmarked = facts(vm, existence=present(owner=Owner.UNMARKED), ha=under(rules=rules))
    assert plan(unmarked) == SetRule(change=DropRule(id=rule.id))
    lacking = facts(vm, existence=present(), ha=under(rules=rules, lacking="grant it"))
    assert isinstance(plan(lacking), Bury)
    looking = going(deletionPolicy="Retain", availability=wish, management="Observe")
    assert isinstance(plan(facts(looking, existence=present(), ha=under(rules=rules))), Release)


def test_who_only_looks_writes_nothing_and_says_what_differs():
    vm = wants(management="Observe")
    given = facts(vm, existence=present(), ha=OUT)
    assert what(plan(given)) == (Blocked, "OutOfSync")
    assert report.plan_sentences(given) == ("HA: put under HA, requested state started",)


@pytest.mark.parametrize(
    ("wish", "resource", "state", "changes"),
    [
        ({}, HAResource(), "started", {}),
        ({}, HAResource(state="disabled"), "started", {"state": "started"}),
        ({}, HAResource(state="disabled"), None, {}),
        ({"maxRestart": 3}, HAResource(), None, {"max_restart": 3}),
        ({"maxRestart": 0}, HAResource(max_restart=0), None, {}),
        ({}, HAResource(max_restart=3, max_relocate=0), None, {"max_restart": 1, "max_relocate": 1}),
    ],
)
def test_only_what_differs_is_written_and_what_is_left_out_has_proxmoxs_default(
    wish, resource, state, changes
):
    vm = wants(availability={"ha": True, **wish})
    assert differences(vm.spec.availability, resource, state) == changes


def test_local_are_the_drives_that_another_node_does_not_have():
    config = {
        "scsi0": "ceph:vm-100-disk-0,size=8G",
        "scsi1": "local-lvm:vm-100-disk-1,size=8G",
        "efidisk0": "local-lvm:vm-100-disk-2,size=4M",
        "ide0": "local:iso/debian.iso,media=cdrom",
        "ide1": "none,media=cdrom",
        "ide2": "local-lvm:vm-100-cloudinit,media=cdrom",
        "ide3": "cdrom,media=cdrom",
        "virtio0": "hidden:vm-100-disk-3",
        "unused0": "local-lvm:vm-100-disk-9",
        "scsihw": "virtio-scsi-single",
    }
    assert local_drives(config, {"ceph": True, "local-lvm": False, "local": False}) == (
        "efidisk0 on local-lvm",
        "ide0 on local",
        "ide3 (a device of the node)",
        "scsi1 on local-lvm",
        "virtio0 on hidden (cannot be seen: grant Datastore.Audit)",
    )


@pytest.mark.parametrize(
    ("vm", "ha", "expected"),
    [
        (a_vm(status=made()), FOREIGN, None),
        (wants(False), None, (False, "NotWanted")),
        (wants(False), under(lacking="grant it"), (False, "PermissionDenied")),
        (wants(), None, (None, "HAUnknown")),
        (wants(), HA(unreadable="no"), (None, "HAUnknown")),
        (wants(), OUT, (False, "Joining")),
        (wants(), OURS, (True, "HighlyAvailable")),
        (wants(), under("stopped"), (True, "HighlyAvailable")),
        (wants(), under("ignored"), (False, "HANotActive")),
        (wants(), under("disabled", manager="stopped"), (False, "HANotActive")),
        (wants(), under(manager="error"), (False, "HAError")),
        (wants(), under(local=("scsi0 on local-lvm",)), (False, "HAStorageLocal")),
        (wants(), HA(local=("scsi0 on local-lvm",)), (False, "HAStorageLocal")),
        (wants(), HA(lacking="grant it"), (False, "PermissionDenied")),
    ],
)
def test_the_condition_says_whether_all_of_it_is_in_force(vm, ha, expected):
    verdict = ha_verdict(facts(vm, existence=present(), ha=ha))
    assert (verdict and verdict[:2]) == expected


def test_a_rule_that_proxmox_refused_is_told_and_not_tried_again_at_once_but_another_one_is():
    wish: dict[str, Any] = {"ha": True, "rule": {"nodeAffinity": {"nodes": [{"name": "pve1"}]}}}
    rules = RuleFacts(
        supported=True, owner="us", found={}, digest="", peers={}, nodes=frozenset({"pve1", "pve2"})
    )
    vm = wants(availability=wish)
    first = plan(facts(vm, existence=present(), ha=under(rules=rules)))
    assert isinstance(first, SetRule)
    refused = RefusedRule(rule=first.change.rule, message="no")
    given = facts(vm, existence=present(), ha=under(rules=rules, refused=refused))
    assert what(plan(given)) == (Settled, "Running")
    assert ha_verdict(given) == (False, "RuleRefused", "spec.availability.rule: no")
    wish["rule"]["nodeAffinity"]["nodes"][0]["name"] = "pve2"
    again = facts(wants(availability=wish), existence=present(), ha=under(rules=rules, refused=refused))
    assert isinstance(plan(again), SetRule)


def test_the_condition_goes_with_the_block():
    old = {
        "type": "HighlyAvailable",
        "status": "True",
        "reason": "HighlyAvailable",
        "message": "x",
        "lastTransitionTime": "2026-11-01T00:00:00Z",
    }
    vm = a_vm(status=made(), conditions=(old,))
    given = facts(vm, existence=present(), ha=OURS)
    shown = report.vm_conditions(given, report.verdict_of_step(plan(given)))
    assert "HighlyAvailable" not in {each.type for each in shown}


def test_nothing_of_ha_is_written_to_a_vm_that_cannot_be_seen():
    unseen = Unknown(reason="Unreachable", message="nothing answered")
    assert what(plan(facts(wants(), existence=unseen))) == (Wait, "Unreachable")
