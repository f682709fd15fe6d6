"""VMTemplate: an image that becomes Proxmox templates, one on each node where its storage is local.

What shapes the result is hashed into a version (``planning.templates.version``); a change makes a new version beside
the old one. What was made is in the status.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from proxmox_operator.api.base import ListMap, Matches, Rule, Status, Wire
from proxmox_operator.api.build import Build, CopyBuild
from proxmox_operator.api.conditions import Conditions
from proxmox_operator.api.devices import Machine, OSType
from proxmox_operator.api.hardware import CPU, Firmware, Memory
from proxmox_operator.api.meta import Resource
from proxmox_operator.api.proxmoxvm import CLUSTER_IS_KEPT, ClusterRef, DeletionPolicy, Tag
from proxmox_operator.api.scalars import VMID, NodeName, StorageName

ImageURL = Annotated[
    str,
    Field(max_length=2048),
    Matches(
        pattern=r"^https?://[A-Za-z0-9.\[\]:_-]+(/[A-Za-z0-9._~!$&()*+,;=:@%/-]*)?$",
        message=(
            "spec.image.url must be an http or https URL without user, password, query or fragment: the nodes write it "
            "into their task logs"
        ),
    ),
]
Checksum = Annotated[
    str,
    Field(max_length=135),
    Matches(
        pattern="^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$",
        message=(
            "spec.image.checksum must be sha256: or sha512: and the lower-case hex digits, as in the SHA256SUMS or "
            "SHA512SUMS file beside the image"
        ),
    ),
]
Volume = Annotated[
    str,
    Field(max_length=300),
    Matches(
        pattern=r"^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]:import/[A-Za-z0-9.+=_-]+\.(qcow2|raw|vmdk)$",
        message=(
            "spec.image.volume must be an import volume of a storage, such as nas:import/debian-12.qcow2 (qcow2, raw or"
            " vmdk)"
        ),
    ),
]


class Image(Wire):
    """Disk image that the template boots from: one at a URL, or one that lies on a storage already."""

    rules = (
        Rule(
            cel="has(self.url) != has(self.volume)",
            message="spec.image must name one image: set either url or volume",
        ),
        Rule(
            cel="!has(self.url) || has(self.checksum)",
            message="spec.image.url needs a checksum: set it, from the SHA256SUMS or SHA512SUMS file beside the image",
            field=".url",
        ),
        Rule(
            cel="!has(self.url) || has(self.storage)",
            message="spec.image.url needs a place: set spec.image.storage to a storage whose content includes import",
            field=".url",
        ),
        Rule(
            cel="!has(self.volume) || (!has(self.checksum) && !has(self.format) && !has(self.storage))",
            message="spec.image.volume is taken as it is: remove checksum, format and storage",
            field=".volume",
        ),
        Rule(
            cel="!has(self.volume) || self.via == 'Proxmox'",
            message="spec.image.volume lies on a storage already, so nothing is uploaded: remove via",
            field=".volume",
        ),
        Rule(
            cel=r"!has(self.url) || has(self.format) || self.url.matches('[.](qcow2|raw|vmdk|img)$')",
            message=(
                "spec.image.url does not end in .qcow2, .img, .raw or .vmdk: set format; a compressed image cannot be "
                "imported, so serve it unpacked"
            ),
            field=".url",
        ),
    )

    url: ImageURL | None = None
    """Where the image is downloaded from, by whom via says: a file whose content does not change. Needs checksum and
    storage. Default: none; either url or volume is set."""
    via: Literal["Proxmox", "Operator"] = "Proxmox"
    """Who downloads it: Proxmox, each node by itself; or Operator, for nodes that do not reach the URL: the operator
    fetches it and uploads it to each, which needs Proxmox VE 8.4. Default: Proxmox."""
    checksum: Checksum | None = None
    """Checksum as published beside the image: sha256: or sha512: and hex digits; Proxmox deletes a file that has
    another. Default: none; it is needed with url."""
    format: Literal["qcow2", "raw", "vmdk"] | None = None
    """Format of the image, which must not be compressed. Default: as the URL ends; .img is taken for qcow2, as Ubuntu
    and others publish it."""
    storage: StorageName | None = None
    """Proxmox storage that the image is downloaded to; its content must include import. Default: none; it is needed
    with url."""
    volume: Volume | None = None
    """Image that lies on a storage already, such as nas:import/debian-12.qcow2; another content needs another name, or
    another revision. It is never deleted. Default: none; either url or volume is set."""


class FromVM(Wire):
    """Stopped VM of the same Proxmox cluster that the template is a full clone of; the VM itself stays as it is."""

    vmid: VMID
    """VMID of the VM or template, 100 to 999999999. Required."""


class Hardware(Wire):
    """Hardware of the template; what the spec of a ProxmoxVM lists counts for that VM instead."""

    cpu: CPU = CPU(type="x86-64-v2-AES")
    """Processor of a VM whose own spec says nothing; given, what it leaves out is Proxmox's default, also the type.
    Default: one core of type x86-64-v2-AES."""
    memory: Memory = Memory(size="1Gi")
    """Memory of a VM whose own spec says nothing. Default: 1Gi."""
    machine: Machine = "q35"
    """Machine type. Default: q35."""
    firmware: Firmware = Firmware()
    """Firmware, which belongs to the installed system: VMs keep it. Default: SeaBIOS, without TPM."""
    os_type: OSType = "Linux"
    """Operating system in the guest, by which Proxmox chooses hardware defaults. Default: Linux."""
    scsi_controller: Literal["VirtIOSCSISingle", "VirtIOSCSI", "LSI"] = "VirtIOSCSISingle"
    """SCSI controller of the boot disk; that of VirtIOSCSISingle gives each disk a thread of its own. Default:
    VirtIOSCSISingle."""
    agent: bool = True
    """Whether the VM has the device of the QEMU guest agent; the agent itself must be in the image. Default: true."""
    serial_console: bool = True
    """Whether the VM has a serial port, which most cloud images write their console to. Default: true."""
    cloud_init_drive: bool = True
    """Whether the VM has the drive of Proxmox's native cloud-init. Default: true."""


class TemplateSpec(Wire):
    """What the templates are made from, and where they are."""

    rules = (
        Rule(
            cel="has(self.image) != has(self.fromVM)",
            message="spec must say what the template is made from: set either spec.image or spec.fromVM",
        ),
        Rule(
            cel="!has(self.fromVM) || !has(self.hardware)",
            message="spec.hardware is that of the VM where spec.fromVM is set: remove it",
            field=".hardware",
        ),
        Rule(
            cel="!has(self.build) || has(self.image)",
            message="spec.build works on an image: set spec.image, or prepare the VM of spec.fromVM by hand",
            field=".build",
        ),
        Rule(
            cel="!has(self.build) || !has(self.hardware) || !has(self.hardware.agent) || self.hardware.agent",
            message="spec.build talks to the guest by its agent: set spec.hardware.agent to true, or remove it",
            field=".build",
        ),
    )

    cluster_ref: ClusterRef | None = None
    """ProxmoxCluster that the templates are made in; immutable once status.cluster is set. Default: the only one there
    is, or the one marked as default."""
    image: Image | None = None
    """Disk image that the template boots from. Default: none; either image or fromVM is set."""
    from_vm: Annotated[FromVM | None, Field(alias="fromVM")] = None
    """Stopped VM that the template is a full clone of; on local storage only its own node gets a copy. Default: none;
    either image or fromVM is set."""
    hardware: Hardware | None = None
    """Hardware of the template; a change makes a new version. Default: as each of its fields says; that of the VM with
    fromVM."""
    build: Build | None = None
    """What is done in the guest before it becomes a template; a change makes a new version. Default: nothing."""
    storage: StorageName | None = None
    """Proxmox storage of the templates' disks; another one makes a new version. Default: defaults.storage of the
    ProxmoxCluster."""
    distribution: Literal["AllNodes", "OnDemand", "Shared"] = "AllNodes"
    """Where copies are made: AllNodes on each node that can have one, OnDemand on a node when a ProxmoxVM is placed
    there, Shared a single one, which needs a shared storage. On a shared storage one copy serves all nodes whatever
    this says. Default: AllNodes."""
    nodes: Annotated[tuple[NodeName, ...], Field(max_length=64)] = ()
    """Nodes that copies may be made on, at most 64; one that is taken off loses its copy. Default: any."""
    keep_versions: Annotated[int, Field(ge=0, le=10)] = 1
    """How many earlier versions are kept though nothing uses them, 0 to 10; what linked clones need stays in any case.
    Default: 1."""
    tags: Annotated[
        tuple[Tag, ...],
        Field(max_length=32),
        Rule(
            cel="self.all(a, self.exists_one(b, b == a))", message="spec.tags lists a tag twice: remove one"
        ),
    ] = ()
    """Tags in Proxmox of copies that are made from now on, at most 32; their VMs inherit them. Default: none."""
    revision: Annotated[str, Field(max_length=63)] | None = None
    """Any text; another one makes a new version though nothing else here has changed, as when the VM of fromVM was
    updated. Default: none."""
    deletion_policy: DeletionPolicy = "Delete"
    """What happens to the templates when this object is deleted; Retain leaves them in Proxmox, as nobody's. Default:
    Delete."""


CopyState = Literal["Creating", "Building", "Failed", "Converting", "Ready", "Removing"]


class TemplateCopy(Wire):
    """Proxmox template that was made, or is being made."""

    node: str
    """Node that it was made on; on a shared storage it serves the others, too."""
    vmid: int
    """VMID; it is recorded before anything is made."""
    uuid: str
    """SMBIOS UUID, minted before it was made."""
    version: str
    """Version that it is of."""
    storage: str
    """Storage of its disks."""
    state: CopyState
    """How far it is; Ready ones are cloned. Failed: its build has failed, and it is kept or about to be destroyed."""
    since: AwareDatetime
    """When it came into this state, or a call about it was made last."""
    upid: str | None = None
    """Proxmox's id of the task that works on it; absent while none does, or its answer is awaited."""
    build: CopyBuild | None = None
    """Its build; absent before, and once it is ready."""


class TemplateImage(Wire):
    """Image that was downloaded for this template."""

    node: str
    """Node that it was downloaded by, or uploaded to."""
    volume: str
    """Proxmox volume such as local:import/debian-12-0123456789ab.qcow2."""


class TemplateStatus(Status):
    """What was made, and how it stands."""

    observed_generation: int | None = None
    """The metadata.generation that was last acted on."""
    conditions: Conditions = ()
    """Ready says that VMs can be made from the current version, Distributed that all its copies are there, Downloaded
    that no node waits for the image; others are Reconciling and Stalled."""
    cluster: str | None = None
    """Name of the ProxmoxCluster that the templates are in; it stays, whatever the default becomes."""
    version: str | None = None
    """Current version: a digest of everything that shapes the result."""
    versions: tuple[str, ...] = ()
    """Versions that have copies, the oldest first; the current one is last, even before it has any."""
    copies: Annotated[tuple[TemplateCopy, ...], ListMap("vmid")] = ()
    """Templates in Proxmox, of all versions."""
    copies_ready: str | None = None
    """Copies of the current version that are ready, and how many there are to be, such as 2/3."""
    images: tuple[TemplateImage, ...] = ()
    """Images that were downloaded for it, and are deleted when no VMTemplate names them any more."""


class VMTemplate(Resource):
    """Image that is made into Proxmox templates, which ProxmoxVMs are cloned from."""

    kind: ClassVar[str] = "VMTemplate"
    rules = (CLUSTER_IS_KEPT,)

    spec: TemplateSpec
    """What the templates are made from, and where they are."""
    status: TemplateStatus = TemplateStatus()
    """What was made, and how it stands; written by the operator only."""
