"""ProxmoxVM: one virtual machine, as a person writes it down.

Unset means unmanaged: what ``spec`` leaves out is never written. What was allocated is in the status
(``api.vmstatus``).
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from proxmox_operator.api.base import Matches, Rule, Wire
from proxmox_operator.api.cloudinit import CloudInit
from proxmox_operator.api.devices import (
    BootOrder,
    Display,
    Hotplug,
    Machine,
    OSType,
    PCIDevices,
    Startup,
    USBDevices,
)
from proxmox_operator.api.hardware import CPU, Firmware, Memory
from proxmox_operator.api.meta import Resource
from proxmox_operator.api.networking import Networks
from proxmox_operator.api.operations import Availability, Placement, Updates
from proxmox_operator.api.scalars import VMID, ObjectName, StorageName
from proxmox_operator.api.storage import BootDisk, Disks
from proxmox_operator.api.vmstatus import VMStatus

_HOST_NAME = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"

HostName = Annotated[
    str,
    Field(max_length=63),
    Matches(
        pattern=f"^{_HOST_NAME}$",
        message="spec.name must be a DNS label such as web-1: lower-case letters, digits and dashes, at most 63",
    ),
]
Description = Annotated[
    str,
    Field(max_length=7000),
    Rule(
        cel="!self.contains('<!-- proxmox-operator')",
        message="spec.description must not contain '<!-- proxmox-operator', the mark of the operator: remove that part",
    ),
]
SnapshotName = Annotated[
    str,
    Field(max_length=40),
    Matches(
        pattern="^[A-Za-z][A-Za-z0-9_-]+$",
        message="snapshot must name a Proxmox snapshot: letters, digits, dash and underscore, a letter first",
    ),
]
UUID = Annotated[
    str,
    Field(max_length=36),
    Matches(
        pattern="^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$",
        message="uuid must be an SMBIOS UUID, as smbios1 of the VM's config shows it",
    ),
]
Tag = Annotated[
    str,
    Field(max_length=60),
    Matches(
        pattern="^[a-z0-9_][a-z0-9_+.-]*$",
        message="tags must be as Proxmox keeps them: lower-case letters, digits, and _ + . - after the first character",
    ),
]
Tags = Annotated[
    tuple[Tag, ...],
    Field(max_length=32),
    Rule(cel="self.all(a, self.exists_one(b, b == a))", message="spec.tags lists a tag twice: remove one"),
]
Power = Literal["Running", "Stopped", "Unmanaged"]
DeletionPolicy = Literal["Delete", "Retain"]
GracePeriod = Annotated[
    str,
    Field(max_length=16),
    Matches(
        pattern="^([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
        also="self != '' && duration(self) >= duration('1s') && duration(self) <= duration('1h')",
        message="spec.shutdown.gracePeriod must be a duration from 1s to 1h, such as 90s or 3m",
    ),
]

DeletionDelay = Annotated[
    str,
    Field(max_length=16),
    Matches(
        pattern="^([1-9][0-9]?d|[1-9][0-9]{0,2}[hm])$",
        message="spec.deletionDelay must be a whole number of days, hours or minutes, such as 7d, 24h or 30m",
    ),
]


class ClusterRef(Wire):
    """ProxmoxCluster that the VM is made in."""

    name: ObjectName
    """Name of the ProxmoxCluster. Required."""


CLUSTER_IS_KEPT = Rule(
    cel=(
        "!has(self.status) || !has(self.status.cluster)"
        " || (has(self.spec.clusterRef) == has(oldSelf.spec.clusterRef)"
        " && (!has(self.spec.clusterRef) || self.spec.clusterRef == oldSelf.spec.clusterRef))"
    ),
    message=(
        "spec.clusterRef is immutable once status.cluster is set: restore it, or make another object for the other "
        "cluster"
    ),
    field=".spec.clusterRef",
)


class Clone(Wire):
    """VM or template of the same Proxmox cluster that is cloned."""

    rules = (
        Rule(
            cel="!has(self.storage) || !has(self.full) || self.full",
            message="spec.source.clone.storage needs a full clone: set full to true or remove storage",
            field=".storage",
        ),
    )

    vmid: VMID
    """VMID of the template or VM, 100 to 999999999; the namespace needs a grant for it. Required."""
    full: bool | None = None
    """Whether disks are copied (true) or refer to the template's (false). Default: linked where the storage can."""
    storage: StorageName | None = None
    """Proxmox storage that a full clone's disks are put on. Default: that of the source."""
    snapshot: SnapshotName | None = None
    """Snapshot of the source that is cloned. Default: its present state."""


class TemplateRef(Wire):
    """VMTemplate that the VM is cloned from: the copy on the node that the VM is put on."""

    rules = (
        Rule(
            cel="!has(self.storage) || !has(self.full) || self.full",
            message="spec.source.templateRef.storage needs a full clone: set full to true or remove storage",
            field=".storage",
        ),
    )

    name: ObjectName
    """Name of the VMTemplate; its current version is taken when the VM is made. Required."""
    full: bool | None = None
    """Whether disks are copied (true) or refer to the template's (false). Default: linked where the storage can."""
    storage: StorageName | None = None
    """Proxmox storage that a full clone's disks are put on. Default: that of the template."""


class Adopt(Wire):
    """Existing VM of the same Proxmox cluster that is taken over as it is, without a restart.

    Only a mark in its notes and what spec lists are written. One that carries another ProxmoxVM's mark is refused.
    """

    rules = (
        Rule(
            cel="has(self.vmid) != has(self.uuid)",
            message="spec.source.adopt must name one VM: set either vmid or uuid",
        ),
    )

    vmid: VMID | None = None
    """VMID of the VM, 100 to 999999999; the namespace needs a grant for it. Default: none; either vmid or uuid is
    set."""
    uuid: UUID | None = None
    """SMBIOS UUID of the VM; the namespace needs a grant for its VMID. Default: none; either vmid or uuid is set."""


class Source(Wire):
    """Where the VM comes from: exactly one of the fields."""

    rules = (
        Rule(
            cel="[has(self.templateRef), has(self.clone), has(self.adopt)].filter(set, set).size() == 1",
            message=(
                "spec.source must say where the VM comes from: set one of spec.source.templateRef, clone and adopt"
            ),
        ),
    )

    template_ref: TemplateRef | None = None
    """VMTemplate that is cloned. Default: none; exactly one source is set."""
    clone: Clone | None = None
    """VM or template that is cloned. Default: none; exactly one source is set."""
    adopt: Adopt | None = None
    """Existing VM that is taken over. Default: none; exactly one source is set."""

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.template_ref is None and self.clone is None and self.adopt is None:
            raise ValueError(
                "no source that this version of the operator knows: set spec.source.templateRef, clone or adopt"
            )
        return self

    @property
    def cloned(self) -> Clone | TemplateRef | None:
        """How the VM is cloned; None for one that is adopted."""
        return self.template_ref or self.clone


class Readiness(Wire):
    """What Ready waits for, besides the power state."""

    agent: bool = False
    """Whether the guest agent must answer. Default: false."""
    cloud_init: bool = False
    """Whether cloud-init must have finished its first boot, as the guest agent tells. Default: false."""


class Shutdown(Wire):
    """How a running VM is stopped."""

    grace_period: GracePeriod = "3m"
    """How long the guest may take to shut down, from 1s to 1h, such as 90s or 3m. Default: 3m."""
    force: bool = True
    """Whether the VM is switched off when the grace period is over; false leaves it running and says so. HA always
    switches it off, so with false a VM under HA is not stopped. Default: true."""


class VMSpec(Wire):
    """What the VM should be. A block that is left out is unmanaged: what the VM has there stays."""

    rules = (
        Rule(
            cel="!has(oldSelf.vmid) || (has(self.vmid) && self.vmid == oldSelf.vmid)",
            message="spec.vmid is immutable once it is set: restore it, or make another ProxmoxVM",
            field=".vmid",
        ),
        Rule(
            cel=(
                "!has(self.vmid) || !has(self.source.adopt) || !has(self.source.adopt.vmid)"
                " || self.vmid == self.source.adopt.vmid"
            ),
            message="spec.vmid differs from spec.source.adopt.vmid, which the VM has already: remove spec.vmid",
            field=".vmid",
        ),
        Rule(
            cel="!has(self.source.adopt) || !has(self.networks) || self.networks.all(n, has(n.bridge))",
            message="spec.networks of an adopted VM must name their bridge: it would be moved to the default one",
            field=".networks",
        ),
        Rule(
            cel=(
                "!has(self.display) || self.display.type != 'Serial'"
                " || (has(self.serialConsole) && self.serialConsole)"
            ),
            message="spec.display.type Serial shows the serial console: set spec.serialConsole to true",
            field=".display.type",
        ),
        Rule(
            cel=(
                "!has(self.machine) || self.machine.contains('q35') || !has(self.pciDevices)"
                " || self.pciDevices.all(d, !has(d.pcie) || !d.pcie)"
            ),
            message="spec.pciDevices with pcie need machine q35: set spec.machine to q35, or remove pcie",
            field=".machine",
        ),
        Rule(
            cel=(
                "!has(self.hotplug) || !('Memory' in self.hotplug)"
                " || !has(self.cpu) || !has(self.cpu.numa) || self.cpu.numa"
            ),
            message="spec.hotplug has Memory, which needs NUMA: set spec.cpu.numa to true, or remove Memory",
            field=".hotplug",
        ),
        Rule(
            cel=(
                "!has(self.placement) || self.placement.mode != 'Require' || !has(self.placement.nodes)"
                " || size(self.placement.nodes) == 0 || !has(self.availability) || !has(self.availability.rule)"
                " || !has(self.availability.rule.nodeAffinity)"
                " || size(self.availability.rule.nodeAffinity.nodes) == 0 || self.placement.nodes.exists(required,"
                " self.availability.rule.nodeAffinity.nodes.exists(node, node.name == required))"
            ),
            message=(
                "spec.placement.nodes, which is required, and spec.availability.rule.nodeAffinity.nodes have no node"
                " in common, so HA would move the VM back: give them one"
            ),
            field=".placement.nodes",
        ),
        Rule(
            cel=(
                "!has(self.source.adopt) || !has(self.cloudInit)"
                " || (!has(self.cloudInit.userData) && !has(self.cloudInit.userDataSecretRef))"
            ),
            message=(
                "spec.cloudInit: user data is read at the first boot, which an adopted VM has behind it: remove "
                "userData and userDataSecretRef"
            ),
            field=".cloudInit",
        ),
        Rule(
            cel=(
                "!has(self.cloudInit) || !has(self.cloudInit.networkData) || !has(self.networks)"
                " || self.networks.all(n, !has(n.ipv4) && !has(n.ipv6))"
            ),
            message=(
                "spec.cloudInit.networkData says what addresses the guest has: remove ipv4 and ipv6 of spec.networks, "
                "or remove networkData, which is then made from them"
            ),
            field=".cloudInit.networkData",
        ),
    )

    cluster_ref: ClusterRef | None = None
    """ProxmoxCluster that the VM is made in; immutable once status.cluster is set. Default: the only one there is,
    or the one marked as default."""
    name: HostName | None = None
    """Name in Proxmox, a DNS label of at most 63 characters. Default: metadata.name; unmanaged for an adopted VM."""
    description: Description | None = None
    """Notes in Proxmox, at most 7000 characters; the operator keeps its mark beside them. Default: unmanaged."""
    source: Source
    """Where the VM comes from; immutable once the VM has a VMID. Required."""
    vmid: VMID | None = None
    """VMID that is asked for, 100 to 999999999; needs a grant, immutable once set. Default: the next of the
    cluster's range."""
    power: Power | None = None
    """Power state that is kept; Unmanaged leaves it to others. Default: Running; Unmanaged for an adopted VM."""
    cpu: CPU | None = None
    """Processor. Default: unmanaged."""
    memory: Memory | None = None
    """Memory. Default: unmanaged."""
    firmware: Firmware | None = None
    """Firmware, set before the first start and immutable after it. Default: unmanaged."""
    machine: Machine | None = None
    """Machine type: q35 or pc, of whichever version the VM has, or a version of them; another chipset only before the
    first start. Default: unmanaged."""
    os_type: OSType | None = None
    """Operating system in the guest, by which Proxmox chooses hardware defaults; Windows10 is also Server 2016 and
    2019, Windows11 also 2022 and 2025. Default: unmanaged."""
    display: Display | None = None
    """Graphics card. Default: unmanaged."""
    serial_console: bool | None = None
    """Whether the VM has a serial port that Proxmox's console shows. Default: unmanaged."""
    hotplug: Hotplug | None = None
    """Kinds of devices that may change while the VM runs, at most 6; an empty list allows none. Default: unmanaged."""
    boot_order: BootOrder = ()
    """Devices that the VM tries to boot from, first one first, at most 16. Default: unmanaged."""
    startup: Startup | None = None
    """When the VM starts with its node, and in which order. Default: unmanaged, but for onBoot."""
    pci_devices: PCIDevices = ()
    """PCI devices that are passed through, at most 16, told apart by name; others are not touched. Default: none."""
    usb_devices: USBDevices = ()
    """USB devices that are passed through, at most 14, told apart by name; others are not touched. Default: none."""
    boot_disk: BootDisk | None = None
    """Disk that the VM boots from. Default: unmanaged."""
    disks: Disks = ()
    """Extra disks, at most 30, told apart by name; disks that are not listed are not touched. Default: none."""
    networks: Networks = ()
    """Network devices, at most 32, told apart by name; devices that are not listed are not touched. Default: none."""
    tags: Tags = ()
    """Tags in Proxmox, at most 32, besides the namespace, which always is one, and those that others have set.
    Default: none; for an adopted VM not even the namespace."""
    agent: bool | None = None
    """Whether the VM has the device of the QEMU guest agent. Default: unmanaged."""
    cloud_init: CloudInit | None = None
    """What cloud-init tells the guest. Default: unmanaged."""
    placement: Placement | None = None
    """Where the VM is put, and with mode Require kept. Default: the node with the most free memory that can host it."""
    availability: Availability | None = None
    """Whether Proxmox's HA manager keeps the VM running. Default: unmanaged."""
    updates: Updates = Updates()
    """When a change that needs a cold boot may restart the VM. Default: never."""
    readiness: Readiness = Readiness()
    """What Ready waits for, besides the power state. Default: nothing else."""
    shutdown: Shutdown = Shutdown()
    """How a running VM is stopped. Default: 3m for the guest, then switched off."""
    protection: bool | None = None
    """Whether Proxmox refuses to destroy the VM and its disks; blocks deleting this object, too. Default: unmanaged."""
    deletion_policy: DeletionPolicy | None = None
    """What happens to the VM when this object is deleted; Retain leaves it in Proxmox. Default: Delete; Retain for an
    adopted VM."""
    deletion_delay: DeletionDelay | None = None
    """How long the VM is kept, shut down, after this object was deleted, such as 7d; until then deletionPolicy Retain
    still saves it. Default: it is destroyed at once."""
    detached_disks: Literal["Keep", "Delete"] = "Keep"
    """Whether a VM with detached disks may be destroyed with them; Keep waits until they are removed. Default: Keep."""
    management: Literal["Manage", "Observe"] = "Manage"
    """Whether differences are corrected (Manage) or only shown in status.plan (Observe). Default: Manage."""

    @property
    def wanted_power(self) -> Power:
        """``power``, or what it means where it is left out."""
        return self.power or ("Running" if self.source.adopt is None else "Unmanaged")

    @property
    def on_deletion(self) -> DeletionPolicy:
        """``deletion_policy``, or what it means where it is left out."""
        return self.deletion_policy or ("Delete" if self.source.adopt is None else "Retain")


class ProxmoxVM(Resource):
    """One virtual machine of a Proxmox VE cluster."""

    kind: ClassVar[str] = "ProxmoxVM"
    rules = (
        Rule(
            cel=(
                f"has(self.spec.name) || has(self.spec.source.adopt)"
                f" || self.metadata.name.matches(r'^{_HOST_NAME}$')"
            ),
            message=(
                "metadata.name cannot name the VM in Proxmox, as it is no DNS label of at most 63 "
                "characters: set spec.name"
            ),
            field=".spec.name",
        ),
        Rule(
            cel=(
                "!has(self.spec.vmid) || has(oldSelf.spec.vmid)"
                " || !has(self.status) || !has(self.status.vmid) || self.status.vmid == self.spec.vmid"
            ),
            message="spec.vmid differs from status.vmid, which the VM has already: remove spec.vmid",
            field=".spec.vmid",
        ),
        Rule(
            cel="!has(self.status) || !has(self.status.vmid) || self.spec.source == oldSelf.spec.source",
            message=(
                "spec.source is immutable once the VM has a VMID: restore it, or make another ProxmoxVM from the other "
                "source"
            ),
            field=".spec.source",
        ),
        CLUSTER_IS_KEPT,
        Rule(
            cel=(
                "!has(self.status) || !has(self.status.started) || !self.status.started || has(self.spec.source.adopt)"
                " || (has(self.spec.firmware) == has(oldSelf.spec.firmware)"
                " && (!has(self.spec.firmware) || self.spec.firmware == oldSelf.spec.firmware))"
            ),
            message="spec.firmware is immutable once the VM was started: restore it, or make another ProxmoxVM",
            field=".spec.firmware",
        ),
    )

    spec: VMSpec
    """What the VM should be. A block that is left out is unmanaged: what the VM has there stays."""
    status: VMStatus = VMStatus()
    """What was allocated, what is under way, and how it stands; written by the operator only."""
