"""All reading for one pass over a ProxmoxVM: from Proxmox and memory to :class:`Facts`.

Reads only what the decision needs in the state the VM is in, and never turns "cannot see" into "is not there".
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeGuard

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.controllers.context import Context, NamespaceFacts, vm_key
from proxmox_operator.controllers.fleet import Member, Promise
from proxmox_operator.controllers.vm import agent, availability, diskfacts, firstboot, holds
from proxmox_operator.controllers.vm.adoption import Adoption
from proxmox_operator.controllers.vm.memory import Memory, Work
from proxmox_operator.controllers.vm.moves import Moves
from proxmox_operator.controllers.vm.nodes import gather_nodes, terms_of
from proxmox_operator.controllers.vm.power import PowerReader, Seen
from proxmox_operator.controllers.vm.search import Search, find_marked
from proxmox_operator.controllers.vm.seeding import SeedReader
from proxmox_operator.controllers.vm.source import Sources
from proxmox_operator.errors import Forbidden, NeedsHuman, Outdated, Unreachable, Waiting
from proxmox_operator.planning.access import Access, inherited_violations, violations
from proxmox_operator.planning.adoption import MAKING, Adoptee
from proxmox_operator.planning.availability import HA
from proxmox_operator.planning.canonical import meaning, whole
from proxmox_operator.planning.configured import memory_mib, processors
from proxmox_operator.planning.identity import Mark, Owner, owner, signs_of
from proxmox_operator.planning.lifecycle import (
    Absent,
    Existence,
    Facts,
    Present,
    Unknown,
    restarting,
)
from proxmox_operator.planning.moving import Going, Staying
from proxmox_operator.planning.placement import Placed, Unschedulable, place
from proxmox_operator.planning.propstring import parse_tags
from proxmox_operator.planning.startable import obstacle
from proxmox_operator.planning.vmconfig import (
    ConfigDiff,
    Wanted,
    at_stake,
    diff,
    questions,
    with_fields,
)
from proxmox_operator.proxmox.errors import NotHere, classify_task
from proxmox_operator.proxmox.resources import Guest
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.proxmox.tasks import UPID
from proxmox_operator.proxmox.vm import Presence, VMConfig

MOVING = "MovingDisk"
"""Action of a task that moves a disk: what it has left behind is looked for when it has ended."""

FRESH = 5.0
"""Seconds for which a config counts as just read: within one pass, and between the steps of a creation."""


class Observer:
    """Reads for one object in one pass."""

    def __init__(
        self,
        context: Context,
        member: Member,
        session: ClusterSession,
        access: Access,
        namespace: NamespaceFacts,
        memory: Memory,
    ) -> None:
        self._context = context
        self._member = member
        self._session = session
        self._access = access
        self._namespace = namespace
        self._memory = memory
        self._moves = Moves(context, member, session, access, memory)
        self._power = PowerReader(context, session, memory)
        self._sources = Sources(context, member, session)
        self.seeds = SeedReader(context, member, session, access, memory)

    async def facts(self, vm: ProxmoxVM) -> Facts:
        """Gather. Raises the errors of the doors it uses, and NeedsHuman for a source that cannot be used."""
        now = self._context.now()
        if self._memory.moved:
            self._memory.moved = await self._session.inventory.poll() is None
        denied = tuple(violations(vm, self._access))
        if vm.status.vmid is None:
            return await self._without_vm(vm, now, denied)
        if (work := self._memory.work) is not None and self._moved_away(
            vm.status.vmid, UPID.parse(work.upid).node
        ):
            # Its node is down and Proxmox runs the VM elsewhere: what the task did is read from the VM.
            self._memory.end_work()
        if (work := self._memory.work) is not None:
            silent = self._offline(
                UPID.parse(work.upid).node, f"it works on VM {vm.status.vmid} ({work.action})"
            )
            progress = await self._moves.progress() if work.action == "Moving" and not silent else None
            return Facts(
                vm=vm,
                now=now,
                denied=denied,
                working=None if silent else work.action,
                existence=silent,
                progress=progress,
            )
        existence = await self._existence(vm, vm.status.vmid)
        facts = Facts(
            vm=vm,
            now=now,
            denied=denied,
            existence=existence,
            settles_at=self._settles_at(vm),
            left=self._memory.left,
            seed=await self.seeds.seed(vm, existence if _is_known(existence) else None),
        )
        creating = vm.status.provisioning is not None and vm.metadata.deletion_timestamp is None
        if isinstance(existence, Present) and (existence.owner is Owner.PENDING or existence.lock in MAKING):
            return replace(facts, working=await self._find_clone(vm, vm.status.vmid, existence.node))
        if isinstance(existence, Present) and existence.owner is Owner.FOREIGN and creating and not denied:
            return await self._placed(facts)
        unmade = not vm.status.started and vm.spec.source.adopt is None
        if isinstance(existence, Absent) and unmade and vm.metadata.deletion_timestamp is None:
            recorded = await self._recorded_place(vm)
            return replace(facts, place=recorded) if recorded is not None else await self._placed(facts)
        if isinstance(existence, Present) and self._memory.work is not None:
            return replace(facts, working=self._memory.work.action)
        if isinstance(existence, Present):
            move = await self._move(vm, existence)
            if self._memory.work is not None:
                return Facts(vm=vm, now=now, denied=denied, working=self._memory.work.action)
            checks = await agent.checks(self._session, vm, existence, self._memory, now=self._context.clock())
            boot = await firstboot.ask(
                self._session, self._member, vm, existence, self._memory, now=self._context.clock()
            )
            ha = await self._ha(vm, existence)
            return replace(
                facts,
                ready_checks=checks,
                first_boot=boot,
                ha=ha,
                stop_failed=self._memory.stop_failed,
                move=move,
            )
        return facts

    def wanted(self, vm: ProxmoxVM, *, running: bool = False) -> Wanted:
        """What the config is compared with, of a VM that is ``running`` or not. Only for an object that has a VMID.

        What a write of this process has earned counts before it is in the status: a password is sent once.
        """
        status = vm.status.model_copy(update=self._memory.written)
        return Wanted(
            vm=vm.model_copy(update={"status": status}),
            mark=self.mark(vm, vm.status.vmid or 0, vm.status.uuid or ""),
            started=vm.status.started,
            running=running,
            storage=self._access.storage,
            bridge=self._access.bridge,
            seen=self._memory.seen,
        )

    def owner(self, vm: ProxmoxVM, config: VMConfig) -> Owner:
        """Whose the VM with this config is."""
        mark = self.mark(vm, vm.status.vmid or 0, vm.status.uuid or "")
        return owner(mark, signs_of(config.raw), lock=config.lock)

    def mark(self, vm: ProxmoxVM, vmid: int, uuid: str) -> Mark:
        """The mark of this object on ``vmid``."""
        return Mark(
            cluster_id=self._context.cluster_id,
            namespace_uid=self._namespace.uid,
            namespace=vm.metadata.namespace or "",
            name=vm.metadata.name,
            uid=vm.metadata.uid,
            vmid=vmid,
            uuid=uuid,
        )

    # An object without a VM

    async def _without_vm(self, vm: ProxmoxVM, now: datetime, denied: tuple[str, ...]) -> Facts:
        search = Search(
            context=self._context,
            member=self._member,
            session=self._session,
            vm=vm,
            namespace=self._namespace,
            access=self._access,
        )
        if vm.spec.source.adopt is not None:
            facts = Facts(vm=vm, now=now, denied=denied, settles_at=self._settles_at(vm))
            return await Adoption(search).gather(facts, self._as_named)
        found = await find_marked(search)
        if isinstance(found, Unknown):
            return Facts(vm=vm, now=now, denied=denied, existence=found)
        facts = Facts(vm=vm, now=now, denied=denied, claimed=found)
        if found is not None or denied or vm.metadata.deletion_timestamp or vm.spec.management == "Observe":
            return facts
        self._refuse_taken_vmid(vm)
        await self.seeds.refuse_unfit(vm)
        return await self._placed(facts)

    async def _as_named(self, adopted: ProxmoxVM, adoptee: Adoptee, config: VMConfig) -> Present:
        """A VM that is only looked at: what would be written to it besides the mark, were it taken over."""
        inventory = self._session.inventory.current
        guest = inventory.guests.get(adoptee.vmid) if inventory is not None else None
        node, vmid = adoptee.node, adoptee.vmid
        power = (await self._power.seen(adopted, vmid, node, guest)).power
        wanted = replace(self.wanted(adopted, running=power in ("Running", "Paused")), mark=None)
        asked = questions(wanted, config.raw)
        seen = await diskfacts.read(self._session, node, vmid, config, asked, power=power, grown=frozenset())
        return Present(
            node=node,
            power=power,
            lock=config.lock,
            owner=Owner.UNMARKED,
            diff=diff(replace(wanted, seen=seen), config.raw),
            detached=at_stake(wanted.vm, config.raw, running=config.current, node=node),
            protected=bool(meaning(config.raw.get("protection"), default=False)),
        )

    def _refuse_taken_vmid(self, vm: ProxmoxVM) -> None:
        asked, inventory = vm.spec.vmid, self._session.inventory.current
        if asked is None or inventory is None:
            return
        other = self._member.keys.get(asked)
        if other is not None and other != vm_key(vm):
            raise NeedsHuman(f"spec.vmid: {asked} is used by {other}", reason="VMIDTaken")
        if other is None and asked in inventory.guests:
            message = (
                f"spec.vmid: {asked} is taken by a guest on {inventory.guests[asked].node}; choose another"
            )
            raise NeedsHuman(message, reason="VMIDTaken")

    async def _placed(self, facts: Facts) -> Facts:
        """The facts with where it could go. The place is promised at once, so that two VMs made together do not both
        take the last of it; one that goes nowhere is looked at again when there is more room, and one that waits for a
        copy of its VMTemplate when that has one."""
        vm, member, ref = facts.vm, self._member, facts.vm.spec.source.template_ref
        self._memory.copy_awaited = (ref.name, None) if ref is not None else None
        made = await self._sources.made(vm)
        devices = bool(vm.spec.pci_devices or vm.spec.usb_devices)
        nodes = await gather_nodes(self._context, member, self._session, vm, devices=devices)
        terms = terms_of(self._context, member, self._session, vm, self._access)
        templates = made + self._sources.to_come(vm, made, nodes)
        before = member.promised.pop(vm.metadata.uid, None)
        found = place(vm, templates, nodes, terms, promised=before.node if before is not None else None)
        if isinstance(found, Unschedulable):
            member.waiting[vm_key(vm)] = None
            return replace(facts, place=found)
        if too_large := inherited_violations(vm, found.template.config, self._access):
            return replace(facts, denied=tuple(too_large))
        member.promised[vm.metadata.uid] = Promise(
            node=found.node, memory=found.memory, cpus=found.cpus, space=found.space
        )
        if ref is not None:
            self._memory.copy_awaited = (ref.name, found.node) if found.template.vmid is None else None
        return replace(facts, place=found)

    async def _recorded_place(self, vm: ProxmoxVM) -> Placed | None:
        """The choice that was recorded before the first attempt; a repeated attempt does not choose anew, unless the
        node or the source is no longer there."""
        intent = vm.status.provisioning
        if intent is None:
            return None
        template, node = await self._sources.recorded(vm, intent), vm.status.node or intent.source_node
        if template is None or self._offline(node, ""):
            return None
        return Placed(node=node, template=template, full=intent.full, storage=intent.storage, memory=0)

    # An object with a VM

    def _moved_away(self, vmid: int, node: str) -> bool:
        """Whether the VM is on another, living node than this one, which is offline."""
        inventory = self._session.inventory.current
        guest = inventory.guests.get(vmid) if inventory is not None else None
        if guest is None or guest.node == node or self._offline(node, "") is None:
            return False
        return self._offline(guest.node, "") is None

    def _offline(self, node: str, why: str) -> Unknown | None:
        """That nothing can be known now, where a node is offline; ``why`` that matters."""
        inventory = self._session.inventory.current
        info = inventory.nodes.get(node) if inventory is not None else None
        if info is None or info.online:
            return None
        return Unknown(reason="NodeUnavailable", message=f"node {node} is offline, and {why}: bring it back")

    async def _find_clone(self, vm: ProxmoxVM, vmid: int, node: str) -> str | None:
        """What is being made: by our clone task, taken up again, or by nobody.

        Raises Waiting where somebody else's task works on it.
        """
        intent = vm.status.provisioning
        if intent is not None:
            found = await self._session.tasks.find_clone(
                intent.source_vmid, vmid, node=intent.source_node, since=intent.since.timestamp()
            )
            if found is not None and found.running:
                self._memory.work = Work(action="Cloning", upid=found.upid.text)
                return "Cloning"
            if found is not None and classify_task(found.status) is None:
                self._memory.forget_config()
                raise Outdated(f"the clone to VM {vmid} has ended while its config was being read")
        for task in await self._session.tasks.active(node):
            if task.upid.id == str(vmid):
                raise Waiting(
                    f"a Proxmox task ({task.upid.type}) works on VM {vmid}", reason="Locked", after=10.0
                )
        return None

    def _settles_at(self, vm: ProxmoxVM) -> datetime | None:
        """Until when a call may still take effect whose answer never came.

        A clone can have been sent until the deletion was asked for, however long ago its VMID was reserved.
        """
        task, intent, deleted_at = vm.status.task, vm.status.provisioning, vm.metadata.deletion_timestamp
        sent = []
        if (seed := self._memory.seed_of(vm)) is not None and seed.phase in ("Uploading", "Emptying"):
            sent.append(seed.since)
        if task is not None and task.upid is None:
            sent.append(task.since)
        if task is None and intent is not None and not self._memory.unsent:
            sent.append(max(intent.since, deleted_at or intent.since))
        span = timedelta(seconds=self._context.settings.takeover_delay)
        return max(sent) + span if sent else None

    async def _existence(self, vm: ProxmoxVM, vmid: int) -> Existence:
        if self._memory.unsent:
            return Absent()
        inventory = self._session.inventory.current
        guest = inventory.guests.get(vmid) if inventory else None
        if guest is not None and guest.type != "qemu":
            return Present(
                node=guest.node, power="Unknown", lock=None, owner=Owner.FOREIGN, diff=ConfigDiff()
            )
        # A clone for another node stands on the template's node until its disks are copied, and the inventory says so
        # for a while longer: then the node that was reserved is the one to ask.
        shown = guest.node if guest is not None else None
        for node in dict.fromkeys(name for name in (shown, vm.status.node) if name is not None):
            if (offline := self._offline(node, f"it holds VM {vmid}")) is not None:
                if node != shown and vm.status.provisioning is not None:
                    continue  # only reserved there: whether it exists is asked of the whole cluster
                return offline
            try:
                return await self._present(vm, vmid, node, guest if node == shown else None)
            except NotHere:
                self._memory.forget_config()
                if guest is not None:
                    self._session.inventory.poke()
            except Forbidden as error:
                return Unknown(reason="PermissionDenied", message=error.message)
            except Unreachable as error:
                return Unknown(reason=error.reason, message=error.message)
        return await self._absence(vm, vmid)

    async def _absence(self, vm: ProxmoxVM, vmid: int) -> Existence:
        intent = vm.status.provisioning
        clone_of = (intent.source_node, intent.source_vmid) if intent is not None else None
        since = intent.since.timestamp() if intent is not None else 0.0
        proof = await self._session.vms.prove_absent(vmid, clone_of=clone_of, since=since)
        if proof.presence is Presence.ABSENT:
            return Absent()
        if proof.presence is Presence.EXISTS:
            message = (
                f"VM {vmid} exists, but it is moving or the credentials may not see it: wait, or grant VM.Audit on "
                f"/vms/{vmid}"
            )
            return Unknown(reason="Invisible", message=message)
        return Unknown(
            reason="ExistenceUnknown", message=f"whether VM {vmid} exists cannot be told: {proof.why}"
        )

    async def _present(self, vm: ProxmoxVM, vmid: int, node: str, guest: Guest | None) -> Present:
        began = self._context.clock()
        seen = await self._power.seen(vm, vmid, node, guest)
        deleting = vm.metadata.deletion_timestamp is not None
        wanted_power = "Stopped" if deleting else vm.spec.wanted_power
        changing = wanted_power not in ("Unmanaged", seen.power) and not self._memory.first_start
        changing = changing and (vm.status.started or seen.power == "Running")
        changing = changing or (restarting.is_wished(vm) and not deleting)
        if deleting or changing:
            # No digest guards a start, a shutdown or a destroy: whose the VM is, and what hangs on it, is read live.
            self._memory.forget_config()
        config = await self._config(node, vmid, guest)
        raw = config.raw
        wanted = self.wanted(vm, running=seen.power in ("Running", "Paused"))
        whose = self.owner(vm, config)
        ours = whose in (Owner.OURS, Owner.UNMARKED)
        pending = with_fields(config.pending, vm, raw) if ours and seen.power in ("Running", "Paused") else ()
        due = restarting.due(vm, seen.power, pending, self._context.now()) if ours else None
        if due is not None:
            seen = await self._confirmed(vmid, node, guest, seen, config, began)
            due = due if seen.power == "Running" else None
        changes, moved = ConfigDiff(), None
        if ours:
            self._memory.seen = await diskfacts.read(
                self._session,
                node,
                vmid,
                config,
                questions(wanted, raw),
                power=seen.power,
                grown=self._memory.grown,
            )
            changes = diff(replace(wanted, seen=self._memory.seen), raw)
            moved = await self._moved(vm, vmid, node, changes, config)
        return Present(
            node=node,
            power=seen.power if ours and config.lock != "clone" else "Unknown",
            lock=config.lock,
            owner=whose,
            diff=changes,
            detached=at_stake(vm, raw, running=config.current, node=node) if ours else (),
            protected=bool(meaning(raw.get("protection"), default=False)),
            hold=await holds.reason_to_wait(
                self._session, node, vmid, config.lock, starting=wanted_power != "Stopped"
            )
            if ours and (changing or due is not None)
            else None,
            moved=moved,
            pending=pending if seen.power != "Stopped" else (),
            restart=due,
            obstacle=await self._obstacle(node, raw) if due is not None else None,
            booted_after=seen.booted_after,
        )

    async def _confirmed(
        self, vmid: int, node: str, guest: Guest | None, seen: Seen, config: VMConfig, began: float
    ) -> Seen:
        """Before a shutdown that the VM's own changes ask for: its power and its config as they are now.

        Raises Outdated where the config is another one.
        """
        if self._memory.config_at < began:
            self._memory.forget_config()
            if (await self._config(node, vmid, guest)).digest != config.digest:
                raise Outdated(f"the config of VM {vmid} has changed since it was read")
        return seen if seen.live else await self._power.live(vmid, node)

    async def _obstacle(self, node: str, config: Mapping[str, str]) -> str | None:
        """Why the VM would not start with this config."""
        inventory = self._session.inventory.current
        info = inventory.nodes.get(node) if inventory is not None else None
        return obstacle(
            config,
            node=node,
            cpus=info.maxcpu if info is not None else None,
            memory=info.maxmem if info is not None else None,
            bridges=await self._session.bridges(node),
        )

    async def _moved(
        self, vm: ProxmoxVM, vmid: int, node: str, changes: ConfigDiff, config: VMConfig
    ) -> tuple[str, ...] | None:
        """What the move on record has left behind, now that it has ended; a move still under way is taken up.

        Its config lock is no ``lock:`` but a file, so only the task tells that a move is under way: also one that a
        person began, or one of ours whose answer was lost.
        """
        recorded = vm.status.task
        moving = recorded is not None and recorded.action == MOVING
        if not moving and not changes.moves:
            return None
        for task in await self._session.tasks.active(node):
            if task.upid.type == "qmmove" and task.upid.id == str(vmid):
                self._memory.work = Work(action=MOVING, upid=task.upid.text)
                return None
        if recorded is None or not moving:
            return None
        if (await self._session.vms.config(node, vmid)).digest != config.digest:
            raise Outdated(f"a disk of VM {vmid} was being moved while its config was read")
        if recorded.volume is None:
            return ()
        return await diskfacts.left_behind(self._session, node, vmid, config.raw, recorded.volume)

    async def _config(self, node: str, vmid: int, guest: Guest | None) -> VMConfig:
        memory, clock = self._memory, self._context.clock
        if (
            memory.config is None
            or clock() - memory.config_at > FRESH
            or (_shown(guest) != _shown(memory.guest) and _shown(guest) != _promised(memory.config))
        ):
            memory.config = await self._session.vms.config(node, vmid)
            memory.config_at = clock()
            memory.guest = guest
            if memory.seen_on is not None and memory.seen_on[0] != node:
                memory.seen_before = memory.seen_on
            memory.seen_on = (node, memory.config.raw)
        return memory.config

    async def _ha(self, vm: ProxmoxVM, present: Present) -> HA | None:
        config = self._memory.config
        if present.owner not in (Owner.OURS, Owner.UNMARKED) or config is None:
            return None
        return await availability.read(
            self._context, self._member, self._session, vm, self._memory, config.raw
        )

    async def _move(self, vm: ProxmoxVM, present: Present) -> Going | Staying | None:
        if present.owner not in (Owner.OURS, Owner.UNMARKED) or vm.spec.management == "Observe":
            return None
        if vm.metadata.deletion_timestamp is not None and present.lock != "migrate":
            return None
        return await self._moves.look(vm, present)


def _is_known(existence: Existence) -> TypeGuard[Present]:
    """Whether it is our VM, with its config as a whole."""
    return isinstance(existence, Present) and existence.owner in (Owner.OURS, Owner.UNMARKED)


def _shown(guest: Guest | None) -> tuple[object, ...] | None:
    """What the inventory shows of the config; where it changes, what was read is old.

    The lock of a VM in the making is shown late and says nothing.
    """
    if guest is None:
        return None
    lock = guest.lock if guest.lock not in ("clone", "create") else None
    return lock, guest.name, guest.tags, guest.maxcpu, guest.maxmem


def _promised(config: VMConfig) -> tuple[object, ...]:
    """What the inventory will show of this config; then nobody else has changed it since."""
    raw = config.raw
    cpus, memory = whole(raw.get("vcpus"), processors(raw)), memory_mib(raw) << 20
    return config.lock, raw.get("name"), parse_tags(raw.get("tags", "")), cpus, memory
