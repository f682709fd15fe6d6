"""Migration: what a worker checks before it copies anything, and which volumes it has to copy.

Facts: prepare and scan_local_volumes of PVE::QemuMigrate, qemu-server 9.2.6. What is wrong with a volume
stands in the task's log; the exit status never says it.
"""

import time
from dataclasses import dataclass, field

from fakepve.model import PveError, TaskError

from . import storage_types
from .core import as_task_error, die
from .migrate import MigrateChecks
from .model import SimVm
from .props import split_volid
from .volrefs import Ref, volume_refs


@dataclass
class Move:
    """One migration: what was asked for, and what it has made on the target so far.

    `storages` maps source storages to target ones, `""` being the default; `copies` maps volume ids.
    """

    vm: SimVm
    source: str
    target: str
    online: bool
    with_local_disks: bool
    storages: dict[str, str]
    force: bool = False
    started: float = field(default_factory=time.monotonic)
    running: bool = False
    copies: dict[str, str] = field(default_factory=dict)

    def target_storage(self, sid: str) -> str:
        """The storage that a local volume of `sid` goes to."""
        return self.storages.get(sid) or self.storages.get("") or sid

    @property
    def duration(self) -> str:
        """hh:mm:ss since the start."""
        seconds = int(time.monotonic() - self.started)
        return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


class MigrateScan(MigrateChecks):
    """The checks in the worker."""

    def prepare_move(self, move: Move) -> None:
        self.need_quorum()
        vm = move.vm
        self.ensure_present(vm)
        if vm.node != move.source:
            raise die(f"Configuration file 'nodes/{move.source}/qemu-server/{vm.vmid}.conf' does not exist")
        self.check_lock(vm)
        if vm.running and not move.online:
            raise die("can't migrate running VM without --online")
        move.running = vm.running
        self.check_devices(vm, move.target, force=move.force)
        for volid, ref in volume_refs(vm).items():
            parts = split_volid(volid)
            if parts is not None and (not ref["cdrom"] or ref["is_cloudinit"]):
                self._check_enabled(parts[0], move.source)
                self._check_target_storage(move, volid, "images")
        if not self.online(move.target):
            raise die("Can't connect to destination address using public key")

    def _check_target_storage(self, move: Move, volid: str, content: str) -> str:
        sid = volid.partition(":")[0]
        target = sid if self.is_shared(sid) else move.target_storage(sid)
        store = self._check_enabled(target, move.target)
        if content not in store["content"].split(","):
            raise die(f"{volid}: content type '{content}' is not available on storage '{target}'")
        return target

    def scan_volumes(self, move: Move) -> tuple[list[str], list[str]]:
        """scan_local_volumes: the local volumes that are copied live, and those that are copied as they lie.

        :raises PveError: one of them cannot go along; the log says which and why.
        """
        attached: list[str] = []
        others: list[str] = []
        problems: dict[str, str] = {}
        general: list[str] = []
        for volid, ref in sorted(volume_refs(move.vm).items()):
            if volid == "cdrom":
                names = ", ".join(sorted(ref.get("referenced_in_snapshot", {})))
                by_snapshot = (
                    f" (referenced in snapshot - {names})" if names and not ref["is_attached"] else ""
                )
                general.append(f"can't migrate local cdrom drive{by_snapshot}")
                continue
            parts = split_volid(volid)
            if parts is None or self.is_shared(parts[0]):
                continue
            problem = self._unmovable(move, volid, ref)
            if problem is not None:
                problems[volid] = problem
                continue
            kind = "generated" if ref["is_tpmstate"] or ref["is_cloudinit"] else _kind_of(ref)
            self.log_line(
                f"found {'generated' if kind == 'generated' else 'local'} disk '{volid}' ({_WORDS[kind]})"
            )
            if kind == "attached" and move.running and not move.with_local_disks:
                problems[volid] = "can't live migrate attached local disks without with-local-disks option"
            (attached if kind == "attached" and move.running else others).append(volid)
        for volid in sorted(problems):
            self.log_line(f"can't migrate local disk '{volid}': {problems[volid]}")
        for line in general:
            self.log_line(line)
        if problems or general:
            raise die("Problem found while scanning volumes - can't migrate VM - check log")
        for volid in attached + others:
            self._check_migratable(volid, move.source)
        return sorted(attached, key=lambda volid: str(volume_refs(move.vm)[volid]["drivename"])), others

    def _unmovable(self, move: Move, volid: str, ref: Ref) -> str | None:
        """Why a local volume stays, None if it can go along."""
        vm, kind = move.vm, self.storages[volid.partition(":")[0]]["type"]
        try:
            self._check_target_storage(
                move, volid, "iso" if ref["cdrom"] and not ref["is_cloudinit"] else "images"
            )
        except PveError as error:
            return str(error.message)
        if ref["cdrom"] and not ref["is_cloudinit"]:
            return "local cdrom image"
        volume = self.volume(volid, move.source)
        if volume is None:
            return f"can't activate LV '/dev/{volid.replace(':', '/')}': no such volume"
        if volume.vmid != vm.vmid:
            return f"owned by other VM (owner = VM {volume.vmid})"
        if ref.get("referenced_in_snapshot") and not ref["is_vmstate"]:
            if move.running:
                return "online storage migration not possible if non-replicated snapshot exists"
            if kind not in storage_types.MIGRATES_SNAPSHOTS and volume.format != "qcow2":
                return "non-migratable snapshot exists"
        if self.in_use_as_base(volid, move.source):
            return "referenced by linked clone(s)"
        return None

    def _check_migratable(self, volid: str, node: str) -> None:
        kind = self.storages[volid.partition(":")[0]]["type"]
        if kind not in storage_types.MIGRATABLE:
            raise die(
                "Problem found while scanning volumes - "
                f"can't migrate '{volid}' - storage type '{kind}' not supported"
            )
        volume = self.volume(volid, node)
        if volume is not None and volume.base:
            raise die(
                f"Problem found while scanning volumes - can't migrate '{volid}' as it's a clone of '{volume.base}'"
            )

    def log_line(self, line: str) -> None:
        """A line of the log, with the time as AbstractMigrate prints it."""
        self.say(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}")


_WORDS = {
    "attached": "attached",
    "unused": "unused",
    "snapshot": "referenced by snapshot(s)",
    "pending": "pending change",
    "generated": "in current VM config",
}


def _kind_of(ref: Ref) -> str:
    """How a volume is referred to; the strongest reference counts."""
    if ref["is_attached"]:
        return "attached"
    if ref["is_unused"]:
        return "unused"
    return "snapshot" if "referenced_in_snapshot" in ref else "pending"


def reason(error: PveError | TaskError) -> str:
    """An error as a log shows it."""
    return str(as_task_error(error) if isinstance(error, PveError) else error)
