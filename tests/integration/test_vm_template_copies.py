"""What a ProxmoxVM makes of a VMTemplate's status, which these tests write themselves.

The operator's own part for VMTemplates is replaced: it makes nothing, and wakes the ProxmoxVMs that wait.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.kubeapi import Raw
from harness.world import World
from proxmox_operator.controllers.context import TEMPLATE_KIND
from proxmox_operator.controllers.manager import Manager
from proxmox_operator.controllers.outcome import Outcome
from proxmox_operator.engine.queue import Key
from proxmox_operator.kube.resources import PROXMOX_VMS, VM_TEMPLATES
from pvesim.recorder import Call, DropBefore, Verdict

WORLD = {"sim": {"nodes": 5, "task_seconds": 0.0}}
UUID = "6a1c9c53-3f0e-4c7d-9d0b-1f6f5a0c7e{:02d}"
SINCE = "2026-11-26T00:00:00Z"
IMAGE = {"url": "https://images.example.org/d.qcow2", "checksum": "sha256:" + "0" * 64, "storage": "images"}


class ByHand:
    """One VMTemplate. ``asked``: the nodes on which a ProxmoxVM waited for a copy, each time it was told to act."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = f"by-hand-{world.namespace}"
        self.asked: list[set[str | None]] = []
        self._copies: list[Raw] = []
        assert world.operator is not None
        assert world.operator.manager is not None
        self.take_over(world.operator.manager)

    def take_over(self, manager: Manager) -> None:
        """Replace the operator's own part."""

        async def wake(key: Key) -> Outcome:
            found = {
                waiting: node
                for member in manager.fleet
                for waiting, (name, node) in member.copies_awaited.items()
                if name == key.name
            }
            for waiting in found:
                manager.queue.add(waiting)
            self.asked.append(set(found.values()))
            return Outcome.done()

        manager._reconcilers[TEMPLATE_KIND] = wake

    def start(self) -> None:
        """Start another operator after the first was killed."""
        self.world.start()
        assert self.world.operator is not None
        assert self.world.operator.manager is not None
        self.take_over(self.world.operator.manager)

    def make(self, **spec: Any) -> None:
        whole = {"clusterRef": {"name": self.world.cluster}, "image": IMAGE, "storage": "local-lvm", **spec}
        self.world.kube.apply(VM_TEMPLATES, {"metadata": {"name": self.name}, "spec": whole})
        self.tell()

    def tell(self, *, version: str = "v1", cluster: str | None = None) -> None:
        """Write the status."""
        status = {"version": version, "cluster": cluster or self.world.cluster, "copies": self._copies}
        self.world.kube.merge(VM_TEMPLATES, self.name, {"status": status}, subresource="status")

    def add(self, vmid: int, node: str, *, version: str = "v1", state: str = "Ready", **config: Any) -> None:
        """A template in Proxmox, and its entry in the status that is told next."""
        uuid = UUID.format(vmid % 100)
        self.world.sim.add_template(vmid=vmid, node=node, **{"smbios1": f"uuid={uuid}", **config})
        self.world.look()
        self._copies.append(
            {"vmid": vmid, "uuid": uuid, "node": node, "version": version, "state": state}
            | {"storage": "local-lvm", "since": SINCE}
        )

    @property
    def source(self) -> Raw:
        return {"templateRef": {"name": self.name}}


@pytest.fixture
def template(world: World) -> Iterator[ByHand]:
    assert world.operator is not None
    manager = world.operator.manager
    assert manager is not None
    own = manager._reconcilers[TEMPLATE_KIND]
    if "images" not in world.sim.server.storages:
        world.sim.add_storage("images", "dir", content="import")
        world.look()
    template = ByHand(world)
    yield template
    world.remove(VM_TEMPLATES, template.name)
    assert world.operator.manager is not None
    world.operator.manager._reconcilers[TEMPLATE_KIND] = own


def source_of(world: World, vmid: int) -> str:
    """The path of the one clone that was asked for."""
    [clone] = [call for call in world.writes(vmid) if call.path.endswith("/clone")]
    return clone.path


def looks(world: World, template: ByHand, name: str) -> tuple[int, int]:
    """How often the VMTemplate and the ProxmoxVM have been looked at when the inventory was read four times more."""
    for _ in range(4):
        world.look()
    return len(template.asked), world.looked[Key(PROXMOX_VMS.kind, world.namespace, name)]


def lose_clones(world: World) -> list[int]:
    """No clone arrives; the list then holds the VMIDs that were asked for."""
    lost: list[int] = []

    def lose(call: Call) -> Verdict | None:
        if call.method == "POST" and call.path.endswith("/clone"):
            lost.append(int(call.params["newid"]))
            return DropBefore()
        return None

    world.sim.intercept = lose
    return lost


def on(*nodes: str) -> Raw:
    return {"nodes": list(nodes), "mode": "Require"}


def test_a_vm_that_waits_asks_once_polls_nothing_and_goes_on_at_once(world: World, template: ByHand) -> None:
    template.add(9101, "pve1")
    template.make()
    name = world.make(source=template.source, placement=on("pve2"))
    condition = world.wait_reason(name, "TemplatePending")
    assert condition.message == f"VMTemplate {template.name} makes a copy on pve2 first"
    world.wait_until(lambda: {"pve2"} in template.asked, "the VMTemplate was told which copy is wanted")
    settled = looks(world, template, name)
    assert looks(world, template, name) == settled, "neither looks again by itself"
    assert world.writes() == []
    template.add(9102, "pve2")
    template.tell()
    vmid = world.wait_ready(name, timeout=5)
    assert source_of(world, vmid) == "/nodes/pve2/qemu/9102/clone"


def test_an_operator_that_was_restarted_asks_anew(world: World, template: ByHand) -> None:
    template.make(distribution="OnDemand")
    name = world.make(source=template.source, placement=on("pve3"))
    world.wait_reason(name, "TemplatePending")
    world.kill()
    template.asked.clear()
    template.start()
    world.wait_until(lambda: {"pve3"} in template.asked, "the new operator's VMTemplate was told", name)


def test_the_place_that_a_vm_waits_for_is_kept_for_it(world: World, template: ByHand) -> None:
    template.make()
    spec: dict[str, Any] = {"placement": on("pve2"), "memory": {"size": "40Gi"}}
    first = world.make(source=template.source, **spec)
    world.wait_reason(first, "TemplatePending")
    second = world.make(source=template.source, **spec)
    assert "pve2: 40Gi of memory wanted" in world.wait_reason(second, "Unschedulable").message
    world.delete(first)
    world.wait_gone(first)
    world.wait_reason(second, "TemplatePending")


@pytest.mark.parametrize("told", ["in its status", "in its spec"])
def test_a_vmtemplate_of_another_cluster_is_named_with_both(
    world: World, template: ByHand, told: str
) -> None:
    template.add(9103, "pve1")
    template.make(**({"clusterRef": {"name": "paris"}} if told == "in its spec" else {}))
    if told == "in its status":
        template.tell(cluster="paris")
    else:
        patch = {"status": {"cluster": None}}
        world.kube.merge(VM_TEMPLATES, template.name, patch, subresource="status")
    name = world.make(source=template.source)
    condition = world.wait_reason(name, "TemplateElsewhere")
    assert (
        f"VMTemplate {template.name} is in ProxmoxCluster paris, and this VM in {world.cluster}"
        in condition.message
    )
    world.passes(name)
    assert world.writes() == []


def test_nothing_new_is_made_from_a_vmtemplate_that_is_being_deleted(world: World, template: ByHand) -> None:
    template.add(9104, "pve1")
    template.make()
    world.kube.merge(VM_TEMPLATES, template.name, {"metadata": {"finalizers": ["example.org/held"]}})
    world.kube.delete(VM_TEMPLATES, template.name)
    try:
        name = world.make(source=template.source)
        condition = world.wait_reason(name, "TemplateDeleting")
        assert f"VMTemplate {template.name} is being deleted: create it anew" in condition.message
        world.passes(name)
        assert world.writes() == []
    finally:
        world.kube.merge(VM_TEMPLATES, template.name, {"metadata": {"finalizers": None}})


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"version": "v0"}, id="of an earlier version"),
        pytest.param({"state": "Converting"}, id="not ready"),
        pytest.param({"state": "Removing"}, id="about to go"),
        pytest.param(
            {"smbios1": "uuid=11111111-2222-3333-4444-555555555555"}, id="whose vmid is another vm's"
        ),
        pytest.param({"smbios1": "manufacturer=somebody"}, id="that has no sign of being the one recorded"),
    ],
)
def test_a_copy_is_left_alone(world: World, template: ByHand, other: dict[str, Any]) -> None:
    template.add(9105, "pve1", **other)
    template.add(9106, "pve2")
    template.make(nodes=["pve2"])
    before = world.sim.world().vm(9105)
    vmid = world.wait_ready(world.make(source=template.source, placement={"nodes": ["pve1"]}))
    assert source_of(world, vmid) == "/nodes/pve2/qemu/9106/clone"
    assert world.sim.world().vm(9105) == before


def test_a_vmid_that_was_recorded_for_a_copy_and_is_nobodys_is_waited_for(
    world: World, template: ByHand
) -> None:
    template.add(9107, "pve1")
    template.make(nodes=["pve1"])
    world.sim.vanish(9107)
    world.look()
    name = world.make(source=template.source)
    condition = world.wait_reason(name, "TemplatePending")
    assert condition.message == f"VMTemplate {template.name} has no copy that can be cloned yet"
    assert world.writes() == []


def test_the_copy_of_a_node_that_is_down_is_passed_over_and_without_another_it_is_waited_for(
    world: World, template: ByHand
) -> None:
    template.add(9108, "pve4")
    template.add(9109, "pve5")
    template.make(nodes=["pve4", "pve5"])
    world.sim.node_down("pve4")
    try:
        world.look()
        vmid = world.wait_ready(world.make(source=template.source))
        assert source_of(world, vmid) == "/nodes/pve5/qemu/9109/clone"
        world.sim.node_down("pve5")
        world.look()
        alone = world.make(source=template.source)
        condition = world.wait_reason(alone, "NodeUnavailable")
        assert condition.status == "Unknown"
        assert f"which holds a copy of VMTemplate {template.name}, is offline" in condition.message
    finally:
        world.sim.node_up("pve4")
        world.sim.node_up("pve5")
    world.wait_ready(alone)


def test_a_reserved_vm_is_cloned_from_what_was_reserved_though_the_operator_died_and_a_newer_version_is_there(
    world: World, template: ByHand
) -> None:
    template.add(9110, "pve1")
    template.add(9111, "pve1", version="v2")
    template.make(nodes=["pve1"])
    lost = lose_clones(world)
    name = world.make(source=template.source)
    world.wait_until(lambda: bool(lost), "the VM is reserved, and to be cloned", name)
    world.kill()
    world.sim.intercept = None
    template.tell(version="v2")
    template.start()
    vmid = world.wait_ready(name)
    assert {vmid} == set(lost)
    paths = {call.path for call in world.writes(vmid) if call.path.endswith("/clone")}
    assert paths == {"/nodes/pve1/qemu/9110/clone"}
    assert world.status(name)["template"]["version"] == "v1"
    new = world.wait_ready(world.make(source=template.source))
    assert source_of(world, new) == "/nodes/pve1/qemu/9111/clone"


def test_a_vm_whose_reserved_copy_is_gone_after_a_restart_is_made_from_another_under_the_same_vmid(
    world: World, template: ByHand
) -> None:
    template.add(9112, "pve1")
    template.add(9113, "pve2")
    template.make(nodes=["pve1", "pve2"])
    lost = lose_clones(world)
    name = world.make(source=template.source, placement={"nodes": ["pve1"]})
    world.wait_until(lambda: bool(lost), "the VM is reserved, and to be cloned", name)
    assert world.status(name)["provisioning"]["sourceVmid"] == 9112
    world.kill()
    world.sim.intercept = None
    world.sim.vanish(9112)
    template.start()
    vmid = world.wait_ready(name)
    assert {vmid} == set(lost)
    assert world.sim.world().vm(vmid).node == "pve2"
    assert [call.path for call in world.writes(vmid) if call.path.endswith("/clone")][-1] == (
        "/nodes/pve2/qemu/9113/clone"
    )
    assert world.leaks() == []
