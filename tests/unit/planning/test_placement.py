"""Where a new VM goes, and what a person reads when it can go nowhere."""

from dataclasses import replace

import pytest

from proxmox_operator.planning.access import access_of
from proxmox_operator.planning.placement import Node, Placed, Storage, Template, Unschedulable, place
from unit.planning.make import TEMPLATE, a_vm, cluster

GIB = 1 << 30
EVERYTHING = access_of(cluster({"allow": "Everything"}), {})
ON_CEPH = replace(TEMPLATE, config={"scsi0": "ceph:base-9000-disk-0,size=2G", "memory": "1024"})


def storage(name, *, shared=False, type="lvmthin"):
    return Storage(name=name, shared=shared, type=type, content=frozenset({"images"}))


LOCAL = storage("local-lvm")
CEPH = storage("ceph", shared=True, type="rbd")


def node(name, free=16, *, online=True, storages=(LOCAL, CEPH), bridges=("vmbr0",)):
    return Node(
        name=name,
        online=online,
        memory_free=None if free is None else free * GIB,
        storages={each.name: each for each in storages},
        bridges=None if bridges is None else frozenset(bridges),
    )


PVE1, PVE2, PVE3 = node("pve1", 4), node("pve2", 16), node("pve3", 8)


def placed(nodes, template: Template = ON_CEPH, access=EVERYTHING, **spec):
    return place(a_vm(**spec), template, nodes, access)


@pytest.mark.parametrize(
    ("nodes", "spec", "where"),
    [
        pytest.param([PVE1, PVE2, PVE3], {}, "pve2", id="the node with most free memory"),
        pytest.param([node("pve1", 8), node("pve2", 8)], {}, "pve1", id="among equals the template's own"),
        pytest.param([PVE1, node("pve2", 99, online=False)], {}, "pve1", id="never one that is offline"),
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
        [PVE1, node("pve2", online=False), node("pve3", 1)],
        access=access_of(cluster({"nodes": ["pve2", "pve3"]}), {}),
        memory={"size": "2Gi"},
    )
    assert found.reasons == {
        "pve1": "not granted to this namespace (access[].nodes)",
        "pve2": "offline",
        "pve3": "2Gi of memory wanted, which is more than is free",
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
    assert placed([PVE1, PVE2]).target(ON_CEPH) == "pve2"
    assert placed([PVE1]).target(ON_CEPH) is None


def test_a_storage_that_takes_no_disk_images_is_named_with_the_field_that_asks_for_it():
    backups = Storage(name="nas", shared=True, type="nfs", content=frozenset({"backup"}))
    nodes = [node(name, storages=(LOCAL, CEPH, backups)) for name in ("pve1", "pve2")]
    result = placed(nodes, disks=[{"name": "data", "size": "1Gi", "storage": "nas"}])
    assert isinstance(result, Unschedulable)
    assert result.reason == "StorageNotUsable"
    assert "storage nas (spec.disks[data].storage) takes no disk images" in result.message()
