"""From facts to steps: which copies are wanted, and the next step of each.

:func:`plan` is pure and total. A copy is destroyed only when it is ours, no longer wanted, and no ProxmoxVM is being
cloned from it; whether linked clones still need its disks, Proxmox itself knows best, and refuses. Nothing is done on
what is :class:`Unclear`.
"""

from proxmox_operator.api.names import FINALIZER
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.templates.copies import awaits_image, few, next_of
from proxmox_operator.planning.templates.facts import (
    Bury,
    Create,
    DeleteImage,
    Download,
    Hold,
    Next,
    Plan,
    Release,
    Reserve,
    Step,
    TemplateFacts,
    There,
    Trouble,
    failure,
)
from proxmox_operator.planning.templates.version import ImageFile


def plan(facts: TemplateFacts) -> Plan:
    """The steps that can be taken now."""
    if facts.template.metadata.deletion_timestamp is not None:
        return _deleting(facts)
    if FINALIZER not in facts.template.metadata.finalizers:
        return Plan(steps=(Hold(),))
    if facts.template.spec.distribution == "Shared" and not facts.shared:
        message = (
            f"spec.distribution Shared needs a storage that all nodes share, which {facts.storage} is not: name "
            "another in spec.storage, or choose AllNodes or OnDemand"
        )
        return Plan(troubles=(Trouble(where=facts.storage, reason="StorageNotShared", message=message),))
    nodes = wanted_nodes(facts)
    have = {each.copy.node for each in facts.current}
    missing = tuple(node for node in nodes if node not in have)
    found = [*_reserve(facts, missing), *_tended(facts, nodes), *_downloads(facts, nodes)]
    if not nodes:
        found += _why_none(facts)
    if not any(isinstance(each, Reserve | Create | Download) for each in found):
        found += [DeleteImage(image=image) for image in facts.unused]
    ready = {each.copy.node for each in facts.current if each.copy.state == "Ready"}
    return _plan(found, missing=tuple(node for node in nodes if node not in ready))


def wanted_nodes(facts: TemplateFacts) -> tuple[str, ...]:
    """The nodes that are to have a copy of the current version.

    A shared storage wants one, which stays where it is. A node that cannot have one is wanted all the same where the
    spec names it, so that it is told why.
    """
    spec = facts.template.spec
    allowed = spec.nodes or tuple(sorted(facts.nodes))
    have = tuple(sorted({each.copy.node for each in facts.current if each.copy.node in allowed}))
    if facts.source is not None and have:
        return have  # wherever its source is now: nothing could make it again
    new = tuple(node for node in allowed if facts.source in (None, node))
    if facts.shared:
        able = sorted(
            (node for node in new if _can_have(facts, node)), key=lambda node: (node not in facts.asked, node)
        )
        return have[:1] or tuple(able[:1]) or new[:1]
    if spec.distribution == "OnDemand":
        return tuple(node for node in allowed if node in have or (node in new and node in facts.asked))
    told = bool(spec.nodes) or facts.source is not None
    return tuple(
        node
        for node in allowed
        if node in have or (node in new and (told or _can_have(facts, node) or _is_away(facts, node)))
    )


def _can_have(facts: TemplateFacts, node: str) -> bool:
    known = facts.nodes.get(node)
    return known is not None and known.online and known.refusal is None


def _is_away(facts: TemplateFacts, node: str) -> bool:
    """An offline node gets its copy when it is back; whether it can have one shows then."""
    known = facts.nodes.get(node)
    return known is not None and not known.online


def _reserve(facts: TemplateFacts, missing: tuple[str, ...]) -> list[Next]:
    able = tuple(node for node in missing if _can_have(facts, node))
    found: list[Next] = [Reserve(nodes=able)] if able else []
    for node in missing:
        known = facts.nodes.get(node)
        if known is None:
            message = f"there is no node {node}: correct spec.nodes"
            found.append(Trouble(where=node, reason="NodeNotFound", message=message))
        elif not known.online:
            message = f"node {node} is offline; its copy is made when it is back"
            found.append(Trouble(where=node, reason="NodeUnavailable", message=message, waits=True))
        elif known.refusal is not None:
            found.append(Trouble(where=node, reason=known.reason, message=known.refusal))
    return found


def _why_none(facts: TemplateFacts) -> list[Next]:
    """Why no node is to have a copy, unless none is to have one until it is asked for."""
    spec = facts.template.spec
    if (
        spec.from_vm is not None
        and facts.source is not None
        and spec.nodes
        and facts.source not in spec.nodes
    ):
        message = (
            f"spec.nodes: VM {spec.from_vm.vmid} is on {facts.source}, where the copy of it would be made: list that "
            "node, or move the VM"
        )
        return [Trouble(where=facts.source, reason="SourceElsewhere", message=message)]
    if spec.distribution == "OnDemand":
        return []
    return [each for each in _reserve(facts, tuple(sorted(facts.nodes))) if isinstance(each, Trouble)]


def _downloads(facts: TemplateFacts, nodes: tuple[str, ...]) -> list[Next]:
    """The image, for the nodes whose copy waits for it."""
    found: list[Next] = []
    for each in facts.current:
        known = facts.nodes.get(each.copy.node)
        if known is None or known.name not in nodes or not _can_have(facts, known.name):
            continue
        if not awaits_image(facts, each):
            continue
        if facts.file is None:
            message = f"spec.image.volume: {facts.volume} is not there for {known.name}: upload it, or correct the name"
            found.append(Trouble(where=known.name, reason="ImageNotFound", message=message))
        elif known.downloading:
            found.append(_coming(known.name, facts.file))
        elif known.failed is not None:
            found.append(failure(known.name, known.failed))
        else:
            found.append(Download(node=known.name, file=facts.file))
    return found


def _coming(node: str, file: ImageFile) -> str:
    return f"the operator uploads {file.name} to {node}" if file.uploaded else f"{node} downloads {file.name}"


def _tended(facts: TemplateFacts, nodes: tuple[str, ...]) -> list[Next]:
    kept = _kept_versions(facts)
    found: list[Next] = []
    for each in facts.copies:
        current = each.copy.version == facts.version
        wanted = each.copy.node in nodes if current else each.copy.version in kept
        found.append(next_of(facts, each, wanted=wanted and (current or each.copy.state == "Ready")))
    return found


def _kept_versions(facts: TemplateFacts) -> tuple[str, ...]:
    """The earlier versions that are kept though nothing uses them, the newest ones; one that never came to be displaces
    none."""
    keep = facts.template.spec.keep_versions
    made = {each.copy.version for each in facts.copies if each.copy.state == "Ready"} - {facts.version}
    earlier = [version for version in facts.template.status.versions if version in made]
    return tuple(earlier[-keep:]) if keep else ()


def _deleting(facts: TemplateFacts) -> Plan:
    if FINALIZER not in facts.template.metadata.finalizers:
        return Plan()
    if facts.making:
        message = f"ProxmoxVMs {few(facts.making)} are being made from it; it is deleted when they are done"
        return Plan(troubles=(Trouble(where="", reason="InUse", message=message, waits=True),))
    retain = facts.template.spec.deletion_policy == "Retain"
    found: list[Next] = []
    for each in facts.copies:
        ours = isinstance(each.standing, There) and each.standing.owner in (Owner.OURS, Owner.UNMARKED)
        finished = each.copy.build is None and not (isinstance(each.standing, There) and each.standing.draft)
        if retain and ours and finished and each.copy.state in ("Ready", "Removing") and not each.working:
            found.append(Bury(copy=each.copy))
        else:
            found.append(next_of(facts, each, wanted=False))
    if not found:
        found += [DeleteImage(image=image) for image in facts.unused]
        found += [
            f"{image.volume} is on its way to {image.node}, and is deleted then" for image in facts.coming
        ]
        found = found or [Release()]
    result = _plan(found)
    for trouble in result.troubles:
        if trouble.reason == "InUse":
            message = f"{trouble.message}; delete those VMs, or set spec.deletionPolicy to Retain"
            return Plan(
                steps=result.steps,
                working=result.working,
                troubles=(Trouble(where="", reason="InUse", message=message),),
            )
    return result


def _plan(found: list[Next], *, missing: tuple[str, ...] = ()) -> Plan:
    steps: list[Step] = []
    working: list[str] = []
    troubles: list[Trouble] = []
    for each in found:
        if isinstance(each, Trouble):
            troubles.append(each)
        elif isinstance(each, str):
            working.append(each)
        elif each is not None:
            steps.append(each)
    return Plan(steps=tuple(steps), working=tuple(working), troubles=tuple(troubles), missing=missing)
