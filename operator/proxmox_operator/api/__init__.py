"""The resources as models: what people write, what the operator records, and the CRDs made from them.

Not here: anything that decides (``planning``) or talks to anybody.
"""

from proxmox_operator.api.access import AccessGrant, BridgeGrant, LabelRequirement, LabelSelector, MaxSizes
from proxmox_operator.api.cloudinit import DNS, CloudInit, SecretKeyRef
from proxmox_operator.api.conditions import Condition, find_condition, set_condition
from proxmox_operator.api.hardware import CPU, BootDisk, Disk, Firmware, Memory
from proxmox_operator.api.meta import InvalidObject, Metadata, Resource
from proxmox_operator.api.networking import IPv4, IPv6, Network
from proxmox_operator.api.proxmoxcluster import (
    TLS,
    ClusterSpec,
    ClusterStatus,
    Defaults,
    Limits,
    NodeStatus,
    ProxmoxCluster,
    SecretRef,
)
from proxmox_operator.api.proxmoxvm import (
    Clone,
    ClusterRef,
    Placement,
    ProxmoxVM,
    Readiness,
    Shutdown,
    Source,
    VMSpec,
)
from proxmox_operator.api.scalars import Range, VlanRange, VMIDRange
from proxmox_operator.api.vmstatus import (
    MAX_ADDRESSES,
    DiskStatus,
    NetworkStatus,
    Provisioning,
    Task,
    VMStatus,
)

__all__ = [
    "CPU",
    "DNS",
    "MAX_ADDRESSES",
    "TLS",
    "AccessGrant",
    "BootDisk",
    "BridgeGrant",
    "Clone",
    "CloudInit",
    "ClusterRef",
    "ClusterSpec",
    "ClusterStatus",
    "Condition",
    "Defaults",
    "Disk",
    "DiskStatus",
    "Firmware",
    "IPv4",
    "IPv6",
    "InvalidObject",
    "LabelRequirement",
    "LabelSelector",
    "Limits",
    "MaxSizes",
    "Memory",
    "Metadata",
    "Network",
    "NetworkStatus",
    "NodeStatus",
    "Placement",
    "Provisioning",
    "ProxmoxCluster",
    "ProxmoxVM",
    "Range",
    "Readiness",
    "Resource",
    "SecretKeyRef",
    "SecretRef",
    "Shutdown",
    "Source",
    "Task",
    "VMIDRange",
    "VMSpec",
    "VMStatus",
    "VlanRange",
    "find_condition",
    "set_condition",
]
