"""From facts to steps: which copies are wanted, and the next step of each.

:func:`plan` is pure and total. A copy is destroyed only when it is ours, no longer wanted, and no ProxmoxVM is being
cloned from it; whether linked clones still need its disks, Proxmox itself knows best, and refuses. Nothing is done on
what is :class:`Unclear`.
"""

from proxmox_operator.api.names import FINALIZER
from proxmox_operator.errors import NeedsHuman, OperatorError
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.templates.facts import (
    Bury,
    Convert,
    CopyFacts,
    Create,
    DeleteImage,
    Destroy,
    Download,
    Drop,
    Finish,
    Gone,
    Hold,
    Keep,
    Plan,
    Release,
    Reserve,
    Step,
    TemplateFacts,
    There,
    Trouble,
    Unclear,
)

Next = Step | Trouble | str | None
"""What comes next of one copy: a step, what stands in the way, what is awaited, or nothing."""


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
    named = spec.nodes or tuple(sorted(facts.nodes))
    if facts.source is not None:
        named = tuple(node for node in named if node == facts.source)
    have = tuple(sorted(each.copy.node for each in facts.current if each.copy.node in named))
    if facts.shared:
        able = sorted(
            (node for node in named if _can_have(facts, node)),
            key=lambda node: (node not in facts.asked, node),
        )
        return have[:1] or tuple(able[:1]) or named[:1]
    if spec.distribution == "OnDemand":
        return tuple(node for node in named if node in facts.asked or node in have)
    unasked = not spec.nodes and facts.source is None
    return tuple(
        node
        for node in named
        if not unasked or node in have or _can_have(facts, node) or _is_away(facts, node)
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
    if spec.from_vm is not None and facts.source is not None and spec.nodes and facts.source not in spec.nodes:
        message = (
            f"spec.nodes: VM {spec.from_vm.vmid} is on {facts.source}, where the copy of it would be made: list that "
            "node, or move the VM"
        )
        return [Trouble(where=facts.source, reason="SourceElsewhere", message=message)]
    return [] if spec.distribution == "OnDemand" else _reserve(facts, tuple(sorted(facts.nodes)))


def _downloads(facts: TemplateFacts, nodes: tuple[str, ...]) -> list[Next]:
    """The image, for the nodes whose copy waits for it."""
    found: list[Next] = []
    for each in facts.current:
        known = facts.nodes.get(each.copy.node)
        if known is None or known.name not in nodes or not _can_have(facts, known.name):
            continue
        if not _awaits_image(facts, each):
            continue
        if facts.file is None:
            message = f"spec.image.volume: {facts.volume} is not there for {known.name}: upload it, or correct the name"
            found.append(Trouble(where=known.name, reason="ImageNotFound", message=message))
        elif known.failed is not None:
            found.append(_failure(known.name, known.failed))
        elif known.downloading:
            found.append(f"{known.name} downloads {facts.file.name}")
        else:
            found.append(Download(node=known.name, file=facts.file))
    return found


def _awaits_image(facts: TemplateFacts, each: CopyFacts) -> bool:
    known = facts.nodes.get(each.copy.node)
    return (
        facts.volume is not None
        and each.copy.state == "Creating"
        and isinstance(each.standing, Gone)
        and not each.working
        and known is not None
        and known.image is not True
    )


def _tended(facts: TemplateFacts, nodes: tuple[str, ...]) -> list[Next]:
    kept = _kept_versions(facts)
    found: list[Next] = []
    for each in facts.copies:
        current = each.copy.version == facts.version
        wanted = each.copy.node in nodes if current else each.copy.version in kept
        found.append(_next(facts, each, wanted=wanted and (current or each.copy.state == "Ready")))
    return found


def _kept_versions(facts: TemplateFacts) -> tuple[str, ...]:
    """The earlier versions that are kept though nothing uses them, the newest ones; one that never came to be displaces
    none."""
    keep = facts.template.spec.keep_versions
    made = {each.copy.version for each in facts.copies if each.copy.state == "Ready"} - {facts.version}
    earlier = [version for version in facts.template.status.versions if version in made]
    return tuple(earlier[-keep:]) if keep else ()


def _next(facts: TemplateFacts, each: CopyFacts, *, wanted: bool) -> Next:
    """The next step of one copy; ``wanted``: it is to be kept, or made."""
    copy = each.copy
    if each.working:
        return f"{_DOING[copy.state]} copy {copy.vmid} on {copy.node}"
    match each.standing:
        case Unclear(reason=reason, message=message):
            return Trouble(where=str(copy.vmid), reason=reason, message=message, waits=True, unknown=True)
        case Gone():
            return _next_of_gone(facts, each, wanted=wanted)
        case There(owner=Owner.FOREIGN):
            told = f"VM {copy.vmid} on {copy.node} is no longer the copy of this template; it is left alone"
            return Drop(copy=copy, told=told)
        case There() as there:
            return _next_of_present(facts, each, there, wanted=wanted)


_DOING = {"Creating": "making", "Converting": "converting", "Ready": "looking at", "Removing": "removing"}


def _next_of_gone(facts: TemplateFacts, each: CopyFacts, *, wanted: bool) -> Next:
    copy = each.copy
    if copy.state in ("Ready", "Converting"):
        return Drop(copy=copy, told=f"copy {copy.vmid} on {copy.node} no longer exists in Proxmox")
    if each.settles_at is not None and facts.now < each.settles_at:
        return f"a call about copy {copy.vmid} may still take effect"
    if copy.state == "Removing" or not wanted:
        return Drop(copy=copy)
    if each.failed is not None:
        return _failure(copy.node, each.failed)
    known = facts.nodes.get(copy.node)
    if known is None or not known.online or known.refusal is not None:
        return Drop(copy=copy)  # made nowhere yet: where a copy is wanted is decided anew
    return None if _awaits_image(facts, each) else Create(copy=copy)


def _next_of_present(facts: TemplateFacts, each: CopyFacts, there: There, *, wanted: bool) -> Next:
    copy = each.copy
    if there.lock in ("clone", "create", "destroyed") or there.owner is Owner.PENDING:
        message = (
            f"copy {copy.vmid} on {there.node} is left over from an interrupted Proxmox task (lock: {there.lock}); as "
            f"root on {there.node} run: qm unlock {copy.vmid} && qm destroy {copy.vmid} --purge"
        )
        return Trouble(where=str(copy.vmid), reason="StuckLock", message=message)
    if there.lock is not None:
        message = f"copy {copy.vmid} on {there.node} is locked by Proxmox ({there.lock})"
        return Trouble(where=str(copy.vmid), reason="Locked", message=message, waits=True)
    if not wanted:
        return _remove(facts, each)
    if there.is_template:
        return None if copy.state == "Ready" else Finish(copy=copy)
    if there.running:
        message = (
            f"copy {copy.vmid} on {there.node} was turned into a VM and runs: shut it down, and it is converted again; "
            "to keep it, move it to another VMID"
        )
        return Trouble(where=str(copy.vmid), reason="CopyRunning", message=message)
    if each.failed is not None:
        return _failure(copy.node, each.failed)
    return Convert(copy=copy) if there.complete else Destroy(copy=copy)


def _remove(facts: TemplateFacts, each: CopyFacts) -> Next:
    copy = each.copy
    if each.making:
        return f"ProxmoxVMs {_few(each.making)} are being cloned from copy {copy.vmid}"
    if (why := facts.in_use.get(copy.vmid)) is not None:
        if copy.state == "Removing":
            return Keep(copy=copy)
        return Trouble(where=str(copy.vmid), reason="InUse", message=why, waits=True)
    if each.failed is not None:
        return _failure(copy.node, each.failed)
    return Destroy(copy=copy)


def _deleting(facts: TemplateFacts) -> Plan:
    if FINALIZER not in facts.template.metadata.finalizers:
        return Plan()
    if facts.making:
        message = f"ProxmoxVMs {_few(facts.making)} are being made from it; it is deleted when they are done"
        return Plan(troubles=(Trouble(where="", reason="InUse", message=message, waits=True),))
    retain = facts.template.spec.deletion_policy == "Retain"
    found: list[Next] = []
    for each in facts.copies:
        ours = isinstance(each.standing, There) and each.standing.owner in (Owner.OURS, Owner.UNMARKED)
        if retain and ours and each.copy.state in ("Ready", "Removing") and not each.working:
            found.append(Bury(copy=each.copy))
        else:
            found.append(_next(facts, each, wanted=False))
    if not found:
        found += [DeleteImage(image=image) for image in facts.unused] or [Release()]
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


def _failure(where: str, error: OperatorError) -> Trouble:
    waits = not isinstance(error, NeedsHuman)
    return Trouble(where=where, reason=error.reason, message=error.message, waits=waits)


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
