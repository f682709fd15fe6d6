"""Drives in a config: allocating new ones, keeping replaced ones as unusedN, growing them.

Facts: create_disks, check_drive_param, vmconfig_register_unused_drive, try_deallocate_drive and resize_vm of
qemu-server.
"""

from typing import Any

from . import storage_types
from .core import Values, die, param_error
from .imports import Imports
from .model import SimVm
from .props import (
    GIB,
    NEW_DISK,
    UNUSED,
    Props,
    is_cdrom,
    is_cloudinit,
    is_drive,
    natural,
    parse_drive,
    print_drive,
    print_size,
    size_bytes,
    split_volid,
)
from .volrefs import volume_refs

CLOUDINIT_SIZE = 4 * 1024**2
FIXED_SIZE = {"efidisk0": 528 * 1024, "tpmstate0": 4 * 1024**2}
MAX_UNUSED = 256


def in_snapshot(vm: SimVm, volid: str) -> bool:
    """True if a snapshot of the VM needs the volume."""
    return "referenced_in_snapshot" in volume_refs(vm).get(volid, {})


class Disks(Imports):
    """Allocation, detaching and resizing."""

    def _table_disks(self) -> list[tuple[str, str, Any]]:
        return [("PUT", "/nodes/{node}/qemu/{vmid}/resize", self._resize)]

    # ------------------------------------------------------------- allocation

    def check_drives(
        self, values: Values, node: str, vmid: int, user: str, default: str | None = None
    ) -> None:
        """check_storage_access: what is refused before a worker is forked."""
        for key in sorted(values, key=natural):
            if not is_drive(key):
                continue
            drive = parse_drive(values[key])
            volid = drive.get("file", "")
            new = NEW_DISK.fullmatch(volid)
            if "import-from" in drive:
                self.check_import(key, drive, user)
            if volid in ("", "none") or volid.endswith(":cloudinit") or volid == "cloudinit":
                continue
            if volid == "cdrom":
                self.require(user, "/", "Sys.Console")
            elif new and not is_cdrom(drive):
                sid = new[1] or default
                if not sid:
                    raise die("no storage ID specified (and no default storage)")
                self.require(user, f"/storage/{sid}", "Datastore.AllocateSpace")
                store = self._store(sid)
                if "images" not in store["content"].split(","):
                    raise param_error(storage=f"storage '{sid}' does not support vm images")
            elif parts := split_volid(volid):
                vtype, owner, _ = self._parse_volname(self._store(parts[0]), parts[1])
                if vtype == "iso" and not is_cdrom(drive):
                    raise param_error(**{key: "explicit 'media=cdrom' is required for iso images"})
                if owner != vmid:
                    self._check_access(user, parts[0], vtype, owner, volid)
                if vtype not in ("images", "iso"):
                    raise param_error(**{key: "content type needs to be 'images' or 'iso'"})

    def create_drive(
        self,
        vm: SimVm,
        key: str,
        value: Any,
        made: list[str],
        *,
        default: str | None = None,
        siblings: Values | None = None,
    ) -> str:
        """create_disks for one drive: the value that goes into the config; new volume ids are added to
        `made`. An import is only allocated: `finish_import` follows."""
        drive = parse_drive(value)
        volid = drive["file"]
        new = NEW_DISK.fullmatch(volid)
        if volid in ("none", "cdrom"):
            drive.pop("size", None)
            return print_drive(drive)
        if volid == "cloudinit" or volid.endswith(":cloudinit"):
            return self._create_cloudinit(vm, key, drive, made, default, siblings or {})
        if new and not is_cdrom(drive):
            sid = new[1] or default
            if not sid:
                raise die("no storage ID specified (and no default storage)")
            if "import-from" in drive:
                volid = self.begin_import(vm, drive, sid)
            else:
                volid = self._new_disk(vm, key, sid, float(new[2]), drive.get("format"))
            made.append(volid)
            drive = {name: text for name, text in drive.items() if name not in ("format", "import-from")}
            drive |= {"file": volid, "size": print_size(self._existing(volid, vm.node).size)}
            self.say(f"{key}: successfully created disk '{print_drive(drive)}'")
            return print_drive(drive)
        return self._existing_volume(vm, key, drive)

    def _new_disk(self, vm: SimVm, key: str, sid: str, gib: float, fmt: str | None) -> str:
        """alloc_image refuses a format the storage cannot hold; a move or a full clone takes its default."""
        if fmt is not None and fmt not in storage_types.formats(self._kind(f"{sid}:")):
            raise die(f"unsupported format '{fmt}'")
        volid = self.alloc(sid, vm.node, vm.vmid, FIXED_SIZE.get(key) or int(gib * GIB), fmt=fmt)
        return self.make_base(volid, vm.node) if vm.template else volid

    def _create_cloudinit(
        self, vm: SimVm, key: str, drive: Props, made: list[str], default: str | None, siblings: Values
    ) -> str:
        sid = drive["file"].rpartition(":")[0] or default
        if not sid:
            raise die("no storage ID specified (and no default storage)")
        for other, text in sorted((vm.merged() | siblings).items()):
            if other != key and is_drive(other) and is_cloudinit(parse_drive(text)):
                raise die(f"{key} - cloud-init drive is already attached at '{other}'")
        fmt = drive.pop("format", "qcow2" if self.is_file_based(sid) else "raw")
        drive["file"] = self.alloc(sid, vm.node, vm.vmid, CLOUDINIT_SIZE, fmt=fmt, suffix="cloudinit")
        made.append(drive["file"])
        drive["media"] = "cdrom"
        self.say(f"{key}: successfully created disk '{print_drive(drive)}'")
        return print_drive(drive)

    def _existing_volume(self, vm: SimVm, key: str, drive: Props) -> str:
        volid = drive["file"]
        parts = split_volid(volid)
        if parts is None:
            return print_drive(drive)
        self._check_enabled(parts[0], vm.node)
        volume, file = self.volume(volid, vm.node), self.file(volid, vm.node)
        if volume is not None:
            size = volume.size
        elif file is not None:
            size = self.image_size(parts[0], file)
        else:
            name = f"'{volid}'" if self.is_file_based(parts[0]) else volid
            raise die(f"volume {name} does not exist")
        wanted = drive.pop("format", None)
        if volume is not None and wanted and wanted != volume.format:
            raise die(
                f"drive '{key}' - volume '{volid}' - 'format={wanted}' option different"
                f" from storage format '{volume.format}'"
            )
        if not is_cloudinit(drive):
            drive["size"] = print_size(size)
        return print_drive(drive)

    # --------------------------------------------------------------- detaching

    def register_unused(self, vm: SimVm, drive: Props) -> None:
        """A drive leaves its slot: its volume becomes unusedN; a cloud-init ISO is freed; a CD is just
        gone."""
        volid = drive["file"]
        if is_cloudinit(drive):
            self.free(volid, vm.node)
        elif not is_cdrom(drive):
            volume = self.volume(volid, vm.node)
            if volume is not None and volume.vmid == vm.vmid:
                self.add_unused(vm, volid)

    @staticmethod
    def add_unused(vm: SimVm, volid: str) -> str | None:
        """add_unused_volume: keep a volume as unusedN; the key, None if one had it already."""
        known = {parse_drive(vm.config[key])["file"] for key in vm.config if UNUSED.fullmatch(key)}
        if volid not in known:
            slot = next((n for n in range(MAX_UNUSED) if f"unused{n}" not in vm.config), None)
            if slot is None:
                raise die("Too many unused volumes - please delete them first.")
            vm.config[f"unused{slot}"] = volid
            return f"unused{slot}"
        return None

    @staticmethod
    def drop_used(vm: SimVm) -> None:
        """write_vm_config removes an unusedN whose volume is attached again."""
        used = {parse_drive(text)["file"] for key, text in (vm.config | vm.merged()).items() if is_drive(key)}
        for key in [key for key in vm.config if UNUSED.fullmatch(key)]:
            if parse_drive(vm.config[key])["file"] in used:
                del vm.config[key]

    def deallocate(self, vm: SimVm, volid: str, user: str) -> None:
        """try_deallocate_drive: free a volume that this VM owns.

        :raises PveError: 500: a snapshot holds it.
        """
        volume = self.volume(volid, vm.node)
        if volume is not None and volume.vmid == vm.vmid:
            self.require(user, f"/storage/{volid.partition(':')[0]}", "Datastore.AllocateSpace")
            if in_snapshot(vm, volid):
                raise die(f"unable to delete '{volid}' - volume is still in use (snapshot?)")
            self.free(volid, vm.node)

    # ------------------------------------------------------------------ resize

    async def _resize(self, v: Values, user: str) -> str:
        node, vmid, key, text = v["node"], v["vmid"], v["disk"], str(v["size"])
        self._root_only(v, user, "skiplock")
        vm = self.vm(vmid)

        async def body() -> None:
            vm = self.load_config(node, vmid)
            if v.get("digest") and v["digest"] != vm.digest():
                raise die("checksum mismatch (file change by other user?)")
            if not v.get("skiplock"):
                self.check_lock(vm)
            if not vm.config.get(key):
                raise die(f"disk '{key}' does not exist")
            drive = parse_drive(vm.config[key])
            if is_cdrom(drive):
                raise die("you can't resize a cdrom")
            self.require(user, f"/storage/{drive['file'].partition(':')[0]}", "Datastore.AllocateSpace")
            volume = self.volume(drive["file"], node)
            if volume is None:
                raise die(f"Could not determine current size of volume '{drive['file']}'")
            size = size_bytes(text.removeprefix("+")) + (volume.size if text.startswith("+") else 0)
            if size < volume.size:
                raise die("shrinking disks is not supported")
            if size == volume.size:
                return
            await self.work()
            await self.grow_volume(drive["file"], node, size)
            drive["size"] = print_size(size)
            vm.config[key] = print_drive(drive)
            if vm.qemu and key in vm.qemu:
                vm.qemu[key] = print_drive(parse_drive(vm.qemu[key]) | {"size": drive["size"]})

        return await self.task(node, "resize", vmid, user, body, vm=vm)

    @staticmethod
    def _root_only(v: Values, user: str, *options: str) -> None:
        for option in options:
            if v.get(option) and user != "root@pam":
                raise param_error(**{option: "Only root may use this option."})
