"""High availability: into HA and out of it, power through it, its errors, its rules, and what stands in the way.

The VMs are clones of a template on storage that all nodes share.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.conditions import Condition
from harness.world import LOOK, World
from proxmox_operator.api.names import RESTART
from proxmox_operator.kube.resources import PROXMOX_CLUSTERS
from pvesim.client import Api, ApiError

SHARED = 9001
"""The template on shared storage; 9000 is on local-lvm."""

CONSOLE = ["Sys.Console"]


class HAManager:
    """The HA manager as a person sees it in the GUI."""

    def __init__(self, world: World, api: Api) -> None:
        self.world = world
        self.api = api

    def resource(self, vmid: int) -> dict[str, Any] | None:
        """The configuration of one resource, or None."""
        try:
            return dict(self.api.get(f"/cluster/ha/resources/vm:{vmid}"))
        except ApiError:
            return None

    def state(self, vmid: int) -> str | None:
        """The state that is requested."""
        return (self.resource(vmid) or {}).get("state")

    def hastate(self, vmid: int) -> str | None:
        """What the manager makes of it."""
        found = [item for item in self.api.get("/cluster/resources", type="vm") if item["vmid"] == vmid]
        return found[0].get("hastate") if found else None

    def add(self, vmid: int, **settings: Any) -> None:
        self.api.post("/cluster/ha/resources", sid=f"vm:{vmid}", **settings)

    def change(self, vmid: int, **settings: Any) -> None:
        self.api.put(f"/cluster/ha/resources/vm:{vmid}", **settings)

    def rules(self) -> dict[str, dict[str, Any]]:
        return {rule["rule"]: rule for rule in self.api.get("/cluster/ha/rules")}

    def add_rule(self, rule: str, type: str, resources: str, **settings: Any) -> None:
        self.api.post("/cluster/ha/rules", rule=rule, type=type, resources=resources, **settings)


@pytest.fixture
def manager(world: World, tmp_path: Path) -> Iterator[HAManager]:
    """The HA manager of the world, with a template on shared storage; its rules are gone afterwards."""
    if "ceph" not in world.sim.server.storages:
        world.sim.add_storage("ceph", "rbd", size_gib=1000)
    world.sim.add_template(vmid=SHARED, storage="ceph", name="shared")
    world.look()
    with Api(world.sim, tmp_path) as api:
        manager = HAManager(world, api)
        yield manager
        for rule in manager.rules():
            api.delete(f"/cluster/ha/rules/{rule}")


def make(world: World, prefix: str = "db", **spec: Any) -> str:
    """A VM on shared storage that wants to be highly available, unless said otherwise."""
    wanted = {"source": {"clone": {"vmid": SHARED}}, "availability": {"ha": True}, **spec}
    return world.make(prefix, **{key: value for key, value in wanted.items() if value is not None})


def running(world: World, vmid: int) -> bool:
    return bool(world.sim.vm(vmid).status == "running")


def wait_condition(world: World, name: str, status: str, reason: str) -> Condition:
    """Wait for HighlyAvailable; returns it."""
    found = world.wait_reason(name, reason, kind="HighlyAvailable")
    assert found.status == status
    return found


def in_force(world: World, name: str) -> int:
    """Ready, and all of ``availability`` in force; returns the VMID."""
    vmid = world.wait_ready(name)
    wait_condition(world, name, "True", "HighlyAvailable")
    return vmid


def asked(world: World, pattern: str) -> list[str]:
    """Mutating calls that match, as ``METHOD path``."""
    calls = (f"{call.method} {call.path}" for call in world.writes())
    return [call for call in calls if re.search(pattern, call)]


def requests_to_ha(world: World, vmid: int, verb: str) -> int:
    """How often the HA manager was asked to start or stop the VM."""
    return len([task for task in world.sim.tasks(f"ha{verb}") if task.id == str(vmid)])


def refresh_cluster(world: World) -> None:
    """Have the ProxmoxCluster looked at, which happens every minute by itself."""
    world._count += 1
    mark = {LOOK: str(world._count)}
    world.kube.merge(PROXMOX_CLUSTERS, world.cluster, {"metadata": {"annotations": mark}})


# In and out


def test_a_vm_is_put_under_ha_which_starts_it(world: World, manager: HAManager) -> None:
    name = make(world, availability={"ha": True, "maxRestart": 2, "maxRelocate": 0})
    vmid = in_force(world, name)
    found = manager.resource(vmid)
    assert found is not None
    assert (found["state"], found["max_restart"], found["max_relocate"]) == ("started", 2, 0)
    assert f"{world.namespace}/{name}" in found["comment"]
    assert running(world, vmid)
    assert asked(world, "/status/") == []
    assert world.status(name)["ha"] == {"state": "started", "joined": True}


def test_a_vm_that_is_to_stay_off_is_put_under_ha_as_stopped(world: World, manager: HAManager) -> None:
    vmid = in_force(world, make(world, power="Stopped"))
    assert manager.state(vmid) == "stopped"
    assert not running(world, vmid)


def test_a_vm_that_runs_already_joins_without_a_restart(world: World, manager: HAManager) -> None:
    name = make(world, availability=None)
    vmid = world.wait_ready(name)
    booted = world.sim.vm(vmid).booted
    world.edit(name, availability={"ha": True})
    in_force(world, name)
    assert manager.state(vmid) == "started"
    assert world.sim.vm(vmid).booted == booted


def test_a_vm_is_taken_out_of_ha_again_and_keeps_running(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    booted = world.sim.vm(vmid).booted
    world.edit(name, availability={"ha": False})
    wait_condition(world, name, "False", "NotWanted")
    world.wait_until(lambda: manager.resource(vmid) is None, "it is out of HA", name)
    world.wait_until(lambda: "ha" not in world.status(name) or not world.status(name)["ha"].get("joined"), "")
    world.edit(name, power="Stopped")
    world.wait_until(lambda: not running(world, vmid), "its power is ours again", name)
    assert requests_to_ha(world, vmid, "stop") == 0
    assert world.sim.vm(vmid).booted == booted


def test_the_block_left_out_leaves_everything_as_it_is(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    world.edit(name, availability=None)
    world.wait_ready(name)
    world.passes(name)
    assert manager.state(vmid) == "started"
    assert world.condition(name, "HighlyAvailable") is None


# Power


def test_power_goes_through_ha(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    world.edit(name, power="Stopped")
    world.wait_until(lambda: not running(world, vmid), "HA has stopped it", name)
    world.wait_ready(name)
    assert manager.state(vmid) == "stopped"
    world.edit(name, power="Running")
    world.wait_until(lambda: running(world, vmid), "HA has started it", name)
    world.wait_ready(name)
    assert manager.state(vmid) == "started"
    assert asked(world, "/status/(start|stop)$") == []
    assert len(asked(world, "/status/shutdown$")) == 1


def test_a_restart_goes_through_ha(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    booted = world.sim.vm(vmid).booted
    world.annotate(name, **{RESTART: "now"})
    world.wait_event(name, "Restarted")
    world.wait_ready(name)
    in_force(world, name)
    assert world.sim.vm(vmid).booted != booted
    assert manager.state(vmid) == "started"
    assert (requests_to_ha(world, vmid, "stop"), asked(world, "/status/(start|stop)$")) == (1, [])


def test_a_vm_that_dies_is_started_by_ha_and_not_by_us(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    world.forget_writes()
    world.sim.power_loss(vmid)
    world.wait_until(lambda: running(world, vmid), "HA has started it again", name)
    world.wait_ready(name)
    assert world.writes() == []


def test_the_power_of_a_vm_that_a_person_put_under_ha_goes_through_ha(
    world: World, manager: HAManager
) -> None:
    name = make(world, availability=None)
    vmid = world.wait_ready(name)
    manager.add(vmid, state="started", max_restart=7, comment="by hand")
    world.look()
    world.forget_writes()
    world.edit(name, power="Stopped")
    world.wait_until(lambda: not running(world, vmid), "HA has stopped it", name)
    world.wait_ready(name)
    assert manager.state(vmid) == "stopped"
    world.edit(name, power="Running")
    world.wait_until(lambda: running(world, vmid), "HA has started it", name)
    world.wait_ready(name)
    found = manager.resource(vmid)
    assert found is not None
    assert (found["state"], found["max_restart"], found["comment"]) == ("started", 7, "by hand")
    assert asked(world, "/cluster/ha/") == []
    assert (requests_to_ha(world, vmid, "stop"), requests_to_ha(world, vmid, "start")) == (1, 1)


def test_a_resource_that_a_person_made_is_not_taken_out(world: World, manager: HAManager) -> None:
    name = make(world, availability=None)
    vmid = world.wait_ready(name)
    manager.add(vmid, state="started", comment="by hand")
    world.edit(name, availability={"ha": True, "maxRestart": 3})
    in_force(world, name)
    world.edit(name, availability={"ha": False, "maxRestart": None})
    wait_condition(world, name, "False", "NotWanted")
    world.passes(name)
    found = manager.resource(vmid)
    assert found is not None
    assert (found["max_restart"], found["comment"]) == (3, "by hand")


def test_a_vm_that_must_not_be_switched_off_is_not_given_to_ha_to_stop(
    world: World, manager: HAManager
) -> None:
    name = make(world, shutdown={"force": False})
    vmid = in_force(world, name)
    world.edit(name, power="Stopped")
    assert "spec.shutdown.force" in world.wait_reason(name, "HAForcesShutdown").message
    world.passes(name)
    assert running(world, vmid)
    assert manager.state(vmid) == "started"


@contextmanager
def shown_as_off(world: World, vmid: int) -> Iterator[None]:
    """The inventory lags by up to 17 s: a VM that was just started is still shown as off."""
    server = world.sim.server
    stats = world.sim.call(lambda: {vm.vmid: dict(server.stats_of(vm)) for vm in server.vms})
    server.frozen_stats = {**stats, vmid: {**stats[vmid], "status": "stopped"}}
    try:
        world.look()
        yield
    finally:
        server.frozen_stats = None


def test_a_vm_that_only_the_inventory_takes_for_off_is_not_given_to_ha_to_stop(
    world: World, manager: HAManager
) -> None:
    name = make(world, shutdown={"force": False})
    vmid = in_force(world, name)
    with shown_as_off(world, vmid):
        world.edit(name, power="Stopped")
        world.wait_reason(name, "HAForcesShutdown")
        world.passes(name)
        assert running(world, vmid)
        assert manager.state(vmid) == "started"


def test_nor_is_it_put_under_ha_to_stop_but_shut_down_before(world: World, manager: HAManager) -> None:
    name = make(world, availability=None, shutdown={"force": False})
    vmid = world.wait_ready(name)
    with shown_as_off(world, vmid):
        world.edit(name, power="Stopped", availability={"ha": True})
        world.wait_until(lambda: not running(world, vmid), "it is off", name)
        in_force(world, name)
    assert asked(world, "/status/|/cluster/ha/resources$")[-2:] == [
        f"POST /nodes/pve1/qemu/{vmid}/status/shutdown",
        "POST /cluster/ha/resources",
    ]


def test_a_vm_is_not_put_under_ha_to_stop_while_a_task_works_on_it(world: World, manager: HAManager) -> None:
    """One that somebody reboots is off for a moment, too, and has no lock."""
    name = make(world, availability=None, power="Stopped")
    vmid = world.wait_ready(name)
    slow = world.sim.add_vm(400, running=True)
    slow.guest_os.shutdown_seconds = 2.0
    upid = world.sim.run(world.sim.server.stop_all("pve1"))
    world.edit(name, availability={"ha": True})
    assert "pve1 is stopping all its guests" in world.wait_reason(name, "PowerOnHold").message
    assert manager.resource(vmid) is None
    world.sim.wait_task(upid)
    world.wait_until(lambda: manager.state(vmid) == "stopped", "it is under HA", name, timeout=20)


# Drift


def test_settings_changed_in_the_gui_are_shown_and_changed_back(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    manager.change(vmid, max_restart=9)
    world.wait_until(lambda: (manager.resource(vmid) or {}).get("max_restart") == 1, "changed back", name)
    assert "HA max_restart: 9 -> 1" in world.wait_event(name, "DriftCorrected")


@pytest.mark.parametrize("state", ["disabled", "stopped", "ignored"])
def test_a_state_requested_by_a_person_is_changed_back(world: World, manager: HAManager, state: str) -> None:
    name = make(world)
    vmid = in_force(world, name)
    manager.change(vmid, state=state)
    world.wait_until(lambda: manager.state(vmid) == "started", "requested to run again", name)
    assert f"HA state: {state} -> started" in world.wait_event(name, "DriftCorrected")
    world.wait_until(lambda: running(world, vmid) and manager.hastate(vmid) == "started", "it runs", name)
    in_force(world, name)
    assert asked(world, "/status/") == []


def test_who_only_looks_shows_it(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    world.edit(name, management="Observe")
    world.wait_ready(name)
    manager.change(vmid, state="ignored")
    world.wait_until(
        lambda: "HA state: ignored -> started" in world.status(name).get("plan", ()), "in the plan", name
    )
    wait_condition(world, name, "False", "HANotActive")
    assert manager.state(vmid) == "ignored"


def test_a_vm_taken_out_of_ha_by_a_person_is_put_under_it_again(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    manager.api.delete(f"/cluster/ha/resources/vm:{vmid}")
    world.wait_until(lambda: manager.state(vmid) == "started", "it is under HA again", name)
    in_force(world, name)


# Errors of the manager


def test_an_error_of_the_manager_is_cleared_once(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    world.sim.server.start_errors[vmid] = "start failed: QEMU exited with code 1"
    world.sim.power_loss(vmid)
    world.wait_until(lambda: manager.hastate(vmid) == "error", "the manager has given it up", name)
    world.sim.server.start_errors.pop(vmid)
    world.wait_until(lambda: running(world, vmid), "it runs again", name, timeout=20)
    in_force(world, name)
    assert "cleared" in world.wait_event(name, "HARecovering")
    assert "recovered" not in world.status(name)["ha"]


def test_a_second_error_is_left_to_a_person_with_the_remedy(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    world.sim.server.start_errors[vmid] = "start failed: QEMU exited with code 1"
    try:
        world.sim.power_loss(vmid)
        found = world.wait_reason(name, "HAError", timeout=20)
        assert f"ha-manager set vm:{vmid} --state disabled" in found.message
        wait_condition(world, name, "False", "HAError")
        world.forget_writes()
        world.passes(name)
        assert world.writes() == []
    finally:
        world.sim.server.start_errors.pop(vmid)
    manager.change(vmid, state="disabled")
    world.wait_until(lambda: running(world, vmid), "a person mended it, and it runs again", name, timeout=20)
    in_force(world, name)


# A node dies


def test_a_vm_that_ha_recovers_on_another_node_is_followed(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    node = world.sim.vm(vmid).node
    world.forget_writes()
    world.sim.node_down(node)
    try:
        world.wait_until(
            lambda: world.sim.vm(vmid).node != node and running(world, vmid), "recovered", name, timeout=30
        )
        world.wait_until(
            lambda: world.status(name)["node"] == world.sim.vm(vmid).node, "followed", name, timeout=20
        )
        world.wait_ready(name, timeout=20)
        assert world.vmid(name) == vmid
        assert world.writes() == []
    finally:
        world.sim.node_up(node)


def test_a_node_in_maintenance_is_emptied_by_ha_and_nobody_fights_it(
    world: World, manager: HAManager
) -> None:
    name = make(world)
    vmid = in_force(world, name)
    node = world.sim.vm(vmid).node
    world.forget_writes()
    world.sim.maintenance(node, True)
    try:
        world.wait_until(lambda: world.sim.vm(vmid).node != node, "HA has moved it away", name, timeout=20)
        world.wait_until(lambda: world.status(name)["node"] == world.sim.vm(vmid).node, "followed", name)
        world.wait_ready(name)
        assert running(world, vmid)
        assert world.writes() == []
    finally:
        world.sim.maintenance(node, False)
    world.wait_until(lambda: world.sim.vm(vmid).node == node, "HA has moved it back", name, timeout=20)
    world.wait_ready(name)
    assert world.writes() == []


def test_nothing_is_started_on_a_node_in_maintenance_and_nothing_new_is_put_there(world: World) -> None:
    name = world.make("web", placement={"nodes": ["pve1"], "mode": "Require"})
    vmid = world.wait_ready(name)
    world.sim.maintenance("pve1", True)
    try:
        world.wait_until(lambda: seen_in_maintenance(world, "pve1"), "the maintenance is known")
        world.sim.stop(vmid)
        world.look()
        assert "pve1 is in maintenance" in world.wait_reason(name, "PowerOnHold").message
        world.passes(name)
        assert not running(world, vmid)
        other = world.make("web", placement={"nodes": ["pve1"], "mode": "Require"})
        assert "pve1: in maintenance" in world.wait_reason(other, "Unschedulable").message
        world.edit(name, power="Stopped")
        world.wait_ready(name)
        world.edit(name, power="Running")
        world.wait_reason(name, "PowerOnHold")
    finally:
        world.sim.maintenance("pve1", False)
    world.wait_until(lambda: not seen_in_maintenance(world, "pve1"), "it is over")
    world.passes(name, 1)
    world.wait_ready(name)
    world.wait_ready(other)


def seen_in_maintenance(world: World, node: str) -> bool:
    """Whether the operator knows it."""
    manager = world.operator.manager if world.operator is not None else None
    member = manager.fleet.get(world.cluster) if manager is not None else None
    inventory = (
        member.session.inventory.current if member is not None and member.session is not None else None
    )
    return inventory is not None and inventory.nodes[node].maintenance


# The end


def test_a_vm_leaves_ha_before_it_is_destroyed(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    world.forget_writes()
    world.delete(name)
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids
    assert manager.resource(vmid) is None
    assert [re.sub(r"^(\w+) .*/", r"\1 ", call) for call in asked(world, "")] == [
        f"DELETE vm:{vmid}",
        "POST shutdown",
        f"DELETE {vmid}",
    ]
    assert requests_to_ha(world, vmid, "stop") == 0


def test_a_vm_that_is_kept_stays_under_ha_without_our_rule(world: World, manager: HAManager) -> None:
    name = make(world, deletionPolicy="Retain", availability=with_rule(near("pve1")))
    vmid = in_force(world, name)
    assert set(manager.rules()) == {f"pvm-{vmid}-nodes"}
    world.delete(name)
    world.wait_gone(name)
    assert manager.rules() == {}
    assert manager.state(vmid) == "started"
    assert running(world, vmid)


def test_a_vm_in_error_state_can_be_deleted(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    world.sim.server.start_errors[vmid] = "start failed: QEMU exited with code 1"
    try:
        world.sim.power_loss(vmid)
        world.wait_reason(name, "HAError", timeout=20)
        world.delete(name)
        world.wait_gone(name)
    finally:
        world.sim.server.start_errors.pop(vmid)
    assert vmid not in world.sim.world().vmids


# What stands in the way


def test_a_vm_with_local_disks_runs_but_not_under_ha(world: World, manager: HAManager) -> None:
    name = world.make("web", availability={"ha": True}, bootDisk={"size": "9Gi"})
    vmid = world.wait_ready(name)
    found = wait_condition(world, name, "False", "HAStorageLocal")
    assert "scsi0 on local-lvm" in found.message
    assert "cloudinit" not in found.message
    assert running(world, vmid)
    assert manager.resource(vmid) is None


def test_an_iso_of_one_node_keeps_a_vm_from_ha(world: World, manager: HAManager) -> None:
    name = make(world, availability=None)
    vmid = world.wait_ready(name)
    world.edit(name, availability={"ha": True})
    in_force(world, name)
    world.sim.vm(vmid).config["ide0"] = "local:iso/debian.iso,media=cdrom"
    assert "ide0 on local" in wait_condition(world, name, "False", "HAStorageLocal").message
    assert manager.state(vmid) == "started"
    del world.sim.vm(vmid).config["ide0"]
    in_force(world, name)


def test_a_missing_privilege_is_said_by_the_vm_that_needs_it_and_stops_nothing_else(
    world: World, manager: HAManager
) -> None:
    world.sim.revoke(world.sim.token_id, "/", CONSOLE)
    try:
        refresh_cluster(world)
        name = make(world)
        vmid = world.wait_ready(name)
        found = wait_condition(world, name, "False", "PermissionDenied")
        assert "Sys.Console on /" in found.message
        assert running(world, vmid)
        assert manager.resource(vmid) is None
        ready = world.cluster_condition("Authorized")
        assert ready is not None
        assert ready.status == "True"
    finally:
        world.sim.grant(world.sim.token_id, "/", CONSOLE)
    refresh_cluster(world)
    in_force(world, name)
    assert manager.state(vmid) == "started"


def test_without_the_privilege_a_vm_under_ha_is_not_destroyed_and_says_so(
    world: World, manager: HAManager
) -> None:
    name = make(world)
    vmid = in_force(world, name)
    world.sim.revoke(world.sim.token_id, "/", CONSOLE)
    try:
        refresh_cluster(world)
        world.delete(name)
        assert "Sys.Console on /" in world.wait_reason(name, "PermissionDenied").message
        assert running(world, vmid)
    finally:
        world.sim.grant(world.sim.token_id, "/", CONSOLE)
    refresh_cluster(world)
    world.wait_gone(name)


# Rules


def near(*nodes: str, **settings: Any) -> dict[str, Any]:
    return {"nodeAffinity": {"nodes": [{"name": node} for node in nodes], **settings}}


def group(affinity: str = "Apart", name: str = "db") -> dict[str, Any]:
    return {"resourceAffinity": {"group": name, "affinity": affinity}}


def with_rule(rule: dict[str, Any] | None) -> dict[str, Any]:
    return {"ha": True, "rule": rule}


def test_a_node_affinity_is_a_rule_of_the_vm(world: World, manager: HAManager) -> None:
    wish = near("pve1", "pve2", strict=True)
    name = make(world, availability=with_rule(wish))
    vmid = in_force(world, name)
    rule = manager.rules()[f"pvm-{vmid}-nodes"]
    assert (rule["type"], rule["resources"], rule["nodes"]) == ("node-affinity", f"vm:{vmid}", "pve1,pve2")
    assert int(rule["strict"]) == 1
    world.edit(name, availability=with_rule(near("pve2")))
    world.wait_until(lambda: manager.rules()[f"pvm-{vmid}-nodes"]["nodes"] == "pve2", "changed", name)
    world.edit(name, availability=with_rule(None))
    world.wait_until(lambda: manager.rules() == {}, "removed", name)
    in_force(world, name)


def test_a_rule_edited_or_removed_by_a_person_comes_back(world: World, manager: HAManager) -> None:
    name = make(world, availability=with_rule(near("pve1")))
    vmid = in_force(world, name)
    rule = f"pvm-{vmid}-nodes"
    manager.api.put(f"/cluster/ha/rules/{rule}", type="node-affinity", nodes="pve3")
    world.wait_until(lambda: manager.rules()[rule]["nodes"] == "pve1", "changed back", name)
    manager.api.delete(f"/cluster/ha/rules/{rule}")
    world.wait_until(lambda: rule in manager.rules(), "made again", name)


def test_the_vms_of_a_group_share_a_rule_that_goes_with_the_last_but_one(
    world: World, manager: HAManager
) -> None:
    names = [make(world, availability=with_rule(group())) for _ in range(3)]
    vmids = sorted(in_force(world, name) for name in names)
    wanted = ",".join(f"vm:{vmid}" for vmid in vmids)

    def rules() -> list[dict[str, Any]]:
        """Those of these VMs: what an earlier test has left behind is not theirs."""
        named = {f"vm:{vmid}" for vmid in vmids}
        return [rule for rule in manager.rules().values() if named & set(rule["resources"].split(","))]

    def resources() -> list[str]:
        return [rule["resources"] for rule in rules()]

    world.wait_until(lambda: resources() == [wanted], f"one rule of all three: {resources()}")
    [rule] = rules()
    assert (rule["type"], rule["affinity"]) == ("resource-affinity", "negative")
    world.delete(names[0])
    world.wait_gone(names[0])
    world.wait_until(lambda: resources() != [wanted] and len(resources()) == 1, "it has left the rule")
    world.edit(names[1], availability=with_rule(group(name="other")))
    world.wait_until(lambda: rules() == [], f"nobody is left to be kept apart: {manager.rules()}")
    for name in names[1:]:
        in_force(world, name)


def test_a_vm_that_is_only_looked_at_is_not_drawn_into_the_rule_of_its_group(
    world: World, manager: HAManager
) -> None:
    names = [make(world) for _ in range(3)]
    observed, *others = [in_force(world, name) for name in names]
    world.edit(names[0], management="Observe", availability=with_rule(group()))
    for name in names[1:]:
        world.edit(name, availability=with_rule(group()))
    wanted = {f"vm:{vmid}" for vmid in others}

    def resources() -> list[set[str]]:
        return [set(rule["resources"].split(",")) for rule in manager.rules().values()]

    world.wait_until(lambda: resources() == [wanted], f"one rule of the two: {resources()}")
    for name in names[1:]:
        in_force(world, name)
        world.passes(name)
    assert resources() == [wanted], f"VM {observed} stands by"
    world.edit(names[0], management=None)
    in_force(world, names[0])
    assert resources() == [wanted | {f"vm:{observed}"}]


def test_a_group_that_does_not_agree_says_so_until_it_does(world: World, manager: HAManager) -> None:
    first = make(world, availability=with_rule(group("Apart")))
    in_force(world, first)
    second = make(world, availability=with_rule(group("Together")))
    world.wait_ready(second)
    assert "do not agree" in wait_condition(world, second, "False", "RuleConflict").message
    assert manager.rules() == {}
    world.edit(second, availability=with_rule(group("Apart")))
    in_force(world, second)
    in_force(world, first)
    assert [rule["affinity"] for rule in manager.rules().values()] == ["negative"]


def test_a_rule_that_contradicts_another_is_told_and_the_vm_stays_under_ha(
    world: World, manager: HAManager
) -> None:
    names = [make(world, availability=with_rule(group("Together"))) for _ in range(2)]
    vmids = [world.wait_ready(name) for name in names]
    for name in names:
        in_force(world, name)
    for rule in manager.rules():
        manager.api.delete(f"/cluster/ha/rules/{rule}")
    manager.add_rule("by-hand", "node-affinity", f"vm:{vmids[0]}", nodes="pve1")
    world.edit(names[0], availability=with_rule(near("pve2")))
    assert "by-hand" in wait_condition(world, names[0], "False", "RuleConflict").message
    assert manager.rules()["by-hand"]["nodes"] == "pve1"
    world.wait_ready(names[0])


def test_a_rule_of_the_same_name_that_is_not_ours_is_not_touched(world: World, manager: HAManager) -> None:
    name = make(world)
    vmid = in_force(world, name)
    manager.add_rule(f"pvm-{vmid}-nodes", "node-affinity", f"vm:{vmid}", nodes="pve3", comment="by hand")
    world.edit(name, availability=with_rule(near("pve1")))
    assert "is not touched" in wait_condition(world, name, "False", "RuleConflict").message
    assert manager.rules()[f"pvm-{vmid}-nodes"]["nodes"] == "pve3"
    world.delete(name)
    world.wait_gone(name)


def test_the_configuration_of_ha_is_read_once_for_many(world: World, manager: HAManager) -> None:
    names = [make(world, power="Stopped") for _ in range(6)]
    for name in names:
        in_force(world, name)
    calls = list(world.sim.recorder)
    mark = calls[-1].seq
    for name in names:
        world.annotate(name, **{LOOK: "now"})
    world.passes(names[0], 3)
    later = [call for call in world.sim.recorder if call.seq > mark]
    reads = [call for call in later if call.path == "/cluster/ha/resources" and call.method == "GET"]
    polls = [call for call in later if call.path == "/cluster/resources"]
    assert len(reads) <= len(polls) + 1
