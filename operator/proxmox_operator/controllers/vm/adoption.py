"""Finding the VM that ``spec.source.adopt`` names, and reading what decides whether it may be taken over.

By VMID one config is read; by SMBIOS UUID those of all VMs that no known object owns, once. What decides is always
read anew: the mark is written under the digest of it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from proxmox_operator.api import Adopt, ProxmoxVM
from proxmox_operator.controllers.context import VM_KIND, key_of, vm_key
from proxmox_operator.controllers.vm.search import Search, incomplete
from proxmox_operator.errors import Forbidden, Unreachable
from proxmox_operator.planning.access import inherited_violations, violations
from proxmox_operator.planning.adoption import MAKING, Adoptee, as_adopted, refusal
from proxmox_operator.planning.identity import signs_of
from proxmox_operator.planning.lifecycle import Facts, Present, Unknown
from proxmox_operator.proxmox.errors import NotHere
from proxmox_operator.proxmox.vm import VMConfig

AsNamed = Callable[[ProxmoxVM, Adoptee, VMConfig], Awaitable[Present]]
"""How a VM looks to an object as if that had adopted it."""


class Adoption:
    """The reading of one pass over an object that has not taken over its VM yet."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._configs: dict[int, VMConfig] = {}

    async def gather(self, facts: Facts, as_named: AsNamed) -> Facts:
        """The facts with what was found. Of a VM that is not granted nothing is read or told.

        Raises NeedsHuman (IdentityConflict) where several VMs carry the object's own mark.
        """
        vm, adopt, search = facts.vm, facts.vm.spec.source.adopt, self._search
        deleting = vm.metadata.deletion_timestamp is not None
        if adopt is None or (facts.denied and not deleting):
            return facts
        found = await self._find(adopt)
        if isinstance(found, Unknown):
            return replace(facts, existence=found)
        claims = [search.claimed(each.mark, standing_on=each.vmid) for each in found]
        claimed = next((claim for claim in claims if claim is not None), None)
        facts = replace(facts, adoptees=found, claimed=claimed)
        if deleting:
            return facts
        would_be = [as_adopted(vm, each, cluster=search.member.name) for each in found]
        if refused := [sentence for each in would_be for sentence in violations(each, search.access)]:
            return replace(facts, denied=tuple(dict.fromkeys(refused)))
        if len(found) != 1:
            return facts
        adopted, config = would_be[0], self._configs.get(found[0].vmid)
        if config is not None and claimed is None:
            facts = replace(facts, denied=tuple(inherited_violations(vm, config.raw, search.access)))
        if facts.denied:
            return facts
        why = refusal(vm, found)
        fit = claimed.granted if claimed is not None else why is None or why.passes
        if vm.spec.management == "Observe" and fit and config is not None and found[0].lock not in MAKING:
            return replace(facts, vm=adopted, existence=await as_named(adopted, found[0], config))
        return facts

    async def _find(self, wanted: Adopt) -> tuple[Adoptee, ...] | Unknown:
        """All guests that may be meant; Unknown where one could not be read.

        The object is looked at again when such a guest comes or changes.
        """
        search = self._search
        search.member.awaited[vm_key(search.vm)] = wanted.vmid
        if wanted.vmid is not None:
            return await self._read([wanted.vmid])
        uuid = (wanted.uuid or "").lower()
        if (holders := self._holding(uuid)) is not None:
            return (holders,)
        found = await self._sweep(uuid)
        return found if isinstance(found, Unknown) else await self._read(found, uuid=uuid)

    async def _sweep(self, uuid: str) -> list[int] | Unknown:
        """VMIDs by what was read at any time; where there is none all are read again, though not at every look."""
        search, member = self._search, self._search.member
        now, settings = search.context.clock(), search.context.settings
        interval = max(
            settings.slow_retry, len(member.seen) / member.cluster.spec.limits.config_reads_per_second
        )
        if not self._matching(uuid) and now - member.swept_at > interval:
            member.seen.clear()
            member.swept_at = now
        unreadable = await search.sweep()
        if (own := search.own_mark()) is not None:
            return [own.vmid]
        return incomplete(list(unreadable)) or self._matching(uuid)

    def _matching(self, uuid: str) -> list[int]:
        taken = self._search.taken()
        seen = self._search.member.seen.items()
        return sorted(
            vmid for vmid, signs in seen if vmid not in taken and (signs.uuid or "").lower() == uuid
        )

    def _holding(self, uuid: str) -> Adoptee | None:
        """The VM with this UUID, where another object has it."""
        search = self._search
        for raw in search.context.store.list(VM_KIND):
            status, key = raw.get("status") or {}, key_of(raw)
            same = status.get("cluster") == search.member.name and status.get("uuid", "").lower() == uuid
            if same and status.get("vmid") and key != vm_key(search.vm):
                return Adoptee(vmid=status["vmid"], node=status.get("node") or "", holder=str(key))
        return None

    async def _read(self, vmids: list[int], *, uuid: str | None = None) -> tuple[Adoptee, ...] | Unknown:
        """What the inventory and the configs say now; a VM that has another UUID by now is not meant any more."""
        found: list[Adoptee] = []
        for vmid in vmids:
            adoptee = await self._adoptee(vmid)
            if isinstance(adoptee, Unknown):
                return adoptee
            own = adoptee is not None and self._search.claimed(adoptee.mark, standing_on=vmid) is not None
            if adoptee is not None and (own or uuid in (None, (adoptee.uuid or "").lower())):
                found.append(adoptee)
        return tuple(found)

    async def _adoptee(self, vmid: int) -> Adoptee | Unknown | None:
        session, member = self._search.session, self._search.member
        inventory = session.inventory.current
        guest = inventory.guests.get(vmid) if inventory is not None else None
        if guest is None:
            return None
        if guest.type != "qemu":
            return Adoptee(vmid=vmid, node=guest.node, kind="container")
        holder = member.keys.get(vmid)
        if holder is not None and holder != vm_key(self._search.vm):
            return Adoptee(vmid=vmid, node=guest.node, holder=str(holder))
        node = inventory.nodes.get(guest.node) if inventory is not None else None
        if node is not None and not node.online:
            message = f"node {guest.node} is offline, and it holds VM {vmid}: bring it back"
            return Unknown(reason="NodeUnavailable", message=message)
        try:
            config = self._configs[vmid] = await session.vms.config(guest.node, vmid)
        except Forbidden as error:
            return Unknown(reason="PermissionDenied", message=error.message)
        except NotHere:
            session.inventory.poke()
            return Unknown(reason="Invisible", message=f"VM {vmid} is moving, or was just deleted", after=2.0)
        except Unreachable as error:
            return Unknown(reason=error.reason, message=error.message)
        signs = signs_of(config.raw)
        return Adoptee(
            vmid=vmid,
            node=guest.node,
            kind="template" if config.is_template else "VM",
            lock=config.lock,
            mark=signs.mark,
            uuid=signs.uuid,
            description=config.raw.get("description", ""),
            digest=config.digest,
        )
