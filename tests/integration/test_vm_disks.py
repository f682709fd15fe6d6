"""The life of disks on bad days: full storages, guests that hold on, snapshots, and people who click in the GUI.

Every volume of the simulator carries a token for its data: a disk that comes back has the one it had, a blank one does
not. A disk that is pulled out while the guest has it mounted is noted as torn.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from controlplane import Cluster
from harness.world import World
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.kube.resources import PROXMOX_VMS
from pvesim.recorder import Answer, Call, DropAfter

DATA = {"name": "data", "size": "2Gi"}
LOGS = {"name": "logs", "size": "1Gi"}


@pytest.fixture(autouse=True)
def storages(world: World) -> Iterator[None]:
    """``ceph`` is shared, ``spare`` is small and local."""
    for name, kind, size in (("ceph", "rbd", 100), ("spare", "lvmthin", 100)):
        if name not in world.sim.server.storages:
            world.sim.add_storage(name, kind, size_gib=size)
        world.sim.resize_storage(name, size)
    yield
    for stubborn in (world.sim.server.move_errors, world.sim.server.unfreeable):
        stubborn.clear()


def config(world: World, vmid: int) -> dict[str, Any]:
    return dict(world.sim.vm(vmid).config)


def running(world: World, vmid: int) -> dict[str, Any]:
    """The config that QEMU runs with."""
    return dict(world.sim.vm(vmid).qemu or {})


def unused(world: World, vmid: int) -> list[str]:
    return [str(value) for key, value in config(world, vmid).items() if key.startswith("unused")]


def volume(world: World, name: str, disk: str = "data") -> str:
    return next(str(each["volume"]) for each in world.status(name)["disks"] if each["name"] == disk)


def data(world: World, volid: str) -> int:
    """What is on a volume."""
    storage, _, name = volid.partition(":")
    return next(v.data for v in world.sim.world().volumes if (v.storage, v.name) == (storage, name))


def detached(world: World, name: str) -> dict[str, str]:
    return {each["name"]: each["volume"] for each in world.status(name).get("detachedDisks", ())}


def torn(world: World, vmid: int) -> list[str]:
    return list(world.sim.agent(vmid).torn)


def finalizers(world: World, name: str) -> list[str]:
    return list((world.raw(name) or {"metadata": {}})["metadata"].get("finalizers") or ())


def made(world: World, *disks: dict[str, Any], **spec: Any) -> tuple[str, int]:
    name = world.make(disks=list(disks), agent=True, **spec)
    return name, world.wait_ready(name)


def config_writes(world: World, vmid: int) -> list[Call]:
    return [call for call in world.writes(vmid) if call.path.endswith("/config")]


# Options and sizes


def test_throttles_change_at_once_and_the_cache_at_the_next_cold_boot(world: World) -> None:
    name, vmid = made(world, DATA)
    world.edit(name, disks=[DATA | {"limits": {"readMBps": 50, "writeIOPS": 400}}])
    world.wait_until(lambda: "mbps_rd=50" in running(world, vmid)["scsi1"], "throttled at once", name)
    world.wait_ready(name)
    assert "iops_wr=400" in running(world, vmid)["scsi1"]
    world.edit(name, disks=[DATA | {"cache": "WriteBack"}], bootDisk={"discard": True})
    condition = world.wait_reason(name, "PendingChanges", kind="RestartRequired")
    assert "scsi1" in condition.message
    assert "scsi0" in condition.message
    assert "cache=writeback" in world.sim.vm(vmid).pending["scsi1"]
    assert "mbps_rd" not in world.sim.vm(vmid).pending["scsi1"]
    assert "discard=on" in world.sim.vm(vmid).pending["scsi0"]


def test_a_smaller_size_is_refused_and_can_be_taken_back(world: World) -> None:
    name, vmid = made(world, DATA)
    before = world.sim.world()
    world.forget_writes()
    world.edit(name, disks=[DATA | {"size": "1Gi"}], tags=["new"])
    condition = world.wait_reason(name, "DiskShrinkRefused")
    assert "spec.disks[data].size: 1Gi is less than the disk has (2Gi)" in condition.message
    assert "set 2Gi" in condition.message
    world.passes(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    world.edit(name, disks=[DATA], tags=None)
    assert world.wait_ready(name) == vmid
    assert world.writes() == []


def test_a_disk_that_does_not_fit_on_its_storage_is_told_and_the_vm_stays_up(world: World) -> None:
    name, vmid = made(world, DATA | {"storage": "spare"})
    world.sim.fill_storage("spare", free_gib=1)
    world.edit(name, disks=[DATA | {"storage": "spare", "size": "9Gi"}])
    condition = world.wait_reason(name, "StorageFull")
    assert "free space on the storage, or name another one" in condition.message
    world.sim.power_loss(vmid)
    world.wait_until(lambda: world.sim.vm(vmid).running, "it is kept running all the same", name)
    world.sim.resize_storage("spare", 100)
    world.wait_ready(name)
    assert "size=9G" in config(world, vmid)["scsi1"]


def test_a_change_that_waits_for_a_boot_does_not_undo_the_growing(world: World) -> None:
    """Proxmox keeps the old size in the change that waits, and brings it back at the boot."""
    name, vmid = made(world, DATA)
    world.edit(name, disks=[DATA | {"ssd": True}])
    world.wait_reason(name, "PendingChanges", kind="RestartRequired")
    world.edit(name, disks=[DATA | {"ssd": True, "size": "5Gi"}])
    world.wait_ready(name)
    assert "size=5G" in config(world, vmid)["scsi1"]
    assert "size=5G" in world.sim.vm(vmid).pending["scsi1"]
    world.sim.stop(vmid)
    world.wait_until(lambda: "ssd=1" in config(world, vmid)["scsi1"], "the boot applied it", name)
    world.wait_ready(name)
    assert "size=5G" in config(world, vmid)["scsi1"]
    resizes = [call for call in world.writes(vmid) if call.path.endswith("/resize")]
    assert len(resizes) == 1


# Adding


def test_a_disk_that_cannot_be_plugged_waits_for_a_boot_and_is_made_once(world: World) -> None:
    name, vmid = made(world)
    world.sim.vm(vmid).hotplug_errors["scsi1"] = "no slot on the bus"
    world.edit(name, disks=[DATA])
    world.wait_reason(name, "PendingChanges", kind="RestartRequired")
    world.wait_ready(name)
    first = volume(world, name)
    world.passes(name)
    assert [v.name for v in world.sim.world().volumes_of(vmid) if v.size == 2 << 30] == [first.split(":")[1]]
    world.edit(name, disks=[DATA | {"size": "3Gi"}])
    assert "once the next cold boot" in world.wait_reason(name, "ChangePending", kind="DisksPending").message
    world.sim.stop(vmid)
    world.wait_until(lambda: "size=3G" in config(world, vmid).get("scsi1", ""), "plugged and grown", name)
    world.wait_ready(name)
    assert volume(world, name) == first


def test_a_disk_added_in_the_gui_is_not_touched_and_its_slot_not_taken(world: World) -> None:
    name, vmid = made(world, DATA)
    world.sim.edit_config(vmid, scsi2="local-lvm:3,serial=theirs")
    theirs = config(world, vmid)["scsi2"]
    world.edit(name, disks=[DATA, LOGS])
    world.wait_ready(name)
    assert config(world, vmid)["scsi2"] == theirs
    assert "serial=logs" in config(world, vmid)["scsi3"]
    world.edit(name, disks=None)
    world.wait_until(lambda: len(detached(world, name)) == 2, "ours are detached", name)
    assert config(world, vmid)["scsi2"] == theirs


def test_a_slot_that_is_filled_while_we_write_is_not_written_to(world: World) -> None:
    """Writing to it would pull their disk out of the running guest."""
    name, vmid = made(world)
    theirs: list[str] = []

    def fill(call: Call) -> None:
        if call.path.endswith("/config") and call.method == "POST" and not theirs:
            vm = world.sim.vm(vmid)
            theirs.append(world.sim.server.create_drive(vm, "scsi1", "local-lvm:1,serial=theirs", []))
            vm.config["scsi1"] = theirs[0]

    world.sim.intercept = fill
    world.edit(name, disks=[DATA])
    world.wait_ready(name)
    assert config(world, vmid)["scsi1"] == theirs[0]
    assert "serial=data" in config(world, vmid)["scsi2"]
    assert unused(world, vmid) == []


# Taking off the list


def test_a_disk_taken_off_the_list_is_detached_when_the_guest_has_let_go_of_it(world: World) -> None:
    name, vmid = made(world, DATA, LOGS)
    kept = volume(world, name)
    before = data(world, kept)
    world.sim.agent(vmid).mount("scsi1", "/srv/data")
    world.sim.agent(vmid).mount("scsi2", "/var/log")
    world.forget_writes()
    world.edit(name, disks=[LOGS])
    condition = world.wait_reason(name, "DiskInUse", kind="DisksPending")
    assert "disk data (scsi1) is detached when the VM is stopped" in condition.message
    assert "mounted in the guest at /srv/data" in condition.message
    assert world.wait_ready(name) == vmid
    assert condition.message in world.status(name)["plan"]
    assert world.wait_reason(name, "InSync", kind="Synced").message.endswith("(DisksPending)")
    world.passes(name)
    assert world.writes() == []
    world.sim.agent(vmid).unmount("scsi1")
    world.passes(name, 1)  # by itself within 30 s
    world.wait_until(lambda: detached(world, name) == {"data": kept}, "detached", name)
    assert world.wait_reason(name, "NothingPending", kind="DisksPending").status == "False"
    assert kept in world.wait_event(name, "DiskDetached")
    assert "DriftCorrected" not in {said.reason for said in world.events(name)}
    assert unused(world, vmid) == [kept]
    assert data(world, kept) == before
    assert torn(world, vmid) == []
    assert [each["name"] for each in world.status(name)["disks"]] == ["logs"]
    assert "digest" in config_writes(world, vmid)[-1].params


def test_a_silent_agent_proves_nothing_so_the_disk_waits_for_the_next_stop(world: World) -> None:
    name, vmid = made(world, DATA)
    kept = volume(world, name)
    world.sim.agent(vmid).mount("scsi1", "/srv")
    world.sim.agent(vmid).hang()
    world.edit(name, disks=None)
    assert "agent" in world.wait_reason(name, "DiskInUse", kind="DisksPending").message
    world.passes(name)
    assert "scsi1" in config(world, vmid)
    world.sim.agent(vmid).resume()
    world.edit(name, power="Stopped")
    world.wait_until(lambda: detached(world, name) == {"data": kept}, "detached", name)
    world.wait_ready(name)
    assert torn(world, vmid) == []
    world.edit(name, power="Running")
    world.wait_ready(name)
    assert unused(world, vmid) == [kept]


def test_a_restart_detaches_what_the_guest_holds(world: World) -> None:
    name, vmid = made(world, DATA)
    kept = volume(world, name)
    world.sim.agent(vmid).mount("scsi1", "/srv")
    world.edit(name, disks=None)
    world.wait_reason(name, "DiskInUse", kind="DisksPending")
    world.annotate(name, **{"proxmox-operator.io/restart": "now"})
    world.wait_until(lambda: detached(world, name) == {"data": kept}, "detached", name)
    world.wait_ready(name)
    assert world.sim.vm(vmid).running
    assert unused(world, vmid) == [kept]


def test_a_disk_that_the_guest_does_not_release_goes_at_the_next_cold_boot(world: World) -> None:
    name, vmid = made(world, DATA)
    kept = volume(world, name)
    world.sim.agent(vmid).refuses_unplug = True
    world.edit(name, disks=None)
    condition = world.wait_reason(name, "UnplugRefused", kind="DisksPending")
    assert "disk data is detached at the next cold boot" in condition.message
    assert volume(world, name) == kept
    world.passes(name)
    world.sim.stop(vmid)
    world.wait_until(lambda: detached(world, name) == {"data": kept}, "detached", name)
    world.wait_ready(name)
    assert unused(world, vmid) == [kept]


def test_a_disk_listed_again_before_the_boot_that_would_detach_it_stays(world: World) -> None:
    name, vmid = made(world, DATA)
    kept = volume(world, name)
    world.sim.agent(vmid).refuses_unplug = True
    world.edit(name, disks=None)
    world.wait_reason(name, "UnplugRefused", kind="DisksPending")
    world.edit(name, disks=[DATA])
    world.wait_ready(name)
    assert world.sim.vm(vmid).pending == {}
    world.sim.stop(vmid)
    world.look()
    world.wait_ready(name)
    assert kept in config(world, vmid)["scsi1"]


def test_a_disk_listed_again_is_the_same_one_with_its_data(world: World) -> None:
    name, vmid = made(world, DATA)
    kept = volume(world, name)
    before = data(world, kept)
    world.edit(name, disks=None)
    world.wait_until(lambda: detached(world, name) == {"data": kept}, "detached", name)
    world.edit(name, disks=[LOGS])
    world.wait_ready(name)
    world.edit(name, disks=[LOGS, DATA | {"size": "4Gi", "ssd": True}])
    world.wait_ready(name)
    assert volume(world, name) == kept
    assert data(world, kept) == before
    slot = next(each["slot"] for each in world.status(name)["disks"] if each["name"] == "data")
    assert slot != "scsi1"  # logs is there now
    value = config(world, vmid)[slot]
    assert {"serial=data", "ssd=1", "size=4G"} <= set(value.split(","))
    assert detached(world, name) == {}
    assert unused(world, vmid) == []
    assert kept in world.wait_event(name, "DiskReattached")


def test_a_vm_with_detached_disks_is_not_destroyed_until_told_to(world: World) -> None:
    name, vmid = made(world, DATA, LOGS)
    first, second = volume(world, name), volume(world, name, "logs")
    world.edit(name, disks=[LOGS])
    world.wait_until(lambda: "data" in detached(world, name), "detached", name)
    world.sim.agent(vmid).mount("scsi2", "/var/log")
    world.edit(name, disks=None)
    world.wait_reason(name, "DiskInUse", kind="DisksPending")
    world.delete(name)
    message = world.wait_reason(name, "DetachedDisks").message
    assert f"data ({first}), logs ({second})" in message
    assert "spec.detachedDisks to Delete" in message
    world.forget_writes()
    world.passes(name)
    assert world.writes() == []
    assert world.sim.vm(vmid).running
    world.edit(name, detachedDisks="Delete")
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids
    assert world.leaks() == []


def test_a_disk_of_which_the_entry_said_so_is_destroyed_with_its_data_and_no_other(world: World) -> None:
    name, vmid = made(world, DATA | {"onRemove": "Delete"}, LOGS)
    doomed, kept = volume(world, name), volume(world, name, "logs")
    world.sim.edit_config(vmid, scsi5="local-lvm:1")
    world.sim.edit_config(vmid, delete="scsi5")
    (theirs,) = unused(world, vmid)
    world.edit(name, disks=None)
    world.wait_until(lambda: detached(world, name) == {"logs": kept}, "logs is detached", name)
    world.wait_until(lambda: "disks" not in world.status(name), "data is gone", name)
    assert doomed in world.wait_event(name, "DiskDestroyed")
    assert sorted(unused(world, vmid)) == sorted([theirs, kept])
    assert doomed.split(":")[1] not in [v.name for v in world.sim.world().volumes]
    world.edit(name, disks=[DATA, LOGS])
    assert f"({theirs}) may be this disk" in world.wait_reason(name, "DiskAmbiguous").message
    world.sim.edit_config(vmid, delete=next(k for k, v in config(world, vmid).items() if v == theirs))
    world.wait_ready(name)
    assert volume(world, name, "logs") == kept


def test_a_disk_that_a_snapshot_holds_is_destroyed_after_it(world: World) -> None:
    name, vmid = made(world, DATA | {"onRemove": "Delete"})
    doomed = volume(world, name)
    world.sim.snapshot(vmid, "before")
    world.edit(name, disks=None)
    condition = world.wait_reason(name, "SnapshotsPrevent", kind="DisksPending")
    assert "no snapshot refers to it: before" in condition.message
    assert world.wait_ready(name) == vmid
    assert unused(world, vmid) == [doomed]
    world.sim.delete_snapshot(vmid, "before")
    world.passes(name, 1)  # by itself within 30 s
    world.wait_until(lambda: unused(world, vmid) == [], "it is destroyed", name)
    world.wait_until(lambda: "disks" not in world.status(name), "its record ends", name)
    assert detached(world, name) == {}


def test_a_protected_vm_keeps_its_disks(world: World) -> None:
    name, vmid = made(world, DATA, protection=True)
    world.edit(name, disks=None)
    condition = world.wait_reason(name, "Protected", kind="DisksPending")
    assert "spec.protection to false" in condition.message
    assert "scsi1" in config(world, vmid)
    world.edit(name, protection=False)
    world.wait_until(lambda: "data" in detached(world, name), "detached", name)


def test_a_volume_that_the_destroy_could_not_free_is_told_before_the_object_goes(world: World) -> None:
    name, vmid = made(world, DATA, LOGS)
    stubborn = volume(world, name)
    world.sim.server.unfreeable.add(stubborn)
    held_by_others = {"metadata": {"finalizers": [FINALIZER, "example.org/reader"]}}
    world.kube.merge(PROXMOX_VMS, name, held_by_others, namespace=world.namespace)
    world.delete(name)
    condition = world.wait_reason(name, "VolumesLeft", kind="LeftBehind")
    assert f"VM {vmid} is destroyed, but Proxmox could not free these volumes" in condition.message
    assert f"pvesm free {stubborn}" in condition.message
    assert world.wait_event(name, "LeftBehind") == condition.message
    world.wait_until(lambda: finalizers(world, name) == ["example.org/reader"], "we let it go", name)
    assert vmid not in world.sim.world().vmids
    world.kube.merge(PROXMOX_VMS, name, {"metadata": {"finalizers": None}}, namespace=world.namespace)
    world.wait_gone(name)
    world.sim.server.unfreeable.clear()
    world.sim.call(lambda: world.sim.server.free(stubborn, "pve1"))
    assert world.leaks() == []


# Disks that others take away


def test_disks_are_told_apart_when_a_move_of_the_vm_gives_their_volumes_other_names(world: World) -> None:
    """The boot disk gets the name that the data disk had; none is grown, detached or destroyed in place of another."""
    name, vmid = made(world, DATA | {"onRemove": "Delete"}, power="Stopped")
    boot = config(world, vmid)["scsi0"].partition(",")[0]
    old = volume(world, name)
    before = {data(world, boot), data(world, old)}

    def rename() -> None:
        server, vm = world.sim.server, world.sim.vm(vmid)
        volumes = server.disks_on("local-lvm", "pve1")
        first, second = boot.partition(":")[2], old.partition(":")[2]
        volumes[first], volumes[second] = (
            replace(volumes[second], name=first),
            replace(volumes[first], name=second),
        )
        for key, now in (("scsi0", old), ("scsi1", boot)):
            vm.config[key] = now + "," + vm.config[key].partition(",")[2]

    world.sim.call(rename)
    world.wait_until(lambda: volume(world, name) == boot, "followed by its serial number", name)
    world.edit(name, disks=None)
    world.wait_until(lambda: "disks" not in world.status(name), "the data disk is destroyed", name)
    assert config(world, vmid)["scsi0"].startswith(old)
    assert data(world, old) in before
    assert "size=8G" in config(world, vmid)["scsi0"]
    assert unused(world, vmid) == []


def test_disks_are_followed_when_the_vm_is_moved_with_them(world: World) -> None:
    name, vmid = made(world, DATA, LOGS)
    before = {disk: data(world, volume(world, name, disk)) for disk in ("data", "logs")}
    world.forget_writes()
    world.sim.migrate(vmid, "pve2")
    world.wait_until(lambda: world.status(name)["node"] == "pve2", "status.node follows", name)
    world.wait_ready(name)
    for disk, token in before.items():
        assert f"serial={disk}" in next(
            v for v in config(world, vmid).values() if volume(world, name, disk) in str(v)
        )
        assert data(world, volume(world, name, disk)) == token
    assert {each["node"] for each in world.status(name)["disks"]} == {"pve2"}
    assert world.writes() == []


def test_a_detached_disk_that_was_moved_with_the_vm_is_attached_by_a_person(world: World) -> None:
    """Its volume may have another name there, and nothing else tells what it is."""
    name, vmid = made(world, DATA)
    world.edit(name, disks=None)
    world.wait_until(lambda: "data" in detached(world, name), "detached", name)
    world.sim.migrate(vmid, "pve2")
    world.wait_until(lambda: world.status(name)["node"] == "pve2", "status.node follows", name)
    world.wait_ready(name)
    world.edit(name, disks=[DATA])
    condition = world.wait_reason(name, "DiskAmbiguous")
    assert "the VM has been moved since" in condition.message
    assert "with serial=data" in condition.message
    (there,) = unused(world, vmid)
    world.sim.edit_config(vmid, scsi1=f"{there},serial=data")
    world.wait_ready(name)
    assert volume(world, name) == there
    assert detached(world, name) == {}


def test_a_disk_detached_in_the_gui_is_attached_again(world: World) -> None:
    name, vmid = made(world, DATA)
    kept = volume(world, name)
    before = data(world, kept)
    world.sim.edit_config(vmid, delete="scsi1")
    assert kept in world.wait_event(name, "DiskReattached")
    world.wait_until(lambda: kept in config(world, vmid).get("scsi1", ""), "attached again", name)
    assert world.wait_ready(name) == vmid
    assert data(world, kept) == before
    assert unused(world, vmid) == []


def test_disks_that_a_rollback_takes_away_come_back_with_their_data(world: World) -> None:
    name, vmid = made(world, DATA)
    world.sim.snapshot(vmid, "before")
    world.edit(name, disks=[DATA, LOGS])
    world.wait_ready(name)
    newer = volume(world, name, "logs")
    before = data(world, newer)
    world.sim.rollback(vmid, "before")
    world.wait_until(lambda: newer in config(world, vmid).get("scsi2", ""), "attached again", name)
    world.wait_ready(name)
    assert data(world, newer) == before
    assert volume(world, name, "logs") == newer


def test_a_disk_put_into_another_slot_is_followed(world: World) -> None:
    name, vmid = made(world, DATA, power="Stopped")
    kept = volume(world, name)
    world.annotate(name, **{"proxmox-operator.io/paused": "true"})
    world.sim.edit_config(vmid, delete="scsi1")
    world.sim.edit_config(vmid, scsi7=f"{kept},serial=data")
    world.annotate(name, **{"proxmox-operator.io/paused": None})
    world.wait_until(lambda: world.status(name)["disks"][0]["slot"] == "scsi7", "followed", name)
    world.wait_ready(name)
    assert kept in config(world, vmid)["scsi7"]
    assert "scsi1" not in config(world, vmid)


def test_a_disk_moved_in_the_gui_is_followed_and_never_taken_for_the_copy_it_was_made_of(
    world: World,
) -> None:
    name, vmid = made(world, DATA)
    old = volume(world, name)
    values = {"node": "pve1", "vmid": vmid, "disk": "scsi1", "storage": "ceph"}
    world.sim.finish(world.sim.server._move_post(values, "root@pam"))
    world.wait_until(lambda: volume(world, name).startswith("ceph:"), "followed", name)
    new = volume(world, name)
    assert unused(world, vmid) == [old]
    world.edit(name, disks=None)
    world.wait_until(lambda: detached(world, name) == {"data": new}, "detached", name)
    assert sorted(unused(world, vmid)) == sorted([old, new])
    world.edit(name, disks=[DATA])
    world.wait_ready(name)
    assert new in config(world, vmid)["scsi1"]
    assert unused(world, vmid) == [old]


def test_a_disk_that_is_nowhere_is_missing_and_never_replaced_by_a_blank_one(world: World) -> None:
    name, vmid = made(world, DATA)
    kept = volume(world, name)
    value = config(world, vmid)["scsi1"]

    def lose() -> None:
        for part in (world.sim.vm(vmid).config, world.sim.vm(vmid).qemu):
            part.pop("scsi1")

    world.sim.call(lose)
    condition = world.wait_reason(name, "DiskMissing")
    assert f"spec.disks[data]: its volume {kept} is no longer in the VM's config" in condition.message
    assert "a blank disk is never put in its place" in condition.message
    before = world.sim.world()
    world.passes(name)
    assert before.diff(world.sim.world()) == []
    assert world.sim.vm(vmid).running
    world.sim.edit_config(vmid, scsi1=value)
    assert world.wait_ready(name) == vmid


def test_a_disk_that_is_lost_can_be_given_up(world: World) -> None:
    name, vmid = made(world, DATA)
    lost = volume(world, name)
    world.edit(name, disks=None)
    world.wait_until(lambda: "data" in detached(world, name), "detached", name)
    world.sim.edit_config(vmid, delete="unused0")
    world.edit(name, disks=[DATA])
    condition = world.wait_reason(name, "DiskMissing")
    assert "to give it up, set onRemove to Delete and take the disk off the list" in condition.message
    world.edit(name, disks=[DATA | {"onRemove": "Delete"}])
    world.passes(name)
    world.edit(name, disks=None)
    world.wait_until(lambda: "disks" not in world.status(name), "its record ends", name)
    world.edit(name, disks=[DATA])
    world.wait_ready(name)
    assert lost.partition(":")[0] == volume(world, name).partition(":")[0]


# Moving


@pytest.mark.parametrize("power", ["Running", "Stopped"])
def test_a_disk_moves_to_another_storage_with_its_data_and_then_grows_there(world: World, power: str) -> None:
    name, vmid = made(world, DATA | {"ssd": True}, power=power)
    old = volume(world, name)
    before = data(world, old)
    world.forget_writes()
    world.edit(name, disks=[DATA | {"ssd": True, "storage": "ceph", "size": "3Gi", "backup": False}])
    world.wait_ready(name)
    new = volume(world, name)
    assert new.startswith("ceph:")
    assert data(world, new) == before
    value = set(config(world, vmid)["scsi1"].split(","))
    assert {new, "serial=data", "ssd=1", "backup=0", "size=3G"} <= value
    assert world.leaks() == []
    assert unused(world, vmid) == []
    moves = [call for call in world.writes(vmid) if call.path.endswith("/move_disk")]
    assert [str(call.params["delete"]) for call in moves] == ["1"]
    assert moves[0].params["digest"]
    assert "task" not in world.status(name)
    assert f"move {old} to ceph" in world.wait_event(name, "MovingDisk")
    assert world.sim.vm(vmid).running is (power == "Running")


def test_the_boot_disk_of_a_linked_clone_moves_and_is_a_clone_no_more(world: World) -> None:
    name, vmid = made(world)
    world.edit(name, bootDisk={"storage": "ceph"})
    world.wait_until(lambda: config(world, vmid)["scsi0"].startswith("ceph:"), "it has moved", name)
    world.wait_ready(name)
    assert world.sim.vm(vmid).running
    assert world.leaks() == []


def test_a_clone_that_is_linked_by_request_gets_its_boot_disk_elsewhere_before_the_first_start(
    world: World,
) -> None:
    _, vmid = made(
        world, source={"clone": {"vmid": 9000, "full": False}}, bootDisk={"storage": "ceph", "size": "9Gi"}
    )
    assert config(world, vmid)["scsi0"].startswith("ceph:")
    assert "size=9G" in config(world, vmid)["scsi0"]
    ends = [call.path.rpartition("/")[2] for call in world.writes(vmid)]
    assert ends.index("move_disk") < ends.index("resize") < ends.index("start")
    assert ends.count("start") == 1
    assert world.leaks() == []


def test_a_move_is_shown_while_it_lasts_and_survives_a_restart_of_the_operator(world: World) -> None:
    name, vmid = made(world, DATA)
    with world.sim.hold("move:copying") as hold:
        world.edit(name, disks=[DATA | {"storage": "ceph"}])
        assert hold.reached.wait(10)
        world.restart()
        world.wait_reason(name, "MovingDisk")
        assert world.status(name)["task"]["action"] == "MovingDisk"
        assert world.status(name)["task"]["upid"].startswith("UPID:")
    world.wait_ready(name)
    assert volume(world, name).startswith("ceph:")
    assert len([call for call in world.writes(vmid) if call.path.endswith("/move_disk")]) == 1
    assert world.leaks() == []


def test_a_move_that_fails_half_way_leaves_the_disk_where_it_was_and_is_tried_again(world: World) -> None:
    name, vmid = made(world, DATA)
    old = volume(world, name)
    world.sim.server.move_errors[vmid] = "mirroring error: drive-scsi1: Input/output error"
    world.edit(name, disks=[DATA | {"storage": "ceph"}])
    condition = world.wait_reason(name, "TaskFailed")
    assert "storage migration failed: mirroring error" in condition.message
    assert old in config(world, vmid)["scsi1"]
    assert world.sim.vm(vmid).running
    world.sim.server.move_errors.clear()
    world.wait_ready(name)
    assert volume(world, name).startswith("ceph:")
    assert world.leaks() == []


def test_a_move_that_would_not_fit_is_not_begun(world: World) -> None:
    name, vmid = made(world, DATA)
    world.sim.fill_storage("spare", free_gib=1)
    world.look()
    world.forget_writes()
    world.edit(name, disks=[DATA | {"storage": "spare"}])
    condition = world.wait_reason(name, "StorageFull")
    assert (
        "the disk needs 2Gi, and storage spare has 1Gi free: make room there, or set local-lvm"
        in condition.message
    )
    world.passes(name)
    assert world.writes() == []
    assert world.sim.vm(vmid).running
    world.sim.resize_storage("spare", 50)
    world.wait_ready(name)
    assert volume(world, name).startswith("spare:")


@pytest.mark.parametrize(
    ("storage", "reason"), [("nowhere", "StorageNotFound"), ("isos", "StorageNotUsable")]
)
def test_a_move_to_a_storage_that_cannot_hold_it_is_refused(world: World, storage: str, reason: str) -> None:
    if "isos" not in world.sim.server.storages:
        world.sim.add_storage("isos", "dir", content="iso")
        world.look()
    name, _ = made(world, DATA)
    world.forget_writes()
    world.edit(name, disks=[DATA | {"storage": storage}])
    assert f"spec.disks[data].storage: storage {storage}" in world.wait_reason(name, reason).message
    world.passes(name)
    assert world.writes() == []


def test_snapshots_prevent_a_move_and_are_named(world: World) -> None:
    name, vmid = made(world, DATA)
    world.sim.snapshot(vmid, "before")
    world.forget_writes()
    world.edit(name, disks=[DATA | {"storage": "ceph"}])
    condition = world.wait_reason(name, "SnapshotsPrevent")
    assert "cannot be moved while snapshots refer to it (before): delete them" in condition.message
    world.passes(name)
    assert world.writes() == []
    world.sim.delete_snapshot(vmid, "before")
    world.wait_ready(name)
    assert volume(world, name).startswith("ceph:")


def test_an_old_volume_that_cannot_be_freed_is_told(world: World) -> None:
    name, _ = made(world, DATA)
    old = volume(world, name)
    world.sim.server.unfreeable.add(old)
    world.edit(name, disks=[DATA | {"storage": "ceph"}])
    world.wait_ready(name)
    assert f"remove it with `pvesm free {old}`" in world.wait_event(name, "VolumeLeft")
    assert volume(world, name).startswith("ceph:")
    assert "task" not in world.status(name)
    assert [leak.partition(" ")[2] for leak in world.leaks()] == [old]
    world.sim.server.unfreeable.clear()
    world.sim.call(lambda: world.sim.server.free(old, "pve1"))


def test_a_move_whose_answer_is_lost_is_found_and_not_made_again(world: World) -> None:
    name, vmid = made(world, DATA)
    world.sim.server.task_seconds = 0.3
    lost: list[Call] = []

    def lose(call: Call) -> DropAfter | None:
        if call.path.endswith("/move_disk") and not lost:
            lost.append(call)
            return DropAfter()
        return None

    try:
        world.sim.intercept = lose
        world.edit(name, disks=[DATA | {"storage": "ceph"}])
        world.wait_ready(name)
    finally:
        world.sim.server.task_seconds = 0
    assert volume(world, name).startswith("ceph:")
    assert len([call for call in world.writes(vmid) if call.path.endswith("/move_disk")]) == 1
    assert [task.exitstatus for task in world.sim.tasks("qmmove")][-1:] == ["OK"]
    assert world.leaks() == []


def test_a_move_waits_for_a_change_that_waits_for_a_boot(world: World) -> None:
    """The change names the old volume, which the move would free."""
    name, vmid = made(world, DATA)
    world.edit(name, disks=[DATA | {"cache": "WriteBack"}])
    world.wait_reason(name, "PendingChanges", kind="RestartRequired")
    world.edit(name, disks=[DATA | {"cache": "WriteBack", "storage": "ceph"}])
    world.wait_reason(name, "ChangePending", kind="DisksPending")
    world.passes(name)
    assert volume(world, name).startswith("local-lvm:")
    world.sim.stop(vmid)
    world.wait_until(lambda: volume(world, name).startswith("ceph:"), "moved after the boot", name)
    world.wait_ready(name)
    assert "cache=writeback" in config(world, vmid)["scsi1"]


def test_a_move_needs_its_rights_and_says_which(world: World) -> None:
    name, _ = made(world, DATA)
    message = "Permission check failed (/storage/ceph, Datastore.AllocateSpace)"
    world.sim.intercept = lambda call: Answer(403, message) if call.path.endswith("/move_disk") else None
    world.edit(name, disks=[DATA | {"storage": "ceph"}])
    condition = world.wait_reason(name, "PermissionDenied")
    assert "lack Datastore.AllocateSpace on /storage/ceph" in condition.message
    assert "task" not in world.status(name)  # refused, so nothing can come of it
    world.sim.intercept = None
    world.wait_ready(name)
    assert volume(world, name).startswith("ceph:")


def test_moves_that_wait_for_others_to_the_same_storage_write_nothing_meanwhile(world: World) -> None:
    names = [made(world, DATA)[0] for _ in range(3)]
    with world.sim.hold("move:copying") as hold:
        for name in names[:2]:
            world.edit(name, disks=[DATA | {"storage": "ceph"}])
            world.wait_until(
                lambda name=name: world.status(name).get("task", {}).get("upid") is not None,  # type: ignore[misc]
                "it is being moved",
                name,
            )
        assert hold.reached.wait(10)
        world.edit(names[2], disks=[DATA | {"storage": "ceph"}])
        condition = world.wait_reason(names[2], "StorageBusy")
        assert "2 allocations are under way, the most at once" in condition.message
        assert "task" not in world.status(names[2])
        before = world.status(names[2])
        world.passes(names[2])
        assert world.status(names[2]) == before
    for name in names:
        world.wait_ready(name)
        assert volume(world, name).startswith("ceph:")
    assert world.leaks() == []


def test_a_vm_that_is_made_anew_before_its_first_start_has_no_disks_of_the_one_before(world: World) -> None:
    name, vmid = made(world, DATA, power="Stopped")
    world.edit(name, disks=None)
    world.wait_until(lambda: "data" in detached(world, name), "detached", name)
    world.sim.remove_vm(vmid)
    world.wait_until(lambda: world.vmid(name) != vmid, "made anew", name)
    world.wait_until(lambda: detached(world, name) == {}, "its disk went with it", name)
    world.edit(name, disks=[DATA])
    anew = world.wait_ready(name)
    assert "serial=data" in config(world, anew)["scsi1"]


def test_a_guest_that_holds_on_to_a_disk_is_asked_seldom(control_plane: Cluster) -> None:
    with World(control_plane, operator={"config_reread": 300.0}) as world:
        name, vmid = made(world, DATA, networks=[{"name": "net0", "mac": "BC:24:11:00:00:01"}])
        world.sim.agent(vmid).mount("scsi1", "/srv")
        world.sim.agent(vmid).addresses = {"BC:24:11:00:00:01": ["10.9.8.7"]}
        world.edit(name, disks=None)
        world.wait_reason(name, "DiskInUse", kind="DisksPending")
        world.wait_until(lambda: bool(world.status(name).get("addresses")), "its address is known", name)
        world.passes(name, 1)
        asked = len(world.sim.recorder)
        world.passes(name, 3)
        about = [call.path for call in list(world.sim.recorder)[asked:] if f"/{vmid}/" in call.path]
        assert about == []
        world.sim.stop(vmid)
        world.wait_until(lambda: "data" in detached(world, name), "off, so it is detached at once", name)


def test_a_disk_is_told_detached_once_it_is(world: World) -> None:
    name, vmid = made(world, DATA)
    kept = volume(world, name)
    with world.sim.hold("config:write") as hold:
        world.edit(name, disks=None)
        assert hold.reached.wait(10)
        world.wait_reason(name, "Configuring")
        sent = len(config_writes(world, vmid))
        world.sim.kill_tasks("qmconfig")
        world.wait_until(lambda: len(config_writes(world, vmid)) > sent, "it has failed, and is tried again")
        assert "DiskDetached" not in {said.reason for said in world.events(name)}
    assert kept in world.wait_event(name, "DiskDetached")
    world.wait_ready(name)
    assert unused(world, vmid) == [kept]
