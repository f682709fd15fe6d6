"""The boot disk and the listed disks as the spec wants them; drives that are not listed are not touched."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from proxmox_operator.api import BootDisk, Disk, DiskLimits, DiskStatus
from proxmox_operator.api.quantity import format_gib, parse_quantity
from proxmox_operator.planning import disks
from proxmox_operator.planning.propstring import render_props
from proxmox_operator.planning.vmconfig.changes import Change, Grow, Held, Problem, Put, Wanted
from proxmox_operator.planning.vmconfig.moving import moved_disk
from proxmox_operator.planning.vmconfig.records import current, is_certain, known_disks, slot_of


def boot_disk(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    boot = wanted.vm.spec.boot_disk
    if boot is None:
        return
    slot = disks.boot_slot_besides(config, {disk.name for disk in wanted.vm.spec.disks})
    if slot is None:
        message = "spec.bootDisk: the source has no disk to boot from; clone another template"
        yield Problem(reason="NoBootDisk", message=message)
        return
    drive = disks.Drive.parse(config[slot])
    owned = disks.THROTTLES if boot.limits is not None else frozenset()
    options = _with_options(drive, owned, _boot_options(boot))
    size = parse_quantity(boot.size) if boot.size is not None else None
    yield from _existing(wanted, config, slot, "spec.bootDisk", boot.storage, options, size)


def listed_disks(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    known, running = known_disks(wanted.vm), current(wanted, config)
    taken = set(config) | set(running or ()) | {disk.slot for disk in known.values()}
    boot = disks.boot_slot_besides(config, {disk.name for disk in wanted.vm.spec.disks})
    for disk in wanted.vm.spec.disks:
        field, record = f"spec.disks[{disk.name}]", known.get(disk.name)
        slot = slot_of(wanted, disk.name, config, record)
        if slot is not None and slot == boot:
            message = f"{field}: {slot} is the disk that the VM boots from: use spec.bootDisk for it"
            yield Problem(reason="DiskAmbiguous", message=message)
        elif slot is not None:
            drive = disks.Drive.parse(config[slot])
            options = _with_options(drive, disks.OWNED_OPTIONS, _options(disk))
            size = parse_quantity(disk.size)
            yield from _existing(wanted, config, slot, field, disk.storage, options, size)
        elif running is None:
            yield Held(
                reason="NotObserved", message=f"{field}: attached once it is known which slots are free"
            )
        elif record is not None:
            yield _again(wanted, disk, record, config, running, taken)
        elif disks.is_slot(disk.name):
            message = (
                f"{field}: its name means the disk in that slot, and the VM has none there: correct the name, or "
                "call a new disk differently"
            )
            yield Problem(reason="DiskNotFound", message=message)
        elif (twin := _lookalike(wanted, config, disk)) is not None:
            message = (
                f"{field}: {twin}, which nobody lists, has the same size: to manage that disk call it {twin}; for a "
                f"new disk besides, list {twin} too, or choose another size"
            )
            yield Problem(reason="DiskAmbiguous", message=message)
        elif wanted.started and (strange := _unexplained(wanted, config)):
            message = (
                f"{field}: {', '.join(strange)} may be this disk, as nothing is on record of it: attach that with "
                f"serial={disk.name}, or remove it in Proxmox; then a blank disk is made"
            )
            yield Problem(reason="DiskAmbiguous", message=message)
        else:
            yield _new(disk, disk.storage or wanted.storage, taken)


def _unexplained(wanted: Wanted, config: Mapping[str, str]) -> list[str]:
    """Detached volumes of which nobody knows what they are; after a lost status they may be ours."""
    explained = {record.volume for record in known_disks(wanted.vm).values()}
    return [f"{key} ({volume})" for key, volume in disks.unused(config).items() if volume not in explained]


def _lookalike(wanted: Wanted, config: Mapping[str, str], disk: Disk) -> str | None:
    """The slot of a disk of an adopted VM that may be meant: of this size, without a serial, and listed by nobody."""
    if wanted.vm.spec.source.adopt is None:
        return None
    listed = {*(each.name for each in wanted.vm.spec.disks), disks.boot_slot(config)}
    owned = {each.volume for each in wanted.vm.status.disks}
    alike = [
        slot
        for slot, drive in disks.drives(config).items()
        if drive.size == parse_quantity(disk.size) and "serial" not in drive.options
        if slot not in listed and drive.volume not in owned
    ]
    return min(alike, default=None)


def _new(disk: Disk, storage: str | None, taken: set[str]) -> Change:
    """A blank disk, in a slot that nothing is in and nothing is going to be in."""
    if storage is None:
        message = (
            f"spec.disks[{disk.name}].storage: name a storage, or set defaults.storage on the ProxmoxCluster"
        )
        return Problem(reason="StorageNotChosen", message=message)
    if (free := disks.free_slot(taken)) is None:
        return _no_slot(disk)
    taken.add(free)
    gib = parse_quantity(disk.size) >> 30
    value = render_props({"file": f"{storage}:{gib}", "serial": disk.name, **_options(disk)}, "file")
    return Put(key=free, value=value, storage=storage)


def _again(
    wanted: Wanted,
    disk: Disk,
    record: DiskStatus,
    config: Mapping[str, str],
    running: Mapping[str, str],
    taken: set[str],
) -> Change:
    """The recorded volume, which is detached or about to be: never a blank one in its place."""
    volume, plugged = record.volume, slot_of(wanted, disk.name, running, record)
    if plugged is not None and plugged in config:
        message = (
            f"spec.disks[{disk.name}]: {plugged} is attached again once the next cold boot has detached it"
        )
        return Held(reason="ChangePending", message=message)
    if plugged is not None:
        volume = disks.Drive.parse(running[plugged]).volume
        slot, what = plugged, f"keep disk {disk.name} attached, volume {volume}"
    elif not is_certain(wanted, record):
        message = (
            f"spec.disks[{disk.name}]: it was {volume} on {record.node}, and the VM has been moved since, which gives "
            f"volumes other names: attach the right one of its unused disks with serial={disk.name}"
        )
        return Problem(reason="DiskAmbiguous", message=message)
    elif record.volume not in disks.unused(config).values():
        message = (
            f"spec.disks[{disk.name}]: its volume {record.volume} is no longer in the VM's config; attach it again "
            f"with serial={disk.name} or restore it (a blank disk is never put in its place); to give it up, set "
            "onRemove to Delete and take the disk off the list"
        )
        return Problem(reason="DiskMissing", message=message)
    else:
        back = record.slot if record.slot and record.slot not in {*config, *running} else None
        free = back or disks.free_slot(taken)
        if free is None:
            return _no_slot(disk)
        taken.add(free)
        slot, what = free, f"attach disk {disk.name} again, volume {record.volume}"
    serial = {} if disks.is_slot(disk.name) else {"serial": disk.name}
    value = render_props({"file": volume, **serial, **_options(disk)}, "file")
    return Put(key=slot, value=value, event="DiskReattached", what=what)


def _no_slot(disk: Disk) -> Problem:
    return Problem(reason="NoFreeSlot", message=f"spec.disks[{disk.name}]: scsi1 to scsi30 are all in use")


def _existing(
    wanted: Wanted,
    config: Mapping[str, str],
    slot: str,
    field: str,
    storage: str | None,
    options: Mapping[str, str],
    size: int | None,
) -> Iterator[Change]:
    """A disk that is there: its place first, since the copy takes its options along, then options, then size."""
    drive = disks.Drive.parse(config[slot])
    if size is not None and drive.size > size:
        has, least = format_gib(drive.size), f"{-(-drive.size >> 30)}Gi"
        less = f"{format_gib(size)} is less than the disk has ({has})"
        message = f"{field}.size: {less}, and disks only grow: set {least}"
        yield Problem(reason="DiskShrinkRefused", message=message)
    if storage is not None and drive.storage != storage:
        yield moved_disk(wanted, config, slot, f"{field}.storage", storage)
        return
    put = Put(key=slot, value=render_props({"file": drive.volume, **options}, "file"), was=config[slot])
    if disks.canonical(options) != disks.canonical(drive.options):
        yield put
    if size is None or drive.size == 0 or drive.size >= size:
        return  # a disk whose size Proxmox does not tell is left alone
    running = current(wanted, config)
    if running is not None and disks.Drive.parse(running.get(slot, "")).volume != drive.volume:
        message = (
            f"{field}.size: {slot} grows to {format_gib(size)} once the next cold boot has attached the disk"
        )
        yield Held(reason="ChangePending", message=message)
    elif (slot, size) in wanted.seen.grown:
        # It is that large, and the config does not say so: the old size was in a change that waited for a boot.
        yield replace(put, what=f"write down its size, {format_gib(size)}")
    else:
        yield Grow(slot=slot, size=size, was=drive.size)


def _with_options(drive: disks.Drive, owned: frozenset[str], wanted: Mapping[str, str]) -> dict[str, str]:
    """The options of a drive that is there; those that are ``owned`` and not wanted are reset, others stay.

    What means the same stays as it is spelled: Proxmox compares text, and a respelled default waits for a cold boot.
    """
    now, then = disks.canonical(drive.options), disks.canonical(wanted)
    changed = {key: text for key, text in wanted.items() if now.get(key) != then.get(key)}
    reset = {key for key in owned if now.get(key) != then.get(key)}
    return {key: text for key, text in drive.options.items() if key not in reset or key in changed} | changed


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
