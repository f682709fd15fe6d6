"""Which disks are ours, where they are, and what has to be read before something is done to them.

A disk is found by its serial number, else by its recorded volume where that name still means it. A record ends only
when the disk has been destroyed on our word; so no name is ever given a blank disk in place of one that held data.
"""

from collections.abc import Mapping
from typing import NamedTuple

from proxmox_operator.api import DetachedDisk, DiskStatus, ProxmoxVM
from proxmox_operator.api.quantity import format_gib
from proxmox_operator.planning import disks
from proxmox_operator.planning.diskfacts import Question
from proxmox_operator.planning.vmconfig.changes import Wanted


class DiskRecords(NamedTuple):
    """``status.disks`` and ``status.detachedDisks``."""

    disks: tuple[DiskStatus, ...]
    detached: tuple[DetachedDisk, ...]


def known_disks(vm: ProxmoxVM) -> dict[str, DiskStatus]:
    """Every disk that was ever attached and not destroyed on our word, by name."""
    kept = {
        disk.name: DiskStatus(name=disk.name, slot="", volume=disk.volume, size="", node=disk.node)
        for disk in vm.status.detached_disks
    }
    return kept | {disk.name: disk for disk in vm.status.disks}


def taken_off(vm: ProxmoxVM) -> list[DiskStatus]:
    """Disks that were attached for us, are no longer listed, and of which the end is not on record.

    One that came with the VM, and is called after its slot, is not managed any more, and that is all.
    """
    listed = {disk.name for disk in vm.spec.disks}
    return [disk for disk in vm.status.disks if disk.name not in listed and not disks.is_slot(disk.name)]


def is_certain(wanted: Wanted, record: DiskStatus) -> bool:
    """Whether the recorded volume's name still means this disk.

    A VM that is moved with its local disks gets volumes of other names, also as ``unusedN``; those on a shared storage
    keep theirs.
    """
    room = (wanted.seen.storages or {}).get(record.volume.partition(":")[0])
    return record.node == wanted.seen.node or (room is not None and room.shared)


def slot_of(wanted: Wanted, name: str, config: Mapping[str, str], record: DiskStatus | None) -> str | None:
    """Where a disk is attached; a volume's name that is not certain is no sign of it."""
    certain = record if record is not None and is_certain(wanted, record) else None
    return disks.slot_of(name, config, certain)


def current(wanted: Wanted, config: Mapping[str, str]) -> Mapping[str, str] | None:
    """The config as it runs; nothing waits for a boot before the first one."""
    if wanted.seen.current is None and not wanted.started:
        return config
    return wanted.seen.current


def questions(wanted: Wanted, config: Mapping[str, str]) -> frozenset[Question]:
    """What else must be known before this config can be compared; mostly nothing."""
    if wanted.vm.metadata.deletion_timestamp is not None:
        return frozenset()  # of an object that goes away no disk is changed
    found: set[Question] = set()
    spec, known = wanted.vm.spec, known_disks(wanted.vm)
    wanted_at = [
        (slot_of(wanted, disk.name, config, known.get(disk.name)), disk.storage) for disk in spec.disks
    ]
    if spec.boot_disk is not None:
        names = {disk.name for disk in spec.disks}
        wanted_at.append((disks.boot_slot_besides(config, names), spec.boot_disk.storage))
    for slot, storage in wanted_at:
        if slot is not None and storage not in (None, disks.Drive.parse(config[slot]).storage):
            found.add("snapshots")
    for disk in taken_off(wanted.vm):
        if slot_of(wanted, disk.name, config, disk) is not None:
            found.add("guest")
        elif disk.on_remove == "Delete" and disk.volume in disks.unused(config).values():
            found.add("snapshots")
    return frozenset(found)


def disk_records(wanted: Wanted, config: Mapping[str, str]) -> DiskRecords:
    """The records as they are now. What cannot be told keeps its record."""
    vm, known = wanted.vm, known_disks(wanted.vm)
    attached: list[DiskStatus] = []
    for disk in vm.spec.disks:
        record = known.get(disk.name)
        found = _attached(wanted, disk.name, config, record, disk.on_remove)
        if found is None and record is not None:
            found = record.model_copy(update={"on_remove": disk.on_remove})
        if found is not None:
            attached.append(found)
    listed = {disk.name for disk in vm.spec.disks}
    detached = [disk for disk in vm.status.detached_disks if disk.name not in listed]
    for record in taken_off(vm):
        match _whereabouts(wanted, config, record):
            case "attached":
                attached.append(_attached(wanted, record.name, config, record, record.on_remove) or record)
            case "unknown":
                attached.append(record)
            case "unused" if record.on_remove == "Delete":
                attached.append(record)
            case "gone" if record.on_remove == "Delete":
                pass
            case _:
                detached.append(DetachedDisk(name=record.name, volume=record.volume, node=record.node))
    return DiskRecords(tuple(attached), tuple(detached))


def _whereabouts(wanted: Wanted, config: Mapping[str, str], record: DiskStatus) -> str:
    if slot_of(wanted, record.name, config, record) is not None:
        return "attached"
    if disks.unused(config) and not is_certain(wanted, record):
        return "unknown"
    if record.volume in disks.unused(config).values():
        return "unused"
    running = current(wanted, config)
    if running is None or config.get("lock") is not None:
        return "unknown"  # a rollback or a restore may be writing the config
    there = {drive.volume for each in (config, running) for drive in disks.drives(each).values()}
    named = is_certain(wanted, record) and record.volume in there  # with another serial number: whose is it?
    return "unknown" if named or slot_of(wanted, record.name, running, record) is not None else "gone"


def _attached(
    wanted: Wanted, name: str, config: Mapping[str, str], record: DiskStatus | None, on_remove: str
) -> DiskStatus | None:
    slot = slot_of(wanted, name, config, record)
    if slot is None:
        return None
    drive = disks.Drive.parse(config[slot])
    return DiskStatus.model_validate(
        {
            "name": name,
            "slot": slot,
            "volume": drive.volume,
            "size": format_gib(drive.size),
            "on_remove": on_remove,
            "node": wanted.seen.node,
        }
    )


def at_stake(
    vm: ProxmoxVM,
    config: Mapping[str, str],
    *,
    running: Mapping[str, str] | None = None,
    node: str | None = None,
) -> tuple[str, ...]:
    """Disks that are to be kept and would be destroyed together with the VM: by name, where they have one.

    ``running`` is the config as it is in force: a disk that only the next boot detaches goes with the VM, too.
    """
    names = {disk.volume: disk.name for disk in vm.status.detached_disks}
    given_up = set()
    for disk in taken_off(vm):
        if disk.on_remove == "Delete" and disk.node == node:
            given_up.add(disk.volume)
        else:
            names[disk.volume] = disk.name
    there = {drive.volume for each in (config, running or {}) for drive in disks.drives(each).values()}
    lost = {volume for volume in disks.unused(config).values() if volume not in given_up}
    lost |= {volume for volume in there if volume in names}
    return tuple(sorted(f"{names[volume]} ({volume})" if volume in names else volume for volume in lost))
