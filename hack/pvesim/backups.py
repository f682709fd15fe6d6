"""Backups and restores, as scenarios of root@pam: what a restore replaces, keeps and copies.

Facts: PVE::VZDump (locks), restore_vma_archive, restore_update_config_line and $restore_cleanup_oldconf of
qemu-server 9.2.6. A restore in place gives every disk of the backup a new volume and frees the old one; disks
that are not in it - newer ones, and those with `backup=0` - become unusedN, since the rescan at the end adopts
whatever volume carries the vmid; all snapshots are gone. A drive with `backup=0` is a comment in the restored
config, which reads as a line of the description. The description is the backup's, marks included, also on
another vmid.
"""

import uuid
from dataclasses import dataclass
from typing import Any

from .access import ROOT
from .core import Values, die
from .ha_status import HighAvailability
from .model import SimVm
from .props import (
    NET,
    UNUSED,
    drives,
    is_cdrom,
    parse,
    parse_drive,
    parse_net,
    print_drive,
    print_net,
    print_props,
    print_size,
    random_mac,
)
from .storage import Volume

NOT_RESTORED = frozenset({"lock", "parent"})


@dataclass(frozen=True)
class Archive:
    """A backup: the config, and the volumes of the drives that are in it."""

    config: Values
    volumes: dict[str, Volume]


class Backups(HighAvailability):
    """Backups by root@pam; the last one of each VM can be restored."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.archives: dict[int, Archive] = {}

    async def backup_vm(self, vmid: int, seconds: float, *, mode: str) -> str:
        """A backup: the config is locked for `seconds` real seconds. In mode `stop` the VM is off for the first
        half of them."""
        vm = self.vm(vmid)
        if vm is None:
            raise die(f"no VM {vmid}")

        async def body() -> None:
            if vm.lock:
                self.say(f"ERROR: Backup of VM {vmid} failed - VM is locked ({vm.lock})")
                raise die("job errors")
            vm.lock = "backup"
            stops = mode == "stop" and vm.running
            if stops:
                await self.power_off(vm)
            try:
                await self.wait_seconds(seconds / 2)
                if stops:
                    await self.power_on(vm)
                await self.wait_seconds(seconds / 2)
                self.archives[vmid] = self._archive(vm)
            finally:
                vm.lock = None

        return await self.task(vm.node, "vzdump", vmid, ROOT, body)

    def _archive(self, vm: SimVm) -> Archive:
        volumes = {}
        for key, drive in drives(vm.config):
            volume = self.volume(drive["file"], vm.node)
            if volume is not None and not is_cdrom(drive) and drive.get("backup") != "0":
                volumes[key] = volume
        return Archive(dict(vm.config), volumes)

    async def restore_vm(self, source: int, vmid: int, node: str, *, unique: bool) -> str:
        """Restore the last backup of `source` as `vmid`: in place if it exists, which must then be stopped."""
        archive = self.archives.get(source)
        if archive is None:
            raise die(f"no backup of VM {source}")

        async def body() -> None:
            async with self.flock(vmid):
                vm = self.vm(vmid)
                if vm is None:
                    vm = SimVm(vmid, node, {})
                    self.vms.append(vm)
                self._check_restorable(vm)
                await self._restore(vm, archive, unique=unique)

        return await self.task(node, "qmrestore", vmid, ROOT, body)

    def _check_restorable(self, vm: SimVm) -> None:
        text = f"unable to restore VM {vm.vmid} -"
        if vm.lock:
            raise die(f"{text} VM is locked ({vm.lock})")
        if str(vm.config.get("protection", 0)) == "1":
            raise die(f"{text} protection mode enabled")
        if vm.running:
            raise die(f"{text} vm is running")

    async def _restore(self, vm: SimVm, archive: Archive, *, unique: bool) -> None:
        for key, drive in drives(vm.config):
            if key in archive.volumes and not is_cdrom(drive):
                self.free(drive["file"], vm.node)
        for snapshot in vm.snapshots.values():
            if snapshot.get("vmstate"):
                self.free(snapshot["vmstate"], vm.node)
        vm.config, vm.pending, vm.snapshots = {"memory": "128", "lock": "create"}, {}, {}
        await self.work()
        await self.checkpoint("restore:copying")
        self.ensure_present(vm)
        config = self._restored_config(vm, archive)
        if unique:
            config = _fresh(config)
        vm.config = config
        self._adopt_leftovers(vm)

    def _restored_config(self, vm: SimVm, archive: Archive) -> Values:
        config: Values = {}
        comments = [str(archive.config["description"])] if archive.config.get("description") else []
        drive_keys = {key for key, _ in drives(archive.config)}
        for key, value in archive.config.items():
            if key in NOT_RESTORED or UNUSED.fullmatch(key):
                continue
            if key in archive.volumes:
                config[key] = self._restored_drive(vm, value, archive.volumes[key])
            elif key in drive_keys and parse_drive(value).get("backup") == "0":
                comments.append(f"{key}: {value}")
            else:
                config[key] = value
        if comments:
            config["description"] = "\n".join(comments)
        if config.get("vmgenid"):
            config["vmgenid"] = str(uuid.uuid4())
        return config

    def _restored_drive(self, vm: SimVm, value: Any, volume: Volume) -> str:
        drive = parse_drive(value)
        sid = drive["file"].partition(":")[0]
        new = self.alloc(sid, vm.node, vm.vmid, volume.size, fmt=volume.format, copy_of=volume)
        return print_drive(drive | {"file": new, "size": print_size(volume.size)})

    def _adopt_leftovers(self, vm: SimVm) -> None:
        """rescan: every volume with the vmid that no drive has becomes unusedN; its snapshots are gone."""
        used = {drive["file"] for _, drive in drives(vm.config)}
        for sid in list(self.storages):
            for volume in list(self.disks_on(sid, vm.node).values()):
                volid = f"{sid}:{volume.name}"
                if volume.vmid == vm.vmid and volid not in used and "cloudinit" not in volume.name:
                    for taken in volume.snapshots:
                        self.delete_volume_snapshot(volid, vm.node, taken[0])
                    self.add_unused(vm, volid)


def _fresh(config: Values) -> Values:
    """The option `unique`: new MACs and another SMBIOS UUID."""
    out = dict(config)
    for key, value in config.items():
        if NET.fullmatch(key):
            out[key] = print_net(parse_net(value) | {"macaddr": random_mac()})
    if config.get("smbios1"):
        out["smbios1"] = print_props(parse(config["smbios1"]) | {"uuid": str(uuid.uuid4())})
    return out
