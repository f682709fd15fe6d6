"""Destroying VMs: what refuses it, what goes with them, what is left."""

from typing import Any

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError

ONE = "/nodes/pve1/qemu/100"


def test_a_destroy_takes_the_disks_the_detached_disks_and_the_cloudinit_drive(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, scsi1="local-lvm:1", ide2="local-lvm:cloudinit")
    api.set(100, delete="scsi1")
    upid = api.delete(ONE, purge=1)
    assert ":qmdestroy:100:" in upid
    assert api.ended(upid) == "OK"
    assert sim.world().vms == ()
    assert sim.world().volumes == ()
    assert "purging VM 100 from related configurations.." in api.log(upid)


REFUSED = [
    ("protected", {"protection": 1}, False, "can't remove VM 100 - protection mode enabled"),
    ("running", {}, True, "VM 100 is running - destroy failed"),
]


@pytest.mark.parametrize(("what", "config", "running", "text"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_vm_that_is_this_is_not_destroyed(
    sim: PveSim, api: Api, what: str, config: dict[str, Any], running: bool, text: str
) -> None:
    sim.add_vm(100, running=running, **config)
    with pytest.raises(ApiError) as refused:
        api.delete(ONE)
    assert (refused.value.status, refused.value.reason) == (500, text)


def test_a_vm_under_ha_is_only_destroyed_with_purge(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.set_ha(100, "stopped")
    with pytest.raises(ApiError) as refused:
        api.delete(ONE)
    assert (
        refused.value.reason == "unable to remove VM 100 - used in HA resources and purge parameter not set."
    )
    assert api.ended(api.delete(ONE, purge=1)) == "OK"


def test_a_locked_vm_fails_in_the_task(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.set_lock(100, "clone")
    assert api.ended(api.delete(ONE)) == "VM is locked (clone)"


def test_a_missing_vm_is_refused_at_once(api: Api) -> None:
    with pytest.raises(
        ApiError, match=r"Configuration file 'nodes/pve1/qemu-server/100\.conf' does not exist"
    ):
        api.delete(ONE)


def test_a_volume_that_cannot_be_freed_is_a_warning_and_stays(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, scsi1="local-lvm:1")
    sim.server.unfreeable.add("local-lvm:vm-100-disk-1")
    upid = api.delete(ONE)
    assert api.ended(upid) == "WARNINGS: 1"
    assert "Could not remove disk 'local-lvm:vm-100-disk-1', check manually" in api.log(upid)[0]
    assert [volume.name for volume in sim.world().orphans] == ["vm-100-disk-1"]


def test_a_worker_killed_at_the_end_leaves_a_zombie_that_is_only_a_lock(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    with sim.hold("destroy:zombie") as hold:
        api.delete(ONE)
        assert hold.reached.wait(5)
        sim.kill_tasks("qmdestroy")
    config = api.config(100)
    config.pop("digest")
    assert config == {"lock": "destroyed"}
    assert sim.world().volumes == ()
    with pytest.raises(ApiError) as taken:
        api.get("/cluster/nextid", vmid=100)
    assert taken.value.errors == {"vmid": "VM 100 already exists"}


def test_a_destroyed_vm_leaves_its_pool_before_its_config_is_gone(sim: PveSim, api: Api) -> None:
    sim.add_pool("shop")
    sim.add_template()
    api.ended(api.clone(9000, 100, pool="shop"))
    with sim.hold("destroy:zombie") as hold:
        api.delete(ONE)
        assert hold.reached.wait(5)
        zombie = sim.world().vm(100)
        assert zombie is not None
        assert zombie.pool is None


def test_a_taken_vmid_is_refused_by_a_create_wherever_it_is(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, node="pve2")
    with pytest.raises(ApiError) as refused:
        api.post("/nodes/pve1/qemu", vmid=100)
    assert refused.value.reason == "unable to create VM 100 - VM 100 already exists on node 'pve2'"


def test_a_failed_create_leaves_nothing(sim: PveSim, api: Api) -> None:
    sim.fill_storage("local-lvm", free_gib=3)
    upid = api.post("/nodes/pve1/qemu", vmid=100, scsi0="local-lvm:2", scsi1="local-lvm:2")
    assert api.ended(upid).startswith("unable to create VM 100 - lvcreate")
    assert sim.world().vms == ()
    assert sim.world().volumes == ()


def test_a_create_waits_for_the_lock_file_of_its_id_and_gives_up(sim: PveSim, api: Api) -> None:
    release = sim.hold_config_lock(100)
    with pytest.raises(ApiError) as refused:
        api.post("/nodes/pve1/qemu", vmid=100)
    assert refused.value.reason == (
        "unable to create VM 100 - can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"
    )
    release()
    assert sim.world().vmids == []


def test_until_its_disks_are_made_a_created_vm_is_only_a_lock(sim: PveSim, api: Api) -> None:
    with sim.hold("create:allocated") as hold:
        upid = api.post("/nodes/pve1/qemu", vmid=100, name="web", scsi0="local-lvm:1")
        assert hold.reached.wait(5)
        config = api.config(100)
        config.pop("digest")
        assert config == {"lock": "create"}
    assert api.ended(upid) == "OK"
    assert api.config(100)["name"] == "web"
