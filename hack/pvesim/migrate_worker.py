"""Migration, the worker: what is copied, when the config moves, and what each kind of failure leaves behind.

Facts: PVE::QemuMigrate of qemu-server 9.2.6 and PVE::AbstractMigrate. The task runs on the source node and
holds its lock file. Phase 1 sets `lock: migrate` and copies the disks of a stopped VM, and the unused,
pending and generated ones of a running one; a failure ends as `migration aborted`. Phase 2 starts QEMU on the
target, mirrors the attached disks and the memory; a failure ends as `migration problems`. Both release the
lock and remove what was copied; the reason stands in the log only. Phase 3 moves the config, frees the source
volumes, and clears the lock on the target last. A killed worker clears nothing.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fakepve.model import PveError, TaskError

from . import storage_types
from .core import Values, die, param_error
from .migrate_scan import MigrateScan, Move, reason
from .model import SimVm
from .props import is_cloudinit, print_size
from .volrefs import renamed, volume_refs

STEPS = 4  # progress lines per disk, and for the memory


class Migration(MigrateScan):
    """POST /nodes/{node}/qemu/{vmid}/migrate."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # Failures half-way: vmid -> what the copying dies of.
        self.migrate_errors: dict[int, str] = {}

    def _table_migrate(self) -> list[tuple[str, str, Any]]:
        return [("POST", "/nodes/{node}/qemu/{vmid}/migrate", self._migrate_post)]

    async def _migrate_post(self, v: Values, user: str) -> str:
        node, vmid, target = v["node"], v["vmid"], v["target"]
        if target in (node, "localhost"):
            raise param_error(target="target is local node.")
        self.need_quorum()
        if target not in self.nodes:
            raise die(f"no such cluster node '{target}'")
        self._root_only(v, user, "force", "migration_type", "migration_network")
        vm = self.load_config(node, vmid)
        self.check_lock(vm)
        if vm.running and not v.get("online"):
            raise die("can't migrate running VM without --online")
        storages = self.storage_map(v, vm, user)
        if self.ha_managed(vm):
            return await self._ha_migrate(vm, target, user)
        move = Move(vm, node, target, bool(v.get("online")), bool(v.get("with-local-disks")), storages)
        return await self.migrate_task(move, user)

    async def migrate_task(self, move: Move, user: str) -> str:
        """A migration that is carried out, not asked of HA."""

        async def body() -> None:
            async with self.flock(move.vm.vmid):
                await self._migrate(move)

        return await self.task(move.source, "qmigrate", move.vm.vmid, user, body)

    async def _ha_migrate(self, vm: SimVm, target: str, user: str) -> str:
        """A managed VM: the task only queues a request, and the manager decides."""

        async def body() -> None:
            self.say(f"Requesting HA migration for VM {vm.vmid} to node {target}")
            try:
                self.queue_move("migrate", f"vm:{vm.vmid}", target)
            except PveError as error:
                self.say(error.message)
                text = f"command 'ha-manager migrate vm:{vm.vmid} {target}' failed: exit code 255"
                raise die(text) from error

        return await self.task(vm.node, "hamigrate", vm.vmid, user, body)

    # ------------------------------------------------------------------ phases

    async def _migrate(self, move: Move) -> None:
        vm = move.vm
        try:
            self.prepare_move(move)
            with self._undoing(move, 1):
                self.log_line(
                    f"starting migration of VM {vm.vmid} to node '{move.target}' ({self._ip(move.target)})"
                )
                vm.lock = "migrate"
                attached, others = self.scan_volumes(move)
                await self._copy_stopped(move, others, share=0.3 if move.running else 1.0)
        except (PveError, TaskError) as error:
            self.log_line(f"ERROR: migration aborted (duration {move.duration}): {reason(error)}")
            raise die("migration aborted") from error
        if move.running:
            try:
                with self._undoing(move, 2):
                    await self._copy_running(move, attached)
            except (PveError, TaskError) as error:
                self.log_line(f"ERROR: migration finished with problems (duration {move.duration})")
                raise die("migration problems") from error
        await self._finish_migration(move)
        self.log_line(f"migration finished successfully (duration {move.duration})")

    @contextmanager
    def _undoing(self, move: Move, phase: int) -> Iterator[None]:
        """A failure of the phase releases the lock and removes the copies; a killed worker does nothing."""
        try:
            yield
        except (PveError, TaskError) as error:
            text = reason(error)
            self.log_line(f"ERROR: {text}" if phase == 1 else f"ERROR: online migrate failure - {text}")
            self.log_line(f"aborting phase {phase} - cleanup resources")
            if phase == 2:
                self.log_line("migrate_cancel")
            move.vm.lock = None
            if self.online(move.target):
                for copy in move.copies.values():
                    self.free(copy, move.target)
            raise

    # ----------------------------------------------------------------- copying

    async def _copy_stopped(self, move: Move, volids: list[str], *, share: float) -> None:
        """Phase 1: copy volumes nobody writes to. A VM without any is through at once."""
        if volids:
            self.log_line("copying local disk images")
        for volid in volids:
            sid = volid.partition(":")[0]
            target = move.target_storage(sid)
            try:
                volume = self.volume(volid, move.source)
                if volume is None:
                    raise die(f"no such volume '{volid}'")
                here, there = self.storages[sid]["type"], self.storages[target]["type"]
                if not storage_types.accepts(there, storage_types.transfer_format(here, volume.format)):
                    raise die(f"cannot migrate from storage type '{here}' to '{there}'")
                self._allocate(move, volid, same_name=True)
                await self._step(move, share / len(volids))
            except (PveError, TaskError) as error:
                raise die(
                    f"storage migration for '{volid}' to storage '{target}' failed - {reason(error)}"
                ) from error
            self.log_line(f"volume '{volid}' is '{move.copies[volid]}' on the target")
        if not volids and not move.running:
            await self._step(move, 0.1)

    async def _copy_running(self, move: Move, volids: list[str]) -> None:
        """Phase 2: QEMU on the target, the attached disks by mirror, then the memory."""
        vm = move.vm
        self.log_line(f"starting VM {vm.vmid} on remote node '{move.target}'")
        try:
            for volid in volids:
                self._allocate(move, volid, same_name=False)
            self.check_host(vm.config, move.target)
            if vm.vmid in self.start_errors:
                raise TaskError(self.start_errors[vm.vmid])
        except (PveError, TaskError) as error:
            self.log_line(f"[{move.target}] {reason(error)}")
            raise die("remote command failed with exit code 255") from error
        self.log_line("start remote tunnel")
        share = 0.7 / STEPS / (len(volids) + 1)
        if volids:
            self.log_line("starting storage migration")
        for volid in volids:
            drive = volume_refs(vm)[volid]["drivename"]
            self.log_line(f"{drive}: start migration to nbd:unix:/run/qemu-server/{vm.vmid}_nbd.migrate")
            volume = self.volume(volid, move.source)
            size = volume.size if volume is not None else 0
            for step in range(1, STEPS + 1):
                await self._step(move, share)
                done = f"{print_size(size * step // STEPS)} of {print_size(size)}"
                self.say(f"mirror-{drive}: transferred {done} ({100 * step / STEPS:.2f}%) in {move.duration}")
        self.log_line(f"starting online/live migration on unix:/run/qemu-server/{vm.vmid}.migrate")
        memory = int(self.vm_usage(vm)["maxmem"])
        for step in range(1, STEPS + 1):
            await self._step(move, share)
            moved = f"{print_size(memory * step // STEPS)} of {print_size(memory)}"
            self.log_line(f"migration active, transferred {moved} VM-state, 113.2 MiB/s")
        self.log_line("migration status: completed")

    def _allocate(self, move: Move, volid: str, *, same_name: bool) -> None:
        """A copy on the target: of a volume that is copied as it lies under its own name, if free; of one that is
        mirrored under the lowest free one, whatever it was called here."""
        sid = volid.partition(":")[0]
        volume = self.volume(volid, move.source)
        if volume is None:
            raise die(f"no such volume '{volid}'")
        suffix = "cloudinit" if is_cloudinit({"file": volid}) else None
        target = move.target_storage(sid)
        copy = self.alloc(
            target,
            move.target,
            volume.vmid,
            volume.size,
            fmt=volume.format,
            suffix=suffix,
            copy_of=volume,
            same_name=same_name,
        )
        move.copies[volid] = self.make_base(copy, move.target) if "base-" in volume.name else copy
        self.take_snapshots_along(move.copies[volid], move.target, volume)

    async def _step(self, move: Move, share: float) -> None:
        """A share of the copying; then the world may have changed."""
        await self.work(share)
        await self.checkpoint("migrate:copying")
        self.ensure_present(move.vm)
        if not self.online(move.target):
            raise die("command '/usr/bin/ssh' failed: exit code 255")
        if move.vm.vmid in self.migrate_errors:
            raise die(self.migrate_errors[move.vm.vmid])
        if move.running and not move.vm.running:
            raise die(f"query migrate failed: VM {move.vm.vmid} not running")

    async def _finish_migration(self, move: Move) -> None:
        """Phase 3: the config moves, the source's volumes go, the lock is cleared on the target."""
        vm = move.vm
        await self.checkpoint("migrate:moving")
        self.ensure_present(vm)
        vm.config, vm.pending = renamed(vm.config, move.copies), renamed(vm.pending, move.copies)
        vm.snapshots = {name: renamed(config, move.copies) for name, config in vm.snapshots.items()}
        vm.qemu = renamed(vm.qemu, move.copies) if vm.qemu is not None else None
        vm.node = move.target
        if vm.running:  # another QEMU, on the target: its uptime begins anew
            vm.started_at, vm.pid = time.time(), next(self.qemu_pids)
        await self.checkpoint("migrate:unlocking")
        for volid in move.copies:
            self.free(volid, move.source)
        vm.lock = None

    def _ip(self, node: str) -> str:
        return f"192.0.2.{11 + list(self.nodes).index(node)}"
