"""ProxmoxVM: one virtual machine, as a person writes it down.

Unset means unmanaged: what ``spec`` leaves out is never written. What was allocated is in the status
(``api.vmstatus``).
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from proxmox_operator.api.base import Matches, Rule, Wire
from proxmox_operator.api.cloudinit import CloudInit
from proxmox_operator.api.hardware import CPU, BootDisk, Disks, Firmware, Memory
from proxmox_operator.api.meta import Resource
from proxmox_operator.api.networking import Networks
from proxmox_operator.api.scalars import VMID, NodeName, ObjectName, StorageName
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
GracePeriod = Annotated[
    str,
    Field(max_length=16),
    Matches(
        pattern="^([0-9]+h)?([0-9]+m)?([0-9]+s)?$",
        also="self != '' && duration(self) >= duration('1s') && duration(self) <= duration('1h')",
        message="spec.shutdown.gracePeriod must be a duration from 1s to 1h, such as 90s or 3m",
    ),
]


class ClusterRef(Wire):
    """ProxmoxCluster that the VM is made in."""

    name: ObjectName
    """Name of the ProxmoxCluster. Required."""


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


class Source(Wire):
    """Where the VM comes from: exactly one of the fields."""

    rules = (
        Rule(
            cel="has(self.clone)",
            message="spec.source must say where the VM comes from: set spec.source.clone",
        ),
        Rule(
            cel="self == oldSelf",
            message="spec.source is immutable: restore it, or make another ProxmoxVM from the other source",
        ),
    )

    clone: Clone | None = None
    """VM or template that is cloned. Default: none; exactly one source is set."""

    @model_validator(mode="after")
    def _is_known(self) -> Self:
        if self.clone is None:
            raise ValueError("no source that this version of the operator knows: set spec.source.clone")
        return self


class Placement(Wire):
    """Where a new VM is put; an existing one is never moved."""

    nodes: Annotated[tuple[NodeName, ...], Field(min_length=1, max_length=64)]
    """Proxmox nodes such as pve1, 1 to 64. Required."""
    mode: Literal["Prefer", "Require"] = "Prefer"
    """Whether other nodes may be used when none of these can host the VM (Prefer) or not (Require). Default: Prefer."""


class Readiness(Wire):
    """What Ready waits for, besides the power state."""

    agent: bool = False
    """Whether the guest agent must answer. Default: false."""


class Shutdown(Wire):
    """How a running VM is stopped."""

    grace_period: GracePeriod = "3m"
    """How long the guest may take to shut down, from 1s to 1h, such as 90s or 3m. Default: 3m."""
    force: bool = True
    """Whether the VM is switched off when the grace period is over; false leaves it running and says so.
    Default: true."""


class VMSpec(Wire):
    """What the VM should be. A block that is left out is unmanaged: what the VM has there stays."""

    rules = (
        Rule(
            cel=(
                "has(self.clusterRef) == has(oldSelf.clusterRef)"
                " && (!has(self.clusterRef) || self.clusterRef == oldSelf.clusterRef)"
            ),
            message="spec.clusterRef is immutable: restore it, or make another ProxmoxVM for the other cluster",
            field=".clusterRef",
        ),
        Rule(
            cel="!has(oldSelf.vmid) || (has(self.vmid) && self.vmid == oldSelf.vmid)",
            message="spec.vmid is immutable once it is set: restore it, or make another ProxmoxVM",
            field=".vmid",
        ),
        Rule(
            cel=(
                "!has(self.bootDisk) || !has(self.bootDisk.storage) || !has(self.source.clone)"
                " || !has(self.source.clone.full) || self.source.clone.full"
            ),
            message="spec.bootDisk.storage needs a full clone: set spec.source.clone.full to true or remove storage",
            field=".bootDisk.storage",
        ),
        Rule(
            cel=(
                "!has(self.bootDisk) || !has(self.bootDisk.storage) || !has(self.source.clone)"
                " || !has(self.source.clone.storage) || self.source.clone.storage == self.bootDisk.storage"
            ),
            message="spec.bootDisk.storage differs from spec.source.clone.storage: keep one of them",
            field=".bootDisk.storage",
        ),
    )

    cluster_ref: ClusterRef | None = None
    """ProxmoxCluster that the VM is made in; immutable. Default: the only one there is, or the one marked as
    default."""
    name: HostName | None = None
    """Name in Proxmox, a DNS label of at most 63 characters. Default: metadata.name."""
    description: Description | None = None
    """Notes in Proxmox, at most 7000 characters; the operator keeps its mark beside them. Default: unmanaged."""
    source: Source
    """Where the VM comes from; immutable. Required."""
    vmid: VMID | None = None
    """VMID that is asked for, 100 to 999999999; needs a grant, immutable once set. Default: the next of the
    cluster's range."""
    power: Literal["Running", "Stopped", "Unmanaged"] = "Running"
    """Power state that is kept; Unmanaged leaves it to others. Default: Running."""
    cpu: CPU | None = None
    """Processor. Default: unmanaged."""
    memory: Memory | None = None
    """Memory. Default: unmanaged."""
    firmware: Firmware | None = None
    """Firmware, set before the first start and immutable after it. Default: unmanaged."""
    boot_disk: BootDisk | None = None
    """Disk that the VM boots from. Default: unmanaged."""
    disks: Disks = ()
    """Extra disks, at most 30, told apart by name; disks that are not listed are not touched. Default: none."""
    networks: Networks = ()
    """Network devices, at most 32, told apart by name; devices that are not listed are not touched. Default: none."""
    tags: Tags = ()
    """Tags in Proxmox, at most 32, besides the namespace, which always is one, and those that others have set.
    Default: none."""
    agent: bool | None = None
    """Whether the VM has the device of the QEMU guest agent. Default: unmanaged."""
    cloud_init: CloudInit | None = None
    """What cloud-init tells the guest. Default: unmanaged."""
    placement: Placement | None = None
    """Where a new VM is put. Default: the node with the most free memory that can host it."""
    readiness: Readiness = Readiness()
    """What Ready waits for, besides the power state. Default: nothing else."""
    shutdown: Shutdown = Shutdown()
    """How a running VM is stopped. Default: 3m for the guest, then switched off."""
    protection: bool | None = None
    """Whether Proxmox refuses to destroy the VM and its disks; blocks deleting this object, too. Default: unmanaged."""
    deletion_policy: Literal["Delete", "Retain"] = "Delete"
    """What happens to the VM when this object is deleted; Retain leaves it in Proxmox. Default: Delete."""
    detached_disks: Literal["Keep", "Delete"] = "Keep"
    """Whether a VM with detached disks may be destroyed with them; Keep waits until they are removed. Default: Keep."""
    management: Literal["Manage", "Observe"] = "Manage"
    """Whether differences are corrected (Manage) or only shown in status.plan (Observe). Default: Manage."""


class ProxmoxVM(Resource):
    """One virtual machine of a Proxmox VE cluster."""

    kind: ClassVar[str] = "ProxmoxVM"
    rules = (
        Rule(
            cel=f"has(self.spec.name) || self.metadata.name.matches(r'^{_HOST_NAME}$')",
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
            cel=(
                "!has(self.status) || !has(self.status.started) || !self.status.started"
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
