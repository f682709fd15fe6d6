"""A VM from a VMTemplate: which copy it is cloned from, which node it goes to for that, and where it waits for one."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.api import VMTemplate
from proxmox_operator.planning.access import access_of
from proxmox_operator.planning.lifecycle import Absent, Clone, Reserve, Wait, plan
from proxmox_operator.planning.placement import (
    Crowd,
    Node,
    Placed,
    Storage,
    Template,
    Terms,
    Unschedulable,
    copies_to_come,
    current_copies,
    place,
    shortcoming,
)
from unit.planning.make import NOW, PLACE, a_vm, cluster, facts, made

GIB = 1 << 30
EVERYTHING = access_of(cluster({"allow": "Everything"}), {})
REF: dict[str, Any] = {"templateRef": {"name": "debian-12"}}

LOCAL = Storage(name="local-lvm", shared=False, type="lvmthin", content=frozenset({"images"}))
CEPH = Storage(name="ceph", shared=True, type="rbd", content=frozenset({"images"}))
IMAGES = Storage(name="local", shared=False, type="dir", content=frozenset({"import", "iso"}))


def node(name, free=16, *, online=True, storages=(LOCAL, CEPH, IMAGES)) -> Node:
    return Node(
        name=name,
        online=online,
        memory_free=free * GIB,
        storages={each.name: each for each in storages},
        bridges=frozenset({"vmbr0"}),
    )


def copy(vmid: int | None, node: str, storage: str = "local-lvm", version: str = "v1") -> Template:
    return Template(
        vmid=vmid,
        node=node,
        is_template=True,
        config={"scsi0": f"{storage}:base-{vmid}-disk-0,size=2G", "memory": "1024"},
        name="debian-12",
        version=version,
    )


ON_1, ON_2, TO_COME_2, TO_COME_3 = (
    copy(9001, "pve1"),
    copy(9002, "pve2"),
    copy(None, "pve2"),
    copy(None, "pve3"),
)
SHARED = copy(9009, "pve1", "ceph")


def placed(templates, nodes, *, promised=None, crowd=None, **spec) -> Placed | Unschedulable:
    vm = a_vm(**{"source": REF} | spec)
    terms = Terms(access=EVERYTHING, placement=vm.spec.placement, crowd=Crowd(**(crowd or {})))
    return place(vm, templates, nodes, terms, promised=promised)


@pytest.mark.parametrize(
    ("templates", "nodes", "more", "chosen"),
    [
        pytest.param([ON_1, ON_2], [node("pve1", 4), node("pve2", 8)], {}, ON_2, id="that of the better node"),
        pytest.param([SHARED, ON_2], [node("pve1", 4), node("pve2", 8)], {}, ON_2, id="its own, not a shared one"),
        pytest.param([SHARED], [node("pve1", 4), node("pve2", 8)], {}, SHARED, id="a shared one serves all nodes"),
        pytest.param(
            [SHARED, TO_COME_2], [node("pve1", 4), node("pve2", 8)], {}, SHARED, id="one that is there, not one to come"
        ),
        pytest.param(
            [ON_1, TO_COME_2], [node("pve1", 9), node("pve2", 17)], {}, ON_1, id="less memory, but it starts at once"
        ),
        pytest.param(
            [ON_1, TO_COME_2], [node("pve1", 8), node("pve2", 17)], {}, TO_COME_2, id="more than twice the memory"
        ),
        pytest.param(
            [ON_1, TO_COME_2],
            [node("pve1", 9), node("pve2", 10)],
            {"promised": "pve2"},
            TO_COME_2,
            id="it waits on the node that it was promised",
        ),
        pytest.param(
            [TO_COME_2, TO_COME_3],
            [node("pve2", 9), node("pve3", 17)],
            {"promised": "pve2"},
            TO_COME_2,
            id="and does not go to and fro between nodes without a copy",
        ),
        pytest.param(
            [ON_1, TO_COME_2],
            [node("pve1", 9), node("pve2", 8)],
            {"promised": "pve2"},
            ON_1,
            id="until a better one has its copy",
        ),
        pytest.param(
            [ON_1, TO_COME_2],
            [node("pve1", 64), node("pve2", 4)],
            {"placement": {"nodes": ["pve2"]}},
            TO_COME_2,
            id="a preferred node is worth waiting for",
        ),
        pytest.param(
            [ON_1, TO_COME_2],
            [node("pve1", 64), node("pve2", 4)],
            {"placement": {"nodes": ["pve2"], "mode": "Require"}},
            TO_COME_2,
            id="a required one all the more",
        ),
        pytest.param(
            [ON_1, TO_COME_2],
            [node("pve1", 64), node("pve2", 4)],
            {"placement": {"spreadBy": "app"}, "crowd": {"apart": {"pve1": ("web-2",)}}},
            TO_COME_2,
            id="so is being away from its like",
        ),
        pytest.param(
            [ON_1, TO_COME_2], [node("pve1", 0), node("pve2", 4)], {}, TO_COME_2, id="a full node is of no use"
        ),
        pytest.param(
            [ON_1, ON_2], [node("pve1", 1), node("pve2", 64, online=False)], {}, ON_1, id="none of a node that is down"
        ),
        pytest.param(
            [SHARED],
            [node("pve1", 4), node("pve2", 8)],
            {"source": {"templateRef": {"name": "debian-12", "full": True, "storage": "local-lvm"}}},
            SHARED,
            id="a full clone onto local disks stays beside the template",
        ),
    ],
)  # fmt: skip
def test_the_template_that_is_chosen(templates, nodes, more, chosen):
    found = placed(templates, nodes, **more)
    assert isinstance(found, Placed), found.message()
    assert found.template == chosen
    if chosen is not SHARED or "source" in more:
        assert found.node == chosen.node


def test_a_shared_copy_is_cloned_to_the_better_node():
    found = placed([SHARED], [node("pve1", 4), node("pve2", 8)])
    assert isinstance(found, Placed)
    assert (found.node, found.target) == ("pve2", "pve2")


@pytest.mark.parametrize(
    ("ref", "full", "storage"),
    [
        pytest.param({}, False, None, id="linked by default"),
        pytest.param({"full": True}, True, None, id="full when asked for"),
        pytest.param({"storage": "ceph"}, True, "ceph", id="full where a storage is named"),
    ],
)
def test_linked_or_full(ref, full, storage):
    nodes = [node("pve1")]
    found = placed([ON_1], nodes, source={"templateRef": {"name": "debian-12"} | ref})
    assert isinstance(found, Placed)
    assert (found.full, found.storage) == (full, storage)


def test_a_node_that_can_have_no_copy_is_named_with_what_would_change_that():
    found = placed([ON_1], [node("pve1", 0), node("pve2")])
    assert isinstance(found, Unschedulable)
    assert found.reasons == {
        "pve1": "1Gi of memory wanted, which is more than is free",
        "pve2": "VMTemplate debian-12 is on pve1 and storage local-lvm is local to it: let the VMTemplate have a copy "
        "here, too (its spec.nodes and spec.distribution)",
    }


def test_a_required_node_without_the_templates_storage_is_told_so():
    found = placed([ON_1, TO_COME_2], [node("pve1"), node("pve2", storages=[IMAGES])],
                   placement={"nodes": ["pve2"], "mode": "Require"})  # fmt: skip
    assert isinstance(found, Unschedulable)
    assert "storage local-lvm (VMTemplate debian-12) is not available there" in found.reasons["pve2"]


# Copies that are yet to be made


def template(
    *copies: dict[str, Any], conditions: Any = (), deleting: bool = False, **spec: Any
) -> VMTemplate:
    image = {"url": "https://x.org/d.qcow2", "checksum": "sha256:" + "0" * 64, "storage": "local"}
    whole = ({} if "fromVM" in spec else {"image": image}) | spec
    shown = [
        {"vmid": 9000 + number, "uuid": f"u{number}", "storage": "local-lvm", "since": NOW.isoformat()}
        | {"version": "v1", "state": "Ready", "node": "pve1"}
        | each
        for number, each in enumerate(copies)
    ]
    status = {"version": "v1", "cluster": "lab", "copies": shown, "conditions": list(conditions)}
    return VMTemplate.parse({"metadata": {"name": "debian-12", "uid": "t"}, "spec": whole, "status": status})


THREE = [node("pve1"), node("pve2"), node("pve3")]
FROM_VM: dict[str, Any] = {"fromVM": {"vmid": 104}}


def condition(name: str, status: str, message: str) -> dict[str, Any]:
    return {"type": name, "status": status, "reason": "R", "message": message,
            "lastTransitionTime": NOW.isoformat()}  # fmt: skip


def to_come(of: VMTemplate, read=(), nodes=THREE, storage="local-lvm", source=None) -> list[str]:
    return [each.node for each in copies_to_come(of, list(read), nodes, storage=storage, source=source)]


@pytest.mark.parametrize(
    ("of", "read", "more", "nodes"),
    [
        pytest.param(template(), [], {}, ["pve1", "pve2", "pve3"], id="at first on each node"),
        pytest.param(template({}), [ON_1], {}, ["pve2", "pve3"], id="then on those without one"),
        pytest.param(template({}), [], {}, ["pve2", "pve3"], id="not where one is on record that cannot be read"),
        pytest.param(template({"state": "Creating"}), [], {}, ["pve1", "pve2", "pve3"], id="the one in the making"),
        pytest.param(
            template({"version": "v0"}), [], {}, ["pve1", "pve2", "pve3"], id="an earlier version does not count"
        ),
        pytest.param(template(distribution="OnDemand"), [], {}, ["pve1", "pve2", "pve3"], id="on demand, too"),
        pytest.param(template(distribution="Shared"), [], {}, [], id="where one serves all, none for a node"),
        pytest.param(template(nodes=["pve2"]), [], {}, ["pve2"], id="only where they may be"),
        pytest.param(template(storage="ceph"), [], {}, [], id="not on a shared storage"),
        pytest.param(template(), [], {"storage": "ceph"}, [], id="also when that is the cluster's default"),
        pytest.param(template(), [], {"storage": None}, [], id="nor where nobody has said onto which storage"),
        pytest.param(
            template(), [], {"nodes": [node("pve1"), node("pve2", storages=[LOCAL])]}, ["pve1"],
            id="not where the image cannot be downloaded to",
        ),
        pytest.param(
            template(image={"volume": "ceph:import/d.qcow2"}), [], {}, [], id="nor where that storage takes no images"
        ),
        pytest.param(template(**FROM_VM), [], {"source": "pve3"}, ["pve3"], id="of a VM only where that is"),
        pytest.param(template(**FROM_VM), [], {}, [], id="of a VM that is nowhere, none"),
    ],
)  # fmt: skip
def test_where_a_copy_is_still_to_come(of, read, more, nodes):
    assert to_come(of, read, **more) == nodes


def test_a_copy_to_come_is_as_large_as_another_one_or_as_the_spec_says():
    hardware = {"cpu": {"cores": 2, "sockets": 2}, "memory": {"size": "3Gi"}}
    [first, *_] = copies_to_come(template(hardware=hardware), [], THREE, storage="local-lvm", source=None)
    found = placed([first], THREE, bootDisk={"size": "5Gi"})
    assert isinstance(found, Placed)
    assert (found.memory, found.cpus, found.space) == (3 * GIB, 4, {"local-lvm": 5 * GIB})
    [second, *_] = copies_to_come(
        template({}, hardware=hardware), [ON_1], THREE, storage="local-lvm", source=None
    )
    found = placed([second], THREE, bootDisk={"size": "5Gi"})
    assert isinstance(found, Placed)
    assert (found.memory, found.space) == (GIB, {"local-lvm": 3 * GIB})


def test_the_hardware_that_a_vmtemplate_does_not_name_is_that_of_its_defaults():
    [first, *_] = copies_to_come(template(), [], THREE, storage="local-lvm", source=None)
    assert placed([first], THREE).memory == GIB


def test_new_vms_are_made_from_ready_copies_of_the_current_version():
    states = [{"state": state, "version": version} for state in ("Creating", "Converting", "Ready", "Removing")
              for version in ("v0", "v1")]  # fmt: skip
    assert [(each.state, each.version) for each in current_copies(template(*states))] == [("Ready", "v1")]


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        pytest.param([], "", id="not looked at yet"),
        pytest.param([condition("Ready", "True", "ready")], "", id="ready"),
        pytest.param([condition("Ready", "False", "no import")], "no import", id="not ready"),
        pytest.param([condition("Ready", "Unknown", "who knows")], "who knows", id="nobody can tell"),
        pytest.param(
            [condition("Ready", "True", "ready"), condition("Distributed", "False", "pve3: full")], "pve3: full",
            id="ready, but not everywhere",
        ),
    ],
)  # fmt: skip
def test_why_a_copy_is_not_there_is_what_the_vmtemplate_says(conditions, told):
    assert shortcoming(template(conditions=conditions)) == told


# The next step

MAKING = made(
    started=False,
    provisioning={"sourceNode": "pve1", "sourceVmid": 9001, "full": False, "since": NOW.isoformat()},
    template={"name": "debian-12", "version": "v1", "linked": True},
)
HERE = replace(PLACE, template=ON_1)


def test_a_vm_waits_for_a_copy_that_is_yet_to_be_made_before_anything_is_reserved():
    where = replace(PLACE, node="pve2", template=replace(TO_COME_2, note="pve2 downloads debian.qcow2"))
    for vm in (a_vm(source=REF), a_vm(source=REF, status=MAKING)):
        step = plan(facts(vm, place=where, existence=Absent() if vm.status.vmid else None))
        assert isinstance(step, Wait)
        assert step.reason == "TemplatePending"
        assert step.message == "VMTemplate debian-12 makes a copy on pve2 first: pve2 downloads debian.qcow2"


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        pytest.param(HERE, Clone, id="what was reserved is what is cloned"),
        pytest.param(
            replace(HERE, template=copy(9002, "pve1")), Reserve, id="another copy is recorded first"
        ),
        pytest.param(replace(HERE, template=copy(9001, "pve2")), Reserve, id="one that has moved, too"),
        pytest.param(replace(HERE, node="pve2"), Reserve, id="another node as well"),
    ],
)
def test_a_copy_is_cloned_only_as_it_was_recorded(place, expected):
    step = plan(facts(a_vm(source=REF, status=MAKING), place=place, existence=Absent()))
    assert isinstance(step, expected)
    assert step.place == place


# What holds whatever copies there are

COPIES = st.lists(
    st.sampled_from([ON_1, ON_2, copy(9003, "pve3"), SHARED, copy(None, "pve1"), TO_COME_2, TO_COME_3]),
    unique_by=id,
)
NODES = st.lists(
    st.builds(node, st.sampled_from(["pve1", "pve2", "pve3"]), st.integers(0, 40), online=st.booleans()),
    unique_by=lambda each: each.name,
)


@settings(deadline=None)
@given(templates=COPIES, nodes=NODES, promised=st.sampled_from([None, "pve1", "pve2", "pve9"]))
def test_a_vm_is_only_put_where_its_template_can_be_cloned_to(templates, nodes, promised):
    found = placed(templates, nodes, promised=promised)
    known = {each.name: each for each in nodes}
    if isinstance(found, Unschedulable):
        assert not any(
            known[each.node].online and (known[each.node].memory_free or 0) >= GIB
            for each in templates
            if each.node in known
        )
        return
    assert found.template in templates
    assert known[found.node].online
    assert known[found.template.node].online
    if found.template is not SHARED:
        assert found.node == found.template.node
    if found.template.vmid is None:
        there = {each.node for each in templates if each.vmid is not None}
        assert found.node not in there
