"""What a node must be to host a VM: each rule is a check that names its refusal, with the remedy.

What the credentials may not see rules nothing out: Proxmox refuses it later, in its own words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from proxmox_operator.api import Overcommit, Placement
from proxmox_operator.api.quantity import format_gib
from proxmox_operator.planning.access import Access
from proxmox_operator.planning.placement.needs import Needs
from proxmox_operator.planning.placement.things import CEPH, Crowd, Node, Refusal


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What applies on every node: the grants of the namespace, the VM's wishes, its neighbours, over-commitment."""

    access: Access
    placement: Placement | None = None
    crowd: Crowd = field(default_factory=Crowd)
    overcommit: Overcommit = field(default_factory=Overcommit)

    @property
    def required(self) -> Placement | None:
        """The wishes that must be met."""
        placement = self.placement
        return placement if placement is not None and placement.mode == "Require" else None


def refusal(node: Node, needs: Needs, terms: Terms) -> Refusal | None:
    """Why this node cannot host a VM with these needs; the first reason that a person would look at."""
    for rule in _RULES:
        found = rule(node, needs, terms)
        if found is not None:
            return found
    return None


def unknown_nodes(terms: Terms, nodes: Sequence[Node]) -> dict[str, Refusal]:
    """Nodes that are required and do not exist, which are typing mistakes as a rule."""
    known = {node.name for node in nodes}
    named = terms.required.nodes if terms.required is not None else ()
    message = "there is no node of this name: correct spec.placement.nodes"
    return {name: Refusal(reason="NodeNotFound", message=message) for name in named if name not in known}


def _is_online(node: Node, needs: Needs, terms: Terms) -> Refusal | None:
    if node.online and not node.maintenance:
        return None
    why = "in maintenance" if node.online else "offline"
    return Refusal(reason="NodeUnavailable", message=why)


def _is_granted(node: Node, needs: Needs, terms: Terms) -> Refusal | None:
    if terms.access.allows_node(node.name):
        return None
    return Refusal(reason="AccessDenied", message="not granted to this namespace (access[].nodes)")


def _is_listed(node: Node, needs: Needs, terms: Terms) -> Refusal | None:
    required = terms.required
    if required is None or not required.nodes or node.name in required.nodes:
        return None
    return Refusal(reason="NotChosen", message="not listed in spec.placement.nodes")


def _keeps_company(node: Node, needs: Needs, terms: Terms) -> Refusal | None:
    """Under Require, others of the same label keep the node free, or draw the VM to theirs."""
    if terms.required is None:
        return None
    apart, beside = terms.crowd.apart.get(node.name), terms.crowd.beside
    if apart:
        message = f"{_few(apart)} of the same {terms.required.spread_by} is there (spec.placement.spreadBy)"
        return Refusal(reason="SpreadTaken", message=message)
    if beside and node.name not in beside:
        others = "; ".join(f"{_few(names)} on {where}" for where, names in sorted(beside.items()))
        message = f"not where the same {terms.required.together_by} is: {others} (spec.placement.togetherBy)"
        return Refusal(reason="OthersElsewhere", message=message)
    return None


def _has_storages(node: Node, needs: Needs, terms: Terms) -> Refusal | None:
    fields = needs.storages
    if missing := sorted(name for name in fields if name not in node.storages):
        named = ", ".join(f"storage {name} ({fields[name]})" for name in missing)
        message = f"{named} is not available there: name one that is, or enable it"
        return Refusal(reason="StorageNotFound", message=message)
    if unfit := sorted(name for name in fields if "images" not in node.storages[name].content):
        named = ", ".join(f"storage {name} ({fields[name]})" for name in unfit)
        message = f"{named} takes no disk images: name one that does, or add images to its content"
        return Refusal(reason="StorageNotUsable", message=message)
    return None


def _has_iso_storages(node: Node, needs: Needs, terms: Terms) -> Refusal | None:
    for name, asked_by in needs.iso_storages.items():
        storage = node.storages.get(name)
        if storage is None:
            message = f"storage {name} ({asked_by}) is not available there: name one that is, or enable it"
            return Refusal(reason="StorageNotFound", message=message)
        if "iso" not in storage.content:
            message = f"storage {name} ({asked_by}) takes no ISO images: name one that does, or add iso to its content"
            return Refusal(reason="StorageNotUsable", message=message)
    return None


def _has_bridges(node: Node, needs: Needs, terms: Terms) -> Refusal | None:
    bridges = needs.bridges
    if node.bridges is None or not (absent := sorted(bridges.keys() - node.bridges)):
        return None
    named = ", ".join(f"bridge {name} ({bridges[name]})" for name in absent)
    message = f"{named} does not exist there: create it, name another, or grant SDN.Use on it"
    return Refusal(reason="BridgeNotFound", message=message)


def _has_devices(node: Node, needs: Needs, terms: Terms) -> Refusal | None:
    mappings = needs.mappings
    if node.mappings is None or not (absent := sorted(mappings.keys() - node.mappings)):
        return None
    named = ", ".join(f"{kind} mapping {name} ({mappings[kind, name]})" for kind, name in absent)
    message = (
        f"{named} has no device there: add the node's to it (Datacenter > Resource Mappings), or name another"
    )
    return Refusal(reason="MappingNotFound", message=message)


def _has_space(node: Node, needs: Needs, terms: Terms) -> Refusal | None:
    """A Ceph pool that is nearly full refuses linked clones too, which take nothing yet and grow into it."""
    for name, wanted in sorted(needs.space.items()):
        storage = node.storages.get(name)
        if storage is None or storage.room is None:
            continue
        if wanted > storage.room and (wanted or storage.type in CEPH):
            limit = " below 85 % of the Ceph pool" if storage.type in CEPH else ""
            message = (
                f"storage {name} has {_about(max(0, storage.room))} left{limit}, {_about(wanted)} is needed: free "
                "space there, or name another"
            )
            return Refusal(reason="StorageFull", message=message)
    return None


def _has_memory(node: Node, needs: Needs, terms: Terms) -> Refusal | None:
    wanted, percent = needs.memory, terms.overcommit.memory_percent
    if node.memory_free is not None and wanted > node.memory_free:
        message = f"{format_gib(wanted)} of memory wanted, which is more than is free"
        return Refusal(reason="MemoryFull", message=message)
    if percent is None or node.memory is None or not wanted:
        return None
    if node.memory_given + wanted > node.memory * percent // 100:
        message = (
            f"{format_gib(wanted)} of memory wanted, {_about(node.memory_given)} of {_about(node.memory)} is given to "
            f"VMs already, and the limit is {percent} % (ProxmoxCluster spec.overcommit.memoryPercent)"
        )
        return Refusal(reason="MemoryOvercommitted", message=message)
    return None


def _has_processors(node: Node, needs: Needs, terms: Terms) -> Refusal | None:
    wanted, percent = needs.cpus, terms.overcommit.cpu_percent
    if percent is None or node.cpus is None or not wanted:
        return None
    if (node.cpus_given + wanted) * 100 > node.cpus * percent:
        message = (
            f"{wanted} processors wanted, {node.cpus_given} are given to VMs already, the node has {node.cpus}, and "
            f"the limit is {percent} % (ProxmoxCluster spec.overcommit.cpuPercent)"
        )
        return Refusal(reason="CPUOvercommitted", message=message)
    return None


def _about(size: int) -> str:
    return f"{size / 2**30:.1f}".removesuffix(".0") + "Gi"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


_RULES: tuple[Callable[[Node, Needs, Terms], Refusal | None], ...] = (
    _is_online,
    _is_granted,
    _is_listed,
    _keeps_company,
    _has_storages,
    _has_iso_storages,
    _has_bridges,
    _has_devices,
    _has_space,
    _has_memory,
    _has_processors,
)
