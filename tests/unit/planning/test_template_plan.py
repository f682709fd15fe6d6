"""The next steps for a VMTemplate, situation by situation. What holds in all of them: test_template_properties."""

import pytest

from proxmox_operator.errors import Transient
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.templates import (
    Convert,
    Create,
    Destroy,
    Download,
    Drop,
    Finish,
    Hold,
    Reserve,
    There,
    plan,
    wanted_nodes,
)
from unit.planning.make import later
from unit.planning.making_templates import (
    AWAITS,
    BROKEN,
    CURRENT,
    FOREIGN,
    GONE,
    MADE,
    NEW,
    NOTHING,
    OLD,
    READY,
    REMOVING,
    TEMPLATE,
    UNCLEAR,
    a_copy,
    a_template,
    facts,
    node,
    only,
    planned,
    seen,
    stuck,
)

CONVERTING = a_copy(state="Converting")
BOTH = {"versions": [OLD, CURRENT]}
WITH_IMAGE = {"pve1": node(image=True), "pve2": node("pve2")}


# Beginning


def test_first_of_all_kubernetes_is_to_keep_the_object():
    assert plan(facts(a_template(held=False))).steps == (Hold(),)


def test_a_vmid_is_reserved_for_each_node_before_anything_is_made():
    assert planned(a_template()) == only(Reserve, ("pve1", "pve2"))
    assert planned() == only(Reserve, ("pve1",))


def test_shared_needs_a_storage_that_is():
    template = a_template(distribution="Shared")
    assert planned(template) == stuck("StorageNotShared")
    assert planned(template, shared=True) == only(Reserve, ("pve1",))


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (None, "NodeNotFound"),
        (node(online=False), "NodeUnavailable"),
        (node(refusal="no images there", reason="StorageNotUsable"), "StorageNotUsable"),
    ],
)
def test_a_node_that_cannot_have_a_copy_is_told_why(known, reason):
    nodes = {"pve2": node("pve2")} | ({"pve1": known} if known is not None else {})
    assert planned(nodes=nodes) == stuck(reason)
    found = plan(facts(nodes=nodes))
    assert found.troubles[0].waits is (reason == "NodeUnavailable")


def test_where_no_node_can_have_a_copy_each_says_why():
    nodes = {name: node(name, refusal=f"{name} has no storage") for name in ("pve1", "pve2")}
    assert planned(a_template(), nodes=nodes) == ([], ["NodeUnsuitable", "NodeUnsuitable"], 0)


# Which nodes

WANTED = [
    ({}, {}, ("pve1", "pve2")),
    ({"nodes": ["pve2", "pve9"]}, {}, ("pve2", "pve9")),
    ({"distribution": "OnDemand"}, {}, ()),
    ({"distribution": "OnDemand"}, {"asked": frozenset({"pve2"})}, ("pve2",)),
    ({"distribution": "OnDemand", "nodes": ["pve1"]}, {"asked": frozenset({"pve2"})}, ()),
    ({"distribution": "OnDemand"}, {"copies": (seen(copy=NEW),)}, ("pve1",)),
    ({}, {"shared": True}, ("pve1",)),
    ({}, {"shared": True, "asked": frozenset({"pve2"})}, ("pve2",)),
    ({}, {"shared": True, "copies": (seen(copy=a_copy(node="pve2")),)}, ("pve2",)),
    ({"nodes": ["pve1"]}, {"shared": True, "copies": (seen(copy=a_copy(node="pve2")),)}, ("pve1",)),
    ({}, {"nodes": {"pve1": node(refusal="no"), "pve2": node("pve2")}}, ("pve2",)),
    ({}, {"nodes": {"pve1": node(online=False), "pve2": node("pve2")}}, ("pve1", "pve2")),
    ({}, {"shared": True, "nodes": {"pve1": node(online=False), "pve2": node("pve2")}}, ("pve2",)),
    ({"nodes": ["pve1"]}, {"shared": True, "nodes": {"pve1": node(refusal="no")}}, ("pve1",)),
    ({"fromVM": {"vmid": 500}}, {"source": "pve2"}, ("pve2",)),
    ({"fromVM": {"vmid": 500}, "nodes": ["pve1"]}, {"source": "pve2"}, ()),
]


@pytest.mark.parametrize(("spec", "changes", "nodes"), WANTED, ids=str)
def test_copies_are_wanted_on(spec, changes, nodes):
    assert wanted_nodes(facts(a_template(**spec), **changes)) == nodes


def test_a_vm_on_a_node_that_the_spec_does_not_name_is_cloned_nowhere_and_that_is_said():
    template = a_template(fromVM={"vmid": 500}, nodes=["pve1"])
    steps, reasons, _ = planned(template, source="pve2", file=None, volume=None)
    assert steps == []
    assert reasons == ["SourceElsewhere"]


# Making


@pytest.mark.parametrize(
    ("copy", "changes", "result"),
    [
        (seen(GONE, NEW), {}, "download"),
        (seen(GONE, NEW), {"nodes": {"pve1": node(image=False, downloading=True)}}, AWAITS),
        (seen(GONE, NEW), {"nodes": {"pve1": node(image=False, downloading=True, failed=BROKEN)}}, AWAITS),
        (seen(GONE, NEW), {"nodes": {"pve1": node(image=False, failed=BROKEN)}}, stuck("ChecksumMismatch")),
        (seen(GONE, NEW), {"file": None}, stuck("ImageNotFound")),
        (seen(GONE, NEW), {"nodes": WITH_IMAGE}, only(Create, NEW)),
        (seen(GONE, NEW), {"volume": None, "file": None}, only(Create, NEW)),
        (seen(GONE, NEW), {"nodes": {"pve1": node(online=False)}}, "dropped, as the node is offline"),
        (
            seen(GONE, NEW),
            {"nodes": {"pve1": node(refusal="no", reason="Full")}},
            "dropped, as it is refused",
        ),
        (seen(GONE, NEW, settles_at=later(1)), {"nodes": WITH_IMAGE}, AWAITS),
        (seen(GONE, NEW, settles_at=later(0)), {"nodes": WITH_IMAGE}, only(Create, NEW)),
        (seen(GONE, NEW, failed=BROKEN), {"nodes": WITH_IMAGE}, stuck("ChecksumMismatch")),
        (seen(GONE, NEW, working=True), {"nodes": WITH_IMAGE}, AWAITS),
        (seen(UNCLEAR, NEW), {"nodes": WITH_IMAGE}, stuck("NodeUnavailable")),
        (seen(MADE, NEW), {}, only(Convert, NEW)),
        (seen(MADE, CONVERTING), {}, only(Convert, CONVERTING)),
        (seen(MADE, READY), {}, only(Convert, READY)),
        (seen(MADE, NEW, failed=BROKEN), {}, stuck("ChecksumMismatch")),
        (seen(There(node="pve1", owner=Owner.OURS), NEW), {}, only(Destroy, NEW)),
        (seen(There(node="pve1", owner=Owner.UNMARKED, complete=True), NEW), {}, only(Convert, NEW)),
        (seen(TEMPLATE, NEW), {}, only(Finish, NEW)),
        (seen(TEMPLATE, CONVERTING), {}, only(Finish, CONVERTING)),
        (seen(TEMPLATE, REMOVING), {}, only(Finish, REMOVING)),
        (seen(TEMPLATE, READY), {}, NOTHING),
        (seen(There(node="pve1", owner=Owner.OURS, complete=True, running=True)), {}, stuck("CopyTurnedVM")),
        (seen(There(node="pve1", owner=Owner.OURS, lock="backup", is_template=True)), {}, stuck("Locked")),
        (seen(There(node="pve1", owner=Owner.OURS, lock="create"), NEW), {}, stuck("StuckLock")),
        (seen(There(node="pve1", owner=Owner.PENDING, lock="clone"), NEW), {}, stuck("StuckLock")),
        (seen(There(node="pve1", owner=Owner.PENDING, lock="destroyed"), REMOVING), {}, stuck("StuckLock")),
        (seen(There(node="pve1", owner=Owner.PENDING, lock="create"), NEW, working=True), {}, AWAITS),
    ],
)
def test_a_copy_that_is_wanted(copy, changes, result):
    changes = {"nodes": {"pve1": node(image=False)}} | changes
    steps, reasons, working = planned(None, copy, **changes)
    if result == "download":
        assert [step for step, _ in steps] == [Download]
    elif str(result).startswith("dropped"):
        assert [step for step, _ in steps] == [Drop]
    else:
        assert (steps, reasons, working) == result


@pytest.mark.parametrize("state", ["Ready", "Converting"])
def test_a_copy_that_vanished_is_taken_off_the_record_and_made_anew(state):
    copy = a_copy(state=state)
    (step,) = plan(facts(copies=(seen(GONE, copy),))).steps
    assert isinstance(step, Drop)
    assert "no longer exists" in str(step.told)
    assert planned() == only(Reserve, ("pve1",))


def test_a_vm_of_somebody_else_under_the_vmid_is_left_alone():
    (step,) = plan(facts(copies=(seen(FOREIGN),))).steps
    assert isinstance(step, Drop)
    assert "left alone" in str(step.told)


def test_copies_on_different_nodes_do_not_wait_for_each_other():
    other = a_copy(10001, node="pve2", state="Creating")
    steps, reasons, _ = planned(a_template(), seen(UNCLEAR), seen(MADE, other))
    assert (steps, reasons) == ([(Convert, other)], ["NodeUnavailable"])


def test_what_fails_for_a_moment_is_not_a_persons_part():
    found = plan(facts(copies=(seen(MADE, NEW, failed=Transient("later")),)))
    assert [each.waits for each in found.troubles] == [True]
    assert [each.waits for each in plan(facts(copies=(seen(MADE, NEW, failed=BROKEN),))).troubles] == [False]
