"""Processor, memory, firmware and disks of a ProxmoxVM.

A block that is left out is unmanaged; a disk that is listed is owned whole.
"""

from typing import Annotated, Literal

from pydantic import Field

from proxmox_operator.api.base import ListMap, Matches, Rule, Wire
from proxmox_operator.api.scalars import DiskSize, MemorySize, StorageName

CPUType = Annotated[
    str,
    Field(max_length=60),
    Matches(
        pattern="^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        message="type must be a CPU model that Proxmox knows, such as host or x86-64-v2-AES, without flags",
    ),
]
DiskName = Annotated[
    str,
    Field(max_length=20),
    Matches(
        pattern="^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        message=(
            "name becomes the disk's serial number and must be lower-case letters, digits and dashes, at most 20, such"
            " as data"
        ),
    ),
]


class CPU(Wire):
    """Processor. What is left out keeps the value it has."""

    cores: Annotated[int, Field(ge=1, le=512)] | None = None
    """Cores of each socket, 1 to 512; a change takes effect at the next cold boot. Default: unmanaged."""
    sockets: Annotated[int, Field(ge=1, le=16)] | None = None
    """Sockets, 1 to 16; the guest sees cores times sockets processors. Default: unmanaged."""
    type: CPUType | None = None
    """CPU model shown to the guest, such as host or x86-64-v2-AES. Default: unmanaged."""


class Memory(Wire):
    """Memory of the VM."""

    rules = (
        Rule(
            cel=(
                "!has(self.minimum) || !isQuantity(self.minimum) || !isQuantity(self.size)"
                " || quantity(self.minimum).compareTo(quantity(self.size)) <= 0"
            ),
            message="spec.memory.minimum must not be larger than spec.memory.size: lower minimum or raise size",
            field=".minimum",
        ),
    )

    size: MemorySize
    """Memory of the VM in whole Mi, Gi or Ti, such as 8Gi; a change takes effect at the next cold boot. Required."""
    minimum: MemorySize | None = None
    """Amount, such as 4Gi, down to which Proxmox may shrink the guest by ballooning. Default: unmanaged."""


class Firmware(Wire):
    """Firmware. It belongs to the installed system: it is set before the first start and then stays."""

    rules = (
        Rule(
            cel="!has(self.secureBoot) || !self.secureBoot || (has(self.uefi) && self.uefi)",
            message="spec.firmware.secureBoot needs UEFI: set spec.firmware.uefi to true or remove secureBoot",
            field=".secureBoot",
        ),
    )

    uefi: bool | None = None
    """Whether the VM boots by UEFI (true) or SeaBIOS (false). Default: as the source has it."""
    secure_boot: bool | None = None
    """Whether a new UEFI variable store holds Microsoft's Secure Boot keys; needs uefi. Default: as the
    source has it."""
    tpm: bool | None = None
    """Whether a TPM 2.0 is added where the source has none; false leaves one that is there. Default: as the
    source has it."""


class BootDisk(Wire):
    """Disk that the VM boots from; it comes with the source."""

    size: DiskSize | None = None
    """Size in whole Gi or Ti, such as 20Gi, that the disk is grown to; disks never shrink. Default: as the
    source has it."""
    storage: StorageName | None = None
    """Proxmox storage that a full clone's disks are put on, at creation only. Default: that of the source."""


class Disk(Wire):
    """Extra disk, made blank and attached by SCSI."""

    name: DiskName
    """Name of the disk, unique in the VM; the guest sees it as the serial number. Required."""
    size: DiskSize
    """Size in whole Gi or Ti, such as 100Gi; it can grow, online, but never shrink. Required."""
    storage: StorageName | None = None
    """Proxmox storage that the disk is made on. Default: spec.defaults.storage of the ProxmoxCluster."""
    cache: Literal["None", "WriteBack", "WriteThrough", "DirectSync", "Unsafe"] | None = None
    """How the host caches the disk; Unsafe ignores the guest's flushes and loses data on a power failure.
    Default: None."""
    discard: bool = False
    """Whether blocks that the guest frees are given back to the storage. Default: false."""
    ssd: bool = False
    """Whether the guest sees a solid-state disk. Default: false."""
    iothread: bool = False
    """Whether the disk has a host thread of its own. Default: false."""
    backup: bool = True
    """Whether Proxmox backs the disk up together with the VM. Default: true."""


Disks = Annotated[tuple[Disk, ...], Field(max_length=30), ListMap("name")]
