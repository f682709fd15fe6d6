"""What a namespace may take from a ProxmoxCluster: the defaults, what is granted, and not a step further."""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.kubeapi import Raw
from harness.world import TEMPLATE, World
from proxmox_operator.api.names import PAUSED
from proxmox_operator.kube.resources import NAMESPACES, PROXMOX_VMS

WORLD = {"namespaces": 2}

OLD, OLDER = 9700, 9701
"""VMs that people made."""
VLANS: Raw = {"bridges": [{"name": "vmbr1", "vlans": [{"start": 10, "end": 19}]}]}
FULL: Raw = {"clone": {"vmid": TEMPLATE, "full": True}}

CLONE: Raw = {"cloneFrom": [{"start": TEMPLATE, "end": TEMPLATE}]}


@pytest.fixture(autouse=True, scope="module")
def more_than_is_granted(shared_world: World) -> None:
    shared_world.sim.add_storage("gold", "lvmthin", size_gib=500)
    shared_world.sim.add_template(vmid=9600)
    shared_world.sim.add_template(vmid=9605, cores=8, memory="16384", disk_gib=40)
    for vmid in (OLD, OLDER):
        shared_world.sim.add_vm(vmid, running=True)
    for mapping in ("dongle", "key"):
        shared_world.sim.add_mapping("usb", mapping, ["pve1", "pve2", "pve3"])
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


TRUNK: Raw = {"name": "net0", "bridge": "vmbr1"}

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
        "storage of the boot disk",
        {**CLONE, "storages": ["local-lvm"]},
        {"source": FULL, "bootDisk": {"storage": "local-lvm"}},
        {"source": FULL, "bootDisk": {"storage": "gold"}},
        "spec.bootDisk.storage: storage gold is not granted (access[].storages)",
    ),
    (
        "storage of the cloud-init drive",
        CLONE,
        {"cloudInit": {"user": "debian"}},
        {"cloudInit": {"user": "debian", "storage": "gold"}},
        "spec.cloudInit.storage: storage gold is not granted (access[].storages)",
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
        {**CLONE, **VLANS},
        {"networks": [{"name": "net0", "bridge": "vmbr1", "vlan": 19}]},
        {"networks": [{"name": "net0", "bridge": "vmbr1", "vlan": 20}]},
        "bridge vmbr1 with VLAN 20 is not granted",
    ),
    (
        "untagged where only VLANs are granted",
        {**CLONE, **VLANS},
        {"networks": [{"name": "net0", "bridge": "vmbr1", "vlan": 10}]},
        {"networks": [{"name": "net0", "bridge": "vmbr1"}]},
        "bridge vmbr1 is not granted",
    ),
    (
        "trunk beyond the granted VLANs",
        {**CLONE, **VLANS},
        {"networks": [{**TRUNK, "vlan": 10, "trunks": [{"start": 11, "end": 19}]}]},
        {"networks": [{**TRUNK, "vlan": 10, "trunks": [{"start": 11, "end": 20}]}]},
        "spec.networks[net0].trunks: bridge vmbr1 with VLANs 11-20 is not granted (access[].bridges)",
    ),
    (
        "trunk without a VLAN, which is untagged besides",
        {**CLONE, **VLANS},
        {"networks": [{**TRUNK, "vlan": 10, "trunks": [{"start": 11, "end": 11}]}]},
        {"networks": [{**TRUNK, "trunks": [{"start": 11, "end": 11}]}]},
        "spec.networks[net0]: bridge vmbr1 is not granted (access[].bridges)",
    ),
    (
        "existing VM",
        {"adopt": [{"start": OLD, "end": OLD}]},
        {"source": {"adopt": {"vmid": OLD}}},
        {"source": {"adopt": {"vmid": OLDER}}},
        f"spec.source.adopt: taking over VM {OLDER} is not granted (access[].adopt)",
    ),
    (
        "device",
        {**CLONE, "mappings": ["dongle"]},
        {"usbDevices": [{"name": "usb0", "mapping": "dongle"}]},
        {"usbDevices": [{"name": "usb0", "mapping": "key"}]},
        "spec.usbDevices[usb0].mapping: key is not granted (access[].mappings)",
    ),
    (
        "node of HA",
        {**CLONE, "nodes": ["pve1"], "availability": True},
        {"availability": {"ha": True, "rule": {"nodeAffinity": {"nodes": [{"name": "pve1"}]}}}},
        {"availability": {"ha": True, "rule": {"nodeAffinity": {"nodes": [{"name": "pve2"}]}}}},
        "spec.availability.rule.nodeAffinity.nodes: node pve2 is not granted (access[].nodes)",
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


def test_a_source_is_not_the_way_to_a_size_that_is_not_granted(world: World) -> None:
    template = {"cloneFrom": [{"start": 9605, "end": 9605}]}
    grant(world, {**template, "maxSizes": {"cores": 4, "memory": "8Gi", "disk": "20Gi"}})
    name = world.make(source={"clone": {"vmid": 9605}})
    denied(world, name, "8 cores", "the source has 16Gi", "scsi0 of the source has 40Gi")
    grant(world, {**template, "maxSizes": {"cores": 4, "memory": "8Gi"}})
    world.edit(name, cpu={"cores": 4, "sockets": 1}, memory={"size": "8Gi"})
    world.wait_ready(name)


def test_a_vm_that_is_larger_than_granted_is_not_taken_over(world: World) -> None:
    vmid = 9710
    world.sim.add_vm(vmid, cores=8)
    world.look()
    adopt = {"adopt": [{"start": vmid, "end": vmid}]}
    grant(world, {**adopt, "maxSizes": {"cores": 4}})
    name = world.make(source={"adopt": {"vmid": vmid}})
    denied(world, name, "8 cores")
    grant(world, adopt)
    assert world.wait_ready(name) == vmid


def test_an_adopted_vm_by_uuid_needs_a_grant_for_its_vmid(world: World) -> None:
    uuid, vmid = "6a1c9c53-3f0e-4c7d-9d0b-1f6f5a0c7e44", 9711
    world.sim.add_vm(vmid, smbios1=f"uuid={uuid}")
    world.look()
    grant(world, {"adopt": [{"start": 9712, "end": 9799}]})
    name = world.make(source={"adopt": {"uuid": uuid}})
    denied(world, name, "taking over the VM with this UUID is not granted")
    assert str(vmid) not in world.wait_reason(name, "AccessDenied").message, "what is not granted is not told"
    grant(world, {"adopt": [{"start": 9711, "end": 9799}]})
    assert world.wait_ready(name) == vmid


def test_high_availability_needs_a_grant(world: World) -> None:
    grant(world, CLONE)
    name = world.make(availability={"ha": True})
    denied(world, name, "spec.availability.ha: high availability is not granted (access[].availability)")
    world.edit(name, availability={"ha": False})
    world.wait_ready(name)


def test_of_a_vm_that_is_not_granted_an_object_that_only_looks_shows_nothing(world: World) -> None:
    grant(world, CLONE)
    name = world.make(source={"adopt": {"vmid": OLD}}, management="Observe", cpu={"cores": 3})
    denied(world, name, f"taking over VM {OLD} is not granted")
    assert world.status(name).keys() & {"plan", "node", "power"} == set()


def test_a_grant_for_adopting_taken_back_stops_changes_and_touches_nothing(world: World) -> None:
    vmid = 9713
    world.sim.add_vm(vmid, running=True)
    world.look()
    grant(world, {"adopt": [{"start": vmid, "end": vmid}]})
    name = world.make(source={"adopt": {"vmid": vmid}})
    world.wait_ready(name)
    grant(world, CLONE)
    world.edit(name, cpu={"cores": 2})
    world.wait_reason(name, "AccessDenied")
    before = world.sim.world()
    world.forget_writes()
    world.passes(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    world.delete(name)
    world.wait_gone(name)
    assert world.sim.vm(vmid).status == "running"


def test_a_size_that_was_within_the_grant_does_not_grow_beyond_it(world: World) -> None:
    grant(world, {**CLONE, "maxSizes": {"cores": 2, "disk": "10Gi"}})
    name = world.make(cpu={"cores": 2}, disks=[{"name": "data", "size": "9Gi"}])
    vmid = world.wait_ready(name)
    before = world.sim.world()
    world.edit(name, cpu={"cores": 3}, disks=[{"name": "data", "size": "11Gi"}])
    condition = world.wait_reason(name, "AccessDenied")
    assert "3 cores are more than the 2 granted" in condition.message
    assert "11Gi is more than the 10Gi granted" in condition.message
    world.passes(name)
    assert before.diff(world.sim.world()) == []
    world.edit(name, cpu={"cores": 2}, disks=[{"name": "data", "size": "10Gi"}])
    world.wait_ready(name)
    assert "size=10G" in str(world.sim.vm(vmid).config["scsi1"])


def test_a_disk_does_not_move_to_a_storage_that_is_not_granted(world: World) -> None:
    grant(world, CLONE)
    name = world.make(disks=[{"name": "data", "size": "1Gi"}])
    vmid = world.wait_ready(name)
    before = world.sim.world()
    world.edit(name, disks=[{"name": "data", "size": "1Gi", "storage": "gold"}])
    assert "spec.disks[data].storage" in world.wait_reason(name, "AccessDenied").message
    world.passes(name)
    assert before.diff(world.sim.world()) == []
    assert str(world.sim.vm(vmid).config["scsi1"]).startswith("local-lvm:")


def test_a_secret_of_another_namespace_is_out_of_reach(world: World) -> None:
    """No field names a namespace: the same name means the Secret beside the object, or none."""
    other = world.namespaces[1]
    world.set_secret(name="login", namespace=other, password="of-somebody-else")
    grant(world, CLONE)
    name = world.make(cloudInit={"user": "debian", "passwordSecretRef": {"name": "login"}})
    condition = world.wait_reason(name, "SecretNotFound")
    assert "spec.cloudInit.passwordSecretRef" in condition.message
    assert f"{world.namespace}/login" in condition.message
    assert other not in condition.message
    assert world.writes() == []
    world.set_secret(name="login", namespace=world.namespace, password="mine")
    vmid = world.wait_ready(name)
    assert "cipassword" in world.sim.vm(vmid).config


def test_a_namespace_that_loses_its_label_loses_what_was_granted_to_it(world: World) -> None:
    other = world.namespaces[1]
    world.kube.merge(NAMESPACES, other, {"metadata": {"labels": {"team": "shop"}}})
    grant(world, {**CLONE, "namespaceSelector": {"matchLabels": {"team": "shop"}}})
    name = world.make(namespace=other)
    vmid = world.wait_ready(name, namespace=other)
    world.kube.merge(NAMESPACES, other, {"metadata": {"labels": {"team": None}}})
    world.edit(name, cpu={"cores": 2}, namespace=other)
    world.wait_reason(name, "AccessDenied", namespace=other)
    before = world.sim.world()
    world.passes(name, namespace=other)
    assert before.diff(world.sim.world()) == []
    assert world.sim.vm(vmid).status == "running"
    world.kube.merge(NAMESPACES, other, {"metadata": {"labels": {"team": "shop"}}})
    world.wait_ready(name, namespace=other)
    world.kube.merge(NAMESPACES, other, {"metadata": {"labels": {"team": None}}})


def test_a_namespace_made_anew_by_another_tenant_does_not_get_the_vm_of_the_earlier_one(world: World) -> None:
    """The same names, but another UID: the mark tells them apart."""
    other = world.namespaces[1]
    name = world.make("web", namespace=other)
    vmid = world.wait_ready(name, namespace=other)
    world.annotate(name, namespace=other, **{PAUSED: "true"})
    world.wait_reason(name, "Paused", kind="Paused", namespace=other)
    world.delete(name, namespace=other)
    world.kube.merge(PROXMOX_VMS, name, {"metadata": {"finalizers": None}}, namespace=other)
    world.wait_gone(name, namespace=other)
    world.kube.delete(NAMESPACES, other)
    world.wait_until(lambda: world.kube.get(NAMESPACES, other) is None, "the namespace is gone")
    world.kube.create(NAMESPACES, {"metadata": {"name": other}})
    before = world.sim.world()
    world.apply(name, namespace=other)
    condition = world.wait_reason(name, "IdentityConflict", namespace=other)
    assert f"VM {vmid}" in condition.message
    assert "another namespace" in condition.message
    adopting = world.make("web", namespace=other, source={"adopt": {"vmid": vmid}})
    world.wait_reason(adopting, "IdentityConflict", namespace=other)
    world.passes(name, namespace=other)
    assert before.diff(world.sim.world()) == []
