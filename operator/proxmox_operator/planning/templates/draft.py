"""The config that a copy of a template is created with: ``POST /nodes/{node}/qemu``.

Hardware is put into words of Proxmox by the same functions as that of a ProxmoxVM.
"""

from proxmox_operator.api import Build, Hardware, Metadata, ProxmoxVM, TemplateSpec
from proxmox_operator.api.proxmoxvm import Clone, Source, VMSpec
from proxmox_operator.errors import NeedsHuman
from proxmox_operator.planning.identity import Mark
from proxmox_operator.planning.templates.version import proxmox_name
from proxmox_operator.planning.vmconfig import Wanted, diff

BOOT_SLOT = "scsi0"
BOOT_ORDER = f"order={BOOT_SLOT}"
CLOUD_INIT_SLOT = "ide2"
NETWORK_SLOT = "net0"

_CONTROLLERS = {"VirtIOSCSISingle": "virtio-scsi-single", "VirtIOSCSI": "virtio-scsi-pci", "LSI": "lsi"}


def draft(
    spec: TemplateSpec, *, template: str, version: str, mark: Mark, storage: str, volume: str
) -> dict[str, str]:
    """Keys and values of the create call of a copy whose boot disk is imported from ``volume`` to ``storage``.

    One that is to be built has no cloud-init drive yet, beside which its seed would be a second one. Raises NeedsHuman
    for hardware that no VM can have.
    """
    hardware = spec.hardware or Hardware()
    options = "discard=on" + (",iothread=1" if hardware.scsi_controller == "VirtIOSCSISingle" else "")
    wanted = Wanted(
        vm=_as_vm(hardware, proxmox_name(template, version)),
        mark=mark,
        started=False,
        storage=storage,
        bridge=None,
    )
    blank = {"scsihw": _CONTROLLERS[hardware.scsi_controller]}
    found = diff(wanted, blank)
    for problem in found.problems:
        message = problem.message.replace("spec.", "spec.hardware.")
        raise NeedsHuman(message, reason=problem.reason)
    written = {put.key: put.value for put in found.puts if put.value is not None and put.key != "tags"}
    config = (
        blank
        | written
        | {
            BOOT_SLOT: f"{storage}:0,import-from={volume},{options}",
            "boot": BOOT_ORDER,
        }
    )
    if spec.build is not None:
        config |= build_network(spec.build)
    elif hardware.cloud_init_drive:
        config[CLOUD_INIT_SLOT] = f"{storage}:cloudinit"
    if spec.tags:
        config["tags"] = ";".join(sorted(spec.tags))
    return config


def build_network(build: Build) -> dict[str, str]:
    """The network device of a guest that is being built."""
    if build.network is None:
        return {}
    tag = f",tag={build.network.vlan}" if build.network.vlan is not None else ""
    return {NETWORK_SLOT: f"virtio,bridge={build.network.bridge}{tag}"}


def _as_vm(hardware: Hardware, name: str) -> ProxmoxVM:
    """A ProxmoxVM with this hardware and nothing else; where it comes from is of no matter."""
    return ProxmoxVM(
        metadata=Metadata(name=name),
        spec=VMSpec(
            source=Source(clone=Clone(vmid=100)),
            power="Unmanaged",
            cpu=hardware.cpu,
            memory=hardware.memory,
            machine=hardware.machine,
            firmware=hardware.firmware,
            os_type=hardware.os_type,
            agent=hardware.agent,
            serial_console=hardware.serial_console,
        ),
    )
