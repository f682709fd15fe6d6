"""The next step of one copy of a VMTemplate, by how it stands and whether it is wanted.

Nothing is done on what is :class:`Unclear`. Which copies are wanted is ``plan``'s part.
"""

from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.templates.building import (
    discard,
    is_unbuilt,
    next_of_unbuilt,
    progress,
    running,
)
from proxmox_operator.planning.templates.facts import (
    Again,
    Convert,
    CopyFacts,
    Create,
    Destroy,
    Drop,
    Finish,
    Gone,
    Keep,
    Next,
    RemoveSeed,
    TemplateFacts,
    There,
    Trouble,
    Unclear,
    failure,
)


def next_of(facts: TemplateFacts, each: CopyFacts, *, wanted: bool) -> Next:
    """The next step of one copy; ``wanted``: it is to be kept, or made."""
    copy = each.copy
    if each.working and copy.state == "Building":
        return progress(facts, copy)
    if each.working:
        return f"{_DOING[copy.state]} copy {copy.vmid} on {copy.node}"
    match each.standing:
        case Unclear(reason=reason, message=message):
            return Trouble(where=copy.node, reason=reason, message=message, waits=True, unknown=True)
        case Gone():
            return _next_of_gone(facts, each, wanted=wanted)
        case There(owner=Owner.FOREIGN):
            told = f"VM {copy.vmid} on {copy.node} is no longer the copy of this template; it is left alone"
            return Drop(copy=copy, told=told)
        case There() as there:
            return _next_of_present(facts, each, there, wanted=wanted)


_DOING = {
    "Creating": "making",
    "Failed": "stopping",
    "Converting": "converting",
    "Ready": "looking at",
    "Removing": "removing",
}


def _next_of_gone(facts: TemplateFacts, each: CopyFacts, *, wanted: bool) -> Next:
    copy, build = each.copy, each.copy.build
    if copy.state in ("Ready", "Converting") and build is None:
        return Drop(copy=copy, told=f"copy {copy.vmid} on {copy.node} no longer exists in Proxmox")
    if each.settles_at is not None and facts.now < each.settles_at:
        return f"a call about copy {copy.vmid} may still take effect"
    if build is not None and build.seed is not None:
        return failure(copy.node, each.failed) if each.failed is not None else RemoveSeed(copy=copy)
    if copy.state in ("Building", "Failed", "Converting"):
        return Drop(copy=copy, told=f"copy {copy.vmid} on {copy.node} no longer exists in Proxmox")
    if copy.state == "Removing" and wanted and build is not None and build.failure is not None:
        return failure(copy.node, each.build_failed) if each.build_failed is not None else Again(copy=copy)
    if copy.state == "Removing" or not wanted:
        return Drop(copy=copy)
    if each.failed is not None:
        return failure(copy.node, each.failed)
    known = facts.nodes.get(copy.node)
    if known is None or not known.online or known.refusal is not None:
        return Drop(copy=copy)  # made nowhere yet: where a copy is wanted is decided anew
    return None if awaits_image(facts, each) else Create(copy=copy)


def _next_of_present(facts: TemplateFacts, each: CopyFacts, there: There, *, wanted: bool) -> Next:
    copy = each.copy
    if there.lock in ("clone", "create", "destroyed") or there.owner is Owner.PENDING:
        message = (
            f"under VMID {copy.vmid} on {there.node} is a VM that was never finished (lock: {there.lock}) and does not "
            f"say whose it is; if no task makes it any more and nobody else began it, as root on {there.node} run: "
            f"qm unlock {copy.vmid} && qm destroy {copy.vmid} --purge"
        )
        return Trouble(where=copy.node, reason="StuckLock", message=message)
    if there.lock is not None:
        message = f"copy {copy.vmid} on {there.node} is locked by Proxmox ({there.lock})"
        return Trouble(where=copy.node, reason="Locked", message=message, waits=True)
    if (
        copy.state == "Ready"
        and not there.is_template
        and (there.running or there.draft or not there.complete or not wanted)
    ):
        message = (
            f"copy {copy.vmid} on {there.node} was turned into a VM, which is left alone: shut it down and convert it "
            "to a template again, or remove the operator's comment from its notes to keep it as it is"
        )
        return Trouble(where=copy.node, reason="CopyTurnedVM", message=message)
    if not wanted:
        half_built = copy.state != "Ready" and (there.draft or copy.build is not None)
        return discard(facts, each, there) if half_built else _remove(facts, each)
    if is_unbuilt(facts, each, there):
        return next_of_unbuilt(facts, each, there)
    if there.is_template:
        return None if copy.state == "Ready" else Finish(copy=copy)
    if there.running:
        return running(copy)
    if each.failed is not None:
        return failure(copy.node, each.failed)
    if copy.build is not None and copy.build.seed is not None:
        return RemoveSeed(copy=copy)
    return Convert(copy=copy) if there.complete else Destroy(copy=copy)


def _remove(facts: TemplateFacts, each: CopyFacts) -> Next:
    copy = each.copy
    if each.making:
        return f"ProxmoxVMs {few(each.making)} are being cloned from copy {copy.vmid}"
    if (why := facts.in_use.get(copy.vmid)) is not None:
        if copy.state == "Removing":
            return Keep(copy=copy)
        return Trouble(where=copy.node, reason="InUse", message=why, waits=True)
    if each.failed is not None:
        return failure(copy.node, each.failed)
    return Destroy(copy=copy)


def awaits_image(facts: TemplateFacts, each: CopyFacts) -> bool:
    """Whether a copy cannot be made before its image is there."""
    known = facts.nodes.get(each.copy.node)
    return (
        facts.volume is not None
        and each.copy.state == "Creating"
        and isinstance(each.standing, Gone)
        and not each.working
        and known is not None
        and known.image is not True
    )


def few(names: tuple[str, ...]) -> str:
    """The first of the names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
