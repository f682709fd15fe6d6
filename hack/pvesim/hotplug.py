"""What a change of a key does to a running VM: decided here, applied in config.py. Pure functions.

Facts: vmconfig_hotplug_pending, vmconfig_update_net, vmconfig_update_disk, vmconfig_update_agent,
qemu_cpu_hotplug, qemu_memory_hotplug, vm_deviceunplug and $fast_plug_option of qemu-server 9.2.6. Anything not
named here waits in [PENDING] for the next cold start.
"""

import enum
import re
from typing import Any

from .props import NET, Props, is_cdrom, is_cloudinit, is_drive, parse, parse_drive, parse_net

FAST_PLUG = frozenset(
    [
        "description",
        "hookscript",
        "lock",
        "migrate_downtime",
        "migrate_speed",
        "name",
        "onboot",
        "protection",
        "shares",
        "startup",
        "tags",
        "vmstatestorage",
        "cicustom",
        "cipassword",
        "citype",
        "ciuser",
        "ciupgrade",
        "nameserver",
        "searchdomain",
        "sshkeys",
    ]
)
DEFAULT_FEATURES = frozenset({"network", "disk", "usb"})
# USB devices are plugged only where the guest is known to cope.
USB_GUESTS = frozenset({"l26", "win8", "win10", "win11"})
STATIC_MEMORY = 1024
DIMM = 512
DIMMS_OF_A_SIZE = 32
REPLUG_NET = ("model", "macaddr", "queues", "mtu")
PENDING_DISK = ("aio", "discard", "iothread", "queues", "product", "cache", "ssd", "vendor", "ro")


class Effect(enum.Enum):
    """What happens to a change of a running VM."""

    LIVE = "takes effect at once"
    PLUG = "a device is plugged"
    REPLUG = "a device is unplugged, then plugged again"
    SILENT = "committed to the config, but QEMU keeps what it was started with"
    PENDING = "waits for the next cold start"


def fast_plug(key: str) -> bool:
    """True for a key whose change cannot concern QEMU."""
    return key in FAST_PLUG or re.fullmatch(r"ipconfig\d+", key) is not None


def features(config: dict[str, Any]) -> frozenset[str]:
    """The hotplug features of a VM: default network,disk,usb; `1` means the default, `0` none."""
    text = str(config.get("hotplug", "1"))
    if text == "1":
        return DEFAULT_FEATURES
    return frozenset(text.split(",")) - {"0"}


def change(key: str, old: Any, new: Any, config: dict[str, Any]) -> Effect:
    """The effect of setting `key` to `new` where the config holds `old` (None: unset)."""
    on = features(config)
    if NET.fullmatch(key):
        return _net(parse_net(old) if old is not None else None, parse_net(new), "network" in on)
    if is_drive(key):
        return _drive(key, parse_drive(old) if old is not None else None, parse_drive(new), "disk" in on)
    if key == "balloon":
        # Switching the balloon device on or off needs a new QEMU; `0` is off.
        return Effect.PENDING if (str(old) == "0") != (str(new) == "0") else Effect.LIVE
    if key == "agent":
        return _agent(old, new)
    if key == "vcpus":
        return Effect.LIVE if "cpu" in on else Effect.PENDING
    if key == "memory":
        return Effect.LIVE if "memory" in on else Effect.PENDING
    if key in ("cpulimit", "cpuunits"):
        return Effect.LIVE
    if key == "tablet" or re.fullmatch(r"usb\d+", key):
        return Effect.LIVE if _usb(key, config) else Effect.PENDING
    if key == "hotplug":
        return Effect.PENDING if re.search("cpu|memory", f"{old} {new}") else Effect.LIVE
    return Effect.PENDING


def removal(key: str, old: Any, config: dict[str, Any]) -> Effect:
    """The effect of deleting `key`."""
    on = features(config)
    if fast_plug(key) or key in ("cpulimit", "cpuunits"):
        return Effect.LIVE
    if NET.fullmatch(key):
        return Effect.REPLUG if "network" in on else Effect.PENDING
    if is_drive(key):
        unpluggable = "disk" in on and key.startswith(("scsi", "virtio"))
        return Effect.REPLUG if unpluggable else Effect.PENDING
    if key == "balloon":
        return Effect.PENDING if str(old) == "0" else Effect.LIVE
    if key == "vcpus" and "cpu" in on:
        return Effect.LIVE
    if key == "memory" and "memory" in on:
        return Effect.LIVE
    if (key == "tablet" or re.fullmatch(r"usb\d+", key)) and _usb(key, config):
        return Effect.LIVE
    if key == "hotplug" and not re.search("cpu|memory", str(old)):
        return Effect.LIVE
    return Effect.PENDING


def _usb(key: str, config: dict[str, Any]) -> bool:
    return "usb" in features(config) and (key == "tablet" or config.get("ostype") in USB_GUESTS)


def _net(old: Props | None, new: Props, hotplug: bool) -> Effect:
    if old is None:
        return Effect.PLUG if hotplug else Effect.PENDING
    both_bridged = bool(old.get("bridge")) and bool(new.get("bridge"))
    if both_bridged and all(old.get(part) == new.get(part) for part in REPLUG_NET):
        return Effect.LIVE
    return Effect.REPLUG if hotplug else Effect.PENDING


def _drive(key: str, old: Props | None, new: Props, hotplug: bool) -> Effect:
    if key in ("efidisk0", "tpmstate0"):
        return Effect.PENDING
    if old is not None and is_cdrom(old):
        return Effect.LIVE
    if old is not None and old["file"] == new["file"]:
        if any(old.get(part) != new.get(part) for part in PENDING_DISK):
            return Effect.PENDING
        identity = any(old.get(part) != new.get(part) for part in ("serial", "wwn"))
        return Effect.SILENT if identity else Effect.LIVE
    if not hotplug or key.startswith(("ide", "sata")):
        return Effect.PENDING
    if is_cloudinit(new) and old is None:
        return Effect.PLUG
    return Effect.PLUG if old is None else Effect.REPLUG


def _agent(old: Any, new: Any) -> Effect:
    if old is None:
        return Effect.PENDING
    before, after = parse(old, "enabled"), parse(new, "enabled")
    before.pop("fstrim_cloned_disks", None)
    after.pop("fstrim_cloned_disks", None)
    return Effect.LIVE if before == after else Effect.PENDING


def problem(key: str, old: Any, new: Any, config: dict[str, Any], *, unplugs: bool) -> str | None:
    """What QEMU or the guest has against a change that is not pending; None if nothing.

    `unplugs` says whether the guest lets go of a device. A SCSI disk does not ask; its controller, under
    virtio-scsi-single, is a PCI device and does.
    """
    if is_drive(key):
        return _drive_problem(key, old, new, config, unplugs=unplugs)
    if key == "vcpus":
        most = max_cpus(config)
        wanted, present = int(new or most), int(old or most)
        if wanted > most:
            return "you can't add more vcpus than maxcpus"
        if wanted < present and not unplugs:
            return f"400 Parameter verification failed.\nvcpus: error unplugging cpu{present}"
    if key == "memory" and new is not None:
        wanted, present = _megabytes(new), _megabytes(old or 512)
        if wanted < STATIC_MEMORY and wanted != present:
            return f"memory can't be lower than {STATIC_MEMORY} MB"
        if wanted < present and not unplugs:
            return "400 Parameter verification failed.\ndimm0: error unplug memory module"
    if NET.fullmatch(key) and not unplugs and old is not None and (new is None or _replugs(old, new)):
        return f"error on hot-unplugging device '{key}'"
    return None


def _drive_problem(key: str, old: Any, new: Any, config: dict[str, Any], *, unplugs: bool) -> str | None:
    before = parse_drive(old) if old is not None else None
    after = parse_drive(new) if new is not None else None
    if before is None:
        return None
    if after is not None and before.get("media", "disk") != after.get("media", "disk"):
        return "unable to change media type"
    if after is not None and (is_cdrom(before) or before["file"] == after["file"]):
        return None
    if key in parse(config.get("boot", "")).get("order", "").split(";"):
        return f"can't unplug bootdisk '{key}'"
    if unplugs:
        return None
    if key.startswith("scsi") and config.get("scsihw") == "virtio-scsi-single":
        return f"error on hot-unplugging device 'virtioscsi{key.removeprefix('scsi')}'"
    return None if key.startswith("scsi") else f"error on hot-unplugging device '{key}'"


def _replugs(old: Any, new: Any) -> bool:
    return _net(parse_net(old), parse_net(new), hotplug=True) is Effect.REPLUG


def max_cpus(config: dict[str, Any]) -> int:
    """Virtual processors a VM can have: sockets times cores."""
    return int(config.get("sockets", 1)) * int(config.get("cores", 1))


def _megabytes(value: Any) -> int:
    return int(parse(value, "current")["current"])


def memory_with_dimms(old: Any, new: Any) -> str:
    """What `memory` becomes where memory is plugged: whole DIMMs, so it can end a little above the wish."""
    wanted, present = _megabytes(new), _megabytes(old)
    if wanted == present:
        return str(new)
    sizes = [STATIC_MEMORY]
    for power in range(8):
        sizes += [sizes[-1] + DIMM * 2**power * count for count in range(1, DIMMS_OF_A_SIZE + 1)]
    if wanted > present:
        return str(next(size for size in sizes if size >= wanted and size > present))
    # DIMMs go while the sum is above the wish: the last one may take it below.
    return str(max(size for size in sizes if size <= wanted))
