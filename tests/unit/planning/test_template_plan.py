"""The next steps for a VMTemplate, situation by situation. What holds in all of them: test_template_properties."""

import pytest

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
    Hold,
    Keep,
    Release,
    Reserve,
    There,
    plan,
    wanted_nodes,
)
from unit.planning.make import later
from unit.planning.making_templates import (
    CURRENT,
    FOREIGN,
    GONE,
    MADE,
    OLD,
    TEMPLATE,
    UNCLEAR,
    a_copy,
    a_template,
    an_image,
    facts,
    node,
    seen,
)

NEW = a_copy(state="Creating")
CONVERTING = a_copy(state="Converting")
READY = a_copy()
REMOVING = a_copy(state="Removing")
EARLIER = a_copy(10001, version=OLD)
BOTH = {"versions": [OLD, CURRENT]}
WITH_IMAGE = {"pve1": node(image=True), "pve2": node("pve2")}
BROKEN = NeedsHuman("spec.image.checksum: another one", reason="ChecksumMismatch")


def planned(template=None, *copies, **changes):
    """Kinds of the steps, with what they are about; the reasons of troubles; what is awaited."""
    template = template or a_template(nodes=["pve1"])
    found = plan(facts(template, copies=copies, **changes))
    steps = [
        (type(step), getattr(step, "copy", None) or getattr(step, "nodes", None)) for step in found.steps
    ]
    return steps, [each.reason for each in found.troubles], len(found.working)


def only(step, about):
    return [(step, about)], [], 0


def stuck(reason):
    return [], [reason], 0


NOTHING = ([], [], 0)
AWAITS = ([], [], 1)


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
        (seen(There(node="pve1", owner=Owner.OURS, complete=True, running=True)), {}, stuck("CopyRunning")),
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
    assert "no longer exists" in step.told
    assert planned() == only(Reserve, ("pve1",))


def test_a_vm_of_somebody_else_under_the_vmid_is_left_alone():
    (step,) = plan(facts(copies=(seen(FOREIGN),))).steps
    assert isinstance(step, Drop)
    assert "left alone" in step.told


def test_copies_on_different_nodes_do_not_wait_for_each_other():
    other = a_copy(10001, node="pve2", state="Creating")
    steps, reasons, _ = planned(a_template(), seen(UNCLEAR), seen(MADE, other))
    assert (steps, reasons) == ([(Convert, other)], ["NodeUnavailable"])


# What is no longer wanted


@pytest.mark.parametrize(
    ("keep", "copy", "result"),
    [
        (0, seen(copy=EARLIER), only(Destroy, EARLIER)),
        (1, seen(copy=EARLIER), NOTHING),
        (0, seen(copy=EARLIER, working=True), AWAITS),
        (0, seen(copy=EARLIER, making=("shop/web-1",)), AWAITS),
        (0, seen(copy=EARLIER, failed=BROKEN), stuck("ChecksumMismatch")),
        (0, seen(UNCLEAR, EARLIER), stuck("NodeUnavailable")),
        (0, seen(GONE, a_copy(10001, version=OLD, state="Removing")), "dropped"),
        (0, seen(GONE, a_copy(10001, version=OLD, state="Removing"), settles_at=later(1)), AWAITS),
        (1, seen(GONE, a_copy(10001, version=OLD, state="Creating")), "dropped"),
        (1, seen(MADE, a_copy(10001, version=OLD, state="Creating")), "destroyed"),
        (1, seen(TEMPLATE, a_copy(10001, version=OLD, state="Removing")), "destroyed"),
    ],
)
def test_a_copy_of_an_earlier_version(keep, copy, result):
    template = a_template(nodes=["pve1"], keepVersions=keep, status=BOTH)
    steps, reasons, working = planned(template, seen(), copy)
    if isinstance(result, str):
        assert [step for step, _ in steps] == [Drop if result == "dropped" else Destroy]
    else:
        assert (steps, reasons, working) == result


def test_of_the_earlier_versions_the_newest_are_kept():
    copies = [a_copy(10000 + number, version=version) for number, version in enumerate("abc")]
    template = a_template(nodes=["pve1"], keepVersions=2, status={"versions": ["a", "b", "c"]})
    steps, _, _ = planned(template, seen(copy=a_copy(10009)), *(seen(copy=copy) for copy in copies))
    assert steps == [(Destroy, copies[0])]


def test_a_version_that_never_came_to_be_does_not_displace_one_that_did():
    """An edit that cannot be made (a wrong checksum), corrected by another one: the last good version is kept."""
    bad = a_copy(10001, version="bad", state="Creating")
    good = a_copy(10000, version=OLD)
    template = a_template(nodes=["pve1"], keepVersions=1, status={"versions": [OLD, "bad"]})
    steps, _, _ = planned(template, seen(copy=good), seen(GONE, bad))
    assert (Destroy, good) not in steps


def test_what_proxmox_refuses_to_destroy_stays_and_is_recorded_as_it_is():
    template = a_template(nodes=["pve1"], keepVersions=0)
    removing = a_copy(10001, version=OLD, state="Removing")
    used = {10001: "linked clones use its disks"}
    assert planned(template, seen(), seen(copy=removing), in_use=used) == only(Keep, removing)
    assert planned(template, seen(), seen(copy=EARLIER), in_use=used) == stuck("InUse")


def test_a_copy_on_a_node_that_was_taken_off_the_list_goes():
    other = a_copy(10001, node="pve2")
    assert planned(None, seen(), seen(There(node="pve2", owner=Owner.OURS, is_template=True), other)) == only(
        Destroy, other
    )


def test_images_go_when_nothing_is_being_made():
    image = an_image()
    assert plan(facts(copies=(seen(),), unused=(image,))).steps == (DeleteImage(image=image),)
    assert planned(unused=(image,)) == only(Reserve, ("pve1",))


# The end


def ending(*copies, retain=False, held=True, **changes):
    policy = "Retain" if retain else "Delete"
    return planned(a_template(deleting=True, held=held, deletionPolicy=policy), *copies, **changes)


def test_an_object_that_nothing_is_left_of_is_let_go():
    assert ending() == only(Release, None)
    assert ending(held=False) == NOTHING


def test_images_go_before_the_object_does():
    assert ending(unused=(an_image(),)) == only(DeleteImage, None)


@pytest.mark.parametrize(
    ("copy", "step"),
    [
        (seen(), Destroy),
        (seen(MADE, NEW), Destroy),
        (seen(copy=EARLIER), Destroy),
        (seen(GONE, NEW), Drop),
        (seen(GONE, REMOVING), Drop),
        (seen(FOREIGN), Drop),
    ],
)
def test_a_deletion_removes_what_is_ours(copy, step):
    assert ending(copy) == ([(step, copy.copy)], [], 0)


@pytest.mark.parametrize("copy", [seen(), seen(copy=EARLIER), seen(TEMPLATE, REMOVING)])
def test_retain_leaves_templates_and_says_so_in_them(copy):
    assert ending(copy, retain=True) == only(Bury, copy.copy)


@pytest.mark.parametrize(
    ("copy", "result"),
    [
        (seen(FOREIGN), Drop),
        (seen(GONE), Drop),
        (seen(MADE, NEW), Destroy),
        (seen(copy=NEW), Destroy),
    ],
)
def test_retain_leaves_nothing_that_was_never_a_template_of_ours(copy, result):
    assert [step for step, _ in ending(copy, retain=True)[0]] == [result]


def test_a_deletion_waits_for_vms_that_are_being_made():
    steps, reasons, _ = ending(seen(making=("shop/web-1",)), seen(copy=a_copy(10001, node="pve2")))
    assert (steps, reasons) == ([], ["InUse"])
    assert ending(seen(making=("shop/web-1",)), retain=True) == stuck("InUse")


def test_a_deletion_that_linked_clones_prevent_tells_the_ways_out():
    found = plan(facts(a_template(deleting=True), copies=(seen(),), in_use={10000: "linked clones use it"}))
    (trouble,) = found.troubles
    assert not found.steps
    assert (trouble.reason, trouble.waits) == ("InUse", False)
    assert trouble.message == ("linked clones use it; delete those VMs, or set spec.deletionPolicy to Retain")


def test_a_deletion_goes_on_with_the_copies_that_can_go():
    other = a_copy(10001, node="pve2")
    steps, reasons, _ = ending(seen(UNCLEAR), seen(copy=other))
    assert (steps, reasons) == ([(Destroy, other)], ["NodeUnavailable"])


def test_what_fails_for_a_moment_is_not_a_persons_part():
    found = plan(facts(copies=(seen(MADE, NEW, failed=Transient("later")),)))
    assert [each.waits for each in found.troubles] == [True]
    assert [each.waits for each in plan(facts(copies=(seen(MADE, NEW, failed=BROKEN),))).troubles] == [False]
