"""Scalars and ranges that several kinds use, with the pattern that Proxmox VE asks of each.

Sources: ``pve-storage-id``, ``pve-node``, ``pve-poolid``, ``pve-configid`` and ``pve-iface`` in
``PVE::JSONSchema``; object names as in RFC 1123.
"""

from typing import Annotated

from pydantic import Field

from proxmox_operator.api.base import Matches, Rule, Wire

MAX_VMID = 999_999_999
MAX_VLAN = 4094

_STORAGE = "[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]"
LABEL = "[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
"""Pattern of a label's name and of its value."""
_BRIDGE = r"[A-Za-z][A-Za-z0-9_]{0,19}(\.[0-9]{1,4})?"

StorageName = Annotated[
    str,
    Field(max_length=100),
    Matches(
        pattern=f"^{_STORAGE}$",
        message=(
            "storage must be the ID of a Proxmox storage such as local-lvm: letters, digits, dot, dash and "
            "underscore"
        ),
    ),
]
SeedStorageName = Annotated[
    str,
    Field(max_length=100),
    Matches(
        pattern=f"^{_STORAGE}$",
        message=(
            "seedStorage must be the ID of a Proxmox storage that takes ISO images, such as local: letters, digits, "
            "dot, dash and underscore"
        ),
    ),
]
StorageGrant = Annotated[
    str,
    Field(max_length=100),
    Matches(
        pattern=rf"^(\*|{_STORAGE})$",
        message="storages must list IDs of Proxmox storages such as local-lvm, or '*' for all of them",
    ),
]
BridgeName = Annotated[
    str,
    Field(max_length=25),
    Matches(
        pattern=f"^{_BRIDGE}$",
        message="bridge must name a bridge or SDN vnet of the Proxmox nodes, such as vmbr0",
    ),
]
BridgeGrantName = Annotated[
    str,
    Field(max_length=25),
    Matches(
        pattern=rf"^(\*|{_BRIDGE})$",
        message="name must be that of a bridge or SDN vnet such as vmbr0, or '*' for all of them",
    ),
]
NodeName = Annotated[
    str,
    Field(max_length=63),
    Matches(
        pattern="^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$",
        message="nodes must list names of Proxmox nodes such as pve1, without a domain",
    ),
]
ObjectName = Annotated[
    str,
    Field(max_length=253),
    Matches(
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$",
        message="name must be that of a Kubernetes object: lower-case letters, digits, dots and dashes",
    ),
]
TemplateGrant = Annotated[
    str,
    Field(max_length=253),
    Matches(
        pattern=r"^(\*|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)$",
        message="templates must list names of VMTemplates, or '*' for all of them",
    ),
]
MappingGrant = Annotated[
    str,
    Field(max_length=128),
    Matches(
        pattern=r"^(\*|[A-Za-z][A-Za-z0-9_-]+)$",
        message="mappings must list resource mappings of the Proxmox cluster, or '*' for all of them",
    ),
]
VMID = Annotated[int, Field(ge=100, le=MAX_VMID)]
VlanTag = Annotated[int, Field(ge=1, le=MAX_VLAN)]
MemorySize = Annotated[
    str,
    Field(max_length=16),
    Matches(
        pattern="^[1-9][0-9]*(Mi|Gi|Ti)$",
        also=(
            "quantity(self).compareTo(quantity('16Mi')) >= 0 && quantity(self).compareTo(quantity('16Ti')) "
            "<= 0"
        ),
        message="memory must be a whole number of Mi, Gi or Ti from 16Mi to 16Ti, such as 512Mi or 8Gi",
    ),
]
DiskSize = Annotated[
    str,
    Field(max_length=16),
    Matches(
        pattern="^[1-9][0-9]*(Gi|Ti)$",
        also="quantity(self).compareTo(quantity('128Ti')) <= 0",
        message="the size of a disk must be a whole number of Gi or Ti from 1Gi to 128Ti, such as 20Gi",
    ),
]


class Range(Wire):
    """From ``start`` to ``end``, both included."""

    rules = (
        Rule(
            cel="self.start <= self.end",
            message="start must not be larger than end: swap them",
            field=".start",
        ),
    )

    start: int
    """First of the range. Required."""
    end: int
    """Last of the range, which is part of it. Required."""


class VMIDRange(Range):
    """VMIDs from ``start`` to ``end``, both included."""

    start: Annotated[int, Field(ge=100)]
    """First VMID of the range, from 100. Required."""
    end: Annotated[int, Field(le=MAX_VMID)]
    """Last VMID of the range, which is part of it, up to 999999999. Required."""


class VlanRange(Range):
    """VLAN tags from ``start`` to ``end``, both included."""

    start: Annotated[int, Field(ge=1)]
    """First VLAN tag of the range, from 1. Required."""
    end: Annotated[int, Field(le=MAX_VLAN)]
    """Last VLAN tag of the range, which is part of it, up to 4094. Required."""
