"""Which privilege a config key needs.

Facts: $check_vm_modify_config_perm and its tables, and the value-dependent checks beside it, of qemu-server
9.2.6. A key that no class names can be set by the login root@pam only, and that refusal is a 500.
"""

import re
from typing import Any

from .access import ROOT
from .core import die, param_error
from .disks import Disks
from .props import NET, UNUSED, Props, is_cdrom, is_cloudinit, is_drive, parse, parse_drive

CLASSES = {
    "VM.Config.CPU": "cores cpu runningcpu cpulimit cpuunits numa smp sockets vcpus",
    "VM.Config.Memory": "memory balloon shares allow-ksm",
    "VM.Config.HWType": "acpi hotplug kvm machine runningmachine scsihw smbios1 tablet vga watchdog audio0"
    " rng0",
    "VM.Config.Options": "agent autostart bios description keyboard localtime migrate_downtime migrate_speed"
    " name onboot ostype protection reboot startdate startup tdf template",
    "VM.PowerMgmt": "freeze",
    "VM.Config.Disk": "boot bootdisk vmstatestorage",
}
PRIVILEGE = {key: priv for priv, keys in CLASSES.items() for key in keys.split()}
CLOUDINIT = re.compile(
    r"cicustom|cipassword|citype|ciuser|ciupgrade|nameserver|searchdomain|sshkeys|ipconfig\d+"
)
CHECKED_ELSEWHERE = re.compile(r"(unused|serial|usb|hostpci|virtiofs)\d+|tags|cdrom")


class Privileges(Disks):
    """The privilege checks of create and config."""

    def check_config_privileges(self, user: str, vmid: int, pool: str | None, keys: list[str]) -> None:
        """check_vm_modify_config_perm: the privilege class of each key."""
        for key in [] if user == "root@pam" else sorted(keys):
            if is_drive(key) or CHECKED_ELSEWHERE.fullmatch(key):
                continue
            if CLOUDINIT.fullmatch(key):
                self.require_vm(user, vmid, pool, "VM.Config.Cloudinit", "VM.Config.Network", any_of=True)
            elif NET.fullmatch(key):
                self.require_vm(user, vmid, pool, "VM.Config.Network")
            elif key in PRIVILEGE or re.fullmatch(r"numa\d+", key):
                self.require_vm(user, vmid, pool, PRIVILEGE.get(key, "VM.Config.CPU"))
                if key == "startup":
                    self.require(user, "/", "Sys.Modify")
            else:
                raise die(f"only root can set '{key}' config")

    def check_device_privileges(
        self, user: str, vmid: int, pool: str | None, key: str, value: Any, *, verb: str = "set"
    ) -> None:
        """The privileges of keys where they depend on the value: drives, serial ports, devices, tags."""
        if is_drive(key):
            drive = parse_drive(value)
            if is_cloudinit(drive):
                self.require_vm(user, vmid, pool, "VM.Config.Cloudinit", "VM.Config.CDROM")
            else:
                self.require_vm(user, vmid, pool, "VM.Config.CDROM" if is_cdrom(drive) else "VM.Config.Disk")
        elif UNUSED.fullmatch(key):
            self.require_vm(user, vmid, pool, "VM.Config.Disk")
        elif key == "tags":
            self.require_vm(user, vmid, pool, "VM.Config.Options")
        elif re.fullmatch(r"serial\d+", key):
            if value != "socket" and user != ROOT:
                raise die(f"only root can {verb} '{key}' config for real devices")
            self.require_vm(user, vmid, pool, "VM.Config.HWType")
        elif re.fullmatch(r"(usb|hostpci)\d+", key) and user != ROOT:
            self._check_host_device(user, vmid, pool, key, parse(value, "host"))
        elif CHECKED_ELSEWHERE.fullmatch(key):
            self.require_vm(user, vmid, pool, "VM.Config.HWType")

    def _check_host_device(self, user: str, vmid: int, pool: str | None, key: str, device: Props) -> None:
        """check_usb_perm and check_hostpci_perm: mapped devices only, and Mapping.Use on the mapping."""
        kind = "pci" if key.startswith("hostpci") else "usb"
        if device.get("host"):
            if kind == "pci":
                raise die(f"only root can set '{key}' config for non-mapped devices")
            if device["host"].lower() != "spice":
                raise die(f"only root can set '{key}' config for real devices")
        elif device.get("mapping"):
            self.require(user, f"/mapping/{kind}/{device['mapping']}", "Mapping.Use")
        else:
            raise die("either 'host' or 'mapping' must be set.")
        self.require_vm(user, vmid, pool, "VM.Config.HWType")
        if kind == "pci" and "romfile" in device:
            raise param_error(**{key: "only root@pam can set 'romfile' option"})
