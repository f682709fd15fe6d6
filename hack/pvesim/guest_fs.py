"""What a guest says of its file systems: `guest-get-fsinfo` as qemu-ga on Linux answers it. Pure functions.

Facts: build_guest_fsinfo of qga/commands-linux.c: `serial` is udev's ID_SERIAL, not the disk's serial; a disk
that is not mounted does not appear. ID_SERIAL is made of the wwn where there is one, else of what QEMU calls
the device: `drive-scsi1` on a machine of version 10.0 and up (Proxmox VE 9's default) even where serial= is set,
the serial before.
"""

import re
from collections.abc import Mapping
from typing import Any

from .model import SimVm
from .props import Props, drives, is_cdrom, natural, parse, size_bytes

BUSES = {"scsi": "scsi", "virtio": "virtio", "sata": "sata", "ide": "ide"}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
USED = 0.25
NEW_NAMES = 10


def fsinfo(vm: SimVm, pve: int) -> list[dict[str, Any]]:
    """The mounted file systems on the disks that QEMU has: the system's on the boot disk, and what the guest
    mounted (Guest.mount)."""
    config = vm.qemu or {}
    disks = {key: drive for key, drive in drives(config) if not is_cdrom(drive) and _bus(key)}
    system = boot_disk(config, disks)
    machine = machine_version(config, pve)
    out = []
    for key, drive in disks.items():
        mounts = ([("/", "ext4")] if key == system else []) + vm.guest_os.mounts.get(key, [])
        name = _device(key, list(disks)) + ("1" if key == system else "")
        for mountpoint, kind in mounts:
            size = size_bytes(drive.get("size", "1G"))
            out.append(
                {
                    "name": name,
                    "mountpoint": mountpoint,
                    "type": kind,
                    "total-bytes": size,
                    "used-bytes": int(size * USED),
                    "disk": [_disk(key, drive, f"/dev/{name}", machine)],
                }
            )
    return sorted(out, key=lambda item: str(item["mountpoint"]))


def machine_version(config: Mapping[str, Any], pve: int) -> int:
    """The major version of the machine: the pinned one, else the newest that the Proxmox VE version has."""
    pinned = re.search(r"-(\d+)\.", str(config.get("machine", "")))
    return int(pinned[1]) if pinned else pve + 1


def boot_disk(config: dict[str, Any], disks: dict[str, Props]) -> str | None:
    """The disk the guest's system is on: the first one in the boot order, else the first one."""
    order = [key for key in parse(config.get("boot", "")).get("order", "").split(";") if key in disks]
    return next(iter([*order, *disks]), None)


def _bus(key: str) -> str | None:
    return BUSES.get(key.rstrip("0123456789"))


def _device(key: str, keys: list[str]) -> str:
    prefix = "vd" if key.startswith("virtio") else "sd"
    same = [other for other in keys if other.startswith("virtio") == (prefix == "vd")]
    return prefix + LETTERS[same.index(key) % len(LETTERS)]


def _disk(key: str, drive: Props, dev: str, machine: int) -> dict[str, Any]:
    number = natural(key)[1]
    out = {
        "bus-type": _bus(key),
        "bus": 0,
        "target": 0,
        "unit": number if key.startswith("scsi") else 0,
        "dev": dev,
        "pci-controller": {"domain": 0, "bus": 9, "slot": 1 + number % 30, "function": 0},
    }
    serial = id_serial(key, drive, machine)
    return out | ({"serial": serial} if serial is not None else {})


def id_serial(key: str, drive: Props, machine: int) -> str | None:
    """udev's ID_SERIAL of a disk under a machine of that major version; a virtio disk without serial has none."""
    if key.startswith("virtio"):
        return drive.get("serial")
    if drive.get("wwn"):
        return "3" + drive["wwn"].removeprefix("0x")
    if key.startswith("scsi"):
        given = drive.get("serial") if machine < NEW_NAMES else None
        return f"0QEMU_QEMU_HARDDISK_{given or f'drive-{key}'}"
    return f"QEMU_HARDDISK_{drive.get('serial') or 'QM00001'}"
