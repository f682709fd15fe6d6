"""Where a VM goes: hints and demands, memory, shared and local templates, linked and full clones."""

from typing import Any

import pytest

from harness.world import TEMPLATE, World

SHARED = 9500


@pytest.fixture
def shared_template(world: World) -> int:
    """A template on storage that all nodes see."""
    if "ceph" not in world.sim.server.storages:
        world.sim.add_storage("ceph", "rbd", size_gib=500, shared=True)
    world.sim.add_template(vmid=SHARED, storage="ceph")
    world.look()
    return SHARED


def made(world: World, **spec: Any) -> int:
    return world.wait_ready(world.make(**spec))


def test_a_local_template_is_cloned_on_its_node(world: World) -> None:
    vmid = made(world)
    assert world.sim.vm(vmid).node == "pve1"
    (clone,) = [call for call in world.writes() if call.path.endswith("/clone")]
    assert clone.path == f"/nodes/pve1/qemu/{TEMPLATE}/clone"
    assert "target" not in clone.params


def test_a_clone_of_a_template_is_linked_unless_asked_for_in_full(world: World) -> None:
    linked = made(world)
    full = made(world, source={"clone": {"vmid": TEMPLATE, "full": True}})
    asked = {
        call.params["newid"]: str(call.params.get("full", "0"))
        for call in world.writes()
        if "newid" in call.params
    }
    assert {int(vmid): value for vmid, value in asked.items()} == {linked: "0", full: "1"}


def test_a_clone_of_a_vm_that_is_no_template_is_full(world: World) -> None:
    world.sim.add_vm(500)
    world.look()
    before = world.sim.world()
    vmid = made(world, source={"clone": {"vmid": 500}})
    assert world.changes_besides(before, vmid) == []
    assert f"vm-{vmid}-disk-0" in str(world.sim.vm(vmid).config["scsi0"])


def test_a_shared_template_is_placed_where_the_hint_says(world: World, shared_template: int) -> None:
    source = {"clone": {"vmid": shared_template}}
    vmid = made(
        world,
        source=source,
        placement={"nodes": ["pve3"]},
        disks=[{"name": "data", "size": "1Gi", "storage": "ceph"}],
    )
    assert world.sim.vm(vmid).node == "pve3"
    (clone,) = [call for call in world.writes() if call.path.endswith("/clone")]
    assert clone.path == f"/nodes/pve1/qemu/{shared_template}/clone"
    assert clone.params["target"] == "pve3"
    assert world.leaks() == []


def test_without_a_hint_the_node_with_the_most_free_memory_gets_the_vm(
    world: World, shared_template: int
) -> None:
    sizes = {node: info.memory for node, info in world.sim.server.node_info.items()}
    try:
        world.sim.set_capacity("pve2", memory_gib=512)
        world.look()
        vmid = made(world, source={"clone": {"vmid": shared_template}})
        assert world.sim.vm(vmid).node == "pve2"
    finally:
        for node, size in sizes.items():
            world.sim.set_capacity(node, memory_gib=size / 1024**3)


def test_a_hint_that_cannot_be_met_is_only_a_hint(world: World) -> None:
    vmid = made(world, placement={"nodes": ["pve3"], "mode": "Prefer"})
    assert world.sim.vm(vmid).node == "pve1"


def test_a_demand_that_cannot_be_met_is_refused_with_the_reason_of_each_node(world: World) -> None:
    before = world.sim.world()
    name = world.make(placement={"nodes": ["pve3"], "mode": "Require"})
    condition = world.wait_reason(name, "Unschedulable")
    assert "pve1, pve2: not listed in spec.placement.nodes" in condition.message
    assert f"pve3: template {TEMPLATE} is on pve1 and storage local-lvm is local to it" in condition.message
    world.passes(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    world.edit(name, placement={"nodes": ["pve1"], "mode": "Require"})
    assert world.sim.vm(world.wait_ready(name)).node == "pve1"


def test_more_memory_than_any_node_has_is_refused_until_a_node_has_it(
    world: World, shared_template: int
) -> None:
    before = world.sim.server.node_info["pve2"].memory
    name = world.make(source={"clone": {"vmid": shared_template}}, memory={"size": "600Gi"})
    condition = world.wait_reason(name, "Unschedulable")
    for node in ("pve1", "pve2", "pve3"):
        assert node in condition.message
    assert "600Gi of memory wanted" in condition.message
    assert world.writes() == []
    world.sim.set_capacity("pve2", memory_gib=1024)
    try:
        assert world.sim.vm(world.wait_ready(name)).node == "pve2"
    finally:
        world.sim.set_capacity("pve2", memory_gib=before / 1024**3)


def test_a_node_that_is_down_gets_nothing(world: World, shared_template: int) -> None:
    world.sim.node_down("pve3")
    try:
        world.look()
        name = world.make(
            source={"clone": {"vmid": shared_template}}, placement={"nodes": ["pve3"], "mode": "Require"}
        )
        assert "pve3: offline" in world.wait_reason(name, "Unschedulable").message
        assert world.writes() == []
    finally:
        world.sim.node_up("pve3")
    assert world.sim.vm(world.wait_ready(name)).node == "pve3"


def test_a_template_whose_node_is_down_is_waited_for(world: World) -> None:
    world.sim.node_down("pve1")
    try:
        world.look()
        name = world.make()
        condition = world.wait_reason(name, "NodeUnavailable")
        assert "pve1" in condition.message
        assert str(TEMPLATE) in condition.message
        assert world.writes() == []
    finally:
        world.sim.node_up("pve1")
    world.wait_ready(name)


def test_vms_made_at_once_are_spread_by_the_memory_they_will_take(world: World, shared_template: int) -> None:
    names = [
        world.make(source={"clone": {"vmid": shared_template}}, memory={"size": "40Gi"}) for _ in range(3)
    ]
    nodes = {world.sim.vm(world.wait_ready(name)).node for name in names}
    assert nodes == {"pve1", "pve2", "pve3"}
    assert len({world.vmid(name) for name in names}) == 3


def test_a_full_clone_goes_to_the_storage_that_is_asked_for(world: World) -> None:
    if "fast" not in world.sim.server.storages:
        world.sim.add_storage("fast", "lvmthin", size_gib=100)
    world.look()
    vmid = made(world, bootDisk={"storage": "fast", "size": "10Gi"})
    assert str(world.sim.vm(vmid).config["scsi0"]).startswith("fast:")
    assert "size=10G" in str(world.sim.vm(vmid).config["scsi0"])
