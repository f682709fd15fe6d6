"""How copies, images and the VMTemplate itself go, situation by situation."""

import pytest

from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.templates import (
    Bury,
    DeleteImage,
    Destroy,
    Drop,
    Keep,
    Release,
    Reserve,
    There,
    plan,
)
from unit.planning.make import later
from unit.planning.making_templates import (
    AWAITS,
    BROKEN,
    CURRENT,
    EARLIER,
    FOREIGN,
    GONE,
    MADE,
    NEW,
    NOTHING,
    OLD,
    REMOVING,
    TEMPLATE,
    UNCLEAR,
    a_copy,
    a_template,
    an_image,
    facts,
    only,
    planned,
    seen,
    stuck,
)

BOTH = {"versions": [OLD, CURRENT]}


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


def test_an_image_that_is_still_coming_holds_the_object_until_it_can_be_deleted():
    assert ending(coming=(an_image(),)) == AWAITS
    assert ending(coming=(an_image("pve1"),), unused=(an_image("pve2"),)) == ([(DeleteImage, None)], [], 1)


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
