"""Creations that are disturbed half-way: by nodes, workers, people and namespaces that go."""

import pytest

from harness.kubeapi import Refused
from harness.world import TEMPLATE, World
from proxmox_operator.kube.resources import NAMESPACES, PROXMOX_VMS
from pvesim.tasks import Hold

WORLD = {"namespaces": 3, "sim": {"task_seconds": 0.0}}


def reached(hold: Hold) -> None:
    assert hold.reached.wait(10), "no worker came to that stage"


@pytest.mark.parametrize("stage", ["clone:stub", "clone:copying"])
def test_a_template_removed_in_the_middle_of_the_clone_leaves_nothing_and_is_named(
    world: World, stage: str
) -> None:
    world.sim.add_template(vmid=9200)
    world.look()
    with world.sim.hold(stage) as hold:
        name = world.make(source={"clone": {"vmid": 9200, "full": True}})
        reached(hold)
        world.sim.vanish(9200)
    condition = world.wait_reason(name, "TemplateNotFound")
    assert "9200" in condition.message
    assert "spec.source.clone.vmid" in condition.message
    vmid = world.vmid(name)
    assert vmid not in world.sim.world().vmids
    assert world.leaks() == []
    world.forget_writes()
    world.passes(name)
    assert world.writes() == []
    world.sim.add_template(vmid=9200)
    assert world.wait_ready(name) == vmid
    assert world.leaks() == []


def test_a_node_that_goes_down_during_the_clone_makes_the_vm_unknown_and_is_waited_for(world: World) -> None:
    with world.sim.hold("clone:copying") as hold:
        name = world.make(source={"clone": {"vmid": TEMPLATE, "full": True}})
        reached(hold)
        vmid = world.vmid(name)
        world.sim.node_down("pve1")
    try:
        condition = world.wait_reason(name, "NodeUnavailable")
        assert condition.status == "Unknown"
        assert "pve1" in condition.message
        world.forget_writes()
        world.passes(name)
        assert world.writes() == []
    finally:
        world.sim.node_up("pve1")
    condition = world.wait_reason(name, "StuckLock")
    assert f"qm unlock {vmid} && qm destroy {vmid} --purge" in condition.message
    assert "root on pve1" in condition.message
    as_root(world, vmid)
    assert world.wait_ready(name) == vmid
    assert [vm.vmid for vm in world.sim.world().vms if vm.name == name] == [vmid]
    assert world.leaks() == []


def as_root(world: World, vmid: int) -> None:
    """What the message told a person to do: `qm unlock` and `qm destroy --purge`."""
    world.sim.set_lock(vmid, None)
    world.sim.remove_vm(vmid)


@pytest.mark.parametrize("stage", ["clone:stub", "clone:copying"])
def test_a_killed_clone_worker_leaves_a_stuck_lock_with_the_exact_remedy(world: World, stage: str) -> None:
    with world.sim.hold(stage) as hold:
        name = world.make(source={"clone": {"vmid": TEMPLATE, "full": True}})
        reached(hold)
        vmid = world.vmid(name)
        world.sim.kill_tasks("qmclone")
    condition = world.wait_reason(name, "StuckLock")
    assert condition.status == "False"
    assert f"VM {vmid} on pve1" in condition.message
    assert f"qm unlock {vmid} && qm destroy {vmid} --purge" in condition.message
    world.forget_writes()
    before = world.sim.world()
    world.passes(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    as_root(world, vmid)
    assert world.wait_ready(name) == vmid
    assert [vm.vmid for vm in world.sim.world().vms if vm.name == name] == [vmid]
    assert world.leaks() == []


def test_deleting_an_object_with_a_stuck_stub_says_what_root_has_to_do(world: World) -> None:
    with world.sim.hold("clone:stub") as hold:
        name = world.make()
        reached(hold)
        vmid = world.vmid(name)
        world.sim.kill_tasks("qmclone")
    world.wait_reason(name, "StuckLock")
    world.delete(name)
    world.passes(name)
    assert f"qm destroy {vmid}" in world.wait_reason(name, "StuckLock").message
    as_root(world, vmid)
    world.wait_gone(name)
    assert world.leaks() == []


@pytest.mark.parametrize("ttype", ["qmdestroy"])
def test_a_killed_destroy_leaves_a_zombie_with_the_exact_remedy(world: World, ttype: str) -> None:
    name = world.make()
    vmid = world.wait_ready(name)
    with world.sim.hold("destroy:zombie") as hold:
        world.delete(name)
        reached(hold)
        world.sim.kill_tasks(ttype)
    condition = world.wait_reason(name, "StuckLock")
    assert "lock: destroyed" in condition.message
    assert f"qm unlock {vmid} && qm destroy {vmid} --purge" in condition.message
    as_root(world, vmid)
    world.wait_gone(name)
    assert world.leaks() == []


def test_a_killed_start_is_repeated(world: World) -> None:
    with world.sim.hold("start:qemu") as hold:
        name = world.make()
        reached(hold)
        world.sim.kill_tasks("qmstart")
    vmid = world.wait_ready(name)
    assert world.sim.vm(vmid).status == "running"
    assert [call.path.rpartition("/")[2] for call in world.writes(vmid)].count("start") == 2


def test_a_spec_edited_during_the_clone_is_what_the_vm_gets(world: World) -> None:
    with world.sim.hold("clone:copying") as hold:
        name = world.make(cpu={"cores": 2}, tags=["first"])
        reached(hold)
        world.edit(name, cpu={"cores": 4}, tags=["second"], disks=[{"name": "data", "size": "3Gi"}])
    vmid = world.wait_ready(name)
    config = world.sim.vm(vmid).config
    assert (str(config["cores"]), world.tags(vmid)) == ("4", "second")
    assert "serial=data" in str(config["scsi1"])
    assert world.condition(name, "RestartRequired") is None
    assert [call.path for call in world.writes(vmid) if call.path.endswith("/clone")] == [
        "/nodes/pve1/qemu/9000/clone"
    ]


def test_an_object_deleted_during_the_clone_leaves_nothing(world: World) -> None:
    before = world.sim.world()
    with world.sim.hold("clone:copying") as hold:
        name = world.make()
        reached(hold)
        world.delete(name)
        world.passes(name)
        assert world.raw(name) is not None
    world.wait_gone(name)
    assert before.diff(world.sim.world()) == []
    assert world.leaks() == []


def test_an_object_deleted_while_it_waits_for_its_template_leaves_nothing(world: World) -> None:
    before = world.sim.world()
    name = world.make(source={"clone": {"vmid": 9333}})
    world.wait_reason(name, "TemplateNotFound")
    world.delete(name)
    world.wait_gone(name)
    assert before.diff(world.sim.world()) == []
    assert world.writes() == []


def test_an_object_deleted_between_config_and_start_leaves_nothing(world: World) -> None:
    before = world.sim.world()
    with world.sim.hold("config:write") as hold:
        name = world.make(cpu={"cores": 2})
        reached(hold)
        world.delete(name)
    world.wait_gone(name)
    assert before.diff(world.sim.world()) == []
    assert [call.path for call in world.writes() if call.path.endswith("/start")] == []


def test_a_deleted_namespace_takes_its_vms_along_and_ends(world: World) -> None:
    before = world.sim.world()
    namespace = world.namespaces[1]
    ready = world.make(namespace=namespace)
    world.wait_ready(ready, namespace=namespace)
    with world.sim.hold("clone:copying") as hold:
        half = world.make(namespace=namespace)
        reached(hold)
        world.kube.delete(NAMESPACES, namespace)
        world.wait_until(
            lambda: (
                "deletionTimestamp" in (world.raw(half, namespace=namespace) or {"metadata": {}})["metadata"]
            ),
            "the namespace's objects are being deleted",
        )
    world.wait_gone(ready, namespace=namespace)
    world.wait_gone(half, namespace=namespace)
    assert before.diff(world.sim.world()) == []
    assert world.leaks() == []


def test_the_same_name_applied_again_at_once_after_a_delete_is_another_vm(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    uid = (world.raw(name) or {})["metadata"]["uid"]
    with world.sim.hold("destroy:freeing") as hold:
        world.delete(name)
        reached(hold)
        world.apply(name)  # still the old object, which is going away
    apply_until_accepted(world, name, uid)
    again = world.wait_ready(name)
    assert again != vmid
    assert [vm.vmid for vm in world.sim.world().vms if vm.name == name] == [again]
    assert (world.raw(name) or {})["metadata"]["uid"] != uid
    assert world.leaks() == []


def not_gone_yet(error: Refused) -> bool:
    """False where the old object is still in the way; any other refusal is an error."""
    if error.status != 409:
        raise error
    return False


def apply_until_accepted(world: World, name: str, old: str) -> None:
    """Apply as Argo CD would: until an object is there that is not the one going away."""

    def applied() -> bool:
        try:
            return bool(world.apply(name)["metadata"]["uid"] != old)
        except Refused as error:
            return not_gone_yet(error)

    world.wait_until(applied, f"{name} was applied anew")


def test_a_create_right_behind_a_delete_never_meets_the_old_vm(world: World) -> None:
    name = world.make("web", power="Stopped")
    old = world.wait_ready(name)
    world.delete(name)

    def created() -> bool:
        try:
            world.kube.create(PROXMOX_VMS, world.manifest(name, power="Stopped"))
        except Refused as error:
            return not_gone_yet(error)
        return True

    world.wait_until(created, f"{name} was created anew")
    new = world.wait_ready(name)
    assert new != old
    assert [vm.vmid for vm in world.sim.world().vms if vm.name == name] == [new]
    assert world.leaks() == []


def test_a_storage_that_is_offline_is_waited_for(world: World) -> None:
    before = world.sim.world()
    world.sim.storage_offline("local-lvm")
    try:
        world.look()
        name = world.make(source={"clone": {"vmid": TEMPLATE, "full": True}})
        condition = world.wait_reason(name, "StorageNotFound")
        assert f"storage local-lvm (template {TEMPLATE}) is not available there" in condition.message
        world.passes(name)
        assert world.writes() == []
        assert before.diff(world.sim.world()) == []
    finally:
        world.sim.storage_offline("local-lvm", False)
    vmid = world.wait_ready(name)
    assert world.changes_besides(before, vmid) == []
    assert world.leaks() == []
