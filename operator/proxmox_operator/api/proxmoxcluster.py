"""ProxmoxCluster: how to reach one Proxmox VE cluster, and who may use what of it."""

from typing import Annotated, ClassVar

from pydantic import Field

from proxmox_operator.api.access import AccessGrant
from proxmox_operator.api.base import ListMap, Matches, Rule, Status, Wire
from proxmox_operator.api.conditions import Conditions
from proxmox_operator.api.meta import Resource
from proxmox_operator.api.scalars import BridgeName, ObjectName, SeedStorageName, StorageName, VMIDRange

Endpoint = Annotated[
    str,
    Field(max_length=300),
    Matches(
        pattern=r"^https://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[1-9][0-9]{0,4})?$",
        also="(url(self).getPort() == '' || int(url(self).getPort()) <= 65535)",
        message="endpoints must be https URLs such as https://pve1.example.org:8006, without path, user or password",
    ),
]
Endpoints = Annotated[
    tuple[Endpoint, ...],
    Field(min_length=1, max_length=16),
    Rule(
        cel="self.all(a, self.exists_one(b, b.lowerAscii() == a.lowerAscii()))",
        message="spec.endpoints lists an endpoint twice: remove one",
    ),
]
CABundle = Annotated[
    str,
    Field(max_length=65536),
    Rule(
        cel="self.contains('-----BEGIN CERTIFICATE-----') && self.contains('-----END CERTIFICATE-----')",
        message=(
            "spec.tls.caBundle must hold PEM certificates: paste /etc/pve/pve-root-ca.pem as it is, not "
            "base64-encoded"
        ),
    ),
    Rule(
        cel="!self.contains('PRIVATE KEY')",
        message=(
            "spec.tls.caBundle must not hold a private key: remove it, keep only certificates, and consider"
            " the key leaked"
        ),
    ),
]
Fingerprint = Annotated[
    str,
    Field(max_length=95),
    Matches(
        pattern="^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31}$",
        message="spec.tls.fingerprint must be a SHA-256 fingerprint: 32 pairs of hex digits, separated by colons",
    ),
]
PoolName = Annotated[
    str,
    Field(max_length=200),
    Matches(
        pattern="^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}$",
        message=(
            "spec.pool must be the ID of a Proxmox pool such as kubernetes, or of one nested in others such"
            " as a/b/c"
        ),
    ),
]
PollInterval = Annotated[
    str,
    Field(max_length=16),
    Matches(
        pattern="^([0-9]+m)?([0-9]+s)?$",
        also="self != '' && duration(self) >= duration('1s') && duration(self) <= duration('5m')",
        message="spec.limits.pollInterval must be a duration from 1s to 5m, such as 5s",
    ),
]


class SecretRef(Wire):
    """Secret in the operator's own namespace."""

    name: ObjectName
    """Name of the Secret. Required."""


class TLS(Wire):
    """How the cluster proves who it is."""

    rules = (
        Rule(
            cel="!has(self.caBundle) || !self.insecureSkipVerify",
            message="spec.tls.caBundle is not used with insecureSkipVerify: remove insecureSkipVerify or caBundle",
            field=".insecureSkipVerify",
        ),
    )

    ca_bundle: CABundle | None = None
    """CA certificates in PEM, such as /etc/pve/pve-root-ca.pem. Default: the CAs that the operator's image trusts."""
    insecure_skip_verify: bool = False
    """Whether any certificate is accepted; whoever stands in between then reads the credentials. Default: false."""
    fingerprint: Fingerprint | None = None
    """SHA-256 fingerprint of the cluster's own CA, as 32 pairs of hex digits. Default: the one found at first
    contact."""


class Defaults(Wire):
    """What a VM gets that names none; every namespace may use it."""

    storage: StorageName | None = None
    """Proxmox storage of disks that name none. Default: none; each disk then must name one."""
    seed_storage: SeedStorageName | None = None
    """Proxmox storage with content ISO image, for the user data of VMs that name none; one that all nodes share lets
    VMs move before their first boot is over. Default: none; a VM with user data then must name one."""
    bridge: BridgeName | None = None
    """Bridge of networks that name none, untagged for everybody: a guest may tag its frames itself, so it should carry
    no VLAN that is not for everybody. Default: none; each network then must name one."""


class Limits(Wire):
    """How hard the operator works the cluster."""

    calls_per_node: Annotated[int, Field(ge=1, le=32)] = 4
    """API calls in flight per node, 1 to 32. Default: 4."""
    allocations_per_storage: Annotated[int, Field(ge=1, le=16)] = 2
    """Clones and new disks in flight per storage, 1 to 16. Default: 2."""
    config_reads_per_second: Annotated[int, Field(ge=1, le=100)] = 3
    """VM configs read again per second to find changes made by others, 1 to 100. Default: 3."""
    poll_interval: PollInterval = "5s"
    """Time between two looks at the whole cluster, 1s to 5m. Default: 5s."""


class Overcommit(Wire):
    """How much more than a node has its running VMs may be given, as their configs say. Checked for new and moved VMs.

    What a node uses at the moment is looked at besides.
    """

    memory_percent: Annotated[int, Field(ge=10, le=1000)] | None = None
    """Memory of all running VMs of a node, in percent of the node's, 10 to 1000. Default: not limited."""
    cpu_percent: Annotated[int, Field(ge=10, le=10000)] | None = None
    """Processors of all running VMs of a node, in percent of the node's, 10 to 10000. Default: not limited."""


class ClusterSpec(Wire):
    """How to reach the cluster, and who may use what of it."""

    endpoints: Endpoints
    """URLs of nodes, 1 to 16, such as https://pve1.example.org:8006; port 8006 where none is given. Required."""
    credentials_secret_ref: SecretRef
    """Secret with tokenID and tokenSecret, or username and password, in the operator's namespace. Required."""
    tls: TLS = TLS()
    """How the cluster proves who it is. Default: verified against the CAs that the operator's image trusts."""
    default: bool = False
    """Whether VMs without clusterRef are made here; needed only with several ProxmoxClusters. Default: false."""
    vmid_range: VMIDRange = VMIDRange(start=10000, end=19999)
    """VMIDs that new VMs get, upwards and never one twice. Default: 10000 to 19999."""
    pool: PoolName | None = None
    """Proxmox pool that new VMs join; it must exist. Default: none."""
    defaults: Defaults = Defaults()
    """What a VM gets that names none; every namespace may use it. Default: nothing."""
    limits: Limits = Limits()
    """How hard the operator works the cluster. Default: gently, as each field says."""
    overcommit: Overcommit = Overcommit()
    """How much more than a node has its VMs may be given. Default: not limited."""
    access: Annotated[tuple[AccessGrant, ...], Field(max_length=32)] | None = None
    """Grants to namespaces, at most 32, which add up. Default: only what defaults names."""
    lost: bool = False
    """Whether the cluster will never come back: its ProxmoxVMs are then deleted without touching Proxmox.
    Default: false."""


class NodeStatus(Wire):
    """Node of the cluster and its capacity."""

    name: str
    """Name of the node."""
    online: bool
    """Whether the node is online."""
    cpus: int | None = None
    """Logical processors of the node."""
    memory: str | None = None
    """Memory of the node, such as 128Gi."""


class ClusterStatus(Status):
    """What the cluster is and how it stands."""

    observed_generation: int | None = None
    """The metadata.generation that was last acted on."""
    conditions: Conditions = ()
    """Ready is the summary; others are Reachable, Authorized, Quorate, Reconciling and Stalled."""
    version: str | None = None
    """Version of Proxmox VE, such as 9.2.11."""
    cluster_name: str | None = None
    """Name of the cluster; empty for a node that is in none."""
    ca_fingerprint: str | None = None
    """SHA-256 fingerprint of the cluster's CA, pinned at first contact."""
    nodes: Annotated[tuple[NodeStatus, ...], ListMap("name")] = ()
    """Nodes and their capacity, at most 50."""
    node_count: int | None = None
    """How many nodes there are."""
    vmid_cursor: int | None = None
    """VMID that is handed out next; it only moves forward."""


class ProxmoxCluster(Resource):
    """One Proxmox VE cluster, or a single node."""

    kind: ClassVar[str] = "ProxmoxCluster"

    spec: ClusterSpec
    """How to reach the cluster, and who may use what of it."""
    status: ClusterStatus = ClusterStatus()
    """What the cluster is and how it stands; written by the operator only."""
