"""Moving a disk to another storage, and removing disks by a list.

Facts: move_vm_disk and unlink of qemu-server 9.2.6, clone_disk of PVE::QemuServer. The worker holds the lock
file as long as it copies, so a config change meanwhile runs into `got timeout`; there is no `lock:` key. A
failure ends as `storage migration failed: ...` and frees the copy. Without `delete` the source volume stays
as unusedN; with it, a snapshot that holds the source is refused before anything is copied.
"""

from typing import Any

from fakepve.model import PveError, TaskError

from .config import Config
from .core import Values, as_task_error, die, param_error
from .disks import in_snapshot
from .model import SimVm
from .props import Props, is_cdrom, is_cloudinit, parse_drive, print_drive, print_size
from .storage import Volume

STEPS = 4


class MoveDisk(Config):
    """POST move_disk and PUT unlink."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Failures half-way: vmid -> what the copying dies of.
        self.move_errors: dict[int, str] = {}

    def _table_move_disk(self) -> list[tuple[str, str, Any]]:
        one = "/nodes/{node}/qemu/{vmid}"
        return [("POST", one + "/move_disk", self._move_post), ("PUT", one + "/unlink", self._unlink)]

    async def _unlink(self, v: Values, user: str) -> None:
        change = {key: v[key] for key in ("node", "vmid", "force") if key in v}
        await self._config_sync(change | {"delete": v["idlist"]}, user)

    async def _move_post(self, v: Values, user: str) -> str:
        if v.get("target-vmid"):
            raise die("pvesim does not move disks to other VMs")
        sid = v.get("storage")
        if not sid:
            text = "both 'storage' and 'target-vmid' missing, either needs to be set"
            raise param_error(**{"target-vmid": text, "storage": text})
        self.require(user, f"/storage/{sid}", "Datastore.AllocateSpace")
        self._check_move(v)

        async def body() -> None:
            async with self.flock(v["vmid"]):
                await self._move(v)

        return await self.task(v["node"], "qmmove", v["vmid"], user, body)

    def _check_move(self, v: Values) -> tuple[SimVm, Props, Volume]:
        """load_and_check_move: made before the worker is forked and again in it."""
        disk, sid, fmt = v["disk"], v["storage"], v.get("format")
        vm = self.load_config(v["node"], v["vmid"])
        self.check_lock(vm)
        if v.get("digest") and v["digest"] != vm.digest():
            raise die("detected modified configuration - file changed by other user? Try again.")
        if not vm.config.get(disk):
            raise die(f"disk '{disk}' does not exist")
        drive = parse_drive(vm.config[disk])
        if is_cdrom(drive) and not is_cloudinit(drive):
            raise die("you can't move a cdrom")
        volid = drive["file"]
        volume = self.volume(volid, vm.node)
        if volume is None:
            raise die(f"no such volume '{volid}'")
        if volid.partition(":")[0] == sid and (not fmt or fmt == volume.format):
            raise die("you can't move to the same storage with same format")
        self.images_store(sid, vm.node)
        if v.get("delete") and in_snapshot(vm, volid):
            raise die("you can't move a disk with snapshots and delete the source")
        return vm, drive, volume

    async def _move(self, v: Values) -> None:
        self.need_quorum()
        vm, drive, volume = self._check_move(v)
        disk, volid, sid = v["disk"], drive["file"], v["storage"]
        self.say(
            f"copying volume '{volid}' from current storage '{volid.partition(':')[0]}' to target storage '{sid}'"
        )
        if in_snapshot(vm, volid):
            self.say("moving disk with snapshots, snapshots will not be moved!")
        copy: str | None = None
        try:
            if disk == "tpmstate0" and vm.running:
                raise die("cannot move TPM state while VM is running")
            self.say(f"create full clone of drive {disk} ({volid})")
            copy = self.alloc(
                sid,
                vm.node,
                vm.vmid,
                volume.size,
                fmt=v.get("format") or volume.format,
                suffix="cloudinit" if is_cloudinit(drive) else None,
                copy_of=volume,
            )
            await self._copy(vm, disk, volume)
            if vm.template:
                copy = self.make_base(copy, vm.node)
        except (PveError, TaskError) as error:
            if copy is not None:
                self.free(copy, vm.node)
            cause = as_task_error(error) if isinstance(error, PveError) else error
            raise TaskError(f"storage migration failed: {cause}") from error
        drive |= {"file": copy} | ({} if is_cdrom(drive) else {"size": print_size(volume.size)})
        vm.config[disk] = print_drive(drive)
        if vm.qemu is not None and disk in vm.qemu:
            vm.qemu[disk] = print_drive(parse_drive(vm.qemu[disk]) | {"file": copy})
        if v.get("delete"):
            self.say(f"removing source volume '{volid}' after successful copy")
            self._free_source(volid, vm.node)
        elif key := self.add_unused(vm, volid):
            self.say(f"adding source volume '{volid}' as '{key}' to config")

    async def _copy(self, vm: SimVm, disk: str, volume: Volume) -> None:
        """Copy, by drive-mirror where QEMU runs; it dies of what a test or the world has in store."""
        live = vm.running and not disk.startswith("unused")
        for step in range(1, STEPS + 1):
            await self.work(1 / STEPS)
            await self.checkpoint("move:copying")
            self.ensure_present(vm)
            if vm.vmid in self.move_errors:
                raise die(self.move_errors[vm.vmid])
            if live and not vm.running:
                raise die(f"mirroring error: VM {vm.vmid} not running")
            done = f"transferred {print_size(volume.size * step // STEPS)} of {print_size(volume.size)}"
            percent = f"({100 * step / STEPS:.2f}%)"
            self.say(f"mirror-{disk}: {done} {percent} in {step}s" if live else f"{done} {percent}")
        if live:
            self.say(f"mirror-{disk}: mirror-job finished")

    def _free_source(self, volid: str, node: str) -> None:
        """A source that cannot be freed is a line in the log: the move has succeeded."""
        try:
            self.free(volid, node)
        except PveError as error:
            self.say(error.message)
