"""From a VM's config to QEMU's command line. Pure functions.

Facts: config_to_command, print_drivedevice_full, scsihw_infos and print_netdevice_full of qemu-server 9.2.6 (on 8:
8.4.10). As there: the names of devices, controllers and units, the boot order, `serial`, `wwn`, and `device_id`,
which is `drive-scsiN` from machine 10.0 on whatever the serial is. Not as there: the machine is always i440fx under
SeaBIOS, the processor is the host's (or QEMU's fullest under emulation), a network is QEMU's own, which reaches
nothing (its sole door is a forwarded port of the host), and there is a serial console on top. Not built: displays,
USB, passed-through devices, the TPM, the EFI disk, hugepages, ballooning.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .guest_fs import NEW_NAMES, machine_version
from .props import NET, Props, drives, enabled, is_cdrom, natural, parse, parse_net

NIC_DEVICES = {"virtio": "virtio-net-pci"}
CONTROLLER_DEVICES = {
    "virtio-scsi-pci": "virtio-scsi-pci",
    "virtio-scsi-single": "virtio-scsi-pci",
    "megasas": "megasas",
    "pvscsi": "pvscsi",
}
LSI_UNITS = 7
SATA_UNITS = 6
FIRST_BOOT_INDEX = 100
Option = dict[str, str | int | bool]


@dataclass(frozen=True)
class Image:
    """A file with the contents of a volume; `format` is QEMU's name of its format."""

    path: Path
    format: str


@dataclass(frozen=True)
class Sockets:
    """Where QEMU listens and logs, all in one folder of the VM."""

    folder: Path

    @property
    def monitor(self) -> Path:
        """QMP."""
        return self.folder / "qmp"

    @property
    def agent(self) -> Path:
        """The guest agent's virtio port."""
        return self.folder / "qga"

    @property
    def console(self) -> Path:
        """The serial console, a stream of bytes."""
        return self.folder / "console"

    @property
    def console_log(self) -> Path:
        """What the guest has written to the console."""
        return self.folder / "console.log"


def command(
    vmid: int,
    config: Mapping[str, Any],
    images: Mapping[str, Image],
    sockets: Sockets,
    *,
    accelerator: str,
    pve: int,
) -> list[str]:
    """The argument list; `images` has the file of each drive that has a medium."""
    argv = ["-name", f"pvesim-{vmid}", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc"]
    argv += (
        # A nested host may not know the register behind arch-capabilities, and QEMU then aborts.
        ["-accel", "kvm", "-cpu", "host,-arch-capabilities"]
        if accelerator == "kvm"
        else ["-accel", "tcg,thread=multi", "-cpu", "max"]
    )
    sockets_, cores = int(config.get("sockets", 1)), int(config.get("cores", 1))
    argv += ["-smp", f"{config.get('vcpus') or sockets_ * cores},sockets={sockets_},cores={cores}"]
    argv += ["-m", parse(config.get("memory", 512), "current")["current"]]
    if uuid := parse(config.get("smbios1", "")).get("uuid"):
        argv += ["-smbios", f"type=1,uuid={uuid}"]
    if str(config.get("reboot", 1)) == "0":
        argv += ["-no-reboot"]
    argv += [
        "-chardev",
        f"socket,id=qmp,path={sockets.monitor},server=on,wait=off",
        "-mon",
        "chardev=qmp,mode=control",
    ]
    argv += [
        "-chardev",
        f"socket,id=serial,path={sockets.console},server=on,wait=off,logfile={sockets.console_log}",
    ]
    argv += ["-serial", "chardev:serial"]
    if enabled(config.get("agent")):
        argv += [
            "-chardev",
            f"socket,id=qga0,path={sockets.agent},server=on,wait=off",
            "-device",
            "virtio-serial,id=qga",
        ]
        argv += ["-device", "virtserialport,chardev=qga0,name=org.qemu.guest_agent.0"]
    order = [device for device in parse(config.get("boot", "")).get("order", "").split(";") if device]
    present: set[str] = set()
    for key, drive in sorted(drives(dict(config)), key=lambda item: natural(item[0])):
        if key in ("efidisk0", "tpmstate0"):
            continue
        for option in controllers(key, config):
            if option["id"] not in present:
                present.add(str(option["id"]))
                argv += ["-device", _text(option)]
        if key in images:
            argv += ["-blockdev", _text(_flat(blockdev(key, drive, images[key])))]
        device = drive_device(key, drive, config, pve, medium=key in images)
        argv += ["-device", _text(device | _boot_index(key, order))]
    for key in sorted((key for key in config if NET.fullmatch(key)), key=natural):
        argv += [
            "-netdev",
            _text(netdev(key, config)),
            "-device",
            _text(nic_device(key, config) | _boot_index(key, order)),
        ]
    return argv


def _boot_index(key: str, order: list[str]) -> Option:
    return {"bootindex": FIRST_BOOT_INDEX + order.index(key)} if key in order else {}


def controllers(key: str, config: Mapping[str, Any]) -> list[Option]:
    """The controller a drive is plugged into: with virtio-scsi-single one of its own, IDE's is part of the machine."""
    name, number = natural(key)
    kind = str(config.get("scsihw", "lsi"))
    if name == "sata":
        return [{"driver": "ahci", "id": f"ahci{number // SATA_UNITS}"}]
    if name != "scsi":
        return []
    if kind == "virtio-scsi-single":
        return [{"driver": "virtio-scsi-pci", "id": f"virtioscsi{number}"}]
    if kind in CONTROLLER_DEVICES:
        return [{"driver": CONTROLLER_DEVICES[kind], "id": "scsihw0"}]
    return [{"driver": "lsi53c895a" if kind == "lsi" else kind, "id": f"scsihw{number // LSI_UNITS}"}]


def drive_device(key: str, drive: Props, config: Mapping[str, Any], pve: int, *, medium: bool) -> Option:
    """The device of a drive; without a medium it is an empty CD-ROM drive."""
    name, number = natural(key)
    option: Option = {"id": key}
    option |= {"drive": node_name(key)} if medium else {}
    if name == "virtio":
        return option | {"driver": "virtio-blk-pci"} | _serial(drive)
    kind = "cd" if is_cdrom(drive) else "hd"
    if name == "scsi":
        option |= {"driver": f"scsi-{kind}", "bus": f"{controllers(key, config)[0]['id']}.0"}
        if str(config.get("scsihw", "lsi")).startswith("virtio-scsi"):
            option |= {"channel": 0, "scsi-id": 0, "lun": number}
        else:
            option |= {"scsi-id": number % LSI_UNITS}
        old = machine_version(config, pve) < NEW_NAMES and drive.get("serial")
        option |= {"device_id": old or node_name(key)}
    else:
        units = SATA_UNITS if name == "sata" else 2
        unit: Option = {"bus": f"ahci{number // units}.{number % units}"}
        if name == "ide":
            unit = {"bus": f"ide.{number // units}", "unit": number % units}
        option |= {"driver": f"ide-{kind}"} | unit
    if kind == "cd":
        return option
    wwn: Option = {"wwn": int(drive["wwn"], 16)} if drive.get("wwn") else {}
    rotation: Option = {"rotation_rate": 1} if drive.get("ssd") == "1" else {}
    return option | _serial(drive) | wwn | rotation


def _serial(drive: Props) -> Option:
    return {"serial": drive["serial"]} if drive.get("serial") else {}


def node_name(key: str) -> str:
    """What QEMU calls the contents of a drive."""
    return f"drive-{key}"


def blockdev(key: str, drive: Props, image: Image) -> dict[str, Any]:
    """The contents of a drive, as QMP's blockdev-add takes it."""
    return {
        "driver": image.format,
        "node-name": node_name(key),
        "read-only": is_cdrom(drive) or drive.get("ro") == "1",
        "discard": "unmap" if drive.get("discard") == "on" else "ignore",
        # Nothing here outlives the host's memory: what a guest flushes need not reach the host's disk.
        "cache": {"direct": False, "no-flush": True},
        "file": {"driver": "file", "filename": str(image.path)},
    }


def netdev(key: str, config: Mapping[str, Any]) -> Option:
    """A network of the NIC's own: the guest's address and gateway are what its ipconfig says, and a free port of
    the loopback interface leads to its port 22. It reaches nothing else."""
    option: Option = {"type": "user", "id": key, "restrict": True}
    guest = ""
    address = parse(config.get("ipconfig" + key.removeprefix("net"), "")).get("ip", "dhcp")
    if address != "dhcp":
        interface = ipaddress.IPv4Interface(address)
        others = _others(interface, parse(config["ipconfig" + key.removeprefix("net")]).get("gw"))
        guest = str(interface.ip)
        option |= {"net": str(interface.network), "host": others[0], "dns": others[1], "dhcpstart": others[2]}
    return option | {"hostfwd": f"tcp:127.0.0.1:0-{guest}:22"}


def _others(interface: ipaddress.IPv4Interface, gateway: str | None) -> list[str]:
    """Addresses for QEMU's side of a network: the gateway first, none of them the guest's."""
    found = [gateway] if gateway else []
    for host in interface.network.hosts():
        if len(found) == 3:
            break
        if host != interface.ip and str(host) not in found:
            found.append(str(host))
    return found


def nic_device(key: str, config: Mapping[str, Any]) -> Option:
    """The NIC on its network. It has no boot ROM."""
    nic = parse_net(config[key])
    model = nic["model"]
    return {
        "driver": NIC_DEVICES.get(model, model),
        "id": key,
        "netdev": key,
        "mac": nic["macaddr"],
        "romfile": "",
    }


def forwarded_port(usernet: str, key: str) -> int | None:
    """The host's port that leads to port 22 behind a NIC, from what the monitor's `info usernet` prints."""
    lines = usernet.partition(f"({key}):")[2].partition("Hub ")[0]
    port = re.search(r"HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", lines)
    return int(port[1]) if port else None


def _flat(value: dict[str, Any], prefix: str = "") -> Option:
    out: Option = {}
    for key, item in value.items():
        out |= _flat(item, f"{prefix}{key}.") if isinstance(item, dict) else {prefix + key: item}
    return out


def _text(option: Option) -> str:
    """An option in QEMU's `name=value,...` notation."""
    words = []
    for name, value in option.items():
        text = ("on" if value else "off") if isinstance(value, bool) else str(value).replace(",", ",,")
        words.append(f"{name}={text}")
    return ",".join(words)
