"""Taking over an existing VM (``spec.source.adopt``): which one is meant, and why it may not be taken.

Nothing of the VM is changed but its description, which gets our mark beside the text of people; that write carries the
digest of what was judged here. Not here: finding the VM (``controllers.vm.adoption``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.planning.identity import Mark, user_text

LONGEST_TEXT = 7000
"""Characters of a description that leave room for the mark; Proxmox takes 8192 in all."""

MAKING = frozenset({"clone", "create", "destroyed"})
"""Locks of a VM that is being made or destroyed, or that was left so."""


@dataclass(frozen=True, kw_only=True)
class Adoptee:
    """A guest that ``spec.source.adopt`` names, as its config says.

    ``mark`` is anybody's, ``uuid`` the SMBIOS UUID (None: it has none), ``holder`` another object that has
    it already, as kind and name. Of a guest that is not a VM, or that is held, no config was read.
    """

    vmid: int
    node: str
    kind: Literal["VM", "template", "container"] = "VM"
    holder: str | None = None
    lock: str | None = None
    mark: Mark | None = None
    uuid: str | None = None
    description: str = ""
    digest: str = ""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why nothing is taken over; ``passes``: it will pass by itself."""

    reason: str
    message: str
    passes: bool = False


def refusal(vm: ProxmoxVM, found: Sequence[Adoptee]) -> Refusal | None:
    """Why the object cannot take over what was found; None for exactly one VM that is nobody's.

    A mark of the object itself is no matter for this: it is taken back before anybody asks.
    """
    if not found:
        return Refusal(reason="AdoptNotFound", message=f"{_asked(vm)}: {_NOT_FOUND}")
    if len(found) > 1:
        vmids = ", ".join(str(each.vmid) for each in found)
        message = (
            f"{_asked(vm)}: VMs {vmids} all have this UUID: name the right one by its vmid, in a new object"
        )
        return Refusal(reason="AdoptAmbiguous", message=message)
    one = found[0]
    if one.kind != "VM":
        remedy = "clone it with spec.source.clone" if one.kind == "template" else "only VMs can be taken over"
        return Refusal(
            reason="AdoptRefused", message=f"{_asked(vm)}: guest {one.vmid} is a {one.kind}: {remedy}"
        )
    if vm.spec.vmid not in (None, one.vmid):
        message = f"spec.vmid: {vm.spec.vmid} is asked for, but the VM to be taken over is {one.vmid}: remove spec.vmid"
        return Refusal(reason="AdoptRefused", message=message)
    if one.holder is not None:
        message = (
            f"VM {one.vmid} belongs to {one.holder}: to have it here, delete that one with "
            "spec.deletionPolicy Retain first"
        )
        return Refusal(reason="IdentityConflict", message=message)
    if one.mark is not None:
        return Refusal(reason="IdentityConflict", message=_of_somebody(one.vmid, one.mark))
    if one.lock is not None:
        return Refusal(reason="Locked", message=_locked(one.vmid, one.lock), passes=True)
    if (length := len(user_text(one.description))) > LONGEST_TEXT:
        message = (
            f"the notes of VM {one.vmid} have {length} characters and leave no room for the mark of this object: "
            f"shorten them to {LONGEST_TEXT} in Proxmox"
        )
        return Refusal(reason="DescriptionTooLong", message=message)
    return None


_NOT_FOUND = (
    "there is no such VM, or the credentials may not see it; nothing is made in its place. It is taken over once it "
    "is there: correct the object, or grant VM.Audit on it"
)


def _asked(vm: ProxmoxVM) -> str:
    """What was asked for, with the field."""
    adopt = vm.spec.source.adopt
    by_uuid = adopt is not None and adopt.uuid is not None
    return f"spec.source.adopt.{'uuid' if by_uuid else 'vmid'}"


def _of_somebody(vmid: int, mark: Mark) -> str:
    if mark.vmid != vmid:
        return (
            f"VM {vmid} carries a copy of the mark of VM {mark.vmid} (ProxmoxVM {mark.namespace}/{mark.name}), of "
            "which it may be a clone: to take it over, remove the comment <!-- proxmox-operator ... --> from its notes"
        )
    return (
        f"VM {vmid} carries the mark of ProxmoxVM {mark.namespace}/{mark.name} (Kubernetes cluster {mark.cluster_id}): "
        "delete that one with spec.deletionPolicy Retain first, or, if it is gone for good, remove the comment "
        "<!-- proxmox-operator ... --> from the VM's notes in Proxmox"
    )


def _locked(vmid: int, lock: str) -> str:
    if lock in MAKING:
        return (
            f"VM {vmid} is being made or destroyed in Proxmox (lock: {lock}), and is not taken over meanwhile"
        )
    if lock == "suspended":
        return f"VM {vmid} is hibernated, and its config cannot be written: resume it in Proxmox, then it is taken over"
    return f"VM {vmid} is locked by Proxmox ({lock}); it is taken over once that has ended"


def as_adopted(vm: ProxmoxVM, adoptee: Adoptee, *, cluster: str) -> ProxmoxVM:
    """The object as it would be with this VM of that ProxmoxCluster taken over.

    For judging grants, and for showing what would be written.
    """
    status: dict[str, object] = {"vmid": adoptee.vmid, "uuid": adoptee.uuid, "node": adoptee.node}
    status |= {"cluster": cluster, "started": True}
    return vm.model_copy(update={"status": vm.status.model_copy(update=status)})
