"""Where a new VM goes: the node that can host it, preferred ones first, most free memory among them.

Pure and simple on purpose: it decides once, at creation. An existing VM is followed wherever it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.api.quantity import format_gib, parse_quantity
from proxmox_operator.planning import disks
from proxmox_operator.planning.access import Access
from proxmox_operator.planning.propstring import parse_props

LINKABLE = frozenset({"lvmthin", "zfspool", "rbd", "dir", "nfs", "cifs", "btrfs", "cephfs"})
"""Storage types on which Proxmox can make a linked clone (``PVE::Storage::*Plugin``, feature ``clone``)."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """One storage as one node sees it; ``content`` are the content types it takes (images, iso ...)."""

    name: str
    shared: bool
    type: str
    content: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Node:
    """One node: memory in bytes that is neither used nor promised to a VM in the making.

    ``memory_free`` and ``bridges`` are ``None`` where the token may not see them.
    """

    name: str
    online: bool
    memory_free: int | None
    storages: Mapping[str, Storage]
    bridges: frozenset[str] | None


@dataclass(frozen=True, kw_only=True)
class Template:
    """The VM that is cloned, and its config as Proxmox returned it."""

    vmid: int
    node: str
    is_template: bool
    config: Mapping[str, str]

    def storages(self) -> set[str]:
        """The storages its disks are on."""
        return {drive.storage for drive in disks.drives(self.config).values()}


@dataclass(frozen=True, kw_only=True)
class Placed:
    """``node`` gets the VM. ``target`` is passed to the clone call, only where it differs from the source node."""

    node: str
    full: bool
    storage: str | None
    memory: int

    def target(self, template: Template) -> str | None:
        return self.node if self.node != template.node else None


@dataclass(frozen=True, kw_only=True)
class Unschedulable:
    """No node can host it; ``reasons`` says why for each node."""

    reasons: Mapping[str, str]
    reason: str = "Unschedulable"

    def message(self) -> str:
        """Each reason once, with the nodes that it stands for."""
        nodes: dict[str, list[str]] = {}
        for node, why in sorted(self.reasons.items()):
            nodes.setdefault(why, []).append(node)
        return "no node can host this VM: " + "; ".join(
            f"{', '.join(names)}: {why}" for why, names in nodes.items()
        )


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why one node cannot host the VM."""

    reason: str
    message: str


def place(
    vm: ProxmoxVM,
    template: Template,
    nodes: Sequence[Node],
    access: Access,
) -> Placed | Unschedulable:
    """Choose a node for a VM that is about to be cloned from ``template``."""
    clone = vm.spec.source.clone
    boot = vm.spec.boot_disk
    storage = (clone.storage if clone else None) or (boot.storage if boot else None)
    by_name = {node.name: node for node in nodes}
    source = by_name.get(template.node)
    if source is None or not source.online:
        return Unschedulable(
            reasons={template.node: f"offline, and it holds template {template.vmid}"},
            reason="NodeUnavailable",
        )
    origins = template.storages()
    full = _full(clone.full if clone else None, storage, template, source, origins)
    memory = _memory(vm, template)
    refusals: dict[str, Refusal] = {}
    fitting: list[Node] = []
    for node in nodes:
        why = _refusal(
            node, vm, template, source, origins | ({storage} if storage else set()), access, memory
        )
        if why is None:
            fitting.append(node)
        else:
            refusals[node.name] = why
    if not fitting:
        return Unschedulable(
            reasons={name: why.message for name, why in refusals.items()},
            reason=_common_reason(refusals.values()),
        )
    preferred = set(vm.spec.placement.nodes or ()) if vm.spec.placement else set()
    best = max(
        fitting, key=lambda node: (node.name in preferred, node.memory_free or 0, node.name == template.node)
    )
    return Placed(node=best.name, full=full, storage=storage if full else None, memory=memory)


def _full(
    asked: bool | None, storage: str | None, template: Template, source: Node, origins: set[str]
) -> bool:
    """Linked where nothing speaks against it: it is instant and takes no space. Only templates can be linked to."""
    if asked is not None and template.is_template:
        return asked
    types = {source.storages[name].type for name in origins if name in source.storages}
    return not template.is_template or storage is not None or not types <= LINKABLE


def _memory(vm: ProxmoxVM, template: Template) -> int:
    """Bytes the running VM will take; 0 when it is not going to run."""
    if vm.spec.wanted_power == "Stopped":
        return 0
    if vm.spec.memory is not None:
        return parse_quantity(vm.spec.memory.size)
    current = parse_props(template.config.get("memory", "512"), "current").get("current", "512")
    return int(current) << 20


def _refusal(
    node: Node,
    vm: ProxmoxVM,
    template: Template,
    source: Node,
    storages: set[str],
    access: Access,
    memory: int,
) -> Refusal | None:
    if not node.online:
        return Refusal(reason="NodeUnavailable", message="offline")
    if not access.allows_node(node.name):
        return Refusal(reason="AccessDenied", message="not granted to this namespace (access[].nodes)")
    placement = vm.spec.placement
    if placement is not None and placement.mode == "Require" and node.name not in (placement.nodes or ()):
        return Refusal(reason="NotChosen", message="not listed in spec.placement.nodes")
    fields = dict.fromkeys(storages, f"template {template.vmid}") | _storage_fields(vm, access)
    if missing := sorted(name for name in fields if name not in node.storages):
        named = ", ".join(f"storage {name} ({fields[name]})" for name in missing)
        message = f"{named} is not available there: name one that is, or enable it"
        return Refusal(reason="StorageNotFound", message=message)
    if unfit := sorted(name for name in fields if "images" not in node.storages[name].content):
        named = ", ".join(f"storage {name} ({fields[name]})" for name in unfit)
        message = f"{named} takes no disk images: name one that does, or add images to its content"
        return Refusal(reason="StorageNotUsable", message=message)
    bridges = _bridge_fields(vm, access)
    if node.bridges is not None and (absent := sorted(bridges.keys() - node.bridges)):
        named = ", ".join(f"bridge {name} ({bridges[name]})" for name in absent)
        message = f"{named} does not exist there: create it, name another, or grant SDN.Use on it"
        return Refusal(reason="BridgeNotFound", message=message)
    if node.name != template.node:
        local = sorted(
            name for name in storages if name in source.storages and not source.storages[name].shared
        )
        if local:
            message = f"template {template.vmid} is on {template.node} and storage {', '.join(local)} is local to it"
            return Refusal(reason="TemplateElsewhere", message=message)
    if node.memory_free is not None and memory > node.memory_free:
        message = f"{format_gib(memory)} of memory wanted, which is more than is free"
        return Refusal(reason="MemoryFull", message=message)
    return None


def _common_reason(refusals: Iterable[Refusal]) -> str:
    """The one thing that stands in the way everywhere, where it is one thing that a person can mend."""
    reasons = {refusal.reason for refusal in refusals}
    mendable = reasons & {"StorageNotFound", "StorageNotUsable", "BridgeNotFound"}
    return mendable.pop() if len(reasons) == 1 and mendable else "Unschedulable"


def _storage_fields(vm: ProxmoxVM, access: Access) -> dict[str, str]:
    """Every storage that the spec needs on the VM's node, with the field that asks for it."""
    spec = vm.spec
    clone, boot, init = spec.source.clone, spec.boot_disk, spec.cloud_init
    fields = [(f"spec.disks[{disk.name}].storage", disk.storage or access.storage) for disk in spec.disks]
    fields.append(("spec.source.clone.storage", clone.storage if clone else None))
    fields.append(("spec.bootDisk.storage", boot.storage if boot else None))
    fields.append(("spec.cloudInit.storage", init.storage if init else None))
    return {storage: field for field, storage in fields if storage is not None}


def _bridge_fields(vm: ProxmoxVM, access: Access) -> dict[str, str]:
    """Every bridge that the spec needs on the VM's node, with the field that asks for it."""
    fields = [
        (f"spec.networks[{network.name}].bridge", network.bridge or access.bridge)
        for network in vm.spec.networks
    ]
    return {bridge: field for field, bridge in fields if bridge is not None}
