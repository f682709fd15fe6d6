"""Room for VMs: what is spoken for, over-committed or full, company that is wished, and who is woken by more room.

Nothing is retried by itself here for ten minutes: what goes on, goes on because the inventory has changed.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.world import World

WORLD = {"operator": {"slow_retry": 600.0}}
SHARED = 9500
GIB = 1024**3


@pytest.fixture(autouse=True)
def usual_room(world: World) -> Iterator[None]:
    """A template on storage that all nodes see; nodes, storages and the ProxmoxCluster are as before at the end."""
    sim = world.sim
    if "ceph" not in sim.server.storages:
        sim.add_storage("ceph", "rbd", size_gib=500)
    sim.add_template(vmid=SHARED, storage="ceph")
    world.look()
    memory = {node: info.memory for node, info in sim.server.node_info.items()}
    cpus = {node: info.cpus for node, info in sim.server.node_info.items()}
    sizes = dict(sim.server.sizes)
    yield
    for node, size in memory.items():
        sim.set_capacity(node, memory_gib=size / GIB, cpus=cpus[node])
    sim.server.sizes = sizes
    world.apply_cluster()
    world.wait_cluster("Ready")


def make(world: World, **spec: Any) -> str:
    return world.make(**{"source": {"clone": {"vmid": SHARED}}, **spec})


def node_of(world: World, name: str) -> str:
    return str(world.sim.vm(world.wait_ready(name)).node)


def test_two_vms_made_at_once_do_not_both_take_the_last_memory(world: World) -> None:
    for node in ("pve1", "pve2", "pve3"):
        world.sim.set_capacity(node, memory_gib=16)
    world.look()
    names = [make(world, memory={"size": "8Gi"}) for _ in range(5)]
    world.wait_until(
        lambda: len([n for n in names if (c := world.condition(n)) and c.reason == "Unschedulable"]) == 2,
        "two of the five have no place",
    )
    nodes = [vm.node for vm in world.sim.world().vms if vm.status == "running"]
    world.wait_until(
        lambda: (
            sorted(vm.node for vm in world.sim.world().vms if vm.status == "running")
            == ["pve1", "pve2", "pve3"]
        ),
        f"each node has one, not {nodes}",
    )


def test_a_vm_without_a_place_gets_one_as_soon_as_another_has_left(world: World) -> None:
    for node in ("pve1", "pve2", "pve3"):
        world.sim.set_capacity(node, memory_gib=12)
    world.look()
    first = [make(world, memory={"size": "6Gi"}) for _ in range(3)]
    for name in first:
        world.wait_ready(name)
    world.look()
    waiting = make(world, memory={"size": "6Gi"})
    found = world.wait_reason(waiting, "Unschedulable")
    assert "pve1, pve2, pve3: 6Gi of memory wanted, which is more than is free" in found.message
    free = node_of(world, first[1])
    world.delete(first[1])
    assert node_of(world, waiting) == free


def test_a_vm_without_space_gets_its_place_when_the_storage_is_emptied(world: World) -> None:
    world.sim.fill_storage("ceph", free_gib=55)
    world.look()
    name = make(world, disks=[{"name": "data", "size": "50Gi", "storage": "ceph"}])
    found = world.wait_reason(name, "StorageFull")
    assert "below 85 % of the Ceph pool, 50Gi is needed" in found.message
    assert world.writes() == []
    world.sim.server.sizes["ceph"] = 500 * GIB
    world.wait_ready(name)


def test_memory_and_processors_are_given_up_to_the_limit_of_the_cluster(world: World) -> None:
    for node in ("pve1", "pve2", "pve3"):
        world.sim.set_capacity(node, memory_gib=64, cpus=8)
    world.apply_cluster(overcommit={"memoryPercent": 50, "cpuPercent": 100})
    world.wait_cluster("Ready")
    world.sim.add_vm(700, node="pve1", running=True, memory="24576", cores=1)
    world.sim.add_vm(701, node="pve2", running=True, memory="1024", cores=7)
    world.sim.add_vm(702, node="pve3", running=False, memory="65536", cores=8)
    world.look()
    name = make(world, memory={"size": "10Gi"}, cpu={"cores": 2})
    assert node_of(world, name) == "pve3"
    world.look()
    world.sim.start(702)
    world.look()
    full = make(world, memory={"size": "10Gi"}, cpu={"cores": 2})
    message = world.wait_reason(full, "Unschedulable").message
    assert (
        "pve1: 10Gi of memory wanted, 24Gi of 64Gi is given to VMs already, and the limit is 50 %" in message
    )
    assert "pve2: 2 processors wanted, 7 are given to VMs already, the node has 8" in message
    assert "pve3: 10Gi of memory wanted" in message
    world.sim.stop(700)
    assert node_of(world, full) == "pve1"


def test_what_is_stopped_counts_only_if_it_is_to_run(world: World) -> None:
    world.apply_cluster(overcommit={"memoryPercent": 45})
    world.wait_cluster("Ready")
    for node in ("pve1", "pve2", "pve3"):
        world.sim.set_capacity(node, memory_gib=64)
    world.look()
    there = {"placement": {"nodes": ["pve2"], "mode": "Require"}, "memory": {"size": "16Gi"}}
    kept = make(world, **there)
    vmid = world.wait_ready(kept)
    world.edit(kept, power="Stopped")
    world.wait_until(lambda: world.sim.vm(vmid).status == "stopped", "it is stopped")
    world.wait_ready(kept)
    world.look()
    second = make(world, **there)
    assert node_of(world, second) == "pve2"
    world.edit(kept, power="Running")
    world.wait_ready(kept)
    world.look()
    third = make(world, **there)
    assert "32Gi of 64Gi is given to VMs already" in world.wait_reason(third, "Unschedulable").message


def test_vms_of_one_label_are_spread_and_another_namespace_does_not_matter(world: World) -> None:
    spread = {"labels": {"app": "web"}, "placement": {"spreadBy": "app", "mode": "Require"}}
    names = [make(world, **spread) for _ in range(3)]
    assert {node_of(world, name) for name in names} == {"pve1", "pve2", "pve3"}
    fourth = make(world, **spread)
    message = world.wait_reason(fourth, "Unschedulable").message
    for name in names:
        assert f"{name} of the same app is there (spec.placement.spreadBy)" in message
    preferred = make(world, labels={"app": "web"}, placement={"spreadBy": "app"})
    world.wait_ready(preferred)
    gone = node_of(world, names[0])
    world.delete(names[0])
    world.delete(preferred)
    world.wait_gone(preferred)
    assert node_of(world, fourth) == gone


def test_vms_of_one_label_are_kept_together(world: World) -> None:
    world.sim.set_capacity("pve3", memory_gib=512)
    world.look()
    first = make(world, labels={"stack": "shop"}, placement={"nodes": ["pve2"], "mode": "Require"})
    assert node_of(world, first) == "pve2"
    together = {"placement": {"togetherBy": "stack"}}
    assert node_of(world, make(world, labels={"stack": "shop"}, **together)) == "pve2"
    assert node_of(world, make(world, labels={"stack": "else"}, **together)) == "pve3"


def test_a_node_that_does_not_exist_is_named(world: World) -> None:
    name = make(world, placement={"nodes": ["pve33"], "mode": "Require"})
    message = world.wait_reason(name, "Unschedulable").message
    assert "pve33: there is no node of this name: correct spec.placement.nodes" in message
    assert "pve1, pve2, pve3: not listed" in message
    assert world.writes() == []


def test_a_vm_with_a_device_goes_where_the_device_is(world: World) -> None:
    world.sim.add_mapping("pci", "gpu", ["pve2"])
    world.sim.add_mapping("usb", "key", ["pve1", "pve2"])
    world.look()
    devices = {
        "pciDevices": [{"name": "hostpci0", "mapping": "gpu"}],
        "usbDevices": [{"name": "usb0", "mapping": "key"}],
    }
    name = make(world, **devices, placement={"nodes": ["pve1", "pve3"], "mode": "Require"})
    message = world.wait_reason(name, "Unschedulable").message
    assert "pve1: pci mapping gpu (spec.pciDevices[hostpci0].mapping) has no device there" in message
    assert "pve3: pci mapping gpu (spec.pciDevices[hostpci0].mapping), usb mapping key" in message
    world.edit(name, placement=None)
    world.wait_until(lambda: world.status(name).get("node") == "pve2", "it goes to pve2", name)
