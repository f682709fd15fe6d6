"""Machine, display, serial console, boot order and passed-through devices of a ProxmoxVM.

Physical devices are named by Proxmox's resource mappings alone: a raw PCI or USB address is root@pam's, and
means another device on each node.
"""

from typing import Annotated, Literal

from pydantic import Field

from proxmox_operator.api.base import ListMap, Matches, Rule, Wire

Machine = Annotated[
    str,
    Field(max_length=40),
    Matches(
        pattern=r"^(pc|q35|pc-(i440fx|q35)-[0-9]+\.[0-9]+(\.[0-9]+)?(\+pve[0-9]+)?)$",
        message="spec.machine must be pc, q35, or a version of them such as pc-q35-9.2",
    ),
]
BootDevice = Annotated[
    str,
    Field(max_length=10),
    Matches(
        pattern="^((scsi|virtio|sata|ide|net|usb|hostpci)[0-9]{1,2})$",
        message="spec.bootOrder must list devices of the VM as Proxmox names them, such as scsi0, ide2 or net0",
    ),
]
BootOrder = Annotated[
    tuple[BootDevice, ...],
    Field(max_length=16),
    Rule(
        cel="self.all(a, self.exists_one(b, b == a))",
        message="spec.bootOrder lists a device twice: remove one",
    ),
]
MappingName = Annotated[
    str,
    Field(max_length=128),
    Matches(
        pattern="^[A-Za-z][A-Za-z0-9_-]+$",
        message="mapping must name a resource mapping of the Proxmox cluster (Datacenter > Resource Mappings)",
    ),
]
Hotplug = Annotated[
    tuple[Literal["Disk", "Network", "USB", "Memory", "CPU", "CloudInit"], ...],
    Field(max_length=6),
    Rule(
        cel="self.all(a, self.exists_one(b, b == a))",
        message="spec.hotplug lists a feature twice: remove one",
    ),
]
OSType = Literal[
    "Linux", "Windows11", "Windows10", "Windows8", "Windows7", "WindowsXP", "Windows2008", "Solaris", "Other"
]


class Display(Wire):
    """Graphics card of the VM."""

    rules = (
        Rule(
            cel="!has(self.memory) || !(self.type in ['Serial', 'None'])",
            message="spec.display.memory is for a graphics card: remove it, or choose another type",
            field=".memory",
        ),
    )

    type: Literal["Standard", "VirtIO", "VirtIOGL", "QXL", "VMware", "Cirrus", "Serial", "None"]
    """Graphics card that the guest sees; Serial shows the serial console instead, which needs spec.serialConsole.
    Required."""
    memory: Annotated[int, Field(ge=4, le=512)] | None = None
    """Memory of the graphics card in MiB, 4 to 512. Default: as Proxmox has it for the type."""


class Startup(Wire):
    """When the VM starts with its node, and in which order."""

    rules = (
        Rule(
            cel="has(self.onBoot) || has(self.order) || has(self.upDelay) || has(self.downDelay)",
            message="spec.startup is empty: set onBoot, order, upDelay or downDelay, or remove startup",
        ),
    )

    on_boot: bool | None = None
    """Whether Proxmox starts the VM together with its node. Default: true while power is Running, false while it is
    Stopped."""
    order: Annotated[int, Field(ge=0, le=10000)] | None = None
    """Place in the order in which a node starts its VMs, 0 to 10000; it stops them in the reverse order. Needs
    Sys.Modify on /. Default: unmanaged."""
    up_delay: Annotated[int, Field(ge=0, le=86400)] | None = None
    """Seconds that the node waits after this VM before it starts the next, 0 to 86400. Default: unmanaged."""
    down_delay: Annotated[int, Field(ge=0, le=86400)] | None = None
    """Seconds that the node waits for this VM to shut down before it goes on, 0 to 86400. Default: unmanaged."""


class PCIDevice(Wire):
    """PCI device of the node that is passed through. One taken off the list stays in the VM, unmanaged."""

    name: Annotated[
        str,
        Field(max_length=9),
        Matches(
            pattern="^hostpci([0-9]|1[0-5])$",
            message="name must be a PCI slot of the VM: hostpci0 to hostpci15",
        ),
    ]
    """PCI slot of the VM, hostpci0 to hostpci15, unique in the VM. Required."""
    mapping: MappingName
    """Resource mapping of the Proxmox cluster that says which device it is on each node; needs a grant. Required."""
    pcie: bool = False
    """Whether the guest sees a PCI Express device; needs machine q35. Default: false."""
    primary_gpu: Annotated[bool, Field(alias="primaryGPU")] = False
    """Whether it is the VM's first graphics card. Default: false."""
    rom_bar: bool = True
    """Whether the device's ROM is visible to the guest. Default: true."""


class USBDevice(Wire):
    """USB device of the node that is passed through. One taken off the list stays in the VM, unmanaged."""

    name: Annotated[
        str,
        Field(max_length=5),
        Matches(pattern="^usb([0-9]|1[0-3])$", message="name must be a USB slot of the VM: usb0 to usb13"),
    ]
    """USB slot of the VM, usb0 to usb13, unique in the VM. Required."""
    mapping: MappingName
    """Resource mapping of the Proxmox cluster that says which device it is on each node; needs a grant. Required."""
    usb3: bool = False
    """Whether the device is on a USB 3 controller. Default: false."""


PCIDevices = Annotated[
    tuple[PCIDevice, ...],
    Field(max_length=16),
    ListMap("name"),
    Rule(
        cel="self.filter(d, has(d.primaryGPU) && d.primaryGPU).size() <= 1",
        message="spec.pciDevices has several with primaryGPU: set it for one device only",
    ),
]
USBDevices = Annotated[tuple[USBDevice, ...], Field(max_length=14), ListMap("name")]
