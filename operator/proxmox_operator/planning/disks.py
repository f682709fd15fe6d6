"""Drives in a VM's config: slots, volumes, sizes and options, compared canonically.

Not here: what the spec wants of them (``planning.vmconfig``). Source: ``scsiN``, ``virtioN`` ... of
``GET /nodes/{node}/qemu/{vmid}/config``.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from proxmox_operator.api import DiskStatus
from proxmox_operator.planning.propstring import parse_props, render_props

_DRIVE = re.compile(r"^(scsi|virtio|sata|ide)\d+$")
_UNUSED = re.compile(r"^unused\d+$")
_SIZE = re.compile(r"^([0-9]+(?:\.[0-9]+)?)([KMGT]?)$")
_SIZE_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_TRUE, _FALSE = frozenset({"1", "on", "yes", "true"}), frozenset({"0", "off", "no", "false"})

LIMITS = {
    "read_mbps": "mbps_rd",
    "read_mbps_burst": "mbps_rd_max",
    "write_mbps": "mbps_wr",
    "write_mbps_burst": "mbps_wr_max",
    "read_iops": "iops_rd",
    "read_iops_burst": "iops_rd_max",
    "write_iops": "iops_wr",
    "write_iops_burst": "iops_wr_max",
}
"""Fields of DiskLimits, and the drive options they stand for."""

THROTTLES = frozenset(
    f"{kind}{way}{part}"
    for kind in ("bps", "mbps", "iops")
    for way in ("", "_rd", "_wr")
    for part in ("", "_max", "_max_length")
)
"""Every throttle that a drive may have; those that ``spec`` has no field for are reset with the others."""

OWNED_OPTIONS = THROTTLES | {"cache", "aio", "discard", "ssd", "iothread", "backup", "replicate"}
"""Options of a listed disk that the spec owns; the others stay as they are."""

CACHE_MODES = {
    "None": "none",
    "WriteBack": "writeback",
    "WriteThrough": "writethrough",
    "DirectSync": "directsync",
    "Unsafe": "unsafe",
}

ASYNC_IO = {"IOUring": "io_uring", "Native": "native", "Threads": "threads"}

_DEFAULTS = {
    "cache": "none",
    "discard": "ignore",
    "ssd": "0",
    "iothread": "0",
    "backup": "1",
    "replicate": "1",
}


@dataclass(frozen=True, kw_only=True)
class Drive:
    """One drive: its volume id, size in bytes (0 where Proxmox gives none) and remaining options."""

    volume: str
    size: int
    options: Mapping[str, str]

    @classmethod
    def parse(cls, value: str) -> "Drive":
        options = dict(parse_props(value, "file"))
        return cls(volume=options.pop("file", ""), size=parse_size(options.get("size", "0")), options=options)

    @property
    def storage(self) -> str:
        return self.volume.partition(":")[0]

    @property
    def is_cdrom(self) -> bool:
        return self.options.get("media") == "cdrom"


def with_size(value: str, size: int) -> str:
    """A drive as Proxmox writes it, with this size in bytes."""
    return render_props({**parse_props(value, "file"), "size": str(size)}, "file")


def parse_size(text: str) -> int:
    """Bytes of a Proxmox size (``8G``, ``528K``, plain bytes); 0 for what cannot be read."""
    match = _SIZE.match(text)
    return int(float(match[1]) * _SIZE_UNITS[match[2]]) if match else 0


def canonical(options: Mapping[str, str]) -> dict[str, str]:
    """Options without defaults, sizes and case, so that equal settings compare equal."""
    result = {}
    for key, value in options.items():
        text = "1" if value.lower() in _TRUE and key != "discard" else value
        text = "0" if value.lower() in _FALSE and key != "discard" else text
        if key in THROTTLES:
            text = _number(value)
            if not text:
                continue
        if key != "size" and text != _DEFAULTS.get(key):
            result[key] = text
    return result


def _number(text: str) -> str:
    """A throttle (``100``, ``100.0``) in one spelling; none, which is also written ``0``, is empty.

    What is no number stays as it is.
    """
    try:
        return str(float(text)) if float(text) else ""
    except ValueError:
        return text


def boot_slot(config: Mapping[str, str]) -> str | None:
    """The slot of the disk the VM boots from: the first disk in ``boot``, else the first there is."""
    order = parse_props(config.get("boot", ""), "legacy").get("order", "").split(";")
    usual = ("scsi0", "virtio0", "sata0", "ide0")
    legacy = config.get("bootdisk", "")
    for slot in (*order, legacy, *usual):
        if slot in drives(config):
            return slot
    return None


def boot_storage(config: Mapping[str, str]) -> str | None:
    """The storage that holds the boot disk."""
    slot = boot_slot(config)
    return Drive.parse(config[slot]).storage if slot else None


def drives(config: Mapping[str, str]) -> dict[str, Drive]:
    """Every disk that holds data, by slot; CD-ROMs are left out, and what names no volume."""
    return {slot: drive for slot, drive in all_drives(config).items() if drive.volume and not drive.is_cdrom}


def all_drives(config: Mapping[str, str]) -> dict[str, Drive]:
    """Every drive by slot, CD-ROMs and empty ones too."""
    return {slot: Drive.parse(value) for slot, value in config.items() if _DRIVE.match(slot)}


def is_cloud_init(drive: Drive) -> bool:
    """Whether Proxmox itself makes what is on it, from the native keys of cloud-init."""
    return "cloudinit" in drive.volume


def unused(config: Mapping[str, str]) -> dict[str, str]:
    """Volumes that hang on the VM as ``unusedN``, by that key: destroyed together with it."""
    return {key: Drive.parse(value).volume for key, value in config.items() if _UNUSED.match(key)}


def holding(snapshots: Mapping[str, Mapping[str, str]], volume: str) -> list[str]:
    """The snapshots (configs by name) that refer to a volume."""
    return sorted(
        name
        for name, config in snapshots.items()
        if any(drive.volume == volume for drive in drives(config).values())
    )


def has_cloud_init_drive(config: Mapping[str, str]) -> bool:
    return any(is_cloud_init(drive) for drive in all_drives(config).values())


def slot_of(name: str, config: Mapping[str, str], known: DiskStatus | None) -> str | None:
    """Where the disk called ``name`` is attached: by the serial it was given, else by its recorded volume.

    A volume's name proves little: moving a VM with its disks, or restoring it, may give that name to another disk.
    So it counts only for a drive without a serial that is not the boot disk. Among several with the serial it decides.
    A disk that is called after a slot is the one there, unless its recorded volume is elsewhere.
    """
    there = drives(config)
    if is_slot(name) and name in there:
        elsewhere = {drive.volume for slot, drive in there.items() if slot != name} | {
            *unused(config).values()
        }
        if known is None or known.volume == there[name].volume or known.volume not in elsewhere:
            return name
    recorded = [slot for slot, drive in there.items() if known is not None and drive.volume == known.volume]
    by_serial = [slot for slot, drive in there.items() if drive.options.get("serial") == name]
    if by_serial:
        return next((slot for slot in recorded if slot in by_serial), by_serial[0])
    boot = boot_slot(config)
    return next((slot for slot in recorded if slot != boot and "serial" not in there[slot].options), None)


def boot_slot_besides(config: Mapping[str, str], names: Collection[str]) -> str | None:
    """The disk the VM boots from, where disks with the serial numbers ``names`` are others."""
    others = {slot for slot, drive in drives(config).items() if drive.options.get("serial") in names}
    return boot_slot({key: value for key, value in config.items() if key not in others})


def is_slot(name: str) -> bool:
    """Whether a disk is called after a slot, which means the one that the VM has there: never made, never detached."""
    return _DRIVE.match(name) is not None


def free_slot(taken: Collection[str]) -> str | None:
    """The first SCSI slot that is in nobody's use; ``scsi0`` is left to the boot disk."""
    return next((slot for number in range(1, 31) if (slot := f"scsi{number}") not in taken), None)
