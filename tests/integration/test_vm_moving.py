"""Moving VMs: only where asked for, with everything looked at before, and followed whoever has moved them."""

from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

from harness.world import World
from proxmox_operator.api.names import MOVE_TO
from pvesim.recorder import DropAfter

SHARED = 9500
GIB = 1024**3


@pytest.fixture(autouse=True)
def usual_nodes(world: World) -> Iterator[None]:
    """A template on storage that all nodes see; at the end nodes and storages are as before."""
    sim = world.sim
    if "ceph" not in sim.server.storages:
        sim.add_storage("ceph", "rbd", size_gib=500)
    sim.add_template(vmid=SHARED, storage="ceph")
    world.look()
    bridges = {name: info.bridges for name, info in sim.server.node_info.items()}
    memory = {name: info.memory for name, info in sim.server.node_info.items()}
    sizes, weights = dict(sim.server.sizes), dict(sim.server.task_weights)
    yield
    for name, info in sim.server.node_info.items():
        info.bridges, info.memory = bridges[name], memory[name]
        if not sim.server.online(name):
            sim.node_up(name)
    sim.server.sizes, sim.server.task_weights = sizes, weights
    sim.server.migrate_errors.clear()
    for vm in sim.world().vms:
        sim.set_lock(vm.vmid, None)
    world.apply_cluster()
    world.wait_cluster("Ready")


def on(*nodes: str) -> dict[str, Any]:
    return {"placement": {"nodes": list(nodes), "mode": "Require"}}


def make(world: World, node: str = "pve1", **spec: Any) -> tuple[str, int]:
    """A VM on shared storage that runs on ``node``, which its spec does not insist on."""
    wanted = {"source": {"clone": {"vmid": SHARED}}, "placement": {"nodes": [node]}, **spec}
    name = world.make(**wanted)
    vmid = world.wait_ready(name)
    assert world.sim.vm(vmid).node == node
    return name, vmid


def migrations(world: World, vmid: int) -> list[Any]:
    return [call for call in world.writes(vmid) if call.path.endswith("/migrate")]


def wait_on(world: World, name: str, vmid: int, node: str) -> None:
    world.wait_until(
        lambda: (world.sim.vm(vmid).node, world.status(name).get("node")) == (node, node),
        f"the VM is on {node}, and its status says so",
        name,
    )
    world.wait_ready(name)


def move_to(world: World, name: str, node: str | None) -> None:
    world.annotate(name, **{MOVE_TO: node})


# Asked for


def test_an_annotation_moves_a_running_vm_once_and_live(world: World) -> None:
    name, vmid = make(world)
    pid = world.sim.vm(vmid).pid
    move_to(world, name, "pve2")
    wait_on(world, name, vmid, "pve2")
    (call,) = migrations(world, vmid)
    assert call.path == f"/nodes/pve1/qemu/{vmid}/migrate"
    assert (call.params["target"], str(call.params["online"])) == ("pve2", "1")
    assert "with-local-disks" not in call.params
    assert world.sim.vm(vmid).status == "running"
    assert pid
    assert world.status(name)["movedTo"] == "pve2"
    assert f"moving VM {vmid} from pve1 to pve2 (live; annotation {MOVE_TO})" in world.wait_event(
        name, "Moving"
    )
    assert world.wait_event(name, "Moved") == f"VM {vmid} is on pve2 now; it was on pve1"
    assert "task" not in world.status(name)


def test_a_stopped_vm_is_moved_as_it_is(world: World) -> None:
    name, vmid = make(world, power="Stopped")
    move_to(world, name, "pve3")
    wait_on(world, name, vmid, "pve3")
    (call,) = migrations(world, vmid)
    assert "online" not in call.params
    assert world.sim.vm(vmid).status == "stopped"


def test_a_vm_is_moved_when_it_is_required_elsewhere(world: World) -> None:
    name, vmid = make(world)
    world.sim.set_capacity("pve3", memory_gib=512)
    world.look()
    world.edit(name, **on("pve2", "pve3"))
    wait_on(world, name, vmid, "pve3")
    world.edit(name, **on("pve1", "pve2", "pve3"))
    world.wait_ready(name)
    world.passes(name)
    assert len(migrations(world, vmid)) == 1


def test_a_preference_moves_nothing(world: World) -> None:
    name, vmid = make(world)
    world.edit(name, placement={"nodes": ["pve2"], "mode": "Prefer"})
    world.wait_ready(name)
    world.passes(name)
    assert migrations(world, vmid) == []


def test_an_annotation_on_a_new_object_is_noted_and_moves_nothing(world: World) -> None:
    name = world.make(
        annotations={MOVE_TO: "pve2"}, source={"clone": {"vmid": SHARED}}, placement={"nodes": ["pve1"]}
    )
    vmid = world.wait_ready(name)
    world.passes(name)
    assert world.sim.vm(vmid).node == "pve1"
    assert world.status(name)["movedTo"] == "pve2"
    move_to(world, name, "pve3")
    wait_on(world, name, vmid, "pve3")


def test_an_annotation_that_is_taken_away_and_set_again_moves_again(world: World) -> None:
    name, vmid = make(world)
    move_to(world, name, "pve2")
    wait_on(world, name, vmid, "pve2")
    world.sim.migrate(vmid, "pve1")
    wait_on(world, name, vmid, "pve1")
    world.passes(name)
    assert world.sim.vm(vmid).node == "pve1"
    move_to(world, name, None)
    world.wait_until(lambda: "movedTo" not in world.status(name), "the wish is forgotten", name)
    move_to(world, name, "pve2")
    wait_on(world, name, vmid, "pve2")


def test_a_move_that_may_run_cloud_init_again_says_so(world: World) -> None:
    name, vmid = make(world, cloudInit={"user": "debian"})
    move_to(world, name, "pve2")
    wait_on(world, name, vmid, "pve2")
    assert "may run cloud-init again" in world.wait_event(name, "Moving")
    other, number = make(world, cloudInit={"user": "debian", "dns": {"servers": ["192.0.2.1"]}})
    move_to(world, other, "pve2")
    wait_on(world, other, number, "pve2")
    assert "cloud-init" not in world.wait_event(other, "Moving")


# Followed


def test_a_vm_that_was_moved_by_hand_is_followed_and_stays_there(world: World) -> None:
    name, vmid = make(world)
    world.forget_writes()
    world.sim.migrate(vmid, "pve2")
    wait_on(world, name, vmid, "pve2")
    assert world.wait_event(name, "Moved") == f"VM {vmid} is on pve2 now; it was on pve1"
    world.passes(name)
    assert world.writes() == []
    assert world.sim.vm(vmid).node == "pve2"
    world.delete(name)
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids


def test_a_vm_that_was_moved_twice_between_two_looks_is_followed(world: World) -> None:
    name, vmid = make(world)
    world.sim.fail("GET", "/cluster/resources", 599, "slow", times=10_000)
    world.sim.migrate(vmid, "pve2")
    world.sim.migrate(vmid, "pve3")
    world.forget_writes()
    world.sim.clear_failures()
    wait_on(world, name, vmid, "pve3")
    assert world.writes() == []
    assert [vm.vmid for vm in world.sim.world().vms if (vm.name or "") == name] == [vmid]


def test_a_vm_that_must_not_be_where_it_was_moved_to_comes_back(world: World) -> None:
    name, vmid = make(world, **on("pve1"))
    world.sim.migrate(vmid, "pve2")
    wait_on(world, name, vmid, "pve1")
    assert len(migrations(world, vmid)) == 1


def test_a_move_by_somebody_else_is_waited_for(world: World) -> None:
    name, vmid = make(world)
    with world.sim.hold("migrate:copying") as hold:
        world.sim.migrate(vmid, "pve2", wait=False)
        assert hold.reached.wait(5)
        move_to(world, name, "pve3")
        assert "is being moved by root@pam" in world.wait_reason(name, "Moving").message
        assert migrations(world, vmid) == []
    wait_on(world, name, vmid, "pve3")
    assert [call.path for call in migrations(world, vmid)] == [f"/nodes/pve2/qemu/{vmid}/migrate"]


# Refused before anything happens


def refused(world: World, name: str, vmid: int) -> str:
    message = world.wait_reason(name, "MoveRefused").message
    world.passes(name)
    assert migrations(world, vmid) == []
    assert world.sim.vm(vmid).node == "pve1"
    return message


def test_a_missing_bridge_is_found_before(world: World) -> None:
    name, vmid = make(world)
    world.sim.server.node_info["pve2"].bridges = ("vmbr9",)
    move_to(world, name, "pve2")
    message = refused(world, name, vmid)
    assert (
        f"VM {vmid} stays on pve1 (annotation {MOVE_TO}): pve2: bridge vmbr0 (its net0) does not exist"
        in message
    )
    world.sim.server.node_info["pve2"].bridges = ("vmbr0",)
    wait_on(world, name, vmid, "pve2")


def test_a_node_that_does_not_exist_or_is_not_granted_is_refused(world: World) -> None:
    name, vmid = make(world)
    move_to(world, name, "pve22")
    assert "pve22: there is no node of this name" in refused(world, name, vmid)
    world.apply_cluster(access=[{"cloneFrom": [{"start": SHARED, "end": SHARED}], "nodes": ["pve1", "pve2"]}])
    world.wait_cluster("Ready")
    move_to(world, name, "pve3")
    world.wait_until(
        lambda: "pve3: not granted" in (world.condition(name) or ("",) * 4)[2], "the grant is named", name
    )
    assert "pve3: not granted to this namespace (access[].nodes)" in refused(world, name, vmid)
    move_to(world, name, "pve2")
    wait_on(world, name, vmid, "pve2")


def test_an_annotation_does_not_overrule_what_is_required(world: World) -> None:
    name, vmid = make(world, **on("pve1", "pve3"))
    move_to(world, name, "pve2")
    assert "pve2: not listed in spec.placement.nodes" in refused(world, name, vmid)


def test_a_node_without_the_memory_is_refused_and_the_move_goes_on_when_there_is_room(world: World) -> None:
    name, vmid = make(world, memory={"size": "8Gi"})
    world.sim.set_capacity("pve2", memory_gib=6)
    world.look()
    move_to(world, name, "pve2")
    assert "pve2: 8Gi of memory wanted, which is more than is free" in refused(world, name, vmid)
    world.sim.set_capacity("pve2", memory_gib=64)
    wait_on(world, name, vmid, "pve2")


def test_local_disks_are_copied_only_when_that_is_allowed(world: World) -> None:
    name = world.make(power="Running", memory={"size": "1Gi"}, disks=[{"name": "data", "size": "2Gi"}])
    vmid = world.wait_ready(name)
    move_to(world, name, "pve2")
    message = refused(world, name, vmid)
    assert f"scsi0 (local-lvm:vm-{vmid}-disk-" in message
    assert "scsi1 (local-lvm:vm-" in message
    assert "set spec.placement.moveLocalDisks to true" in message
    assert "ide2" not in message
    world.sim.fill_storage("local-lvm", free_gib=1, node="pve2")
    world.look()
    world.edit(name, placement={"nodes": ["pve1"], "moveLocalDisks": True})
    world.wait_until(
        lambda: "pve2: storage local-lvm has 1Gi left" in (world.condition(name) or ("",) * 4)[2],
        "the space that is missing is named",
        name,
    )
    refused(world, name, vmid)
    world.sim.server.sizes["local-lvm"] = 2000 * GIB
    wait_on(world, name, vmid, "pve2")
    (call,) = migrations(world, vmid)
    assert str(call.params["with-local-disks"]) == "1"
    assert {volume.node for volume in world.sim.world().volumes_of(vmid)} == {"pve2"}
    assert world.leaks() == []


def test_what_is_bound_to_the_node_is_named_thing_by_thing(world: World) -> None:
    world.sim.add_mapping("pci", "gpu", ["pve1", "pve2"])
    world.sim.put_file("local", "pve1", "iso", "tools.iso", bytes(4096))
    name, vmid = make(world)
    world.sim.edit_config(vmid, ide0="local:iso/tools.iso,media=cdrom", usb0="host=1234:5678")
    world.sim.stop(vmid)
    world.sim.edit_config(vmid, hostpci0="mapping=gpu")
    world.wait_until(lambda: world.sim.vm(vmid).status == "running", "it was started again", name)
    move_to(world, name, "pve2")
    message = refused(world, name, vmid)
    assert "ide0 (local:iso/tools.iso) is a CD-ROM on storage that only this node has: eject it" in message
    assert "usb0 is a device of this node: remove it, or use a resource mapping" in message
    assert "hostpci0 cannot be moved while the VM runs" in message


def test_a_missing_privilege_is_named_and_nothing_else_suffers(world: World) -> None:
    name, vmid = make(world)
    world.sim.revoke(world.sim.token_id, f"/vms/{vmid}", ["VM.Migrate"])
    move_to(world, name, "pve2")
    assert "VM.Migrate" in refused(world, name, vmid)
    world.sim.stop(vmid)
    world.wait_until(lambda: world.sim.vm(vmid).status == "running", "its power is still kept", name)


# Half-way


def test_progress_is_told_in_steps(world: World) -> None:
    name, vmid = make(world)
    with mock.patch("proxmox_operator.controllers.vm.moves.LOOK_AGAIN", 0.05):
        world.sim.server.task_seconds = 4.0
        try:
            move_to(world, name, "pve2")
            world.wait_until(
                lambda: "(memory: " in (world.condition(name) or ("",) * 4)[2], "how far it has come", name
            )
            assert world.status(name)["task"]["action"] == "Moving"
        finally:
            world.sim.server.task_seconds = 0.0
        wait_on(world, name, vmid, "pve2")


def test_a_move_that_fails_half_way_is_told_leaves_the_vm_in_care_and_is_tried_again(world: World) -> None:
    name, vmid = make(world)
    world.sim.server.migrate_errors[vmid] = "mirror-scsi0: 'mirror' has been cancelled"
    with mock.patch("proxmox_operator.controllers.vm.moves.RETRY", 1.5):
        move_to(world, name, "pve2")
        message = world.wait_reason(name, "MoveFailed").message
        assert (
            "the move has failed: online migrate failure - mirror-scsi0: 'mirror' has been cancelled"
            in message
        )
        assert len(migrations(world, vmid)) == 1
        assert world.sim.vm(vmid).node == "pve1"
        assert "mirror-scsi0" in world.wait_event(name, "MoveFailed")
        world.sim.stop(vmid)
        world.wait_until(lambda: world.sim.vm(vmid).status == "running", "its power is kept", name)
        world.sim.server.migrate_errors.clear()
        wait_on(world, name, vmid, "pve2")
        assert len(migrations(world, vmid)) == 2


def test_a_move_that_failed_is_given_up_by_taking_the_wish_back(world: World) -> None:
    name, vmid = make(world)
    world.sim.server.migrate_errors[vmid] = "no route to host"
    move_to(world, name, "pve2")
    world.wait_reason(name, "MoveFailed")
    move_to(world, name, None)
    world.wait_ready(name)
    assert len(migrations(world, vmid)) == 1


def test_of_several_nodes_the_next_is_tried_when_one_has_failed(world: World) -> None:
    name, vmid = make(world)
    world.sim.set_capacity("pve2", memory_gib=512)
    world.look()

    def fails(call: Any) -> None:
        if call.path.endswith("/migrate") and call.method == "POST":
            world.sim.server.migrate_errors.pop(vmid, None)
            if call.params["target"] == "pve2":
                world.sim.server.migrate_errors[vmid] = "no space left"

    world.sim.intercept = fails
    world.edit(name, **on("pve2", "pve3"))
    wait_on(world, name, vmid, "pve3")
    assert [call.params["target"] for call in migrations(world, vmid)] == ["pve2", "pve3"]
    assert "no space left" in world.wait_event(name, "MoveFailed")


def test_the_target_dies_during_the_move_and_the_vm_runs_on_where_it_was(world: World) -> None:
    name, vmid = make(world)
    with world.sim.hold("migrate:copying") as hold:
        move_to(world, name, "pve3")
        assert hold.reached.wait(5)
        world.sim.node_down("pve3")
    message = world.wait_reason(name, "MoveRefused").message
    assert "pve3: offline" in message
    assert (world.sim.vm(vmid).node, world.sim.vm(vmid).status) == ("pve1", "running")
    move_to(world, name, None)
    world.wait_ready(name)


def test_the_source_dies_during_the_move_and_nothing_is_done_until_proxmox_shows_the_vm(world: World) -> None:
    name, vmid = make(world, "pve3")
    with world.sim.hold("migrate:copying") as hold:
        move_to(world, name, "pve2")
        assert hold.reached.wait(5)
        world.wait_until(lambda: "task" in world.status(name), "the move is recorded", name)
        world.sim.node_down("pve3")
    world.wait_reason(name, "NodeUnavailable")
    writes = len(world.writes())
    world.passes(name)
    assert len(world.writes()) == writes
    world.sim.call(lambda: _recovered(world, vmid, "pve1"))
    wait_on(world, name, vmid, "pve2")
    assert world.status(name)["movedTo"] == "pve2"


def _recovered(world: World, vmid: int, node: str) -> None:
    """An administrator moves the config of a VM off a dead node."""
    vm = world.sim.vm(vmid)
    vm.node, vm.lock = node, None


def test_a_dead_worker_leaves_a_lock_that_a_person_is_told_how_to_remove(world: World) -> None:
    name, vmid = make(world)
    with world.sim.hold("migrate:copying") as hold:
        move_to(world, name, "pve2")
        assert hold.reached.wait(5)
        world.sim.kill_tasks("qmigrate")
    message = world.wait_reason(name, "StuckLock").message
    assert f"run as root on pve1: qm unlock {vmid}" in message
    assert len(migrations(world, vmid)) == 1
    with mock.patch("proxmox_operator.controllers.vm.moves.RETRY", 0.1):
        world.sim.set_lock(vmid, None)
        move_to(world, name, "pve3")
        wait_on(world, name, vmid, "pve3")


def test_a_backup_is_waited_for(world: World) -> None:
    name, vmid = make(world)
    world.sim.set_lock(vmid, "backup")
    world.look()
    move_to(world, name, "pve2")
    assert (
        "is locked by Proxmox (backup), and moved after that" in world.wait_reason(name, "MoveOnHold").message
    )
    assert migrations(world, vmid) == []
    world.sim.set_lock(vmid, None)
    wait_on(world, name, vmid, "pve2")


def test_one_vm_leaves_a_node_at_a_time(world: World) -> None:
    names = [make(world) for _ in range(3)]
    with world.sim.hold("migrate:copying") as hold:
        for name, _ in names:
            world.edit(name, **on("pve2"))
        assert hold.reached.wait(5)
        world.wait_until(
            lambda: (
                sorted((world.condition(name) or ("",) * 4)[1] for name, _ in names)
                == ["MoveQueued", "MoveQueued", "Moving"]
            ),
            "one moves, two wait",
        )
        assert len([call for call in world.writes() if call.path.endswith("/migrate")]) == 1
    for name, vmid in names:
        wait_on(world, name, vmid, "pve2")
    assert len([call for call in world.writes() if call.path.endswith("/migrate")]) == 3


def test_a_move_outlives_edits_and_the_deletion_waits_for_its_end(world: World) -> None:
    name, vmid = make(world)
    with world.sim.hold("migrate:copying") as hold:
        move_to(world, name, "pve2")
        assert hold.reached.wait(5)
        world.edit(name, placement=None, cpu={"cores": 2})
        move_to(world, name, None)
        world.passes(name)
        world.delete(name)
        world.passes(name)
        assert [task.id for task in world.sim.tasks("qmigrate", running=True)] == [str(vmid)]
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids
    assert world.leaks() == []


def test_a_lost_answer_is_looked_for_and_the_move_taken_up(world: World) -> None:
    name, vmid = make(world)

    def lose_answer(call: Any) -> DropAfter | None:
        return DropAfter() if call.method == "POST" and call.path.endswith("/migrate") else None

    with world.sim.hold("migrate:copying") as hold:
        world.sim.intercept = lose_answer
        move_to(world, name, "pve2")
        assert hold.reached.wait(5)
        world.wait_reason(name, "Moving")
    wait_on(world, name, vmid, "pve2")
    assert len(migrations(world, vmid)) == 1


def test_a_restarted_operator_goes_on_with_the_move(world: World) -> None:
    name, vmid = make(world)
    with world.sim.hold("migrate:copying") as hold:
        move_to(world, name, "pve2")
        assert hold.reached.wait(5)
        world.wait_until(lambda: "task" in world.status(name), "the move is recorded", name)
        world.restart()
        world.wait_reason(name, "Moving")
    wait_on(world, name, vmid, "pve2")
    assert len(migrations(world, vmid)) == 1


def test_a_vm_under_ha_is_moved_by_the_ha_manager_which_is_asked_once(world: World) -> None:
    name, vmid = make(world)
    world.sim.set_ha(vmid, "started")
    world.look()
    move_to(world, name, "pve2")
    wait_on(world, name, vmid, "pve2")
    assert len(migrations(world, vmid)) == 1
    assert [task.type for task in world.sim.tasks("hamigrate")] == ["hamigrate"]


def test_disks_that_take_other_names_on_the_target_are_still_the_same_disks(world: World) -> None:
    name = world.make(
        disks=[{"name": "data", "size": "2Gi"}], placement={"nodes": ["pve1"], "moveLocalDisks": True}
    )
    vmid = world.wait_ready(name)
    before = world.status(name)["disks"]
    world.sim.call(lambda: world.sim.server.alloc("local-lvm", "pve2", vmid, GIB))
    move_to(world, name, "pve2")
    wait_on(world, name, vmid, "pve2")
    (disk,) = world.status(name)["disks"]
    assert disk["volume"] != before[0]["volume"]
    assert disk["volume"] in str(world.sim.vm(vmid).config["scsi1"])
    assert "detachedDisks" not in world.status(name)
    world.passes(name)
    assert [call for call in world.writes(vmid) if call.path.endswith(("/config", "/resize"))][2:] == []
