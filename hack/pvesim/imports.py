"""Drives made from an image: `scsi0=STORAGE:0,import-from=SOURCE`, where the source is a file with the content type
import, or a disk.

Facts: $check_storage_access, $check_drive_param, $import_from_volid and create_disks of PVE::API2::Qemu, and clone_disk
of PVE::QemuServer (qemu-server 9.2.6). The new disk is as large as the disk in the image, rounded up to what the
storage allocates, and the config has that size. An unsuitable `format` is only a warning here. OVA files are not
extracted; an import into efidisk0 or tpmstate0 gets the size of the image, too.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from fakepve.model import PveError, TaskError

from . import images, storage_types
from .access import ROOT
from .clone import Clone
from .core import die, param_error
from .model import SimVm
from .props import NEW_DISK, Props, parse_drive, split_volid


@dataclass(frozen=True)
class Source:
    """What is imported: its size in bytes, its format, what is on it, and the VM that owns it (0: none)."""

    size: int
    format: str
    data: int
    owner: int = 0


class Imports(Clone):
    """The option import-from of drives."""

    def check_import(self, key: str, drive: Props, user: str) -> None:
        """What is refused before a worker is forked: the syntax, the kind of the source, missing rights on it."""
        volid = drive["import-from"]
        target = NEW_DISK.fullmatch(drive["file"])
        if target is None or float(target[2]):
            text = "'import-from' requires special syntax - use <storage ID>:0,import-from=<source>"
            raise param_error(**{key: text})
        parts = split_volid(volid)
        if parts is None:
            if user != ROOT:
                where = "/usr/share/perl5/PVE/Storage.pm line 651"
                raise die(f"Only root can pass arbitrary filesystem paths. at {where}.")
            return
        vtype, owner, _ = self._parse_volname(self._store(parts[0]), parts[1])
        if vtype not in ("images", "import"):
            raise param_error(**{key: f"{volid} has wrong type '{vtype}' - needs to be 'images' or 'import'"})
        fmt = images.qemu_format(parts[1])
        if vtype == "import" and fmt not in images.QEMU_FORMATS:
            raise die(f"volume '{volid}' - not a QEMU image format '{fmt}'")
        if owner:
            self.require(user, f"/vms/{owner}", "VM.Clone")
        else:
            self._check_access(user, parts[0], vtype, owner, volid)

    def begin_import(self, vm: SimVm, drive: Props, sid: str) -> str:
        """Allocate the disk for an import; its volume id. Nothing is on it before `finish_import`.

        :raises PveError: 500: the source is missing or no image, or the storage is full.
        """
        volid, node = drive["import-from"], vm.node
        source = self._source(volid, node)
        try:
            if not source.size:
                raise die(f"could not get size of {volid}")
            kind = self._kind(f"{sid}:")
            wanted = drive.get("format") or source.format
            fmt = wanted if wanted in storage_types.formats(kind) else "raw"
            if drive.get("format") not in (None, fmt):
                self.say(
                    f"format '{wanted}' is not supported by the target storage '{sid}' - using '{fmt}' instead"
                )
            size = storage_types.allocated(kind, source.size)
            new = self.alloc(sid, node, vm.vmid, size, fmt=fmt)
        except PveError as error:
            raise die(f"cannot import from '{volid}' - {error.message}") from error
        self.say(f"create full clone of drive ({volid})")
        return new

    async def finish_import(self, vm: SimVm, requested: Any, stored: str) -> None:
        """Copy the image onto the disk, if the `requested` value of a drive is an import: as long as a full clone."""
        volid = parse_drive(requested).get("import-from")
        if volid is None:
            return
        source = self._source(volid, vm.node)
        lent = source.owner != vm.vmid and self.vm(source.owner) is not None
        try:
            async with self.flock(source.owner, wait=30, shared=True) if lent else nullcontext():
                await self.checkpoint("import:copying")
                await self.wait_seconds(self.task_seconds)
        except TaskError as error:
            raise TaskError(f"cannot import from '{volid}' - {error}") from error
        new = parse_drive(stored)["file"]
        self._store_volume(new, vm.node, replace(self._existing(new, vm.node), data=source.data))

    def _source(self, volid: str, node: str) -> Source:
        parts = split_volid(volid)
        if parts is None:
            raise die(f"can't find file '{volid}'")
        sid, name = parts
        file, volume = self.file(volid, node), self.volume(volid, node)
        if file is not None:
            return Source(self.image_size(sid, file), images.qemu_format(name), file.data)
        if name.startswith("import/"):
            raise die(f"failed to stat '{self.file_path(sid, name)}'")
        if volume is None:
            raise die(f"cannot import from '{volid}' - could not get size of {volid}")
        vm = self.vm(volume.vmid)
        if vm is not None and vm.node != node:
            raise die(f"cannot import from '{volid}' - owner VM {volume.vmid} not on local node")
        return Source(volume.size, volume.format, volume.data, volume.vmid)
