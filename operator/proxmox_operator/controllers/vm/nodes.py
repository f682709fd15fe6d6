"""The nodes of a cluster as placement sees them, and the other ProxmoxVMs that a VM keeps away from or stays with.

What is used comes from the inventory. What is not used yet but spoken for counts too: the promises to VMs that are
being made or moved, and our stopped VMs that are to run.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.controllers.context import VM_KIND, Context
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.kube.client import Raw
from proxmox_operator.planning.access import Access
from proxmox_operator.planning.placement import Crowd, Node, Storage, Terms
from proxmox_operator.proxmox.resources import Given, Inventory, NodeInfo
from proxmox_operator.proxmox.session import ClusterSession


@dataclass(kw_only=True)
class _SpokenFor:
    """By node, what is not used yet; ``space`` by storage and node, the node being empty for a shared storage."""

    memory: Counter[str] = field(default_factory=Counter)
    cpus: Counter[str] = field(default_factory=Counter)
    space: Counter[tuple[str, str]] = field(default_factory=Counter)


async def gather_nodes(
    context: Context, member: Member, session: ClusterSession, vm: ProxmoxVM, *, devices: bool
) -> list[Node]:
    """Every node with what is left of it for ``vm``, whose own part is not counted.

    ``devices``: the resource mappings matter. Nothing is awaited after the promises were counted: who makes one at
    once when this returns has counted all others.
    """
    inventory = session.inventory.current
    if inventory is None:
        return []
    online = [info.name for info in inventory.nodes.values() if info.online]
    bridges = {name: await session.bridges(name) for name in online}
    mappings = {name: await session.mappings(name) for name in online if devices}
    inventory = session.inventory.current or inventory
    spoken_for = _spoken_for(context, member, inventory, vm)
    return [
        _node(info, inventory, spoken_for, vm, bridges.get(info.name), mappings.get(info.name))
        for info in inventory.nodes.values()
    ]


def terms_of(
    context: Context, member: Member, session: ClusterSession, vm: ProxmoxVM, access: Access
) -> Terms:
    """What applies to the VM on every node."""
    placement = vm.spec.placement
    return Terms(
        access=access,
        placement=placement,
        crowd=Crowd(
            apart=_neighbours(context, member, session, vm, placement.spread_by if placement else None),
            beside=_neighbours(context, member, session, vm, placement.together_by if placement else None),
        ),
        overcommit=member.cluster.spec.overcommit,
    )


def _node(
    info: NodeInfo,
    inventory: Inventory,
    spoken_for: _SpokenFor,
    vm: ProxmoxVM,
    bridges: frozenset[str] | None,
    mappings: frozenset[tuple[str, str]] | None,
) -> Node:
    soon = spoken_for.memory[info.name]
    given = inventory.given.get(info.name, Given())
    own = inventory.guests.get(vm.status.vmid or 0)
    mine = own if own is not None and own.occupies and own.node == info.name else None
    free = info.maxmem - info.mem - soon if info.maxmem is not None and info.mem is not None else None
    storages = {
        storage.name: Storage(
            name=storage.name,
            shared=storage.shared,
            type=storage.type,
            content=storage.content,
            size=storage.maxdisk,
            free=None
            if storage.free is None
            else storage.free - spoken_for.space[storage.name, "" if storage.shared else info.name],
        )
        for (_, node), storage in inventory.storages.items()
        if node == info.name and storage.available
    }
    return Node(
        name=info.name,
        online=info.online,
        maintenance=info.maintenance,
        memory_free=free,
        storages=storages,
        bridges=bridges,
        memory=info.maxmem,
        cpus=info.maxcpu,
        memory_given=given.memory + soon - (mine.maxmem if mine else 0),
        cpus_given=given.cpus + spoken_for.cpus[info.name] - (mine.maxcpu if mine else 0),
        mappings=mappings,
    )


def _spoken_for(context: Context, member: Member, inventory: Inventory, vm: ProxmoxVM) -> _SpokenFor:
    found = _SpokenFor()
    shared = {storage.name for storage in inventory.storages.values() if storage.shared}
    for uid, promise in member.promised.items():
        if uid == vm.metadata.uid:
            continue
        found.memory[promise.node] += promise.memory
        found.cpus[promise.node] += promise.cpus
        for storage, size in promise.space.items():
            found.space[storage, "" if storage in shared else promise.node] += size
    for guest in inventory.idle:
        key = member.keys.get(guest.vmid)
        raw = context.store.get(key) if key is not None else None
        if raw is None or not _is_to_run(raw):
            continue
        uid = raw["metadata"]["uid"]
        if uid == vm.metadata.uid or uid in member.promised:
            continue
        found.memory[guest.node] += guest.maxmem
        found.cpus[guest.node] += guest.maxcpu
    return found


def _is_to_run(raw: Raw) -> bool:
    """The same as ``VMSpec.wanted_power``, without reading the whole object: there may be thousands. No VMTemplate's
    VM is."""
    if raw["kind"] != VM_KIND:
        return False
    spec = raw["spec"]
    default = "Unmanaged" if "adopt" in spec["source"] else "Running"
    return "deletionTimestamp" not in raw["metadata"] and spec.get("power", default) == "Running"


def _neighbours(
    context: Context, member: Member, session: ClusterSession, vm: ProxmoxVM, label: str | None
) -> dict[str, tuple[str, ...]]:
    """ProxmoxVMs of the same namespace and cluster with the same value of the label, by node.

    A VM that has no such label has none; one that is being deleted no longer counts.
    """
    value = (vm.metadata.labels or {}).get(label) if label is not None else None
    if label is None or value is None:
        return {}
    inventory = session.inventory.current
    found: defaultdict[str, list[str]] = defaultdict(list)
    for raw in context.store.list(VM_KIND):
        metadata, status = raw["metadata"], raw.get("status") or {}
        if (
            metadata["namespace"] != vm.metadata.namespace
            or metadata["uid"] == vm.metadata.uid
            or "deletionTimestamp" in metadata
            or (metadata.get("labels") or {}).get(label) != value
        ):
            continue
        promise = member.promised.get(metadata["uid"])
        if promise is None and status.get("cluster") != member.name:
            continue
        guest = inventory.guests.get(status.get("vmid") or 0) if inventory is not None else None
        node = (
            promise.node if promise is not None else guest.node if guest is not None else status.get("node")
        )
        if node is not None:
            found[node].append(metadata["name"])
    return {node: tuple(sorted(names)) for node, names in found.items()}
