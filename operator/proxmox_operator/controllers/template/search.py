"""Finding the copies of a VMTemplate whose status was lost (restored from a backup, re-applied from Git).

Read are the configs of guests in the range that VMIDs come from, which no known object owns: templates, and VMs that
were to become ones. A mark that names this template and stands on its own VMID is a copy; anything else is not. A
draft, as its mark calls what was never sealed, or what has the seed of a build, is only found to be destroyed: how far
its build had come is not known any more.
"""

from proxmox_operator.api import CopyBuild, TemplateCopy
from proxmox_operator.controllers.context import Context, key_of
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.controllers.template.record import Record
from proxmox_operator.errors import Forbidden, Waiting
from proxmox_operator.planning import disks
from proxmox_operator.planning.identity import signs_of
from proxmox_operator.planning.seed import attached_seed
from proxmox_operator.planning.templates import is_draft, marked_version
from proxmox_operator.proxmox.errors import NotHere
from proxmox_operator.proxmox.resources import Guest
from proxmox_operator.proxmox.session import ClusterSession

SEARCH_AGAIN = 5.0
"""Seconds until a search that met a VM it could not read is repeated: mostly it has just been moved or made."""


async def find_copies(context: Context, member: Member, session: ClusterSession, record: Record) -> None:
    """Record copies that carry this template's mark, where the status knows of none at all.

    Raises Waiting (SearchIncomplete) while one that may be ours cannot be read: a second copy would be made beside it.
    """
    template, inventory = record.template, session.inventory.current
    if (
        template.status.version is not None
        or template.metadata.deletion_timestamp is not None
        or inventory is None
    ):
        return
    span, own, found = member.cluster.spec.vmid_range, key_of(record.raw), []
    for guest in sorted(inventory.guests.values(), key=lambda guest: guest.vmid):
        if (
            guest.type == "qemu"
            and member.keys.get(guest.vmid, own) == own
            and span.start <= guest.vmid <= span.end
        ):
            copy = await _copy_of(context, session, template.metadata.name, guest)
            found += [copy] if copy is not None else []
    if not found:
        return
    for copy in found:
        member.keys[copy.vmid] = key_of(record.raw)
    await record.hold()
    await record.put(found, cluster=member.name)
    record.event("Recovered", f"took back {len(found)} copies that carry this template's mark")


async def _copy_of(context: Context, session: ClusterSession, name: str, guest: Guest) -> TemplateCopy | None:
    """The guest as a copy of the template; None for one that is not."""
    unread = f"cannot tell whether VM {guest.vmid} is a copy of this template: it "
    try:
        config = await session.vms.config(guest.node, guest.vmid)
    except (Forbidden, NotHere) as error:
        message = f"{unread}cannot be read ({error.message})"
        raise Waiting(message, reason="SearchIncomplete", after=SEARCH_AGAIN) from error
    if config.lock in ("clone", "create"):
        raise Waiting(f"{unread}is being made", reason="SearchIncomplete", after=SEARCH_AGAIN)
    mark = signs_of(config.raw).mark
    version = marked_version(name, mark.name) if mark is not None else None
    if mark is None or version is None or mark.vmid != guest.vmid or mark.cluster_id != context.cluster_id:
        return None
    drives, seed = disks.drives(config.raw), attached_seed(config.raw, guest.vmid, mark.uuid)
    slot = disks.boot_slot(config.raw)
    return TemplateCopy(
        node=guest.node,
        vmid=guest.vmid,
        uuid=mark.uuid,
        version=version,
        storage=drives[slot].storage if slot is not None else "",
        state="Removing"
        if is_draft(mark.name) or seed is not None
        else "Ready"
        if config.is_template
        else "Creating",
        since=context.now(),
        build=CopyBuild(phase="Attaching", begun=context.now(), seed=seed) if seed is not None else None,
    )
