"""Disks of a ProxmoxVM: the one it boots from, and extra ones.

A disk that is listed is owned whole: what it leaves out has Proxmox's default. Of the boot disk, which comes with
the source, only what is set is managed.
"""

from typing import Annotated, Literal

from pydantic import Field

from proxmox_operator.api.base import ListMap, Matches, Rule, Wire
from proxmox_operator.api.scalars import DiskSize, StorageName

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
Cache = Literal["None", "WriteBack", "WriteThrough", "DirectSync", "Unsafe"]
AsyncIO = Literal["IOUring", "Native", "Threads"]
Megabytes = Annotated[int, Field(ge=1, le=1_000_000)]
MegabytesBurst = Annotated[int, Field(le=1_000_000)]
Operations = Annotated[int, Field(ge=10, le=10_000_000)]
OperationsBurst = Annotated[int, Field(le=10_000_000)]


class DiskLimits(Wire):
    """Throttles of one disk. What is left out is not limited; a burst needs its limit."""

    rules = tuple(
        Rule(
            cel=f"!has(self.{burst}) || (has(self.{limit}) && self.{burst} >= self.{limit})",
            message=f"limits.{burst} needs limits.{limit} and must not be smaller: set both, or remove {burst}",
            field=f".{burst}",
        )
        for limit, burst in (
            ("readMBps", "readMBpsBurst"),
            ("writeMBps", "writeMBpsBurst"),
            ("readIOPS", "readIOPSBurst"),
            ("writeIOPS", "writeIOPSBurst"),
        )
    )

    read_mbps: Annotated[Megabytes | None, Field(alias="readMBps")] = None
    """Megabytes read per second, 1 to 1000000. Default: not limited."""
    read_mbps_burst: Annotated[MegabytesBurst | None, Field(alias="readMBpsBurst")] = None
    """Megabytes read per second in a burst, up to 1000000, at least readMBps. Default: no burst."""
    write_mbps: Annotated[Megabytes | None, Field(alias="writeMBps")] = None
    """Megabytes written per second, 1 to 1000000. Default: not limited."""
    write_mbps_burst: Annotated[MegabytesBurst | None, Field(alias="writeMBpsBurst")] = None
    """Megabytes written per second in a burst, up to 1000000, at least writeMBps. Default: no burst."""
    read_iops: Annotated[Operations | None, Field(alias="readIOPS")] = None
    """Reads per second, 10 to 10000000. Default: not limited."""
    read_iops_burst: Annotated[OperationsBurst | None, Field(alias="readIOPSBurst")] = None
    """Reads per second in a burst, up to 10000000, at least readIOPS. Default: no burst."""
    write_iops: Annotated[Operations | None, Field(alias="writeIOPS")] = None
    """Writes per second, 10 to 10000000. Default: not limited."""
    write_iops_burst: Annotated[OperationsBurst | None, Field(alias="writeIOPSBurst")] = None
    """Writes per second in a burst, up to 10000000, at least writeIOPS. Default: no burst."""


class BootDisk(Wire):
    """Disk that the VM boots from; it comes with the source. What is left out keeps the value it has."""

    size: DiskSize | None = None
    """Size in whole Gi or Ti, such as 20Gi, that the disk is grown to; disks never shrink. Default: as the
    source has it."""
    storage: StorageName | None = None
    """Proxmox storage that the disk is on; it is moved there, running or not, when this changes. Default: that of
    the source."""
    cache: Cache | None = None
    """How the host caches the disk; Unsafe ignores the guest's flushes and loses data on a power failure.
    Default: unmanaged."""
    aio: AsyncIO | None = None
    """How the host does the disk's input and output. Default: unmanaged."""
    discard: bool | None = None
    """Whether blocks that the guest frees are given back to the storage. Default: unmanaged."""
    ssd: bool | None = None
    """Whether the guest sees a solid-state disk. Default: unmanaged."""
    iothread: bool | None = None
    """Whether the disk has a host thread of its own. Default: unmanaged."""
    backup: bool | None = None
    """Whether Proxmox backs the disk up together with the VM. Default: unmanaged."""
    replicate: bool | None = None
    """Whether Proxmox's replication jobs include the disk. Default: unmanaged."""
    limits: DiskLimits | None = None
    """Throttles. Default: unmanaged."""


class Disk(Wire):
    """Extra disk, made blank and attached by SCSI."""

    name: DiskName
    """Name of the disk, unique in the VM; the guest sees it as the serial number. The name of a slot, such as scsi1,
    means the disk that the source has there: it is never made or detached. Required."""
    size: DiskSize
    """Size in whole Gi or Ti, such as 100Gi; it can grow, online, but never shrink. Required."""
    storage: StorageName | None = None
    """Proxmox storage that the disk is on; it is moved there, running or not, when this changes. Default:
    spec.defaults.storage of the ProxmoxCluster when it is made; left out later, it stays where it is."""
    cache: Cache | None = None
    """How the host caches the disk; Unsafe ignores the guest's flushes and loses data on a power failure.
    Default: None."""
    aio: AsyncIO | None = None
    """How the host does the disk's input and output. Default: as Proxmox does, which is IOUring."""
    discard: bool = False
    """Whether blocks that the guest frees are given back to the storage. Default: false."""
    ssd: bool = False
    """Whether the guest sees a solid-state disk. Default: false."""
    iothread: bool = False
    """Whether the disk has a host thread of its own. Default: false."""
    backup: bool = True
    """Whether Proxmox backs the disk up together with the VM. Default: true."""
    replicate: bool = True
    """Whether Proxmox's replication jobs include the disk. Default: true."""
    limits: DiskLimits | None = None
    """Throttles. Default: not limited."""
    on_remove: Literal["Detach", "Delete"] = "Detach"
    """What happens to the disk when it is taken off the list: kept as a detached disk of the VM, which is attached
    again when it is listed again (Detach), or destroyed with its data (Delete). Default: Detach."""


Disks = Annotated[tuple[Disk, ...], Field(max_length=30), ListMap("name")]
