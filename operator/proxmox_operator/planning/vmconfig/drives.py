"""The boot disk's size and the listed disks; drives that are not listed are not touched."""

from collections.abc import Collection, Iterator, Mapping

from proxmox_operator.api import BootDisk, Disk, DiskLimits, DiskStatus
from proxmox_operator.api.quantity import format_gib, parse_quantity
from proxmox_operator.planning import disks
from proxmox_operator.planning.propstring import render_props
from proxmox_operator.planning.vmconfig.changes import Change, Grow, Problem, Put, Wanted


def boot_disk(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    boot = wanted.vm.spec.boot_disk
    if boot is None:
        return
    slot = disks.boot_slot(config)
    if slot is None:
        message = "spec.bootDisk: the source has no disk to boot from; clone another template"
        yield Problem(reason="NoBootDisk", message=message)
        return
    drive = disks.Drive.parse(config[slot])
    owned = disks.THROTTLES if boot.limits is not None else frozenset()
    yield from _options_of(slot, config[slot], drive, owned, _boot_options(boot))
    yield from _stays("spec.bootDisk.storage", boot.storage, drive)
    if boot.size is not None:
        yield from _size("spec.bootDisk.size", slot, parse_quantity(boot.size), drive)


def listed_disks(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    known = {disk.name: disk for disk in wanted.vm.status.disks}
    taken = set(config) | {disk.slot for disk in known.values()}
    for disk in wanted.vm.spec.disks:
        slot = disks.slot_of(disk.name, config, known.get(disk.name))
        if slot is not None:
            yield from _existing_disk(disk, slot, config[slot])
        elif disk.name in known:
            message = (
                f"spec.disks[{disk.name}]: its volume {known[disk.name].volume} is no longer attached; attach it again "
                f"as {known[disk.name].slot} with serial={disk.name} (a blank disk is never put in its place)"
            )
            yield Problem(reason="DiskMissing", message=message)
        elif (storage := disk.storage or wanted.storage) is None:
            message = f"spec.disks[{disk.name}].storage: name a storage, or set defaults.storage on the ProxmoxCluster"
            yield Problem(reason="StorageNotChosen", message=message)
        elif (free := disks.free_slot(taken)) is None:
            yield Problem(
                reason="NoFreeSlot", message=f"spec.disks[{disk.name}]: scsi1 to scsi30 are all in use"
            )
        else:
            taken.add(free)
            gib = parse_quantity(disk.size) >> 30
            value = render_props({"file": f"{storage}:{gib}", "serial": disk.name, **_options(disk)}, "file")
            yield Put(key=free, value=value, storage=storage)


def _stays(field: str, wanted: str | None, drive: disks.Drive) -> Iterator[Change]:
    if wanted is not None and drive.storage != wanted:
        message = (
            f"{field}: the disk is on {drive.storage}; moving it to {wanted} is not done here: "
            f"move it in Proxmox, or set {drive.storage}"
        )
        yield Problem(reason="DiskMoveRefused", message=message)


def _size(field: str, slot: str, wanted: int, drive: disks.Drive) -> Iterator[Change]:
    """Grow, or say that it cannot shrink; a disk whose size Proxmox does not tell is left alone."""
    if drive.size == 0:
        return
    if drive.size < wanted:
        yield Grow(slot=slot, size=wanted, was=drive.size)
    elif drive.size > wanted:
        has, least = format_gib(drive.size), f"{-(-drive.size >> 30)}Gi"
        message = f"{field}: {format_gib(wanted)} is less than the disk has ({has}), and disks only grow: set {least}"
        yield Problem(reason="DiskShrinkRefused", message=message)


def _existing_disk(disk: Disk, slot: str, value: str) -> Iterator[Change]:
    drive = disks.Drive.parse(value)
    yield from _options_of(slot, value, drive, disks.OWNED_OPTIONS, _options(disk))
    yield from _stays(f"spec.disks[{disk.name}].storage", disk.storage, drive)
    yield from _size(f"spec.disks[{disk.name}].size", slot, parse_quantity(disk.size), drive)


def _options_of(
    slot: str, value: str, drive: disks.Drive, owned: Collection[str], wanted: Mapping[str, str]
) -> Iterator[Put]:
    """Set the options of a drive that is there; those that are ``owned`` and not wanted are reset, others stay."""
    options = {key: text for key, text in drive.options.items() if key not in owned} | dict(wanted)
    if disks.canonical(options) != disks.canonical(drive.options):
        yield Put(key=slot, value=render_props({"file": drive.volume, **options}, "file"), was=value)


def _options(disk: Disk) -> dict[str, str]:
    """The drive options of a listed disk that differ from Proxmox's defaults."""
    options = {
        "cache": disks.CACHE_MODES[disk.cache] if disk.cache else None,
        "aio": disks.ASYNC_IO[disk.aio] if disk.aio else None,
        "discard": "on" if disk.discard else None,
        "ssd": "1" if disk.ssd else None,
        "iothread": "1" if disk.iothread else None,
        "backup": "0" if disk.backup is False else None,
        "replicate": "0" if disk.replicate is False else None,
    }
    return {key: value for key, value in options.items() if value is not None} | _limits(disk.limits)


def _boot_options(boot: BootDisk) -> dict[str, str]:
    """The drive options that ``spec.bootDisk`` sets."""
    options = {
        "cache": disks.CACHE_MODES[boot.cache] if boot.cache else None,
        "aio": disks.ASYNC_IO[boot.aio] if boot.aio else None,
        "discard": None if boot.discard is None else "on" if boot.discard else "ignore",
        **{
            key: None if flag is None else str(int(flag))
            for key, flag in (
                ("ssd", boot.ssd),
                ("iothread", boot.iothread),
                ("backup", boot.backup),
                ("replicate", boot.replicate),
            )
        },
    }
    return {key: value for key, value in options.items() if value is not None} | _limits(boot.limits)


def _limits(limits: DiskLimits | None) -> dict[str, str]:
    values = {} if limits is None else {key: getattr(limits, field) for field, key in disks.LIMITS.items()}
    return {key: str(value) for key, value in values.items() if value is not None}


def recorded_disks(wanted: Wanted, config: Mapping[str, str]) -> tuple[DiskStatus, ...]:
    """The listed disks as they are attached now; a disk that is missing keeps its last record."""
    known = {disk.name: disk for disk in wanted.vm.status.disks}
    for disk in wanted.vm.spec.disks:
        slot = disks.slot_of(disk.name, config, known.get(disk.name))
        if slot is not None:
            drive = disks.Drive.parse(config[slot])
            known[disk.name] = DiskStatus(
                name=disk.name, slot=slot, volume=drive.volume, size=format_gib(drive.size)
            )
    return tuple(known.values())
