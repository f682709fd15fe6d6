"""What a ProxmoxCluster grants namespaces: the words, not their evaluation (``planning.access``)."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from proxmox_operator.api.base import Matches, Rule, Wire
from proxmox_operator.api.scalars import (
    LABEL,
    BridgeGrantName,
    DiskSize,
    MappingGrant,
    MemorySize,
    NodeName,
    StorageGrant,
    TemplateGrant,
    VlanRange,
    VMIDRange,
)

_LISTS = ("cloneFrom", "adopt", "vmids", "storages", "bridges", "nodes", "mappings", "templates")

LabelKey = Annotated[
    str,
    Field(max_length=317),
    Matches(
        pattern=rf"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?{LABEL}$",
        message="key must be that of a label, such as kubernetes.io/metadata.name",
    ),
]
LabelValue = Annotated[
    str,
    Field(max_length=63),
    Matches(
        pattern=f"^({LABEL})?$",
        message="values, and those of matchLabels, must be letters, digits, dot, dash and underscore, at most 63",
    ),
]


class LabelRequirement(Wire):
    """One condition on the labels."""

    rules = (
        Rule(
            cel="(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            message=(
                "values belong to operator In or NotIn and are needed there: add them, or remove them with "
                "Exists and DoesNotExist"
            ),
            field=".values",
        ),
    )

    key: LabelKey
    """Key of the label. Required."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label is compared with values. Required."""
    values: Annotated[tuple[LabelValue, ...], Field(max_length=16)] = ()
    """Values for In and NotIn, at most 16. Default: none."""


class LabelSelector(Wire):
    """Labels that a namespace must have: all conditions hold; without any, every namespace is selected."""

    match_labels: Annotated[Mapping[str, LabelValue], Field(max_length=32)] | None = None
    """Labels and the value each must have, at most 32. Default: none."""
    match_expressions: Annotated[tuple[LabelRequirement, ...], Field(max_length=16)] = ()
    """Conditions on labels, at most 16. Default: none."""


class BridgeGrant(Wire):
    """Bridge that may be used, and with which VLANs."""

    name: BridgeGrantName
    """Bridge or SDN vnet such as vmbr0; * means all of them. Required."""
    vlans: Annotated[tuple[VlanRange, ...], Field(max_length=32)] = ()
    """VLANs that may be used, as vlan or in trunks, at most 32 ranges. Untagged is then not granted: where a device has
    neither, the guest may tag its frames itself and reaches every VLAN of the bridge. Default: any, and untagged."""


class MaxSizes(Wire):
    """Largest sizes that one VM may ask for."""

    cores: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Processors of one VM, cores times sockets, 1 to 8192. Default: no limit."""
    memory: MemorySize | None = None
    """Memory of one VM, such as 16Gi. Default: no limit."""
    disk: DiskSize | None = None
    """Size of one disk, such as 100Gi. Default: no limit."""


class AccessGrant(Wire):
    """What some namespaces may use of the cluster; grants add up."""

    rules = (
        Rule(
            cel="!has(self.allow) || self.allow != 'Everything' || !("
            + " || ".join(f"(has(self.{name}) && size(self.{name}) > 0)" for name in _LISTS)
            + " || has(self.maxSizes) || (has(self.availability) && self.availability))",
            message="allow: Everything grants all but recover: remove the other fields, or set allow to Listed",
            field=".allow",
        ),
    )

    namespace_selector: LabelSelector | None = None
    """Namespaces that the grant is for, by their labels. Default: every namespace."""
    allow: Literal["Listed", "Everything"] = "Listed"
    """Whether only what is listed here is granted, or everything. Default: Listed."""
    clone_from: Annotated[tuple[VMIDRange, ...], Field(max_length=64)] = ()
    """VMIDs of templates and VMs that may be cloned, with the storages and networks they are on, at most 64 ranges.
    Default: none."""
    templates: Annotated[tuple[TemplateGrant, ...], Field(max_length=64)] = ()
    """VMTemplates that may be used, with the storage they are on, at most 64. Default: any."""
    adopt: Annotated[tuple[VMIDRange, ...], Field(max_length=64)] = ()
    """VMIDs of existing VMs that may be taken over by spec.source.adopt, with all that they have, at most 64 ranges.
    Default: none."""
    vmids: Annotated[tuple[VMIDRange, ...], Field(max_length=64)] = ()
    """VMIDs that may be asked for in spec.vmid, at most 64 ranges. Default: none."""
    storages: Annotated[tuple[StorageGrant, ...], Field(max_length=64)] = ()
    """Storages that may be used, at most 64; * means all of them. Default: only spec.defaults.storage."""
    bridges: Annotated[tuple[BridgeGrant, ...], Field(max_length=64)] = ()
    """Bridges that may be used, at most 64. Default: only spec.defaults.bridge, untagged."""
    nodes: Annotated[tuple[NodeName, ...], Field(max_length=64)] = ()
    """Nodes that VMs may be made on or moved to, at most 64; where HA moves them is Proxmox's. Default: any."""
    mappings: Annotated[tuple[MappingGrant, ...], Field(max_length=64)] = ()
    """Resource mappings of PCI and USB devices that may be used, at most 64; * means all of them. Default: none."""
    availability: bool = False
    """Whether VMs may be put under HA, whose rules and failovers concern the whole cluster. Default: false."""
    max_sizes: MaxSizes | None = None
    """Largest sizes that one VM may ask for, or be given by its source. Default: no limit."""
    recover: bool = False
    """Whether VMs of an earlier namespace or of another Kubernetes cluster may be taken back; never part of Everything.
    Default: false."""
