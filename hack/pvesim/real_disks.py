"""Volumes that hold something: what happens to a volume of the simulator happens to a file (disk_files.py) as well.

Differs from Proxmox VE: whatever the storage is, a disk is a qcow2 file; there are no snapshots and no backups; and
a disk that a running guest writes to is not copied, so that it can be neither cloned nor moved live.
"""

import asyncio
import subprocess
from pathlib import Path
from typing import Any

from . import images
from .core import die
from .disk_files import DiskFiles, Key
from .guest_fs import boot_disk
from .model import SimVm
from .props import drives, is_cdrom, is_cloudinit, parse_drive, split_volid
from .qemu_command import Image
from .seed_iso import seed_iso
from .server import Server
from .storage import Volume


class RealDisks(Server):
    """The simulator's volumes, with files behind them."""

    def __init__(self, *, image: Path, **settings: Any) -> None:
        super().__init__(**settings)
        self.default_image = image
        self.disk_files = DiskFiles(self.scratch.path / "disks")

    def _key(self, volid: str, node: str) -> Key:
        sid, _, name = volid.partition(":")
        return sid, None if self.is_shared(sid) else node, name

    def _key_of(self, volume: Volume) -> Key:
        """Where a volume that the simulator holds in its hand lies.

        :raises PveError: 500: nowhere any more, as those of a backup.
        """
        for (sid, node), disks in self.disks.items():
            if disks.get(volume.name) is volume:
                return sid, node, volume.name
        raise die(f"pvesim keeps no copy of '{volume.name}' for real guests")

    def user_of(self, volid: str, node: str) -> tuple[SimVm, str] | None:
        """The running VM that has the volume open, and the drive."""
        for vm in self.vms:
            if vm.qemu is not None and (vm.node == node or self.is_shared(volid.partition(":")[0])):
                for key, drive in drives(vm.qemu):
                    if drive["file"] == volid:
                        return vm, key
        return None

    def image_of(self, volid: str, node: str) -> Image | None:
        """The file behind a volume id, a CD image included; None for `none` and `cdrom`."""
        file = self.file(volid, node)
        if file is not None:
            return Image(file.path, "raw")
        return self.disk_files.image(self._key(volid, node)) if split_volid(volid) else None

    # ----------------------------------------------------------------- volumes

    def alloc(self, sid: str, node: str, vmid: int, size: int, **how: Any) -> str:
        """Allocate the volume and make its file: empty, an overlay of `base`, or a copy of `copy_of`."""
        base: Volume | None = how.get("base")
        original: Volume | None = how.get("copy_of")
        held = base or original
        source = self._key_of(held) if held is not None else None
        if original is not None and source is not None and how.get("suffix") != "cloudinit":
            user = self.user_of(f"{source[0]}:{source[2]}", source[1] or node)
            if user is not None:
                raise die(
                    f"pvesim does not copy the disk of a running guest ('{user[1]}' of VM {user[0].vmid})"
                )
        volid = super().alloc(sid, node, vmid, size, **how)
        key = self._key(volid, node)
        if how.get("suffix") == "cloudinit":
            self.disk_files.create_seed(key)
        elif source is None:
            self.disk_files.create(key, size)
        elif base is not None:
            self.disk_files.overlay(key, self.disk_files.path(source), size)
        else:
            self.disk_files.copy(key, source)
        return volid

    def free(self, volid: str, node: str) -> None:
        """Free the volume and delete its file."""
        existed = self.volume(volid, node) is not None
        super().free(volid, node)
        if existed:
            self.disk_files.remove(self._key(volid, node))

    def make_base(self, volid: str, node: str) -> str:
        """The volume has another name."""
        new = super().make_base(volid, node)
        self.disk_files.rename(self._key(volid, node), self._key(new, node))
        return new

    async def grow_volume(self, volid: str, node: str, size: int) -> None:
        """Grow the file too, through QEMU if it runs with it."""
        await super().grow_volume(volid, node, size)
        if self.user_of(volid, node) is None:
            self.disk_files.resize(self._key(volid, node), size)

    async def finish_import(self, vm: SimVm, requested: Any, stored: str) -> None:
        """Copy the image, too."""
        await super().finish_import(vm, requested, stored)
        source = parse_drive(requested).get("import-from")
        if source is None:
            return
        target = parse_drive(stored)["file"]
        volume, file = self._existing(target, vm.node), self.file(source, vm.node)
        image = self.image_of(source, vm.node)
        if image is not None:
            fmt = images.qemu_format(file.name) if file is not None else image.format
            key = self._key(target, vm.node)
            await asyncio.to_thread(self.disk_files.fill, key, image.path, fmt, volume.size)

    def install(self, vm: SimVm, image: Path | None) -> None:
        """The boot disk is an overlay of the image."""
        config = vm.config
        disks = {key: drive for key, drive in drives(config) if not is_cdrom(drive)}
        volid = disks[boot_disk(config, disks) or "scsi0"]["file"]
        key = self._key(volid, vm.node)
        self.disk_files.remove(key)
        self.disk_files.overlay(key, image or self.default_image, self._existing(volid, vm.node).size)

    def has_feature(self, feature: str, volid: str, node: str, *, snapshot: bool = False) -> bool:
        """No snapshots of real disks."""
        return feature != "snapshot" and super().has_feature(feature, volid, node, snapshot=snapshot)

    # -------------------------------------------------------------- cloud-init

    def generate_seed(self, vm: SimVm) -> None:
        """Write the ISO as well; a running guest sees the new content."""
        super().generate_seed(vm)
        for _, drive in drives(vm.config):
            if is_cloudinit(drive) and vm.seed is not None:
                path = self.disk_files.path(self._key(drive["file"], vm.node))
                path.write_bytes(seed_iso(vm.seed["user"], vm.seed["meta"], vm.seed["network"]))

    def hash_password(self, password: str) -> str:
        """A hash that the guest can check: SHA-256 crypt, as PVE::Tools::encrypt_pw makes it."""
        argv = ["openssl", "passwd", "-5", "-stdin"]
        return subprocess.run(argv, input=password, capture_output=True, text=True, check=True).stdout.strip()
