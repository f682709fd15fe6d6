"""The node for a new VM, and the best of several nodes that could host one."""

from collections.abc import Iterable, Sequence

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.planning.placement.needs import needs_of_clone
from proxmox_operator.planning.placement.rules import Terms, refusal, unknown_nodes
from proxmox_operator.planning.placement.things import Node, Placed, Refusal, Template, Unschedulable

LINKABLE = frozenset({"lvmthin", "zfspool", "rbd", "dir", "nfs", "cifs", "btrfs", "cephfs"})
"""Storage types on which Proxmox can make a linked clone (``PVE::Storage::*Plugin``, feature ``clone``)."""

_MENDABLE = frozenset(
    {"StorageNotFound", "StorageNotUsable", "StorageFull", "BridgeNotFound", "MappingNotFound"}
)


def place(vm: ProxmoxVM, template: Template, nodes: Sequence[Node], terms: Terms) -> Placed | Unschedulable:
    """Choose a node for a VM that is about to be cloned from ``template``."""
    clone, boot = vm.spec.source.clone, vm.spec.boot_disk
    storage = (clone.storage if clone else None) or (boot.storage if boot else None)
    source = next((node for node in nodes if node.name == template.node), None)
    if source is None or not source.online:
        return Unschedulable(
            reasons={template.node: f"offline, and it holds template {template.vmid}"},
            reason="NodeUnavailable",
        )
    full = _is_full(clone.full if clone else None, storage, template, source)
    needs = needs_of_clone(vm, template, terms.access, full=full, storage=storage)
    refusals = unknown_nodes(terms, nodes)
    fitting: list[Node] = []
    for node in nodes:
        why = refusal(node, needs, terms) or _too_far(node, template, source, storage)
        if why is None:
            fitting.append(node)
        else:
            refusals[node.name] = why
    if not fitting:
        return Unschedulable(
            reasons={name: why.message for name, why in refusals.items()},
            reason=_common_reason(refusals.values()),
        )
    return Placed(
        node=best(fitting, terms, home=template.node).name,
        full=full,
        storage=storage if full else None,
        memory=needs.memory,
        cpus=needs.cpus,
        space=needs.space,
    )


def best(fitting: Sequence[Node], terms: Terms, *, home: str) -> Node:
    """Preferred nodes first, then company as wished, then free memory; among equals ``home``."""
    preferred = set(terms.placement.nodes) if terms.placement is not None else set()

    def score(node: Node) -> tuple[object, ...]:
        return (
            node.name in preferred,
            -len(terms.crowd.apart.get(node.name, ())),
            len(terms.crowd.beside.get(node.name, ())),
            node.memory_free or 0,
            node.name == home,
        )

    return max(fitting, key=score)


def _is_full(asked: bool | None, storage: str | None, template: Template, source: Node) -> bool:
    """Linked where nothing speaks against it: it is instant and takes no space. Only templates can be linked to."""
    if asked is not None and template.is_template:
        return asked
    types = {source.storages[name].type for name in template.storages() if name in source.storages}
    return not template.is_template or storage is not None or not types <= LINKABLE


def _too_far(node: Node, template: Template, source: Node, storage: str | None) -> Refusal | None:
    """Proxmox clones to another node only between storages that both share."""
    if node.name == template.node:
        return None
    involved = sorted(template.storages() | ({storage} if storage else set()))
    where = f"template {template.vmid} is on {template.node} and storage"
    if absent := [name for name in involved if name not in source.storages]:
        message = f"{where} {', '.join(absent)} is not available on {template.node}: enable it there"
    elif local := [name for name in involved if not source.storages[name].shared]:
        message = f"{where} {', '.join(local)} is local to it"
    else:
        return None
    return Refusal(reason="TemplateElsewhere", message=message)


def _common_reason(refusals: Iterable[Refusal]) -> str:
    """The one thing that stands in the way everywhere, where it is one thing that a person can mend."""
    reasons = {refusal.reason for refusal in refusals}
    return reasons.pop() if len(reasons) == 1 and reasons <= _MENDABLE else "Unschedulable"
