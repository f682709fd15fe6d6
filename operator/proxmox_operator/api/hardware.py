"""Processor, memory and firmware of a ProxmoxVM.

A block that is left out is unmanaged, and so is a field of it.
"""

from typing import Annotated

from pydantic import Field

from proxmox_operator.api.base import Matches, Rule, Wire
from proxmox_operator.api.scalars import MemorySize

CPUType = Annotated[
    str,
    Field(max_length=60),
    Matches(
        pattern="^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        message="type must be a CPU model that Proxmox knows, such as host or x86-64-v2-AES, without flags",
    ),
]
CPULimit = Annotated[
    str,
    Field(max_length=8),
    Matches(
        pattern=r"^(0\.([1-9][0-9]?|0[1-9])|[1-9][0-9]{0,2}(\.[0-9]{1,2})?)$",
        also="double(self) <= 128.0",
        message="limit must be a number of processors from 0.01 to 128 as a string, such as '2' or '1.5'",
    ),
]


class CPU(Wire):
    """Processor. What is left out keeps the value it has."""

    rules = (
        Rule(
            cel=(
                "!has(self.vcpus) || !has(self.cores)"
                " || self.vcpus <= self.cores * (has(self.sockets) ? self.sockets : 1)"
            ),
            message="spec.cpu.vcpus is more than cores times sockets: set vcpus lower, or cores higher",
            field=".vcpus",
        ),
    )

    cores: Annotated[int, Field(ge=1, le=512)] | None = None
    """Cores of each socket, 1 to 512; a change takes effect at the next cold boot. Default: unmanaged."""
    sockets: Annotated[int, Field(ge=1, le=16)] | None = None
    """Sockets, 1 to 16; the guest sees cores times sockets processors. Default: unmanaged."""
    type: CPUType | None = None
    """CPU model shown to the guest, such as host or x86-64-v2-AES. Default: unmanaged."""
    limit: CPULimit | None = None
    """Processor time that the VM may use at most, in processors, as a string such as '1.5'. Default: unmanaged."""
    units: Annotated[int, Field(ge=1, le=10000)] | None = None
    """Weight against other VMs when processors are scarce, 1 to 10000; Proxmox's own default is 100. Default:
    unmanaged."""
    vcpus: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Processors plugged in at present, 1 to 8192, at most cores times sockets; changes at once where spec.hotplug
    has CPU. Default: unmanaged."""
    numa: bool | None = None
    """Whether the guest sees NUMA nodes; hot-plugging memory needs it. Default: unmanaged."""


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
        Rule(
            cel="!has(self.minimum) || !has(self.ballooning) || self.ballooning",
            message="spec.memory.minimum needs ballooning: set ballooning to true, or remove minimum",
            field=".minimum",
        ),
        Rule(
            cel="!has(self.shares) || !has(self.ballooning) || self.ballooning",
            message="spec.memory.shares is for ballooning: set ballooning to true, or remove shares",
            field=".shares",
        ),
    )

    size: MemorySize
    """Memory of the VM in whole Mi, Gi or Ti, such as 8Gi; it changes at the next cold boot, or at once where
    spec.hotplug has Memory. Required."""
    minimum: MemorySize | None = None
    """Amount, such as 4Gi, down to which Proxmox may shrink the guest by ballooning. Default: unmanaged."""
    ballooning: bool | None = None
    """Whether the VM has the balloon device; without it the guest keeps all of size. Default: unmanaged."""
    shares: Annotated[int, Field(ge=0, le=50000)] | None = None
    """Weight against other VMs when Proxmox balloons, 0 to 50000; 0 leaves this VM alone. Default: unmanaged."""


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
