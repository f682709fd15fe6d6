"""What a person reads of a VMTemplate: its conditions, for the situations that it can be in."""

import pytest

from proxmox_operator.errors import NeedsHuman, Transient
from proxmox_operator.planning.templates import conditions, counted, is_usable, plan
from unit.planning.make import NOW
from unit.planning.making_templates import (
    EARLIER,
    GONE,
    MADE,
    NEW,
    UNCLEAR,
    a_copy,
    a_template,
    facts,
    node,
    seen,
)

WRONG = NeedsHuman("got another sum: correct spec.image.checksum", reason="ChecksumMismatch")
FULL = NeedsHuman("local-lvm is full: free space on the storage", reason="StorageFull")
BUSY = Transient("another task holds the lock", reason="LockTimeout")


def shown(template=None, *copies, **changes):
    """By type: (status, reason, message)."""
    given = facts(template, copies=copies, **changes)
    found = conditions((), given, plan(given), generation=3, now=NOW)
    return {each.type: (each.status, each.reason, each.message) for each in found}


def states(found, *types):
    return tuple(found[kind][0] for kind in types)


KSTATUS = ("Ready", "Reconciling", "Stalled")
PLACES = ("Distributed", "Downloaded")


def test_while_the_first_copy_is_made_it_is_on_its_way():
    found = shown(None, seen(GONE, NEW), nodes={"pve1": node(image=False, downloading=True)})
    assert states(found, *KSTATUS) == ("False", "True", "False")
    assert found["Ready"][1:] == ("Making", "pve1 downloads debian-12-a1b2c3d4e5f60718.qcow2")
    assert found["Distributed"] == ("False", "Making", "pve1: its copy is being made")
    assert found["Downloaded"][:2] == ("False", "Downloading")
    assert "is not on pve1 yet" in found["Downloaded"][2]


def test_when_each_node_has_its_copy_it_is_ready_and_at_rest():
    found = shown(None, seen())
    assert states(found, *KSTATUS, *PLACES) == ("True", "False", "False", "True", "True")
    assert "1/1 copies are ready" in found["Ready"][2]
    assert "are on pve1" in found["Distributed"][2]


def test_with_the_first_of_two_copies_vms_can_be_made():
    found = shown(a_template(), seen(), seen(MADE, a_copy(10001, node="pve2", state="Creating")))
    assert states(found, *KSTATUS) == ("True", "True", "False")
    assert "1/2 copies are ready" in found["Ready"][2]
    assert found["Distributed"][0] == "False"


def test_what_only_a_person_can_mend_is_stalled_with_the_field():
    found = shown(None, seen(GONE, NEW), nodes={"pve1": node(image=False, failed=WRONG)})
    assert states(found, *KSTATUS, *PLACES) == ("False", "False", "True", "False", "False")
    for kind in ("Ready", "Distributed", "Downloaded"):
        assert found[kind][1] == "ChecksumMismatch"
        assert "spec.image.checksum" in found[kind][2]


def test_a_copy_that_cannot_be_made_is_stalled_though_its_image_is_there():
    found = shown(None, seen(GONE, NEW, failed=FULL), nodes={"pve1": node(image=True)})
    assert states(found, *KSTATUS, *PLACES) == ("False", "False", "True", "False", "True")
    assert found["Ready"][1:] == ("StorageFull", FULL.message)
    assert found["Distributed"][1] == "StorageFull"


def test_what_passes_by_itself_is_not_stalled():
    found = shown(None, seen(GONE, NEW, failed=BUSY), nodes={"pve1": node(image=True)})
    assert states(found, *KSTATUS) == ("False", "True", "False")
    assert found["Ready"][1] == "LockTimeout"


def test_a_trouble_on_one_node_does_not_hide_that_vms_can_be_made():
    other = a_copy(10001, node="pve2", state="Creating")
    nodes = {"pve1": node(), "pve2": node("pve2", image=True)}
    found = shown(a_template(), seen(), seen(GONE, other, failed=FULL), nodes=nodes)
    assert states(found, *KSTATUS, *PLACES) == ("True", "False", "True", "False", "True")
    assert "local-lvm is full" in found["Ready"][2]
    assert found["Distributed"] == ("False", "StorageFull", f"pve2: {FULL.message}")


def test_what_cannot_be_told_is_unknown():
    found = shown(None, seen(UNCLEAR, NEW))
    assert states(found, *KSTATUS) == ("Unknown", "True", "False")
    assert found["Ready"][1] == "NodeUnavailable"


@pytest.mark.parametrize(
    ("spec", "changes", "reason", "field"),
    [
        ({"distribution": "Shared"}, {}, "StorageNotShared", "spec.storage"),
        ({"nodes": ["pve9"]}, {}, "NodeNotFound", "spec.nodes"),
        ({"fromVM": {"vmid": 500}, "nodes": ["pve1"]}, {"source": "pve2"}, "SourceElsewhere", "spec.nodes"),
        (
            {"nodes": ["pve1"]},
            {"nodes": {"pve1": node(refusal="spec.storage: no", reason="StorageNotUsable")}},
            "StorageNotUsable",
            "spec.storage",
        ),
    ],
)
def test_a_spec_that_cannot_be_followed_is_stalled_with_the_field(spec, changes, reason, field):
    found = shown(a_template(**spec), **changes)
    assert states(found, *KSTATUS) == ("False", "False", "True")
    assert found["Ready"][1] == found["Distributed"][1] == reason
    assert field in found["Ready"][2]


def test_a_volume_that_is_not_there_is_said_with_the_field():
    template = a_template(nodes=["pve1"], image={"volume": "nas:import/a.qcow2"})
    found = shown(template, seen(GONE, NEW), nodes={"pve1": node(image=False)})
    assert found["Ready"][:2] == ("False", "ImageNotFound")
    assert "spec.image.volume" in found["Ready"][2]
    assert "Downloaded" not in found


def test_on_demand_it_is_ready_before_there_is_any_copy():
    found = shown(a_template(distribution="OnDemand"))
    assert states(found, *KSTATUS, *PLACES) == ("True", "False", "False", "True", "True")
    assert "0/0" in found["Ready"][2]
    assert found["Distributed"][2] == "no copy is wanted yet"


def test_on_demand_it_is_not_ready_while_a_vm_waits():
    given = facts(a_template(distribution="OnDemand"), asked=frozenset({"pve1"}))
    assert not is_usable(given, plan(given))
    assert counted(given, plan(given)) == "0/1"


def test_an_old_version_that_must_stay_is_mentioned_and_stalls_nothing():
    template = a_template(nodes=["pve1"], keepVersions=0)
    found = shown(template, seen(), seen(copy=EARLIER), in_use={10001: "linked clones use its disks"})
    assert states(found, *KSTATUS, *PLACES) == ("True", "False", "False", "True", "True")
    assert "linked clones use its disks" in found["Ready"][2]


def test_a_deletion_says_what_it_does_and_what_prevents_it():
    deleting = a_template(deleting=True)
    found = shown(deleting, seen())
    assert states(found, *KSTATUS) == ("False", "True", "False")
    assert found["Ready"][1] == "Deleting"
    found = shown(deleting, seen(), in_use={10000: "linked clones use its disks"})
    assert states(found, *KSTATUS) == ("False", "False", "True")
    assert "spec.deletionPolicy" in found["Ready"][2]
    found = shown(deleting, seen(making=("shop/web-1",)))
    assert states(found, *KSTATUS) == ("False", "True", "False")
    assert "shop/web-1" in found["Ready"][2]


def test_a_condition_that_no_longer_applies_goes():
    given = facts(copies=(seen(),))
    before = conditions((), given, plan(given), generation=3, now=NOW)
    assert any(each.type == "Downloaded" for each in before)
    given = facts(a_template(nodes=["pve1"], fromVM={"vmid": 500}), copies=(seen(),), source="pve1")
    after = conditions(before, given, plan(given), generation=4, now=NOW)
    assert not any(each.type == "Downloaded" for each in after)


def test_many_nodes_with_one_trouble_are_one_sentence():
    nodes = {name: node(name, online=False) for name in ("pve1", "pve2", "pve3")}
    found = shown(a_template(), nodes=nodes)
    assert found["Distributed"][1] == "NodeUnavailable"
    assert len(found["Distributed"][2]) <= 1000
