"""What a VM takes of the node it is put on: memory, processors, storages and space, bridges, mapped devices."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxmox_operator.api import Disk, ProxmoxVM
from proxmox_operator.api.quantity import parse_quantity
from proxmox_operator.planning import disks
from proxmox_operator.planning.access import Access
from proxmox_operator.planning.configured import memory_mib, processors, topology
from proxmox_operator.planning.placement.things import Template
from proxmox_operator.planning.propstring import parse_props
from proxmox_operator.planning.seed import has_user_data, storage_of

_VOLUME = re.compile(r"^(scsi|virtio|sata|ide|efidisk|tpmstate|unused)\d+$")
_NETWORK = re.compile(r"^net\d+$")
_DEVICE = re.compile(r"^(?P<kind>hostpci|usb)\d+$")
_KINDS = {"hostpci": "pci", "usb": "usb"}


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Each thing by name, with who asks for it, as a message puts it; ``mappings`` by kind (pci, usb) and name.
    ``iso_storages`` are those that must take ISO images, ``storages`` those for disks.

    Memory and processors are 0 for a VM that is not going to run. ``space`` are the bytes that new volumes take, by
    storage; 0 for one that they will grow in.
    """

    memory: int
    cpus: int
    storages: Mapping[str, str]
    bridges: Mapping[str, str]
    mappings: Mapping[tuple[str, str], str] = field(default_factory=dict)
    iso_storages: Mapping[str, str] = field(default_factory=dict)
    space: Mapping[str, int] = field(default_factory=dict)


def needs_of_clone(
    vm: ProxmoxVM, template: Template, access: Access, *, full: bool, storage: str | None
) -> Needs:
    """What a VM needs that is going to be cloned; ``storage`` gets the disks of a full clone, else their own do."""
    spec = vm.spec
    runs = spec.wanted_power != "Stopped"
    memory, cpus = memory_mib(template.config) << 20, processors(template.config)
    if spec.memory is not None:
        memory = parse_quantity(spec.memory.size)
    if spec.cpu is not None:
        cores, sockets = topology(template.config)
        cpus = (spec.cpu.cores or cores) * (spec.cpu.sockets or sockets)
    origins = template.storages() | ({storage} if storage else set())
    return Needs(
        memory=memory if runs else 0,
        cpus=cpus if runs else 0,
        storages=dict.fromkeys(origins, str(template)) | _storage_fields(vm, access),
        bridges=_bridge_fields(vm, access),
        mappings=_mapping_fields(vm),
        iso_storages=_iso_storage_fields(vm, access),
        space=_space_of_clone(vm, template, access, full=full, storage=storage),
    )


def needs_of_config(config: Mapping[str, str], *, runs: bool, space: Mapping[str, int]) -> Needs:
    """What an existing VM needs on the node it is moved to; ``space`` is that of disks that are copied there."""
    storages: dict[str, str] = {}
    bridges: dict[str, str] = {}
    mappings: dict[tuple[str, str], str] = {}
    for key, value in sorted(config.items()):
        if _VOLUME.match(key):
            drive = disks.Drive.parse(value)
            generated = "cloudinit" in drive.volume
            if ":" in drive.volume and (generated or not drive.is_cdrom):
                storages.setdefault(drive.storage, f"its {key}")
        elif _NETWORK.match(key) and (bridge := parse_props(value, "model").get("bridge")):
            bridges.setdefault(bridge, f"its {key}")
        elif (device := _DEVICE.match(key)) and (mapping := parse_props(value, "host").get("mapping")):
            mappings.setdefault((_KINDS[device["kind"]], mapping), f"its {key}")
    return Needs(
        memory=memory_mib(config) << 20 if runs else 0,
        cpus=processors(config) if runs else 0,
        storages=storages,
        bridges=bridges,
        mappings=mappings,
        space=space,
    )


def _space_of_clone(
    vm: ProxmoxVM, template: Template, access: Access, *, full: bool, storage: str | None
) -> dict[str, int]:
    """A linked clone takes nothing at first; copies, growth of the boot disk and new disks take what they are."""
    space: Counter[str] = Counter()
    drives, boot = disks.drives(template.config), disks.boot_slot(template.config)
    for drive in drives.values():
        space[(storage if full else None) or drive.storage] += drive.size if full else 0
    if boot is not None and vm.spec.boot_disk is not None and vm.spec.boot_disk.size is not None:
        grown = parse_quantity(vm.spec.boot_disk.size) - drives[boot].size
        space[(storage if full else None) or drives[boot].storage] += max(0, grown)
    for disk in vm.spec.disks:
        where = _storage_of(disk, access)
        if where is not None:
            space[where] += parse_quantity(disk.size)
    return dict(space)


def _storage_of(disk: Disk, access: Access) -> str | None:
    """Where a listed disk is made; one that comes with the template stays where its copy is, unless told otherwise."""
    return disk.storage or (None if disks.is_slot(disk.name) else access.storage)


def _storage_fields(vm: ProxmoxVM, access: Access) -> dict[str, str]:
    """Every storage that the spec needs on the VM's node, with the field that asks for it."""
    spec = vm.spec
    clone, ref, boot, init = spec.source.clone, spec.source.template_ref, spec.boot_disk, spec.cloud_init
    fields = [(f"spec.disks[{disk.name}].storage", _storage_of(disk, access)) for disk in spec.disks]
    fields.append(("spec.source.clone.storage", clone.storage if clone else None))
    fields.append(("spec.source.templateRef.storage", ref.storage if ref else None))
    fields.append(("spec.bootDisk.storage", boot.storage if boot else None))
    fields.append(("spec.cloudInit.storage", init.storage if init else None))
    return {storage: field for field, storage in fields if storage is not None}


def _iso_storage_fields(vm: ProxmoxVM, access: Access) -> dict[str, str]:
    """The storage that gets the user data, with the field that names it."""
    storage = storage_of(vm, access.seed_storage) if has_user_data(vm) else None
    named = vm.spec.cloud_init is not None and vm.spec.cloud_init.seed_storage is not None
    field = "spec.cloudInit.seedStorage" if named else "spec.defaults.seedStorage of the ProxmoxCluster"
    return {storage: field} if storage is not None else {}


def _bridge_fields(vm: ProxmoxVM, access: Access) -> dict[str, str]:
    """Every bridge that the spec needs on the VM's node, with the field that asks for it."""
    fields = [
        (f"spec.networks[{network.name}].bridge", network.bridge or access.bridge)
        for network in vm.spec.networks
    ]
    return {bridge: field for field, bridge in fields if bridge is not None}


def _mapping_fields(vm: ProxmoxVM) -> dict[tuple[str, str], str]:
    """Every resource mapping that must have a device on the VM's node, with the field that asks for it."""
    pci = {("pci", each.mapping): f"spec.pciDevices[{each.name}].mapping" for each in vm.spec.pci_devices}
    usb = {("usb", each.mapping): f"spec.usbDevices[{each.name}].mapping" for each in vm.spec.usb_devices}
    return pci | usb
