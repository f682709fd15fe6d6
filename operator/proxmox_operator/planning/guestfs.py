"""What a guest has mounted, as its agent tells, and whether it has let go of a disk.

Unplugging a SCSI disk needs no consent of the guest, so a disk is detached live only on proof: whatever cannot be told
for sure counts as in use. Mounted filesystems are all that is told: swap on a disk, or a program that writes to it
without a filesystem, is not seen (docs/vm.md says so). Source: ``GET .../agent/get-fsinfo`` (QEMU's
``guest-get-fsinfo``).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_SLOT = re.compile(r"^(?P<bus>[a-z]+)(?P<number>\d+)$")

_WWN = re.compile(r"^3[0-9a-f]{16}([0-9a-f]{16})?$")

_SPANNING = frozenset({"btrfs", "bcachefs", "zfs"})
"""Filesystems of which the agent names one device, though they may be on several."""

_PER_LSI = 7
"""Disks on one LSI controller, on which the slots are numbered through (``scsihw_infos`` of qemu-server)."""

_BUSES = frozenset({"ide", "fdc", "scsi", "virtio", "usb", "sata", "sd", "nvme"})


@dataclass(frozen=True, kw_only=True)
class GuestDisk:
    """A disk as the guest sees it; what the agent does not tell is ``None``.

    ``serial`` is udev's (``0QEMU_QEMU_HARDDISK_data``), ``target`` and ``unit`` are the SCSI address.
    """

    serial: str | None = None
    bus: str | None = None
    target: int | None = None
    unit: int | None = None


@dataclass(frozen=True, kw_only=True)
class Filesystem:
    """A mounted filesystem, with the disks that it is on; ``device`` is the kernel's name (``sda1``, ``dm-0``)."""

    mountpoint: str
    device: str
    type: str
    disks: tuple[GuestDisk, ...]


def in_use(filesystems: Sequence[Filesystem], *, slot: str, serial: str) -> str | None:
    """Why the disk in ``slot`` with that serial number may be in use; ``None`` where it is proven that it is not."""
    if not filesystems:
        return "the guest agent names no mounted filesystem, so nothing can be told"
    for filesystem in filesystems:
        where = f"{filesystem.type} at {filesystem.mountpoint}"
        verdicts = [_is(disk, slot, serial) for disk in filesystem.disks]
        if True in verdicts:
            return f"mounted in the guest at {filesystem.mountpoint}"
        if filesystem.type in _SPANNING:
            return f"the guest has {where}, which may be on several disks"
        if None in verdicts or (not verdicts and not filesystem.device.startswith("loop")):
            return f"the guest agent does not tell which disk {where} is on"
    return None


def _is(disk: GuestDisk, slot: str, serial: str) -> bool | None:
    """Whether this is the disk; ``None`` where neither serial number nor address tells."""
    by_serial, by_address = _by_serial(disk, slot, serial), _by_address(disk, slot)
    if by_serial or by_address:
        return True
    return None if by_serial is None and by_address is None else False


def _by_serial(disk: GuestDisk, slot: str, serial: str) -> bool | None:
    """Proxmox VE 8 shows the serial number there, 9 the slot instead, and both the wwn where there is one."""
    if not disk.serial or _WWN.match(disk.serial):
        return None
    return any(disk.serial == name or disk.serial.endswith(f"_{name}") for name in (serial, f"drive-{slot}"))


def _by_address(disk: GuestDisk, slot: str) -> bool | None:
    """VirtIO SCSI has the slot's number as unit, older controllers as target; LSI ones take seven disks each."""
    match = _SLOT.match(slot)
    if match is None or disk.bus not in _BUSES:
        return None
    if disk.bus != match["bus"]:
        return False
    if match["bus"] != "scsi" or disk.target is None or disk.unit is None:
        return None
    number = int(match["number"])
    if number not in (disk.target, disk.unit) and (disk.target, disk.unit) == (number % _PER_LSI, 0):
        return None if disk.target == 0 else True  # 0:0 is also the first disk of VirtIO SCSI
    return number in (disk.target, disk.unit)
