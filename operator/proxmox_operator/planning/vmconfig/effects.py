"""When a change takes effect on a running VM: one table, for the plan's sentences and for docs/vm.md.

A row is about one field of ``spec``, the key of the VM's config it is written to and, where that is a property string,
the part of it. :func:`effect` looks up what differs between two values; the gravest row decides, since one value is
written whole. Source: ``vmconfig_hotplug_pending``, ``vmconfig_update_net``, ``_disk`` and ``_agent`` and
``$fast_plug_option`` of qemu-server. What Proxmox really left pending is read from it after each write.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from proxmox_operator.planning.canonical import whole
from proxmox_operator.planning.configured import processors
from proxmox_operator.planning.disks import THROTTLES
from proxmox_operator.planning.propstring import parse_props

Config = Mapping[str, str]

USB_GUESTS = frozenset(("l26", "win8", "win10", "win11"))
"""Values of ``ostype`` with which Proxmox plugs USB devices into a running VM."""


class Effect(IntEnum):
    """What a change does to a running VM, from the mildest to the gravest.

    REPLUG takes effect at once too, by taking the device out and putting it in again. STOPPED must not be written while
    the VM runs; NEVER not once it was started.
    """

    LIVE = 0
    REPLUG = 1
    RESTART = 2
    STOPPED = 3
    NEVER = 4


@dataclass(frozen=True, kw_only=True)
class Row:
    """One field of ``spec``. ``hotplug``: the feature of the VM without which it waits for a cold boot.

    ``part`` is None where the key's whole value is one thing, and empty for the device itself coming or going. ``also``
    is what else a person should know; ``rule`` decides where one effect does not fit all values.
    """

    field: str
    key: str
    effect: Effect
    part: str | None = None
    hotplug: str | None = None
    also: str = ""
    rule: Callable[[str | None, str | None, Config], Effect] | None = None

    def decide(self, old: str | None, new: str | None, config: Config) -> Effect:
        if self.rule is not None:
            return self.rule(old, new, config)
        plugged = self.hotplug is None or self.hotplug in hotplug_features(config)
        return self.effect if plugged else Effect.RESTART


def hotplug_features(config: Config) -> frozenset[str]:
    """What may be changed while the VM runs: ``1``, which is Proxmox's default, means network, disk and usb."""
    text = config.get("hotplug", "1")
    return frozenset(("network", "disk", "usb")) if text == "1" else frozenset(text.split(",")) - {"0", ""}


def chipset(machine: str) -> str:
    """The chipset of a machine type such as ``pc-q35-9.2``."""
    return "q35" if "q35" in machine else "i440fx"


def _vcpus(_: str | None, new: str | None, config: Config) -> Effect:
    fits = whole(new, 0) <= processors(config)
    return Effect.LIVE if fits and "cpu" in hotplug_features(config) else Effect.RESTART


def _balloon(old: str | None, new: str | None, _: Config) -> Effect:
    return Effect.RESTART if (old == "0") != (new == "0") else Effect.LIVE


def _usb(_: str | None, __: str | None, config: Config) -> Effect:
    plugged = "usb" in hotplug_features(config) and config.get("ostype") in USB_GUESTS
    return Effect.LIVE if plugged else Effect.RESTART


def _machine(old: str | None, new: str | None, _: Config) -> Effect:
    return Effect.RESTART if chipset(old or "pc") == chipset(new or "pc") else Effect.NEVER


def _hotplug(old: str | None, new: str | None, _: Config) -> Effect:
    return Effect.RESTART if re.search("cpu|memory", f"{old} {new}") else Effect.LIVE


_NET, _DRIVE, _USB, _PCI = r"net\d+", r"(?:scsi|virtio|sata|ide)\d+", r"usb\d+", r"hostpci\d+"
_HOT_DRIVE = r"(?:scsi|virtio)\d+"
_LIVE, _REPLUG, _RESTART, _NEVER = Effect.LIVE, Effect.REPLUG, Effect.RESTART, Effect.NEVER
_RERUNS = "re-runs cloud-init at the next boot"


def _disk_rows(field: str) -> tuple[Row, ...]:
    """The options of a disk, which ``spec.disks`` and ``spec.bootDisk`` have in common."""
    limits = tuple(
        Row(field=f"{field}.limits", key=_DRIVE, part=part, effect=_LIVE) for part in sorted(THROTTLES)
    )
    return (
        Row(field=f"{field}.size", key="resize", effect=_LIVE, also="only larger"),
        Row(field=f"{field}.storage", key="move_disk", effect=_LIVE, also="the disk is moved"),
        *(
            Row(field=f"{field}.{name}", key=_DRIVE, part=name, effect=_RESTART)
            for name in ("cache", "aio", "discard", "ssd", "iothread")
        ),
        *(
            Row(field=f"{field}.{name}", key=_DRIVE, part=name, effect=_LIVE)
            for name in ("backup", "replicate")
        ),
        *limits,
    )


TABLE: tuple[Row, ...] = (
    Row(field="name", key="name", effect=_LIVE, also=_RERUNS),
    Row(field="description", key="description", effect=_LIVE),
    Row(field="tags", key="tags", effect=_LIVE),
    Row(field="protection", key="protection", effect=_LIVE),
    Row(field="startup.onBoot", key="onboot", effect=_LIVE),
    *(
        Row(
            field=f"startup.{field}",
            key="startup",
            part=part,
            effect=_LIVE,
            also="needs `Sys.Modify` on `/`",
        )
        for field, part in (("order", "order"), ("upDelay", "up"), ("downDelay", "down"))
    ),
    Row(field="", key="startup", part="", effect=_LIVE),
    Row(field="cpu.cores", key="cores", effect=_RESTART),
    Row(field="cpu.sockets", key="sockets", effect=_RESTART),
    Row(field="cpu.type", key="cpu", effect=_RESTART),
    Row(field="cpu.limit", key="cpulimit", effect=_LIVE),
    Row(field="cpu.units", key="cpuunits", effect=_LIVE),
    Row(field="cpu.vcpus", key="vcpus", effect=_LIVE, hotplug="cpu", rule=_vcpus),
    Row(field="cpu.numa", key="numa", effect=_RESTART),
    Row(field="memory.size", key="memory", effect=_LIVE, hotplug="memory"),
    Row(field="memory.minimum", key="balloon", effect=_LIVE, rule=_balloon),
    Row(field="memory.ballooning", key="balloon", effect=_RESTART, rule=_balloon),
    Row(field="memory.shares", key="shares", effect=_LIVE),
    Row(field="machine", key="machine", effect=_RESTART, rule=_machine, also="another chipset: never"),
    Row(field="osType", key="ostype", effect=_RESTART),
    Row(field="display", key="vga", effect=_RESTART),
    Row(field="serialConsole", key="serial0", effect=_RESTART),
    Row(field="agent", key="agent", part="enabled", effect=_RESTART),
    Row(field="", key="agent", part="fstrim_cloned_disks", effect=_LIVE),
    Row(
        field="hotplug",
        key="hotplug",
        effect=_LIVE,
        rule=_hotplug,
        also="restart where it has or had CPU or Memory",
    ),
    Row(field="bootOrder", key="boot", effect=_RESTART),
    Row(field="firmware.uefi", key="bios", effect=_NEVER),
    Row(field="firmware.secureBoot", key="efidisk0", effect=_NEVER),
    Row(field="firmware.tpm", key="tpmstate0", effect=_NEVER),
    Row(field="", key="smbios1", effect=_NEVER),
    Row(field="pciDevices", key=_PCI, effect=_RESTART),
    Row(
        field="usbDevices",
        key=_USB,
        effect=_LIVE,
        hotplug="usb",
        rule=_usb,
        also="osType Linux, or Windows8 and later",
    ),
    Row(field="networks (added)", key=_NET, part="", effect=_LIVE, hotplug="network", also=_RERUNS),
    *(
        Row(field=f"networks.{field}", key=_NET, part=part, effect=_LIVE)
        for field, part in (
            ("bridge", "bridge"),
            ("vlan", "tag"),
            ("trunks", "trunks"),
            ("rateLimit", "rate"),
            ("firewall", "firewall"),
            ("connected", "link_down"),
        )
    ),
    *(
        Row(
            field=f"networks.{field}",
            key=_NET,
            part=part,
            effect=_REPLUG,
            hotplug="network",
            also=_RERUNS if field == "mac" else "",
        )
        for field, part in (("model", "model"), ("mac", "macaddr"), ("mtu", "mtu"), ("queues", "queues"))
    ),
    Row(field="networks.ipv4", key=r"ipconfig\d+", effect=_LIVE, also=_RERUNS),
    Row(field="networks.ipv6", key=r"ipconfig\d+", effect=_LIVE, also=_RERUNS),
    *(
        Row(field=f"cloudInit.{field}", key=key, effect=_LIVE, also=_RERUNS)
        for field, key in (
            ("user", "ciuser"),
            ("sshKeys", "sshkeys"),
            ("passwordSecretRef", "cipassword"),
            ("dns.servers", "nameserver"),
            ("dns.searchDomains", "searchdomain"),
            ("upgradePackages", "ciupgrade"),
        )
    ),
    Row(
        field="disks (added, removed)",
        key=_HOT_DRIVE,
        part="",
        effect=_LIVE,
        hotplug="disk",
        also="removed once the guest has let go of it",
    ),
    Row(field="", key=_HOT_DRIVE, part="file", effect=_REPLUG, hotplug="disk"),
    Row(field="", key=_DRIVE, part="serial", effect=Effect.STOPPED),
    Row(field="", key=_DRIVE, part="wwn", effect=Effect.STOPPED),
    *_disk_rows("disks"),
    *_disk_rows("bootDisk"),
)
"""Every managed key. A row without a field is about what the operator writes of itself, or others do."""

_BARE = {
    "agent": "enabled",
    "cpu": "cputype",
    "machine": "type",
    "memory": "current",
    "startup": "order",
    "vga": "type",
}
"""What the part of a value is called that stands there without a name; that of a drive is ``file``."""

_MAC_ADDRESS = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_RERUNNING = re.compile(r"name|ciuser|cipassword|sshkeys|nameserver|searchdomain|ciupgrade|ipconfig\d+")


def effect(key: str, old: str | None, new: str | None, config: Config) -> Effect:
    """What changing ``key`` from ``old`` to ``new`` (None: unset) does to the VM while it runs with ``config``.

    What no row names waits for a cold boot, as in Proxmox. A change back to what runs takes a waiting one away.
    """
    if old == new:
        return Effect.LIVE
    if old is not None and re.fullmatch(_DRIVE, key) and "media=cdrom" in old:
        return Effect.LIVE
    by_part = {row.part: row for row in TABLE if re.fullmatch(row.key, key)}
    if None in by_part:
        return by_part[None].decide(old, new, config)
    if old is None or new is None:
        return by_part[""].decide(old, new, config) if "" in by_part else Effect.RESTART
    before, after = parts_of(key, old), parts_of(key, new)
    decided = (
        by_part[part].decide(before.get(part), after.get(part), config) if part in by_part else Effect.RESTART
        for part in sorted(before.keys() | after.keys())
        if part != "size" and before.get(part) != after.get(part)
    )
    return max(decided, default=Effect.LIVE)


def reruns_cloud_init(key: str, old: str | None, new: str | None, config: Config) -> bool:
    """Whether the change makes another instance-id, so that the guest runs its per-instance modules again.

    Of a network device that is its MAC address, where cloud-init gives the device an address.
    """
    if _RERUNNING.fullmatch(key):
        return True
    addressed = f"ipconfig{key.removeprefix('net')}" in config
    if not re.fullmatch(_NET, key) or not addressed:
        return False
    return nic_parts(old or "").get("macaddr") != nic_parts(new or "").get("macaddr")


def nic_parts(value: str) -> dict[str, str]:
    """The parts of a network device; ``virtio=MAC`` and ``model=virtio,macaddr=MAC`` are the same."""
    result: dict[str, str] = {}
    for key, text in parse_props(value, "model").items():
        if key == "macaddr":
            result[key] = text.upper()
        elif _MAC_ADDRESS.fullmatch(text):
            result |= {"model": key, "macaddr": text.upper()}
        else:
            result[key] = text
    return result


def parts_of(key: str, value: str) -> dict[str, str]:
    """The parts of a key's value, by name."""
    if re.fullmatch(_NET, key):
        return nic_parts(value)
    return parse_props(value, _BARE.get(key, "file"))
