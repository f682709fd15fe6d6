"""Finding the VM of an object whose status was lost (restored from a backup, re-applied from Git).

One bounded sweep of the configs of VMs that no known object owns; what was read is kept on the member. A VM that cannot
be read leaves the answer open only where it could be ours, that is, in the range our VMIDs come from.
"""

import asyncio
from dataclasses import dataclass

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.controllers.context import Context, NamespaceFacts, vm_key
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.errors import Forbidden, NeedsHuman, Unreachable
from proxmox_operator.planning.access import Access
from proxmox_operator.planning.identity import Claim, Mark, claim, signs_of
from proxmox_operator.planning.lifecycle import Claimed, Unknown
from proxmox_operator.proxmox.errors import NotHere
from proxmox_operator.proxmox.resources import Guest
from proxmox_operator.proxmox.session import ClusterSession

CHUNK = 16
"""Configs asked for at once; the client's limits per node hold besides."""

SEARCH_AGAIN = 2.0
"""Seconds until a search that met a VM it could not read is repeated: mostly it has just been moved or deleted."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """Who searches, and where: for the VM of ``vm``, among those that no known object owns."""

    context: Context
    member: Member
    session: ClusterSession
    vm: ProxmoxVM
    namespace: NamespaceFacts
    access: Access

    def claimed(self, mark: Mark | None, *, standing_on: int) -> Claimed | None:
        """The VM with this mark as one that the object may have to take back; None for one that is not its own."""
        if mark is None:
            return None
        verdict = claim(
            mark,
            standing_on=standing_on,
            cluster_id=self.context.cluster_id,
            namespace_uid=self.namespace.uid,
            namespace=self.vm.metadata.namespace or "",
            name=self.vm.metadata.name,
        )
        if verdict is Claim.NONE:
            return None
        own = verdict is Claim.TAKE
        return Claimed(vmid=mark.vmid, uuid=mark.uuid, own=own, granted=own or self.access.recover)

    def taken(self) -> set[int]:
        """VMIDs that belong to other objects."""
        owner = vm_key(self.vm)
        return {vmid for vmid, key in self.member.keys.items() if key != owner}

    async def sweep(self) -> set[int]:
        """Read what is not known yet of each VM that may be the object's; returns the VMIDs that cannot be read."""
        inventory = self.session.inventory.current
        guests, seen, taken = inventory.guests if inventory else {}, self.member.seen, self.taken()
        name = vm_key(self.vm)[1:]
        mine = {vmid for vmid, signs in seen.items() if signs.mark and _name(signs.mark) == name}
        for vmid in mine | (seen.keys() - guests.keys()):
            del seen[vmid]
        candidates = [guest for guest in guests.values() if guest.type == "qemu" and not guest.template]
        async with self.member.searching:  # a hundred new objects sweep once, not a hundred times
            unread = [guest for guest in candidates if guest.vmid not in seen and guest.vmid not in taken]
            return await _read(self.member, self.session, unread)

    def own_mark(self) -> Claimed | None:
        """The VM that carries this object's mark on the VMID it was written for, among those that were read.

        Raises NeedsHuman (IdentityConflict) when there are several.
        """
        taken = self.taken()
        found = [
            claimed
            for vmid, signs in self.member.seen.items()
            if vmid not in taken and (claimed := self.claimed(signs.mark, standing_on=vmid)) is not None
        ]
        if len(found) > 1:
            vmids = ", ".join(str(each.vmid) for each in found)
            raise NeedsHuman(
                f"VMs {vmids} all carry this object's mark: remove it from the descriptions of those that are not it",
                reason="IdentityConflict",
            )
        return found[0] if found else None


async def find_marked(search: Search) -> Claimed | Unknown | None:
    """The VM that carries this object's mark on the VMID it was written for.

    ``None`` when there is none; raises NeedsHuman (IdentityConflict) when there are several.
    """
    unreadable = await search.sweep()
    if (found := search.own_mark()) is not None:
        return found
    span, asked = search.member.cluster.spec.vmid_range, search.vm.spec.vmid
    return incomplete([vmid for vmid in unreadable if span.start <= vmid <= span.end or vmid == asked])


def incomplete(doubtful: list[int]) -> Unknown | None:
    """That these VMs, which could not be read, leave the answer open."""
    if not doubtful:
        return None
    shown = ", ".join(str(vmid) for vmid in sorted(doubtful)[:5])
    message = (
        f"cannot tell whether this object's VM exists already: VM {shown} cannot be read, or is being made"
    )
    return Unknown(reason="SearchIncomplete", message=message, after=SEARCH_AGAIN)


def _name(mark: Mark) -> tuple[str, str]:
    return mark.namespace, mark.name


async def _read(member: Member, session: ClusterSession, guests: list[Guest]) -> set[int]:
    """Read the signs of these guests into the member; returns the VMIDs that cannot be read."""
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
            member.seen[guest.vmid] = signs_of(config.raw)

    for start in range(0, len(guests), CHUNK):
        await asyncio.gather(*(look(guest) for guest in guests[start : start + CHUNK]))
    return unreadable
