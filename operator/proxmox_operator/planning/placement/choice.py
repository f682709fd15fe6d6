"""The node for a new VM, and the best of several nodes that could host one."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.planning.placement.needs import needs_of_clone
from proxmox_operator.planning.placement.rules import Terms, refusal, unknown_nodes
from proxmox_operator.planning.placement.things import Node, Placed, Refusal, Template, Unschedulable

LINKABLE = frozenset({"lvmthin", "zfspool", "rbd", "dir", "nfs", "cifs", "btrfs", "cephfs"})
"""Storage types on which Proxmox can make a linked clone (``PVE::Storage::*Plugin``, feature ``clone``)."""

_MENDABLE = frozenset(
    {"StorageNotFound", "StorageNotUsable", "StorageFull", "BridgeNotFound", "MappingNotFound"}
)


def place(
    vm: ProxmoxVM,
    templates: Sequence[Template],
    nodes: Sequence[Node],
    terms: Terms,
    *,
    promised: str | None = None,
) -> Placed | Unschedulable:
    """Choose a node for a VM that is about to be made, and the one of ``templates`` that it is cloned from there.

    That is the node's own, else one on a storage that the node shares, else the node's own that is yet to be made.
    ``promised``: the node that was chosen before, if any, whose template may be in the making.
    """
    known = {node.name: node for node in nodes}
    usable = [each for each in templates if each.node in known and known[each.node].online]
    if not usable:
        return Unschedulable(
            reasons={each.node: f"offline, and it holds {each}" for each in templates},
            reason="NodeUnavailable",
        )
    cloned, boot = vm.spec.source.cloned, vm.spec.boot_disk
    storage = (cloned.storage if cloned else None) or (boot.storage if boot else None)
    asked = cloned.full if cloned else None
    refusals = unknown_nodes(terms, nodes)
    offers: dict[str, Placed] = {}
    for node in nodes:
        template, far = _nearest(node, usable, known, storage)
        full = _is_full(asked, storage, template, known[template.node])
        needs = needs_of_clone(vm, template, terms.access, full=full, storage=storage)
        why = refusal(node, needs, terms) or far
        if why is not None:
            refusals[node.name] = why
            continue
        offers[node.name] = Placed(
            node=node.name,
            template=template,
            full=full,
            storage=storage if full else None,
            memory=needs.memory,
            cpus=needs.cpus,
            space=needs.space,
        )
    if not offers:
        return Unschedulable(
            reasons={name: why.message for name, why in refusals.items()},
            reason=_common_reason(refusals.values()),
        )
    chosen = best(
        [known[name] for name in offers],
        terms,
        home={each.node for each in usable},
        behind={name for name, each in offers.items() if each.template.vmid is None} - {promised},
    )
    return offers[chosen.name]


def best(
    fitting: Sequence[Node], terms: Terms, *, home: Collection[str], behind: Collection[str | None] = ()
) -> Node:
    """Preferred nodes first, then company as wished, then free memory; among equals one that is ``home``.

    On a node that is ``behind`` the VM would have to wait for its template: half of its free memory counts. So a VM
    starts at once where it can, and no node is filled up only because the others have no template yet.
    """
    preferred = set(terms.placement.nodes) if terms.placement is not None else set()

    def score(node: Node) -> tuple[object, ...]:
        return (
            node.name in preferred,
            -len(terms.crowd.apart.get(node.name, ())),
            len(terms.crowd.beside.get(node.name, ())),
            (node.memory_free or 0) // (2 if node.name in behind else 1),
            node.name in home,
        )

    return max(fitting, key=score)


def _nearest(
    node: Node, templates: Sequence[Template], known: Mapping[str, Node], storage: str | None
) -> tuple[Template, Refusal | None]:
    """The template that a VM on ``node`` is best cloned from, and why even that one cannot be."""
    reached = [(each, _too_far(node, each, known[each.node], storage)) for each in templates]
    return min(
        reached, key=lambda each: (each[1] is not None, each[0].vmid is None, each[0].node != node.name)
    )


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
    where = f"{template} is on {template.node} and storage"
    if absent := [name for name in involved if name not in source.storages]:
        message = f"{where} {', '.join(absent)} is not available on {template.node}: enable it there"
    elif local := [name for name in involved if not source.storages[name].shared]:
        message = f"{where} {', '.join(local)} is local to it"
        if template.name is not None and template.storages().intersection(local):
            message += ": let the VMTemplate have a copy here, too (its spec.nodes and spec.distribution)"
    elif template.vmid is None:
        message = f"{template} has no copy yet"
    else:
        return None
    return Refusal(reason="TemplateElsewhere", message=message)


def _common_reason(refusals: Iterable[Refusal]) -> str:
    """The one thing that stands in the way everywhere, where it is one thing that a person can mend."""
    reasons = {refusal.reason for refusal in refusals}
    return reasons.pop() if len(reasons) == 1 and reasons <= _MENDABLE else "Unschedulable"
