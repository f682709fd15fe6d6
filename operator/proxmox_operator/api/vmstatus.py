"""Status of a ProxmoxVM: what was allocated, what is under way, and how it stands."""

from typing import Annotated, Literal

from pydantic import AwareDatetime

from proxmox_operator.api.base import ListMap, Status, Wire
from proxmox_operator.api.conditions import Conditions

MAX_ADDRESSES = 20
"""Addresses kept in ``status.addresses``."""

MAX_DETACHED_DISKS = 50
"""Disks in ``status.detachedDisks``; with so many no further one is detached, as its name would be forgotten."""


class Provisioning(Wire):
    """Creation that is under way; it is written before Proxmox is asked for anything."""

    source_node: str
    """Node that holds the source."""
    source_vmid: int
    """VMID of the source."""
    full: bool
    """Whether a full clone is made."""
    storage: str | None = None
    """Storage that the disks are put on; absent means that of the source."""
    since: AwareDatetime
    """When the VMID was reserved."""


class Task(Wire):
    """Proxmox call of ours that has not ended."""

    action: str
    """What the call is for."""
    upid: str | None = None
    """Proxmox's id of the task; absent while its answer is awaited or when it was lost."""
    node: str
    """Node that works on it."""
    since: AwareDatetime
    """When the call was made."""
    volume: str | None = None
    """Proxmox volume that a disk is moved away from; absent for other calls."""


class TemplateUsed(Wire):
    """VMTemplate that the VM was made from."""

    name: str
    """Name of the VMTemplate."""
    version: str
    """Version that it was made from."""
    linked: bool
    """Whether its disks refer to the template's, which then must stay."""


class DiskStatus(Wire):
    """Disk as it is attached, or is going to be."""

    name: str
    """Name as in spec.disks."""
    slot: str
    """Proxmox slot such as scsi1; empty while the disk is not attached."""
    volume: str
    """Proxmox volume such as local-lvm:vm-10000-disk-1."""
    size: str
    """Size such as 100Gi."""
    on_remove: Literal["Detach", "Delete"] = "Detach"
    """What happens to the disk when it is taken off spec.disks, as its entry said last."""
    node: str | None = None
    """Node on which the volume had this name; volumes of local storages get other names when a VM is moved."""


class DetachedDisk(Wire):
    """Disk that was taken off spec.disks and is kept, with its data, until it is listed again or removed."""

    name: str
    """Name that it had in spec.disks."""
    volume: str
    """Proxmox volume such as local-lvm:vm-10000-disk-1."""
    node: str | None = None
    """Node on which the volume had this name; volumes of local storages get other names when a VM is moved."""


class Restart(Wire):
    """Restart that is under way, or that has not brought about what it was for."""

    cause: str
    """What it is for: token= and the annotation's value, or pending= and a hash of the changes that wait for it."""
    phase: Literal["Stopping", "Starting", "TimedOut", "NotApplied"]
    """Whether the VM is still to be shut down (Stopping) or to be started again (Starting), its guest did not shut down
    in time and was left running (TimedOut), or the same changes still wait after it (NotApplied). The latter two stay
    as long as they are true: no restart is tried twice for the same cause."""
    since: AwareDatetime
    """When it began."""
    node: str | None = None
    """Node that the VM was on then."""

    @property
    def under_way(self) -> bool:
        """Whether it has begun and is not over."""
        return self.phase in ("Stopping", "Starting")


class HAStatus(Wire):
    """The VM and Proxmox's HA manager."""

    state: str | None = None
    """State that the HA manager has for it, such as started, stopped, error; absent while it is not under HA."""
    joined: bool = False
    """Whether the VM was put under HA by the operator: only then does availability.ha false take it out."""
    recovered: int | None = None
    """The metadata.generation in which an error state was recovered; absent once the VM was as wanted again."""


class SeedStatus(Wire):
    """ISO image with the VM's user data, which the guest reads at its first boot."""

    volume: str
    """Proxmox volume such as local:iso/pvm-seed-10000-1b2c3d4e.iso."""
    node: str
    """Node that it was uploaded through; the only one that has it where the storage is not shared."""
    phase: Literal["Uploading", "Uploaded", "Emptying", "Emptied", "Removed"]
    """Whether it is on its storage, was overwritten with one that holds nothing (Emptied), or is gone again."""
    since: AwareDatetime
    """When the phase was recorded."""
    made_from: str
    """What of the spec it was made from, as a hash; tells an edit that comes too late."""


class NetworkStatus(Wire):
    """Network device as it is."""

    name: str
    """Name as in spec.networks."""
    mac: str
    """MAC address."""


class VMStatus(Status):
    """What was allocated, what is under way, and how it stands."""

    observed_generation: int | None = None
    """The metadata.generation that was last acted on."""
    conditions: Conditions = ()
    """Ready is the summary; others are Provisioned, Synced, Reconciling, Stalled, AgentConnected, CloudInit,
    RestartRequired, DisksPending and HighlyAvailable."""
    cluster: str | None = None
    """Name of the ProxmoxCluster that the VM is in; it stays, whatever the default becomes."""
    vmid: int | None = None
    """VMID that was allocated; it is recorded before the VM is made."""
    uuid: str | None = None
    """SMBIOS UUID, minted once; it is recorded before the VM is made."""
    node: str | None = None
    """Node that the VM is on, or is being made on."""
    template: TemplateUsed | None = None
    """VMTemplate that the VM was made from; absent for another source."""
    provisioning: Provisioning | None = None
    """Creation that is under way; absent once the VM exists."""
    task: Task | None = None
    """Proxmox call of ours that has not ended."""
    started: bool = False
    """Whether the VM was ever started by us, so that its disks may hold data; it is recorded before the start."""
    power: Literal["Running", "Stopped", "Paused", "Unknown"] | None = None
    """Power state as Proxmox last reported it."""
    addresses: tuple[str, ...] = ()
    """IP addresses that the guest agent reports, else the static ones of spec.networks; at most 20."""
    networks: Annotated[tuple[NetworkStatus, ...], ListMap("name")] = ()
    """Network devices of spec.networks as they are."""
    disks: Annotated[tuple[DiskStatus, ...], ListMap("name")] = ()
    """Disks of spec.disks as they are attached, and those taken off the list that are not yet detached."""
    detached_disks: Annotated[tuple[DetachedDisk, ...], ListMap("name")] = ()
    """Disks that were taken off spec.disks and are kept, at most 50; they would be destroyed together with the
    VM."""
    restart: Restart | None = None
    """Restart that is under way, or that has not brought about what it was for."""
    ha: HAStatus | None = None
    """The VM and Proxmox's HA manager; absent where neither availability nor Proxmox has put it under HA."""
    restarted_for: str | None = None
    """Value of the restart annotation that was last acted on, or as it was found on a new object."""
    moved_to: str | None = None
    """Value of the move-to annotation that was last acted on, or as it was found on a new object."""
    managed: tuple[str, ...] = ()
    """Fields and items of spec that are managed, at most 50, such as cpu.cores and networks[net0]; one that is taken
    out of spec keeps its last value, and an Event says so."""
    tags: tuple[str, ...] = ()
    """Tags that are ours, spec.tags and the namespace; only these are removed again."""
    protection_set: bool = False
    """Whether Proxmox's protection flag was set by us."""
    password_from: str | None = None
    """Secret and key that the password was last taken from."""
    seed: SeedStatus | None = None
    """ISO image with the VM's user data; it stays on record when it is gone, and absent where there was none."""
    cloud_init_done: bool = False
    """Whether cloud-init was seen to have finished the first boot without an error; it is not asked again."""
    plan: tuple[str, ...] = ()
    """What differs from the spec, as sentences: to be written next, at a cold boot, or, with Observe, never."""
