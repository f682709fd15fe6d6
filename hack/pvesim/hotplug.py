"""What a change of a key does to a running VM: decided here, applied in config.py. Pure functions.

Facts: vmconfig_hotplug_pending, vmconfig_update_net, vmconfig_update_disk, vmconfig_update_agent and
$fast_plug_option of qemu-server 9.2.6. Anything not named here waits in [PENDING] for the next cold start.
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
        return Effect.LIVE if "usb" in on else Effect.PENDING
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
    if (key == "tablet" or re.fullmatch(r"usb\d+", key)) and "usb" in on:
        return Effect.LIVE
    return Effect.PENDING


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
