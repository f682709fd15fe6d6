"""Moving a disk to another storage: what must hold before, since a move that fails half-way costs hours."""

from collections.abc import Mapping

from proxmox_operator.api.quantity import format_gib
from proxmox_operator.planning import disks
from proxmox_operator.planning.vmconfig.changes import Held, Move, Problem, Wanted
from proxmox_operator.planning.vmconfig.records import current


def moved_disk(
    wanted: Wanted, config: Mapping[str, str], slot: str, field: str, storage: str
) -> Move | Held | Problem:
    """Move it, or say why not. A linked clone's disk becomes independent of its base."""
    seen, drive, running = wanted.seen, disks.Drive.parse(config[slot]), current(wanted, config)
    stay = f"or set {drive.storage}, where the disk is"
    if seen.storages is None or seen.snapshots is None or running is None:
        return Held(reason="NotObserved", message=f"{field}: moved once the storages and snapshots are known")
    room = seen.storages.get(storage)
    if room is None:
        message = f"{field}: storage {storage} is not available on the VM's node: enable it there, {stay}"
        return Problem(reason="StorageNotFound", message=message)
    if "images" not in room.content:
        message = f"{field}: storage {storage} takes no disk images: add images to its content, {stay}"
        return Problem(reason="StorageNotUsable", message=message)
    if snapshots := disks.holding(seen.snapshots, drive.volume):
        message = (
            f"{field}: the disk cannot be moved while snapshots refer to it ({', '.join(snapshots)}): delete them, "
            f"{stay}"
        )
        return Problem(reason="SnapshotsPrevent", message=message)
    if room.free is not None and drive.size > room.free:
        message = (
            f"{field}: the disk needs {format_gib(drive.size)}, and storage {storage} has "
            f"{format_gib(room.free >> 20 << 20)} free: make room there, {stay}"
        )
        return Problem(reason="StorageFull", message=message)
    if _changes_at_boot(running, slot, drive):
        message = (
            f"{field}: moved to {storage} once the next cold boot has applied what waits for it on {slot}"
        )
        return Held(reason="ChangePending", message=message)
    return Move(slot=slot, volume=drive.volume, storage=storage)


def _changes_at_boot(running: Mapping[str, str], slot: str, drive: disks.Drive) -> bool:
    """Whether a change of the drive waits, which names the volume that a move would free."""
    runs = disks.Drive.parse(running.get(slot, ""))
    return runs.volume != drive.volume or disks.canonical(runs.options) != disks.canonical(drive.options)
