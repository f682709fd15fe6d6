"""Where a new VM goes, and what a person reads when it can go nowhere."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.api import Overcommit
from proxmox_operator.planning.access import access_of
from proxmox_operator.planning.placement import (
    Crowd,
    Node,
    Placed,
    Storage,
    Template,
    Terms,
    Unschedulable,
    place,
)
from proxmox_operator.planning.placement.needs import needs_of_clone
from unit.planning.make import TEMPLATE, a_vm, cluster

GIB = 1 << 30
EVERYTHING = access_of(cluster({"allow": "Everything"}), {})
ON_CEPH = replace(TEMPLATE, config={"scsi0": "ceph:base-9000-disk-0,size=2G", "memory": "1024"})


def storage(name, *, shared=False, type="lvmthin", size=None, free=None):
    return Storage(
        name=name,
        shared=shared,
        type=type,
        content=frozenset({"images"}),
        size=None if size is None else size * GIB,
        free=None if free is None else free * GIB,
    )


LOCAL = storage("local-lvm")
CEPH = storage("ceph", shared=True, type="rbd")


def node(name, free=16, *, online=True, storages=(LOCAL, CEPH), bridges=("vmbr0",), **more):
    return Node(
        name=name,
        online=online,
        memory_free=None if free is None else free * GIB,
        storages={each.name: each for each in storages},
        bridges=None if bridges is None else frozenset(bridges),
        **more,
    )


PVE1, PVE2, PVE3 = node("pve1", 4), node("pve2", 16), node("pve3", 8)


def placed(nodes, template: Template = ON_CEPH, access=EVERYTHING, crowd=None, overcommit=None, **spec):
    vm = a_vm(**spec)
    terms = Terms(
        access=access,
        placement=vm.spec.placement,
        crowd=Crowd(**(crowd or {})),
        overcommit=Overcommit.model_validate(overcommit or {}),
    )
    return place(vm, [template], nodes, terms)


@pytest.mark.parametrize(
    ("nodes", "spec", "where"),
    [
        pytest.param([PVE1, PVE2, PVE3], {}, "pve2", id="the node with most free memory"),
        pytest.param([node("pve1", 8), node("pve2", 8)], {}, "pve1", id="among equals the template's own"),
        pytest.param([PVE1, node("pve2", 99, online=False)], {}, "pve1", id="never one that is offline"),
        pytest.param(
            [PVE1, node("pve2", 99, maintenance=True)], {}, "pve1", id="never one that is in maintenance"
        ),
        pytest.param(
            [PVE1, PVE2, PVE3], {"placement": {"nodes": ["pve3"]}}, "pve3", id="a preferred one comes first"
        ),
        pytest.param(
            [PVE1, PVE2, node("pve3", 8, online=False)],
            {"placement": {"nodes": ["pve3"]}},
            "pve2",
            id="a preferred one that cannot host it is passed over",
        ),
        pytest.param(
            [PVE1, PVE2, PVE3],
            {"placement": {"nodes": ["pve1", "pve3"], "mode": "Require"}},
            "pve3",
            id="the best of those required",
        ),
        pytest.param(
            [PVE1, node("pve2", 16, bridges=())],
            {"networks": [{"name": "net0"}]},
            "pve1",
            id="with the bridge",
        ),
        pytest.param(
            [PVE1, node("pve2", None, bridges=None)],
            {"memory": {"size": "8Gi"}},
            "pve2",
            id="what cannot be seen rules nothing out",
        ),
        pytest.param(
            [PVE1],
            {"memory": {"size": "99Gi"}, "power": "Stopped"},
            "pve1",
            id="a stopped VM takes no memory",
        ),
    ],
)
def test_the_node_that_is_chosen(nodes, spec, where):
    assert placed(nodes, **spec).node == where


def test_a_template_on_local_storage_keeps_its_clones_beside_it():
    assert placed([PVE1, PVE2], TEMPLATE).node == "pve1"
    assert placed([node("pve1", 0), PVE2], TEMPLATE) == Unschedulable(
        reasons={
            "pve1": "512Mi of memory wanted, which is more than is free",
            "pve2": "template 9000 is on pve1 and storage local-lvm is local to it",
        }
    )


@pytest.mark.parametrize(
    ("nodes", "spec", "reason", "words"),
    [
        pytest.param(
            [node("pve1", online=False), PVE2],
            {},
            "NodeUnavailable",
            "template 9000",
            id="the template's node is down",
        ),
        pytest.param([PVE2], {}, "NodeUnavailable", "pve1", id="or unknown"),
        pytest.param(
            [PVE1, PVE2],
            {"disks": [{"name": "d", "size": "1Gi", "storage": "nfs"}]},
            "StorageNotFound",
            "nfs",
            id="storage",
        ),
        pytest.param(
            [PVE1, PVE2],
            {"bootDisk": {"storage": "nfs"}},
            "StorageNotFound",
            "nfs",
            id="the boot disk's storage",
        ),
        pytest.param(
            [PVE1, PVE2],
            {"networks": [{"name": "net0", "bridge": "vmbr9"}]},
            "BridgeNotFound",
            "vmbr9",
            id="bridge",
        ),
        pytest.param(
            [PVE1, PVE2], {"memory": {"size": "64Gi"}}, "Unschedulable", "64Gi of memory wanted", id="memory"
        ),
        pytest.param(
            [PVE1, PVE2],
            {"placement": {"nodes": ["pve9"], "mode": "Require"}},
            "Unschedulable",
            "spec.placement.nodes",
            id="required",
        ),
        pytest.param(
            [PVE1, replace(PVE2, storages={})],
            {"networks": [{"name": "net0", "bridge": "vmbr9"}]},
            "Unschedulable",
            "vmbr9",
            id="two different obstacles are no single reason",
        ),
    ],
)
def test_why_it_can_go_nowhere(nodes, spec, reason, words):
    found = placed(nodes, **spec)
    assert isinstance(found, Unschedulable)
    assert found.reason == reason
    assert words in found.message()


def test_every_node_has_its_own_reason():
    found = placed(
        [PVE1, node("pve2", online=False), node("pve3", 1), node("pve4", maintenance=True)],
        access=access_of(cluster({"nodes": ["pve2", "pve3", "pve4"]}), {}),
        memory={"size": "2Gi"},
    )
    assert found.reasons == {
        "pve1": "not granted to this namespace (access[].nodes)",
        "pve2": "offline",
        "pve3": "2Gi of memory wanted, which is more than is free",
        "pve4": "in maintenance",
    }


@pytest.mark.parametrize(
    ("template", "clone", "full"),
    [
        pytest.param(ON_CEPH, {}, False, id="linked where the storage can"),
        pytest.param(ON_CEPH, {"full": True}, True, id="full when asked for"),
        pytest.param(ON_CEPH, {"full": True, "storage": "local-lvm"}, True, id="onto another storage"),
        pytest.param(ON_CEPH, {"storage": "local-lvm"}, True, id="a storage alone implies it"),
        pytest.param(replace(ON_CEPH, is_template=False), {}, True, id="of a VM that is no template"),
        pytest.param(
            replace(ON_CEPH, is_template=False), {"full": False}, True, id="there is no other way for one"
        ),
        pytest.param(
            replace(ON_CEPH, config={"scsi0": "thick:x,size=1G"}), {}, True, id="thick LVM cannot link"
        ),
    ],
)
def test_linked_or_full(template, clone, full):
    thick = storage("thick", type="lvm")
    found = placed(
        [node("pve1", storages=(LOCAL, CEPH, thick))], template, source={"clone": {"vmid": 9000} | clone}
    )
    assert isinstance(found, Placed)
    assert found.full is full
    assert found.storage == (clone.get("storage") if full else None)


def test_memory_is_that_of_the_spec_or_else_of_the_template():
    assert placed([PVE1], memory={"size": "2Gi"}).memory == 2 * GIB
    assert placed([PVE1]).memory == GIB
    assert placed([PVE1], TEMPLATE).memory == GIB // 2


def test_a_target_is_named_only_where_the_vm_goes_elsewhere():
    assert placed([PVE1, PVE2]).target == "pve2"
    assert placed([PVE1]).target is None


def test_a_storage_that_takes_no_disk_images_is_named_with_the_field_that_asks_for_it():
    backups = Storage(name="nas", shared=True, type="nfs", content=frozenset({"backup"}))
    nodes = [node(name, storages=(LOCAL, CEPH, backups)) for name in ("pve1", "pve2")]
    result = placed(nodes, disks=[{"name": "data", "size": "1Gi", "storage": "nas"}])
    assert isinstance(result, Unschedulable)
    assert result.reason == "StorageNotUsable"
    assert "storage nas (spec.disks[data].storage) takes no disk images" in result.message()


def test_a_required_node_that_does_not_exist_is_named():
    found = placed([PVE1, PVE2], placement={"nodes": ["pve9"], "mode": "Require"})
    assert found.message() == (
        "no node can host this VM: pve1, pve2: not listed in spec.placement.nodes; pve9: there is no node of this "
        "name: correct spec.placement.nodes"
    )


APART = {"spreadBy": "app"}
TOGETHER = {"togetherBy": "stack"}


@pytest.mark.parametrize(
    ("placement", "crowd", "where"),
    [
        pytest.param(APART, {"apart": {"pve2": ("web-2",)}}, "pve3", id="away from its like"),
        pytest.param(
            APART,
            {"apart": {"pve1": ("a",), "pve2": ("b", "c"), "pve3": ("d", "e")}},
            "pve1",
            id="where the fewest are",
        ),
        pytest.param(TOGETHER, {"beside": {"pve1": ("db-1",)}}, "pve1", id="beside the others"),
        pytest.param(TOGETHER, {"beside": {"pve1": ("a",), "pve3": ("b", "c")}}, "pve3", id="where most are"),
        pytest.param(
            APART | {"nodes": ["pve2"]},
            {"apart": {"pve2": ("web-2",)}},
            "pve2",
            id="a node that is named counts more",
        ),
        pytest.param(
            APART | {"mode": "Require"},
            {"apart": {"pve1": ("a",), "pve2": ("b",)}},
            "pve3",
            id="required: the free one",
        ),
        pytest.param(
            TOGETHER | {"mode": "Require"}, {"beside": {"pve1": ("a",)}}, "pve1", id="required: with them"
        ),
        pytest.param(TOGETHER | {"mode": "Require"}, {}, "pve2", id="the first of a group goes anywhere"),
    ],
)
def test_company(placement, crowd, where):
    assert placed([PVE1, PVE2, PVE3], placement=placement, crowd=crowd).node == where


def test_company_that_is_required_and_not_to_be_had_is_named_with_those_who_stand_in_the_way():
    found = placed(
        [PVE1, PVE2],
        placement=APART | {"mode": "Require"},
        crowd={"apart": {"pve1": ("a",), "pve2": ("b", "c", "d", "e")}},
    )
    assert found.reasons == {
        "pve1": "a of the same app is there (spec.placement.spreadBy)",
        "pve2": "b, c, d and 1 more of the same app is there (spec.placement.spreadBy)",
    }
    found = placed(
        [node("pve1", 0), PVE2],
        placement=TOGETHER | {"mode": "Require"},
        crowd={"beside": {"pve1": ("db-1",)}},
    )
    assert found.reasons == {
        "pve1": "1Gi of memory wanted, which is more than is free",
        "pve2": "not where the same stack is: db-1 on pve1 (spec.placement.togetherBy)",
    }


def sized(name, *, given=0, cpus_given=0, free=64):
    return node(name, free, memory=64 * GIB, cpus=8, memory_given=given * GIB, cpus_given=cpus_given)


@pytest.mark.parametrize(
    ("nodes", "overcommit", "spec", "where"),
    [
        pytest.param([sized("pve1", given=99)], {}, {"memory": {"size": "8Gi"}}, "pve1", id="not limited"),
        pytest.param(
            [sized("pve1", given=56), sized("pve2", given=40, free=30)],
            {"memoryPercent": 90},
            {"memory": {"size": "8Gi"}},
            "pve2",
            id="memory that was given away, though more is free",
        ),
        pytest.param(
            [sized("pve1", given=120)], {"memoryPercent": 200}, {"memory": {"size": "8Gi"}}, "pve1",
            id="up to the limit",
        ),
        pytest.param(
            [sized("pve1", cpus_given=15), sized("pve2", cpus_given=4, free=8)],
            {"cpuPercent": 200},
            {"cpu": {"cores": 2}},
            "pve2",
            id="processors",
        ),
        pytest.param(
            [sized("pve1", given=99, cpus_given=99)], {"memoryPercent": 100, "cpuPercent": 100},
            {"power": "Stopped"}, "pve1",
            id="a VM that is not going to run takes nothing",
        ),
    ],
)  # fmt: skip
def test_over_commitment(nodes, overcommit, spec, where):
    assert placed(nodes, overcommit=overcommit, **spec).node == where


def test_what_is_over_committed_is_said_with_the_setting():
    nodes = [sized("pve1", given=60), sized("pve2", cpus_given=8)]
    found = placed(
        nodes,
        overcommit={"memoryPercent": 100, "cpuPercent": 100},
        memory={"size": "8Gi"},
        cpu={"cores": 2, "sockets": 2},
    )
    assert found.reasons == {
        "pve1": "8Gi of memory wanted, 60Gi of 64Gi is given to VMs already, and the limit is 100 % "
        "(ProxmoxCluster spec.overcommit.memoryPercent)",
        "pve2": "4 processors wanted, 8 are given to VMs already, the node has 8, and the limit is 100 % "
        "(ProxmoxCluster spec.overcommit.cpuPercent)",
    }


@pytest.mark.parametrize(
    ("free", "ceph", "spec", "reason"),
    [
        pytest.param(0, 50, {}, None, id="a linked clone takes nothing"),
        pytest.param(0, 50, {"source": {"clone": {"vmid": 9000, "full": True}}}, None, id="on ceph there is room"),
        pytest.param(
            1, 50, {"source": {"clone": {"vmid": 9000, "full": True, "storage": "local-lvm"}}}, "1Gi left, 2Gi",
            id="a full clone takes the template's size, on the storage that is named",
        ),
        pytest.param(10, 50, {"disks": [{"name": "d", "size": "10Gi"}]}, None, id="a disk that just fits"),
        pytest.param(
            10, 50, {"disks": [{"name": "d", "size": "6Gi"}, {"name": "e", "size": "6Gi"}]}, "10Gi left, 12Gi",
            id="disks add up",
        ),
        pytest.param(10, 17, {"bootDisk": {"size": "4Gi"}}, None, id="the boot disk grows by 2 of the 2 left"),
        pytest.param(
            10, 17, {"bootDisk": {"size": "5Gi"}}, "2Gi left below 85 % of the Ceph pool, 3Gi",
            id="growth counts, and a Ceph pool is never filled",
        ),
        pytest.param(
            10, 10, {}, "0Gi left below 85 % of the Ceph pool, 0Gi",
            id="a Ceph pool that is nearly full gets no linked clone either",
        ),
        pytest.param(
            None, None, {"disks": [{"name": "d", "size": "99Ti"}]}, None, id="what is not told rules nothing out"
        ),
    ],
)  # fmt: skip
def test_space(free, ceph, spec, reason):
    local = storage("local-lvm", size=500, free=free)
    pool = storage("ceph", shared=True, type="rbd", size=100, free=ceph)
    found = placed([node("pve1", storages=(local, pool))], **spec)
    if reason is None:
        assert isinstance(found, Placed)
    else:
        assert (found.reason, reason in found.message()) == ("StorageFull", True), found.message()


def test_a_device_is_there_where_its_mapping_names_one():
    devices: dict[str, Any] = {
        "pciDevices": [{"name": "hostpci0", "mapping": "gpu"}],
        "usbDevices": [{"name": "usb0", "mapping": "key"}],
    }
    both = frozenset({("pci", "gpu"), ("usb", "key")})
    with_both, with_one = node("pve1", mappings=both), node("pve2", 99, mappings=both - {("usb", "key")})
    assert placed([with_both, with_one], **devices).node == "pve1"
    found = placed([with_one, node("pve1", 9, online=False, mappings=both)], **devices)
    assert found.reason == "NodeUnavailable"
    found = placed([node("pve1", mappings=frozenset())], **devices)
    assert found.reason == "MappingNotFound"
    assert "pci mapping gpu (spec.pciDevices[hostpci0].mapping), usb mapping key" in found.message()


def test_a_vm_takes_what_its_spec_says_and_else_what_the_template_has():
    template = replace(ON_CEPH, config=dict(ON_CEPH.config) | {"cores": "2", "sockets": "2"})
    assert placed([PVE1], template).cpus == 4
    assert placed([PVE1], template, cpu={"cores": 3}).cpus == 6
    assert placed([PVE1], template, cpu={"sockets": 1}).cpus == 2
    assert placed([PVE1], template, disks=[{"name": "d", "size": "3Gi"}]).space == {
        "ceph": 0,
        "local-lvm": 3 * GIB,
    }


# What holds whatever the cluster is like

NAMES = ("pve1", "pve2", "pve3")
SIZES = st.sampled_from((None, 0, 4, 64))


@st.composite
def nodes_of_any_kind(draw):
    found = []
    for name in draw(st.sets(st.sampled_from(NAMES))):
        storages = draw(st.sets(st.sampled_from(("local-lvm", "ceph")), min_size=0))
        kinds = [
            storage(each, shared=each == "ceph", type="rbd" if each == "ceph" else "lvmthin", size=64,
                    free=draw(SIZES))
            for each in sorted(storages)
        ]  # fmt: skip
        found.append(
            node(
                name,
                draw(SIZES),
                online=draw(st.booleans()),
                storages=kinds,
                bridges=draw(st.sampled_from((None, (), ("vmbr0",)))),
                memory=draw(st.sampled_from((None, 64 * GIB))),
                cpus=draw(st.sampled_from((None, 8))),
                memory_given=draw(st.sampled_from((0, 60 * GIB))),
                cpus_given=draw(st.sampled_from((0, 8))),
                mappings=draw(st.sampled_from((None, frozenset(), frozenset({("pci", "gpu")})))),
            )
        )
    return found


ANY_SPEC = st.fixed_dictionaries(
    {},
    optional={
        "placement": st.fixed_dictionaries(
            {"nodes": st.lists(st.sampled_from((*NAMES, "pve9")), min_size=1, unique=True)},
            optional={
                "mode": st.sampled_from(("Prefer", "Require")),
                "spreadBy": st.just("app"),
                "togetherBy": st.just("stack"),
            },
        ),
        "memory": st.sampled_from(({"size": "1Gi"}, {"size": "8Gi"})),
        "disks": st.just([{"name": "data", "size": "10Gi", "storage": "ceph"}]),
        "networks": st.just([{"name": "net0"}]),
        "pciDevices": st.just([{"name": "hostpci0", "mapping": "gpu"}]),
        "power": st.sampled_from(("Running", "Stopped", "Unmanaged")),
    },
)
COMPANY = st.dictionaries(st.sampled_from(NAMES), st.just(("other",)))


@settings(deadline=None, max_examples=300)
@given(
    nodes=nodes_of_any_kind(),
    spec=ANY_SPEC,
    template=st.sampled_from((TEMPLATE, ON_CEPH)),
    apart=COMPANY,
    beside=COMPANY,
    overcommit=st.sampled_from(({}, {"memoryPercent": 100}, {"cpuPercent": 100})),
    granted=st.sampled_from(({"allow": "Everything"}, {"nodes": ["pve2"]})),
)
def test_no_rule_is_ever_broken_and_every_node_that_is_refused_has_a_reason(
    nodes, spec, template, apart, beside, overcommit, granted
):
    vm = a_vm(**spec)
    access = access_of(cluster(granted), {})
    found = placed(nodes, template, access, {"apart": apart, "beside": beside}, overcommit, **spec)
    if isinstance(found, Unschedulable):
        assert found.reasons
        assert found.message()
        if template.node in {each.name for each in nodes if each.online}:
            assert found.reasons.keys() >= {each.name for each in nodes}
        return
    chosen = next(each for each in nodes if each.name == found.node)
    assert chosen.online
    assert access.allows_node(chosen.name)
    wishes = vm.spec.placement
    if wishes is not None and wishes.mode == "Require":
        assert chosen.name in wishes.nodes
        assert not apart.get(chosen.name)
        assert not beside or chosen.name in beside
    assert chosen.memory_free is None or found.memory <= chosen.memory_free
    for name, size in found.space.items():
        assert name in chosen.storages
        assert not size or chosen.storages[name].room is None or size <= chosen.storages[name].room
    if vm.spec.networks and chosen.bridges is not None:
        assert "vmbr0" in chosen.bridges
    if vm.spec.pci_devices and chosen.mappings is not None:
        assert ("pci", "gpu") in chosen.mappings
    if overcommit.get("memoryPercent") and chosen.memory and found.memory:
        assert chosen.memory_given + found.memory <= chosen.memory
    if overcommit.get("cpuPercent") and chosen.cpus and found.cpus:
        assert chosen.cpus_given + found.cpus <= chosen.cpus
    if template is TEMPLATE:
        assert chosen.name == template.node


@pytest.mark.parametrize(
    ("listed", "space"),
    [
        pytest.param({"name": "data", "size": "9Gi"}, {"ceph": 9 << 30}, id="a new disk"),
        pytest.param({"name": "scsi1", "size": "9Gi"}, {}, id="the template's disk in that slot"),
        pytest.param(
            {"name": "scsi1", "size": "9Gi", "storage": "nfs"}, {"nfs": 9 << 30}, id="the same, moved afterwards"
        ),
    ],
)  # fmt: skip
def test_a_disk_that_comes_with_the_template_takes_no_room_on_the_default_storage(listed, space):
    access = access_of(cluster({"allow": "Everything"}, defaults={"storage": "ceph"}), {})
    needs = needs_of_clone(a_vm(disks=[listed]), TEMPLATE, access, full=False, storage=None)
    assert {name: size for name, size in needs.space.items() if size} == space
    assert set(needs.storages) == {"local-lvm", *space}
