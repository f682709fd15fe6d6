"""Whether an existing VM may be taken over, and that taking it over changes nothing but its notes."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.planning.adoption import LONGEST_TEXT, Adoptee, as_adopted, refusal
from proxmox_operator.planning.diskfacts import DiskFacts
from proxmox_operator.planning.identity import (
    read_mark,
    render_description,
    render_tombstone,
    user_text,
)
from proxmox_operator.planning.lifecycle import (
    Absent,
    Adopt,
    Blocked,
    Bury,
    Claimed,
    Destroy,
    Hold,
    Reclaim,
    Release,
    Settled,
    Unknown,
    Wait,
    plan,
)
from proxmox_operator.planning.vmconfig import ConfigDiff, Grow, diff, disk_records, own_tags
from unit.planning.make import MARK, UUID, a_vm, facts, later, made, present, wanted
from unit.planning.proxmox_model import apply
from unit.planning.test_vmconfig_properties import configs

BY_VMID: dict[str, Any] = {"source": {"adopt": {"vmid": 104}}}
BY_UUID: dict[str, Any] = {"source": {"adopt": {"uuid": UUID}}}
NOBODYS = Adoptee(vmid=104, node="pve1", uuid=UUID, description="notes\n", digest="d1")
THEIRS = replace(MARK, namespace="db", name="pg", uid="other", vmid=104)


@pytest.mark.parametrize(
    ("found", "reason", "words"),
    [
        pytest.param([], "AdoptNotFound", "grant VM.Audit", id="there is none, or none that can be seen"),
        pytest.param([NOBODYS], None, "", id="nobody's"),
        pytest.param([replace(NOBODYS, uuid=None)], None, "", id="a VM without an SMBIOS UUID"),
        pytest.param(
            [NOBODYS, replace(NOBODYS, vmid=105)], "AdoptAmbiguous", "VMs 104, 105", id="two of one UUID"
        ),
        pytest.param([replace(NOBODYS, kind="container")], "AdoptRefused", "only VMs", id="a container"),
        pytest.param([replace(NOBODYS, kind="template")], "AdoptRefused", "source.clone", id="a template"),
        pytest.param(
            [replace(NOBODYS, holder="ProxmoxVM db/pg")],
            "IdentityConflict",
            "ProxmoxVM db/pg",
            id="another object's by its status",
        ),
        pytest.param(
            [replace(NOBODYS, mark=THEIRS)], "IdentityConflict", "ProxmoxVM db/pg", id="another's by its mark"
        ),
        pytest.param(
            [replace(NOBODYS, mark=replace(MARK, vmid=104, cluster_id="k8s-2"))],
            "IdentityConflict",
            "Kubernetes cluster k8s-2",
            id="of the same name in another Kubernetes cluster",
        ),
        pytest.param(
            [replace(NOBODYS, mark=replace(THEIRS, vmid=150))],
            "IdentityConflict",
            "copy of the mark of VM 150",
            id="a clone of somebody's VM",
        ),
        pytest.param(
            [replace(NOBODYS, mark=replace(MARK, vmid=150))], "IdentityConflict", "copy", id="a clone of ours"
        ),
        pytest.param([replace(NOBODYS, lock="clone")], "Locked", "being made", id="it is being made"),
        pytest.param([replace(NOBODYS, lock="destroyed")], "Locked", "being made or destroyed", id="or destroyed"),
        pytest.param([replace(NOBODYS, lock="backup")], "Locked", "(backup)", id="a backup runs"),
        pytest.param([replace(NOBODYS, lock="suspended")], "Locked", "hibernated", id="it is hibernated"),
        pytest.param(
            [replace(NOBODYS, description="x" * (LONGEST_TEXT + 1))],
            "DescriptionTooLong",
            "7001 characters",
            id="no room for a mark",
        ),
        pytest.param(
            [replace(NOBODYS, description=render_tombstone("x" * LONGEST_TEXT, MARK))],
            None,
            "",
            id="a tombstone takes no room, as it goes",
        ),
    ],
)  # fmt: skip
def test_what_is_taken_over_and_what_is_refused(found, reason, words):
    why = refusal(a_vm(**BY_VMID), found)
    assert (why and why.reason) == reason
    assert why is None or words in why.message
    assert why is None or why.passes == (reason == "Locked")


@pytest.mark.parametrize(
    ("spec", "field"), [(BY_VMID, "spec.source.adopt.vmid"), (BY_UUID, "spec.source.adopt.uuid")]
)
def test_what_is_not_there_is_named_by_its_field(spec, field):
    why = refusal(a_vm(**spec), [])
    assert why is not None
    assert why.message.startswith(f"{field}: ")


def test_a_vmid_that_was_asked_for_besides_must_be_that_of_the_vm():
    assert refusal(a_vm(vmid=104, **BY_UUID), [NOBODYS]) is None
    why = refusal(a_vm(vmid=105, **BY_UUID), [NOBODYS])
    assert why is not None
    assert "spec.vmid: 105" in why.message


UNSEEN = Unknown(reason="Unreachable", message="nothing answered")
OWN = Claimed(vmid=104, uuid=UUID, own=True, granted=True)
EARLIER = Claimed(vmid=104, uuid=UUID, own=False, granted=False)
REFUSED = replace(NOBODYS, mark=THEIRS)
NEW, BARE = a_vm(**BY_VMID), a_vm(held=False, **BY_VMID)
LOOKS = a_vm(held=False, management="Observe", **BY_VMID)
GOING = a_vm(deleting=True, **BY_VMID)
LOOKED_AT = as_adopted(LOOKS, NOBODYS, cluster="lab")
OURS = made(vmid=104)
RUNS = present()


def what(step):
    return (type(step), step.reason) if isinstance(step, Wait | Blocked | Settled) else type(step)


@pytest.mark.parametrize(
    ("given_facts", "expected"),
    [
        pytest.param(facts(BARE, adoptees=(NOBODYS,)), Hold, id="the finalizer comes first"),
        pytest.param(facts(NEW, adoptees=(NOBODYS,)), Adopt, id="then the mark"),
        pytest.param(
            facts(NEW, adoptees=(NOBODYS,), claimed=OWN), Reclaim, id="then, once it is read back, the record"
        ),
        pytest.param(
            facts(NEW, adoptees=(NOBODYS,), claimed=EARLIER),
            (Blocked, "IdentityConflict"),
            id="a mark of an earlier namespace of this name needs a grant",
        ),
        pytest.param(
            facts(BARE, adoptees=()), (Blocked, "AdoptNotFound"), id="what takes nothing over holds nothing"
        ),
        pytest.param(facts(BARE, adoptees=(REFUSED,)), (Blocked, "IdentityConflict"), id="somebody's VM"),
        pytest.param(
            facts(BARE, adoptees=(replace(NOBODYS, lock="backup"),)), (Wait, "Locked"), id="a locked one waits"
        ),
        pytest.param(facts(BARE), (Wait, "NotObserved"), id="not looked at"),
        pytest.param(facts(BARE, existence=UNSEEN), (Wait, "Unreachable"), id="not to be seen"),
        pytest.param(
            facts(BARE, denied=("x",), adoptees=(NOBODYS,)), (Blocked, "AccessDenied"), id="not granted"
        ),
        pytest.param(
            facts(LOOKED_AT, existence=RUNS), (Settled, "Running"), id="Observe: as the spec says"
        ),
        pytest.param(
            facts(LOOKED_AT, existence=present(diff=ConfigDiff(grows=(Grow(slot="scsi0", size=2, was=1),)))),
            (Blocked, "OutOfSync"),
            id="Observe: what would be written is only shown",
        ),
        pytest.param(
            facts(LOOKED_AT, existence=present(lock="backup")), (Settled, "Running"), id="Observe: also locked"
        ),
        pytest.param(facts(LOOKS, adoptees=()), (Blocked, "AdoptNotFound"), id="Observe: not there"),
        pytest.param(
            facts(LOOKS, adoptees=(REFUSED,)), (Blocked, "IdentityConflict"), id="Observe: somebody's"
        ),
        pytest.param(
            facts(LOOKS, adoptees=(REFUSED,), claimed=EARLIER),
            (Blocked, "IdentityConflict"),
            id="Observe: an earlier namespace's",
        ),
        pytest.param(facts(GOING, adoptees=(NOBODYS,)), Release, id="deleted before it took anything over"),
        pytest.param(
            facts(GOING, adoptees=(NOBODYS,), settles_at=later(1)),
            (Wait, "Settling"),
            id="deleted while the mark may still be written",
        ),
        pytest.param(
            facts(GOING, adoptees=(NOBODYS,), claimed=OWN, settles_at=later(1)),
            Reclaim,
            id="deleted with the mark written: recorded, and then let go in order",
        ),
        pytest.param(
            facts(a_vm(status=OURS, **BY_VMID), existence=Absent()), (Blocked, "Missing"), id="vanished later"
        ),
        pytest.param(
            facts(a_vm(status=OURS | {"started": False}, **BY_VMID), existence=Absent()),
            (Blocked, "Missing"),
            id="nothing is ever made in its place, whatever the status says",
        ),
        *(
            pytest.param(
                facts(a_vm(status=OURS, **BY_VMID), existence=present(power=power)),
                (Settled, power),
                id=f"left {power}",
            )
            for power in ("Running", "Stopped", "Paused")
        ),
        pytest.param(
            facts(a_vm(status=OURS, **BY_VMID), existence=present(lock="suspended")),
            (Settled, "Running"),
            id="left hibernated",
        ),
        pytest.param(
            facts(a_vm(status=OURS, deleting=True, **BY_VMID), existence=RUNS), Bury, id="released by default"
        ),
        pytest.param(
            facts(
                a_vm(status=OURS, deleting=True, deletionPolicy="Delete", **BY_VMID),
                existence=present(power="Stopped"),
            ),
            Destroy,
            id="destroyed where the object says so",
        ),
        pytest.param(
            facts(
                a_vm(status=OURS, deleting=True, deletionPolicy="Delete", **BY_VMID),
                existence=present(power="Stopped", protected=True),
            ),
            (Blocked, "Protected"),
            id="but not against a protection that a person has set",
        ),
    ],
)  # fmt: skip
def test_the_next_step_of_an_object_that_adopts(given_facts, expected):
    assert what(plan(given_facts)) == expected


def test_the_mark_is_written_under_the_digest_of_what_was_judged():
    step = plan(facts(NEW, adoptees=(NOBODYS,)))
    assert isinstance(step, Adopt)
    assert step.adoptee.digest == "d1"


always = settings(deadline=None, max_examples=150)


@given(configs())
@always
def test_adopting_any_config_with_an_empty_spec_writes_the_description_alone(config):
    vm = a_vm(status=made(vmid=104), **BY_VMID)
    found = diff(wanted(vm), config)
    assert {put.key for put in found.puts} <= {"description"}
    assert (found.removes, found.grows, found.problems) == ((), (), ())
    after = apply(config, found)
    assert read_mark(after["description"]) == MARK
    assert user_text(after["description"]) == user_text(config.get("description", ""))
    assert {**after, "description": None} == {**config, "description": None}
    assert diff(wanted(vm), after) == ConfigDiff()


@given(configs())
@always
def test_a_vm_that_is_only_looked_at_with_an_empty_spec_is_in_sync(config):
    assert diff(wanted(a_vm(status=made(vmid=104), **BY_VMID), mark=None), config) == ConfigDiff()


@given(st.text(max_size=60), st.text(max_size=60))
@always
def test_a_description_is_compared_without_the_mark_while_it_is_only_looked_at(text, current):
    vm = a_vm(status=made(vmid=104), description=text, **BY_VMID)
    found = diff(wanted(vm, mark=None), {"description": current})
    assert bool(found.puts) == (text.rstrip() != user_text(current))


OLD: dict[str, Any] = {"name": "mail", "tags": "prod", "onboot": "1", "smbios1": "uuid=other,sku=a"}


@pytest.mark.parametrize(
    ("spec", "keys"),
    [
        pytest.param({}, set(), id="nothing listed"),
        pytest.param({"description": "new"}, {"description"}, id="notes"),
        pytest.param({"tags": ["web"]}, {"tags"}, id="tags"),
        pytest.param({"power": "Running"}, set(), id="power that fits onboot"),
        pytest.param({"power": "Stopped"}, {"onboot"}, id="power that does not"),
        pytest.param({"cpu": {"cores": 2}}, {"cores"}, id="cores"),
    ],
)
def test_of_an_adopted_vm_only_what_is_listed_is_written(spec, keys):
    described = OLD | {"description": render_description(MARK, "")}
    found = diff(wanted(a_vm(status=made(vmid=104), **BY_VMID, **spec)), described)
    assert {put.key for put in found.puts} == keys
    assert found.removes == ()


def test_a_name_that_is_listed_is_given_to_an_adopted_vm():
    vm = a_vm(status=made(vmid=104), **BY_VMID)
    named = vm.model_copy(update={"spec": vm.spec.model_copy(update={"name": "web-9"})})
    found = diff(wanted(named), OLD | {"description": render_description(MARK, "")})
    assert [(put.key, put.value) for put in found.puts] == [("name", "web-9")]


def test_the_namespace_becomes_a_tag_of_an_adopted_vm_only_beside_tags_of_the_spec():
    assert own_tags(a_vm(**BY_VMID)) == ()
    assert own_tags(a_vm(tags=["web"], **BY_VMID)) == ("shop", "web")
    unlisted = a_vm(status=made(tags=["shop", "web"]), **BY_VMID)
    found = diff(wanted(unlisted), {"tags": "prod;shop;web", "description": render_description(MARK, "")})
    assert [put.value for put in found.puts] == ["prod"]


def test_the_mark_that_will_be_written_is_a_sentence_without_its_content():
    config = {"description": "notes\n"}
    [sentence] = diff(wanted(a_vm(status=made(vmid=104), **BY_VMID)), config).sentences()
    assert sentence == "description: the mark of this object is written beside the text"


def test_an_object_as_if_it_had_adopted_keeps_all_else():
    vm = as_adopted(a_vm(status={"plan": ["x"]}, **BY_VMID), NOBODYS, cluster="lab")
    assert (vm.status.vmid, vm.status.uuid, vm.status.node, vm.status.started) == (104, UUID, "pve1", True)
    assert (vm.status.plan, vm.status.cluster) == (("x",), "lab")


THERE = {
    "boot": "order=scsi0",
    "scsi0": "local-lvm:vm-104-disk-0,size=32G",
    "scsi3": "local-lvm:vm-104-disk-1,discard=on,size=100G",
    "virtio1": "ceph:vm-104-disk-2,serial=logs,size=50G",
    "description": render_description(MARK, ""),
}


def with_disks(*listed: dict[str, Any], **status: Any) -> Any:
    vm = a_vm(status=made(vmid=104, **status), disks=list(listed), **BY_VMID)
    return vm, diff(wanted(vm, seen=DiskFacts(current=THERE)), THERE)


@pytest.mark.parametrize(
    ("listed", "written"),
    [
        pytest.param({"name": "scsi3", "size": "100Gi", "discard": True}, [], id="by its slot, as it is"),
        pytest.param(
            {"name": "scsi3", "size": "100Gi"},
            ["scsi3: local-lvm:vm-104-disk-1,size=100G"],
            id="listed is owned whole: without discard, and without a serial number",
        ),
        pytest.param({"name": "logs", "size": "50Gi"}, [], id="by the serial number it has"),
    ],
)
def test_a_disk_of_an_adopted_vm_is_taken_over_by_its_slot_or_serial(listed, written):
    _, found = with_disks(listed)
    assert [f"{put.key}: {put.value}" for put in found.puts] == written
    assert (found.grows, found.removes, found.problems) == ((), (), ())


def test_a_disk_taken_over_by_its_slot_can_grow():
    _, found = with_disks({"name": "scsi3", "size": "200Gi", "discard": True})
    assert [(grow.slot, grow.size >> 30) for grow in found.grows] == [("scsi3", 200)]


@pytest.mark.parametrize(
    ("listed", "reason", "words"),
    [
        pytest.param(
            {"name": "scsi9", "size": "1Gi"}, "DiskNotFound", "has none there", id="a slot with no disk in it"
        ),
        pytest.param(
            {"name": "scsi0", "size": "32Gi"}, "DiskAmbiguous", "spec.bootDisk", id="the boot disk has its block"
        ),
        pytest.param(
            {"name": "data", "size": "100Gi"}, "DiskAmbiguous", "call it scsi3", id="a new one of an old one's size"
        ),
    ],
)  # fmt: skip
def test_a_disk_that_may_mean_another_one_is_refused(listed, reason, words):
    _, found = with_disks(listed)
    assert [problem.reason for problem in found.problems] == [reason]
    assert words in found.problems[0].message
    assert found.puts == ()


def test_a_new_disk_beside_a_listed_one_of_its_size_is_made():
    _, found = with_disks(
        {"name": "scsi3", "size": "100Gi", "discard": True}, {"name": "data", "size": "100Gi"}
    )
    assert [put.key for put in found.puts] == ["scsi1"]
    assert found.problems == ()


def test_a_disk_taken_over_by_its_slot_is_let_go_and_not_detached():
    record = {"name": "scsi3", "slot": "scsi3", "volume": "local-lvm:vm-104-disk-1", "size": "100Gi"}
    vm, found = with_disks(disks=[record])
    assert found == ConfigDiff()
    assert disk_records(wanted(vm, seen=DiskFacts(current=THERE)), THERE).disks == ()


def test_a_disk_taken_over_by_its_slot_is_followed_when_it_is_moved_to_another_storage():
    record = {"name": "scsi3", "slot": "scsi3", "volume": "ceph:vm-104-disk-7", "size": "100Gi"}
    _, found = with_disks({"name": "scsi3", "size": "100Gi"}, disks=[record])
    assert found.problems == ()
    assert all(put.key == "scsi3" for put in found.puts)
