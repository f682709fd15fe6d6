"""What placement looks at, and what it answers. Sizes are bytes, processors are logical ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxmox_operator.planning import disks

CEPH = frozenset({"rbd", "cephfs"})
NEAR_FULL = 0.85
"""Share of a Ceph pool that new volumes may fill; at this share Ceph itself warns, and at 95 % all writes stop."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """One storage as one node sees it; ``content`` are the content types it takes (images, iso ...).

    ``free`` is neither used nor promised to a VM in the making; both sizes are ``None`` where Proxmox does not tell.
    """

    name: str
    shared: bool
    type: str
    content: frozenset[str]
    size: int | None = None
    free: int | None = None

    @property
    def room(self) -> int | None:
        """What may still be put there."""
        if self.free is None or self.type not in CEPH or self.size is None:
            return self.free
        return self.free - int(self.size * (1 - NEAR_FULL))


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node. ``memory_free`` is neither used now nor promised to VMs that are being made, moved there or started.

    ``memory_given`` and ``cpus_given`` are what the running guests, and those that are to run, are configured with.
    What the token may not see is ``None``: ``memory_free``, the sizes, ``bridges`` and ``mappings`` (kind, name).
    """

    name: str
    online: bool
    memory_free: int | None
    storages: Mapping[str, Storage]
    bridges: frozenset[str] | None
    memory: int | None = None
    cpus: int | None = None
    memory_given: int = 0
    cpus_given: int = 0
    maintenance: bool = False
    mappings: frozenset[tuple[str, str]] | None = None


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Other ProxmoxVMs that matter to this one, as names by node: those to keep away from, and those to stay with."""

    apart: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Template:
    """The VM that is cloned, and its config as Proxmox returned it.

    A copy of a VMTemplate has its ``name`` and ``version``. ``vmid`` is None for one that is yet to be made: ``config``
    is what is known of it before, and ``note`` what the VMTemplate says of itself meanwhile.
    """

    vmid: int | None
    node: str
    is_template: bool
    config: Mapping[str, str]
    name: str | None = None
    version: str | None = None
    note: str = ""

    def __str__(self) -> str:
        return f"template {self.vmid}" if self.name is None else f"VMTemplate {self.name}"

    def storages(self) -> set[str]:
        """The storages its disks are on."""
        return {drive.storage for drive in disks.drives(self.config).values()}


@dataclass(frozen=True, kw_only=True)
class Placed:
    """``node`` gets the VM, which is cloned from ``template`` and takes this much of it; ``space`` is by storage."""

    node: str
    template: Template
    full: bool
    storage: str | None
    memory: int
    cpus: int = 0
    space: Mapping[str, int] = field(default_factory=dict)

    @property
    def target(self) -> str | None:
        """What is passed to the clone call: the node, only where it differs from the template's."""
        return self.node if self.node != self.template.node else None


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why one node cannot host the VM."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Unschedulable:
    """No node can host it; ``reasons`` says why for each node."""

    reasons: Mapping[str, str]
    reason: str = "Unschedulable"

    def message(self) -> str:
        """Each reason once, with the nodes that it stands for."""
        return "no node can host this VM: " + grouped(self.reasons)


def grouped(reasons: Mapping[str, str]) -> str:
    """Reasons by node as one sentence, in which each reason stands once."""
    nodes: dict[str, list[str]] = {}
    for node, why in sorted(reasons.items()):
        nodes.setdefault(why, []).append(node)
    return "; ".join(f"{', '.join(names)}: {why}" for why, names in nodes.items())
