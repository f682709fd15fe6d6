"""Finding the VM of an object whose status was lost (restored from a backup, re-applied from Git).

One bounded sweep of the configs of VMs that no known object owns; what was read is kept on the member. A VM that cannot
be read leaves the answer open only where it could be ours, that is, in the range our VMIDs come from.
"""

import asyncio

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.controllers.context import Context, NamespaceFacts, vm_key
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.errors import Forbidden, NeedsHuman, Unreachable
from proxmox_operator.planning.access import Access
from proxmox_operator.planning.identity import Claim, Mark, claim, read_mark
from proxmox_operator.planning.lifecycle import Claimed, Unknown
from proxmox_operator.proxmox.errors import NotHere
from proxmox_operator.proxmox.resources import Guest
from proxmox_operator.proxmox.session import ClusterSession

CHUNK = 16
"""Configs asked for at once; the client's limits per node hold besides."""

SEARCH_AGAIN = 2.0
"""Seconds until a search that met a VM it could not read is repeated: mostly it has just been moved or deleted."""


async def find_marked(
    context: Context,
    member: Member,
    session: ClusterSession,
    vm: ProxmoxVM,
    namespace: NamespaceFacts,
    access: Access,
) -> Claimed | Unknown | None:
    """The VM that carries this object's mark on the VMID it was written for.

    ``None`` when there is none; raises NeedsHuman (IdentityConflict) when there are several.
    """
    inventory = session.inventory.current
    guests = inventory.guests if inventory else {}
    owner = vm_key(vm)
    taken = {vmid for vmid, key in member.keys.items() if key != owner}
    mine = {vmid for vmid, mark in member.marks.items() if mark and (mark.namespace, mark.name) == owner[1:]}
    for vmid in mine | (member.marks.keys() - guests.keys()):
        del member.marks[vmid]
    candidates = [guest for guest in guests.values() if guest.type == "qemu" and not guest.template]
    candidates = [guest for guest in candidates if guest.vmid not in taken]
    async with member.searching:  # a hundred new objects sweep once, not a hundred times
        unread = [guest for guest in candidates if guest.vmid not in member.marks]
        unreadable = await _read(member, session, unread)
    found: list[tuple[Claim, Mark]] = []
    for vmid, mark in member.marks.items():
        if mark is None or vmid in taken:
            continue
        verdict = claim(
            mark,
            standing_on=vmid,
            cluster_id=context.cluster_id,
            namespace_uid=namespace.uid,
            namespace=vm.metadata.namespace or "",
            name=vm.metadata.name,
        )
        if verdict is not Claim.NONE:
            found.append((verdict, mark))
    if len(found) > 1:
        vmids = ", ".join(str(mark.vmid) for _, mark in found)
        message = f"VMs {vmids} all carry this object's mark: remove it from the descriptions of those that are not it"
        raise NeedsHuman(message, reason="IdentityConflict")
    if found:
        verdict, mark = found[0]
        own = verdict is Claim.TAKE
        return Claimed(vmid=mark.vmid, uuid=mark.uuid, own=own, granted=own or access.recover)
    span = member.cluster.spec.vmid_range
    doubtful = sorted(vmid for vmid in unreadable if span.start <= vmid <= span.end or vmid == vm.spec.vmid)
    if doubtful:
        shown = ", ".join(str(vmid) for vmid in doubtful[:5])
        message = f"cannot tell whether this object's VM exists already: VM {shown} cannot be read, or is being made"
        return Unknown(reason="SearchIncomplete", message=message, after=SEARCH_AGAIN)
    return None


async def _read(member: Member, session: ClusterSession, guests: list[Guest]) -> set[int]:
    """Read the marks of these guests into the member; returns the VMIDs that cannot be read."""
    unreadable: set[int] = set()

    async def look(guest: Guest) -> None:
        try:
            config = await session.vms.config(guest.node, guest.vmid)
        except (Forbidden, Unreachable):
            unreadable.add(guest.vmid)
        except NotHere:
            unreadable.add(guest.vmid)
            session.inventory.poke()
        else:
            # What is being made has no mark yet, and may get ours: it is read again the next time.
            if config.lock in ("clone", "create"):
                unreadable.add(guest.vmid)
                return
            member.marks[guest.vmid] = read_mark(config.raw.get("description", ""))

    for start in range(0, len(guests), CHUNK):
        await asyncio.gather(*(look(guest) for guest in guests[start : start + CHUNK]))
    return unreadable
