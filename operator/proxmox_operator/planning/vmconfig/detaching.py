"""Disks that were taken off ``spec.disks``: detached once the guest has let go of them, then kept or destroyed."""

from collections.abc import Iterator, Mapping

from proxmox_operator.api import MAX_DETACHED_DISKS, DiskStatus
from proxmox_operator.planning import disks
from proxmox_operator.planning.canonical import meaning
from proxmox_operator.planning.guestfs import in_use
from proxmox_operator.planning.vmconfig.changes import Change, Held, Remove, Wanted
from proxmox_operator.planning.vmconfig.records import current, is_certain, slot_of, taken_off


def disks_taken_off(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    kept = len(wanted.vm.status.detached_disks)
    for disk in taken_off(wanted.vm):
        slot = slot_of(wanted, disk.name, config, disk)
        unused = next((key for key, volume in disks.unused(config).items() if volume == disk.volume), None)
        if slot is not None:
            yield _detach(wanted, config, disk, slot, room=kept < MAX_DETACHED_DISKS)
            kept += disk.on_remove == "Detach"
        elif unused is not None and disk.on_remove == "Delete":
            yield _destroy(wanted, config, disk, unused)
        elif unused is None and (waiting := _still_plugged(wanted, config, disk)) is not None:
            yield waiting


def _detach(wanted: Wanted, config: Mapping[str, str], disk: DiskStatus, slot: str, *, room: bool) -> Change:
    drive = disks.Drive.parse(config[slot])
    volume = drive.volume
    if (protected := _protected(config, f"detaching disk {disk.name}")) is not None:
        return protected
    if disk.on_remove == "Detach" and not room:
        message = (
            f"disk {disk.name} stays attached: {MAX_DETACHED_DISKS} disks are detached already; list some of them "
            "again with onRemove Delete, and take them off the list"
        )
        return Held(reason="TooManyDetachedDisks", message=message)
    if volume != disk.volume:
        # Moved by hand: detached, it is told from the copy it was made of by its record alone.
        message = f"disk {disk.name} is detached once its volume {volume} is on record"
        return Held(reason="NotRecorded", message=message)
    if disk.on_remove == "Delete" and drive.options.get("serial") != disk.name:
        message = (
            f"disk {disk.name} is to be destroyed, and {slot} ({volume}) has not its serial number: detach and remove "
            f"it in Proxmox, or set serial={disk.name} there"
        )
        return Held(reason="DiskUnconfirmed", message=message)
    seen = wanted.seen
    if not seen.stopped:
        told = seen.filesystems
        why = seen.silence if told is None else in_use(told, slot=slot, serial=disk.name)
        if why is not None:
            message = (
                f"disk {disk.name} ({slot}) is detached when the VM is stopped, or earlier when the guest has let go "
                f"of it: {why}"
            )
            return Held(reason="DiskInUse", message=message)
    what = f"detach disk {disk.name}, volume {volume}"
    return Remove(key=slot, was=config[slot], event="DiskDetached", what=what)


def _destroy(wanted: Wanted, config: Mapping[str, str], disk: DiskStatus, unused: str) -> Change:
    """The recorded volume and no other; that it goes was said in the status before."""
    if (protected := _protected(config, f"destroying disk {disk.name}")) is not None:
        return protected
    if not is_certain(wanted, disk):
        message = (
            f"disk {disk.name} is to be destroyed: it was {disk.volume} on {disk.node}, and the VM has been moved "
            "since, which gives volumes other names: remove the right one in Proxmox"
        )
        return Held(reason="DiskUnconfirmed", message=message)
    if wanted.seen.snapshots is None:
        message = f"disk {disk.name} is destroyed once it is known that no snapshot refers to it"
        return Held(reason="SnapshotsUnknown", message=message)
    if snapshots := disks.holding(wanted.seen.snapshots, disk.volume):
        message = (
            f"disk {disk.name} ({disk.volume}) is detached, and destroyed once no snapshot refers to it: "
            f"{', '.join(snapshots)}"
        )
        return Held(reason="SnapshotsPrevent", message=message)
    what = f"destroy disk {disk.name}, volume {disk.volume}"
    return Remove(key=unused, was=disk.volume, event="DiskDestroyed", what=what)


def _protected(config: Mapping[str, str], doing: str) -> Held | None:
    if not meaning(config.get("protection"), default=False):
        return None
    message = f"{doing} waits until the VM is no longer protected: set spec.protection to false, or clear it in Proxmox"
    return Held(reason="Protected", message=message)


def _still_plugged(wanted: Wanted, config: Mapping[str, str], disk: DiskStatus) -> Held | None:
    """The guest did not release it; Proxmox detaches it at the next cold boot."""
    running = current(wanted, config)
    if running is None or slot_of(wanted, disk.name, running, disk) is None:
        return None
    message = f"disk {disk.name} is detached at the next cold boot: the guest has not released it"
    return Held(reason="UnplugRefused", message=message)
