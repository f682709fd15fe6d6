"""What a VM refers to and is not there: templates, storages, bridges, VMIDs, space."""

from typing import Any

import pytest

from harness.kubeapi import Refused
from harness.world import TEMPLATE, World
from pvesim.recorder import Call


def refused(world: World, name: str, reason: str) -> str:
    """Wait for the reason, see that it stays, is told once, and nothing is written meanwhile; returns the message."""
    condition = world.wait_reason(name, reason)
    assert condition.status == "False"
    stalled = world.condition(name, "Stalled")
    assert stalled is not None
    assert (stalled.status, stalled.reason) == ("True", reason)
    world.passes(name)
    assert world.writes() == []
    world.wait_event(name, reason)
    told = [said for said in world.events(name) if said.reason == reason]
    assert told == [("Warning", reason, condition.message)]
    return condition.message


def test_a_typo_in_what_a_vm_is_made_from_is_taken_back_until_it_has_a_vmid(world: World) -> None:
    name = world.make(clusterRef={"name": "lap"}, source={"clone": {"vmid": 9111}})
    refused(world, name, "ClusterNotFound")
    world.edit(name, clusterRef={"name": world.cluster})
    refused(world, name, "TemplateNotFound")
    world.edit(name, source={"clone": {"vmid": TEMPLATE}})
    vmid = world.wait_ready(name)
    with pytest.raises(Refused, match=r"spec\.source is immutable once the VM has a VMID"):
        world.edit(name, source={"clone": {"vmid": 9111}})
    with pytest.raises(Refused, match=r"spec\.clusterRef is immutable once status.cluster is set"):
        world.edit(name, clusterRef={"name": "lap"})
    assert world.wait_ready(name) == vmid


def test_an_unknown_template_is_named_and_taken_once_it_exists(world: World) -> None:
    before = world.sim.world()
    name = world.make(source={"clone": {"vmid": 9111}})
    message = refused(world, name, "TemplateNotFound")
    assert "spec.source.clone.vmid" in message
    assert "9111" in message
    assert "VM.Clone on /vms/9111" in message
    assert before.diff(world.sim.world()) == []
    world.sim.add_template(vmid=9111)
    vmid = world.wait_ready(name)
    assert world.changes_besides(before, vmid, 9111) == []


def test_what_needs_a_person_is_a_line_of_the_log_and_another_one_after_an_edit(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    name = world.make(networks=[{"name": "net0", "bridge": "vmbr7"}])
    messages = [refused(world, name, "BridgeNotFound")]
    world.edit(name, networks=[{"name": "net0", "bridge": "vmbr8"}])
    world.wait_until(lambda: len(world.events(name)) == 2, "it is told anew", name)
    world.passes(name)
    found = world.wait_reason(name, "BridgeNotFound")
    messages.append(found.message)
    assert "vmbr8" in found.message
    assert {said.note for said in world.events(name)} == set(messages)
    logged = [record.getMessage() for record in caplog.records if "BridgeNotFound" in record.getMessage()]
    assert logged == [f"BridgeNotFound: {message}" for message in messages]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"disks": [{"name": "data", "size": "5Gi", "storage": "nvme"}]}, "spec.disks[data].storage"),
        ({"source": {"clone": {"vmid": TEMPLATE, "storage": "nvme"}}}, "spec.source.clone.storage"),
        ({"bootDisk": {"storage": "nvme"}}, "spec.bootDisk.storage"),
    ],
)
def test_an_unknown_storage_is_named_with_its_field_and_used_once_it_exists(
    world: World, spec: dict[str, Any], field: str
) -> None:
    before = world.sim.world()
    name = world.make(**spec)
    message = refused(world, name, "StorageNotFound")
    assert field in message
    assert "nvme" in message
    assert before.diff(world.sim.world()) == []
    world.sim.add_storage("nvme", "lvmthin", size_gib=100)
    try:
        vmid = world.wait_ready(name)
        assert any(volume.storage == "nvme" for volume in world.sim.world().volumes_of(vmid))
        assert world.changes_besides(before, vmid) == []
        world.delete(name)
        world.wait_gone(name)
    finally:
        world.sim.call(lambda: world.sim.server.storages.pop("nvme"))


def test_a_storage_for_the_cloud_init_drive_that_does_not_exist_is_named(world: World) -> None:
    world.sim.add_template(vmid=9112, cloudinit=False)
    name = world.make(source={"clone": {"vmid": 9112}}, cloudInit={"user": "debian", "storage": "nowhere"})
    message = refused(world, name, "StorageNotFound")
    assert "spec.cloudInit.storage" in message
    world.edit(name, cloudInit={"storage": "local-lvm"})
    vmid = world.wait_ready(name)
    assert world.sim.vm(vmid).config["ciuser"] == "debian"


def test_an_unknown_bridge_is_named_with_its_field_and_used_once_it_exists(world: World) -> None:
    before = world.sim.world()
    name = world.make(networks=[{"name": "net0", "bridge": "vmbr7"}])
    message = refused(world, name, "BridgeNotFound")
    assert "spec.networks[net0].bridge" in message
    assert "vmbr7" in message
    info = world.sim.server.node_info["pve1"]
    info.bridges = (*info.bridges, "vmbr7")
    vmid = world.wait_ready(name)
    assert "bridge=vmbr7" in world.sim.vm(vmid).config["net0"]
    assert world.changes_besides(before, vmid) == []


def test_a_requested_vmid_of_a_foreign_vm_is_refused_until_it_is_free(world: World) -> None:
    world.sim.add_vm(12000, running=True)
    world.look()
    before = world.sim.world()
    name = world.make(vmid=12000)
    message = refused(world, name, "VMIDTaken")
    assert "spec.vmid" in message
    assert "12000" in message
    assert before.diff(world.sim.world()) == []
    world.sim.remove_vm(12000)
    assert world.wait_ready(name) == 12000


def test_a_requested_vmid_of_another_object_is_refused_and_names_that_object(world: World) -> None:
    other = world.make(vmid=12001)
    world.wait_ready(other)
    world.forget_writes()
    before = world.sim.world()
    name = world.make(vmid=12001)
    message = refused(world, name, "VMIDTaken")
    assert f"{world.namespace}/{other}" in message
    assert before.diff(world.sim.world()) == []
    world.delete(other)
    world.wait_gone(other)
    assert world.wait_ready(name) == 12001


def intruder(world: World, node: str) -> list[int]:
    """Somebody makes a VM under the reserved VMID right before the first clone arrives; the list then holds its id."""
    taken: list[int] = []

    def intrude(call: Call) -> None:
        if call.method == "POST" and call.path.endswith("/clone") and not taken:
            vmid = int(call.params["newid"])
            taken.append(vmid)
            config = {"name": "intruder", "scsi0": "local-lvm:1", "memory": "512"}
            world.sim.server.add_simple_vm(vmid, node, config)

    world.sim.intercept = intrude
    return taken


@pytest.mark.parametrize("node", ["pve1", "pve2"])
def test_an_allocated_vmid_that_is_taken_at_the_last_moment_is_given_up_for_another(
    world: World, node: str
) -> None:
    taken = intruder(world, node)
    before = world.sim.world()
    name = world.make()
    vmid = world.wait_ready(name)
    assert vmid != taken[0]
    intruding = world.sim.vm(taken[0])
    assert (intruding.config["name"], intruding.status, intruding.node) == ("intruder", "stopped", node)
    assert "description" not in intruding.config
    assert world.writes(taken[0]) == world.sim.recorder.matching("POST", "/clone$")[-2:-1]
    assert world.changes_besides(before, vmid, taken[0]) == []
    assert len(world.sim.world().volumes_of(taken[0])) == 1
    assert world.leaks() == []


@pytest.mark.parametrize("node", ["pve1", "pve2"])
def test_a_requested_vmid_that_is_taken_at_the_last_moment_is_waited_for(world: World, node: str) -> None:
    vmid = {"pve1": 12010, "pve2": 12011}[node]
    intruder(world, node)
    name = world.make(vmid=vmid)
    world.wait_reason(name, "VMIDTaken")
    before = world.sim.world()
    world.look()  # until the inventory shows it, each pass hears of it from a refused clone
    world.passes(name)
    condition = world.wait_reason(name, "VMIDTaken")
    assert str(vmid) in condition.message
    assert "free it" in condition.message
    assert before.diff(world.sim.world()) == []
    world.sim.remove_vm(vmid)
    assert world.wait_ready(name) == vmid
    assert world.sim.vm(vmid).config["name"] == name


def test_a_full_storage_stops_the_creation_and_leaves_no_leak_until_there_is_space(world: World) -> None:
    world.sim.add_storage("small", "lvmthin", size_gib=4)
    before = world.sim.world()
    name = world.make(source={"clone": {"vmid": TEMPLATE, "storage": "small"}})
    condition = world.wait_reason(name, "StorageFull")
    assert "storage small has 4Gi left, 8Gi is needed: free space there" in condition.message
    world.passes(name)
    assert before.diff(world.sim.world()) == []
    world.sim.resize_storage("small", 100)
    vmid = world.wait_ready(name)
    assert world.changes_besides(before, vmid) == []
    assert world.leaks() == []


def test_a_full_storage_for_an_extra_disk_is_said_before_anything_is_made(world: World) -> None:
    world.sim.add_storage("tight", "lvmthin", size_gib=4)
    before = world.sim.world()
    name = world.make(disks=[{"name": "data", "size": "10Gi", "storage": "tight"}])
    condition = world.wait_reason(name, "StorageFull")
    assert "storage tight has 4Gi left, 10Gi is needed: free space there" in condition.message
    world.passes(name)
    assert before.diff(world.sim.world()) == []
    world.sim.resize_storage("tight", 100)
    vmid = world.wait_ready(name)
    assert [volume.storage for volume in world.sim.world().volumes_of(vmid)].count("tight") == 1
