"""What a namespace may take from a ProxmoxCluster: the defaults, what is granted, and not a step further."""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.kubeapi import Raw
from harness.world import TEMPLATE, World
from proxmox_operator.kube.resources import NAMESPACES

WORLD = {"namespaces": 2}

CLONE: Raw = {"cloneFrom": [{"start": TEMPLATE, "end": TEMPLATE}]}


@pytest.fixture(autouse=True, scope="module")
def more_than_is_granted(shared_world: World) -> None:
    shared_world.sim.add_storage("gold", "lvmthin", size_gib=500)
    shared_world.sim.add_template(vmid=9600)
    shared_world.look()


@pytest.fixture(autouse=True)
def grants_are_reset(world: World) -> Iterator[None]:
    yield
    world.apply_cluster()


def grant(world: World, *grants: Raw) -> None:
    """These are all the grants there are."""
    world.apply_cluster(access=list(grants) or None)
    world.wait_cluster("Ready")


def denied(world: World, name: str, *words: str) -> None:
    """Refused with these words, and nothing was written for it."""
    condition = world.wait_reason(name, "AccessDenied")
    assert condition.status == "False"
    assert "have it granted in ProxmoxCluster spec.access" in condition.message
    for word in words:
        assert word in condition.message
    world.passes(name)
    assert world.writes() == []
    assert "vmid" not in world.status(name)


def test_without_any_grant_a_namespace_may_not_even_clone(world: World) -> None:
    grant(world)
    name = world.make()
    denied(
        world, name, "spec.source.clone.vmid", f"cloning VM {TEMPLATE} is not granted", "access[].cloneFrom"
    )
    grant(world, CLONE)
    world.wait_ready(name)


WITHIN: list[tuple[str, Raw, dict[str, Any], dict[str, Any], str]] = [
    (
        "clone source",
        CLONE,
        {},
        {"source": {"clone": {"vmid": 9600}}},
        "spec.source.clone.vmid: cloning VM 9600 is not granted (access[].cloneFrom)",
    ),
    (
        "vmid",
        {**CLONE, "vmids": [{"start": 13000, "end": 13009}]},
        {"vmid": 13000},
        {"vmid": 13010},
        "spec.vmid: requesting VMID 13010 is not granted (access[].vmids)",
    ),
    (
        "node",
        {**CLONE, "nodes": ["pve1"]},
        {"placement": {"nodes": ["pve1"]}},
        {"placement": {"nodes": ["pve2"]}},
        "spec.placement.nodes: node pve2 is not granted (access[].nodes)",
    ),
    (
        "storage of a disk",
        CLONE,
        {"disks": [{"name": "data", "size": "1Gi"}]},
        {"disks": [{"name": "data", "size": "1Gi", "storage": "gold"}]},
        "spec.disks[data].storage: storage gold is not granted (access[].storages)",
    ),
    (
        "storage of the clone",
        {**CLONE, "storages": ["local-lvm"]},
        {"source": {"clone": {"vmid": TEMPLATE, "storage": "local-lvm"}}},
        {"source": {"clone": {"vmid": TEMPLATE, "storage": "gold"}}},
        "spec.source.clone.storage: storage gold is not granted",
    ),
    (
        "bridge",
        CLONE,
        {"networks": [{"name": "net0"}]},
        {"networks": [{"name": "net0", "bridge": "vmbr1"}]},
        "spec.networks[net0]: bridge vmbr1 is not granted (access[].bridges)",
    ),
    (
        "vlan on the default bridge",
        CLONE,
        {"networks": [{"name": "net0"}]},
        {"networks": [{"name": "net0", "vlan": 20}]},
        "spec.networks[net0]: bridge vmbr0 with VLAN 20 is not granted",
    ),
    (
        "vlan beside the granted ones",
        {**CLONE, "bridges": [{"name": "vmbr1", "vlans": [{"start": 10, "end": 19}]}]},
        {"networks": [{"name": "net0", "bridge": "vmbr1", "vlan": 19}]},
        {"networks": [{"name": "net0", "bridge": "vmbr1", "vlan": 20}]},
        "bridge vmbr1 with VLAN 20 is not granted",
    ),
    (
        "untagged where only VLANs are granted",
        {**CLONE, "bridges": [{"name": "vmbr1", "vlans": [{"start": 10, "end": 19}]}]},
        {"networks": [{"name": "net0", "bridge": "vmbr1", "vlan": 10}]},
        {"networks": [{"name": "net0", "bridge": "vmbr1"}]},
        "bridge vmbr1 is not granted",
    ),
    (
        "cores",
        {**CLONE, "maxSizes": {"cores": 4}},
        {"cpu": {"cores": 2, "sockets": 2}},
        {"cpu": {"cores": 4, "sockets": 2}},
        "spec.cpu: 8 cores are more than the 4 granted (access[].maxSizes.cores)",
    ),
    (
        "memory",
        {**CLONE, "maxSizes": {"memory": "4Gi"}},
        {"memory": {"size": "4Gi"}},
        {"memory": {"size": "4097Mi"}},
        "spec.memory.size: 4097Mi is more than the 4Gi granted (access[].maxSizes.memory)",
    ),
    (
        "boot disk",
        {**CLONE, "maxSizes": {"disk": "10Gi"}},
        {"bootDisk": {"size": "10Gi"}},
        {"bootDisk": {"size": "11Gi"}},
        "spec.bootDisk.size: 11Gi is more than the 10Gi granted (access[].maxSizes.disk)",
    ),
    (
        "extra disk",
        {**CLONE, "maxSizes": {"disk": "10Gi"}},
        {"disks": [{"name": "data", "size": "10Gi"}]},
        {"disks": [{"name": "data", "size": "11Gi"}]},
        "spec.disks[data].size: 11Gi is more than the 10Gi granted",
    ),
]


@pytest.mark.parametrize(
    ("granted", "allowed", "refused", "message"),
    [case[1:] for case in WITHIN],
    ids=[case[0] for case in WITHIN],
)
def test_a_grant_reaches_as_far_as_it_says_and_no_further(
    world: World, granted: Raw, allowed: dict[str, Any], refused: dict[str, Any], message: str
) -> None:
    grant(world, granted)
    before = world.sim.world()
    over = world.make("over", **refused)
    denied(world, over, message)
    assert before.diff(world.sim.world()) == []
    world.wait_ready(world.make("within", **allowed))


def test_a_refused_object_is_made_once_everything_is_granted(world: World) -> None:
    grant(world, CLONE)
    name = world.make(
        disks=[{"name": "data", "size": "1Gi", "storage": "gold"}], networks=[{"name": "net0", "vlan": 7}]
    )
    denied(world, name, "spec.disks[data].storage", "spec.networks[net0]")
    grant(world, {"allow": "Everything"})
    vmid = world.wait_ready(name)
    assert "tag=7" in str(world.sim.vm(vmid).config["net0"])


def test_a_grant_is_for_the_namespaces_it_selects(world: World) -> None:
    other = world.namespaces[1]
    grant(world, {**CLONE, "namespaceSelector": {"matchLabels": {"team": "shop"}}})
    name = world.make(namespace=other)
    condition = world.wait_reason(name, "AccessDenied", namespace=other)
    assert "access[].cloneFrom" in condition.message
    world.kube.merge(NAMESPACES, other, {"metadata": {"labels": {"team": "shop"}}})
    world.wait_ready(name, namespace=other)
    mine = world.make()
    denied_here = world.wait_reason(mine, "AccessDenied")
    assert "access[].cloneFrom" in denied_here.message


def test_a_grant_taken_back_stops_changes_but_destroys_nothing(world: World) -> None:
    grant(world, {**CLONE, "storages": ["gold"]})
    name = world.make(disks=[{"name": "data", "size": "1Gi", "storage": "gold"}], tags=["old"])
    vmid = world.wait_ready(name)
    grant(world, CLONE)
    world.edit(name, tags=["new"])
    condition = world.wait_reason(name, "AccessDenied")
    assert "storage gold is not granted" in condition.message
    before = world.sim.world()
    world.forget_writes()
    world.passes(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    assert world.tags(vmid) == "old"
    grant(world, {**CLONE, "storages": ["*"]})
    world.wait_ready(name)
    assert world.tags(vmid) == "new"


def test_a_denied_object_can_still_be_deleted_with_its_vm(world: World) -> None:
    name = world.make()
    vmid = world.wait_ready(name)
    grant(world)
    world.edit(name, tags=["new"])
    world.wait_reason(name, "AccessDenied")
    world.delete(name)
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids


def test_a_node_that_is_not_granted_gets_no_vm_by_itself(world: World) -> None:
    if "ceph" not in world.sim.server.storages:
        world.sim.add_storage("ceph", "rbd", size_gib=500, shared=True)
    world.sim.add_template(vmid=9601, storage="ceph")
    world.look()
    grant(world, {"cloneFrom": [{"start": 9601, "end": 9601}], "nodes": ["pve2"]})
    vmid = world.wait_ready(world.make(source={"clone": {"vmid": 9601}}))
    assert world.sim.vm(vmid).node == "pve2"


def test_a_template_on_storage_that_is_not_granted_gives_its_clone_no_other(world: World) -> None:
    """Granting a template grants the storage it is on for its clone; an extra disk there still needs a grant."""
    world.sim.add_template(vmid=9602, storage="gold")
    world.look()
    grant(world, {"cloneFrom": [{"start": 9602, "end": 9602}]})
    world.wait_ready(world.make(source={"clone": {"vmid": 9602}}))
    world.forget_writes()
    disks = [{"name": "data", "size": "1Gi", "storage": "gold"}]
    denied(world, world.make(source={"clone": {"vmid": 9602}}, disks=disks), "spec.disks[data].storage")
