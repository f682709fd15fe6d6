"""The resources as models: what people write, what the operator records, and the CRDs made from them.

Not here: anything that decides (``planning``) or talks to anybody.
"""

from proxmox_operator.api.access import AccessGrant, BridgeGrant, LabelRequirement, LabelSelector, MaxSizes
from proxmox_operator.api.cloudinit import DNS, CloudInit, SecretKeyRef
from proxmox_operator.api.conditions import Condition, find_condition, set_condition
from proxmox_operator.api.devices import Display, PCIDevice, Startup, USBDevice
from proxmox_operator.api.hardware import CPU, Firmware, Memory
from proxmox_operator.api.meta import InvalidObject, Metadata, Resource
from proxmox_operator.api.networking import IPv4, IPv6, Network
from proxmox_operator.api.operations import (
    Availability,
    HARule,
    MaintenanceWindow,
    NodeAffinity,
    NodePriority,
    Placement,
    ResourceAffinity,
    Updates,
)
from proxmox_operator.api.proxmoxcluster import (
    TLS,
    ClusterSpec,
    ClusterStatus,
    Defaults,
    Limits,
    NodeStatus,
    Overcommit,
    ProxmoxCluster,
    SecretRef,
)
from proxmox_operator.api.proxmoxvm import (
    Adopt,
    Clone,
    ClusterRef,
    ProxmoxVM,
    Readiness,
    Shutdown,
    Source,
    VMSpec,
)
from proxmox_operator.api.scalars import Range, VlanRange, VMIDRange
from proxmox_operator.api.storage import BootDisk, Disk, DiskLimits
from proxmox_operator.api.vmstatus import (
    MAX_ADDRESSES,
    MAX_DETACHED_DISKS,
    DetachedDisk,
    DiskStatus,
    HAStatus,
    NetworkStatus,
    Provisioning,
    Restart,
    Task,
    VMStatus,
)

__all__ = [
    "CPU",
    "DNS",
    "MAX_ADDRESSES",
    "MAX_DETACHED_DISKS",
    "TLS",
    "AccessGrant",
    "Adopt",
    "Availability",
    "BootDisk",
    "BridgeGrant",
    "Clone",
    "CloudInit",
    "ClusterRef",
    "ClusterSpec",
    "ClusterStatus",
    "Condition",
    "Defaults",
    "DetachedDisk",
    "Disk",
    "DiskLimits",
    "DiskStatus",
    "Display",
    "Firmware",
    "HARule",
    "HAStatus",
    "IPv4",
    "IPv6",
    "InvalidObject",
    "LabelRequirement",
    "LabelSelector",
    "Limits",
    "MaintenanceWindow",
    "MaxSizes",
    "Memory",
    "Metadata",
    "Network",
    "NetworkStatus",
    "NodeAffinity",
    "NodePriority",
    "NodeStatus",
    "Overcommit",
    "PCIDevice",
    "Placement",
    "Provisioning",
    "ProxmoxCluster",
    "ProxmoxVM",
    "Range",
    "Readiness",
    "Resource",
    "ResourceAffinity",
    "Restart",
    "SecretKeyRef",
    "SecretRef",
    "Shutdown",
    "Source",
    "Startup",
    "Task",
    "USBDevice",
    "Updates",
    "VMIDRange",
    "VMSpec",
    "VMStatus",
    "VlanRange",
    "find_condition",
    "set_condition",
]
