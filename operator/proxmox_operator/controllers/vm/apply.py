"""Doing one step. Decides nothing: each function carries out what ``planning.lifecycle`` named.

What must be known after a crash is written to the status before the call is made; the end of a task wakes the
object again. Errors are left to the reconciler, which looks again before anything is repeated.
"""

from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from uuid import uuid4

from proxmox_operator.api import Provisioning, ProxmoxVM, SeedStatus, Task, TemplateUsed, set_condition
from proxmox_operator.controllers.context import Context, vm_key
from proxmox_operator.controllers.fleet import Fleet, Member
from proxmox_operator.controllers.vm.availability import HAWriter, Record
from proxmox_operator.controllers.vm.drift import DriftTeller
from proxmox_operator.controllers.vm.memory import Memory, Work
from proxmox_operator.controllers.vm.observe import MOVING, Observer
from proxmox_operator.controllers.vm.power import PowerWriter
from proxmox_operator.controllers.vm.seeding import SeedWriter
from proxmox_operator.errors import Contended, Forbidden, NeedsHuman, Outdated, Waiting
from proxmox_operator.planning import disks
from proxmox_operator.planning.identity import (
    Owner,
    read_mark,
    render_description,
    render_tombstone,
    user_text,
)
from proxmox_operator.planning.lifecycle import (
    Absent,
    Adopt,
    AlignHA,
    Bury,
    ClearHAError,
    Clone,
    Configure,
    Destroy,
    DropSeed,
    EndMove,
    Facts,
    Follow,
    GrowDisks,
    Hold,
    JoinHA,
    LeaveHA,
    Migrate,
    MoveDisk,
    NoteCloudInit,
    NoteRestart,
    Present,
    PutSeed,
    Reclaim,
    RecordStart,
    Release,
    Reserve,
    SetRule,
    Start,
    Step,
    Stop,
)
from proxmox_operator.planning.moving import cloud_init_may_run_again
from proxmox_operator.planning.seed import attached_seed, has_user_data, made_from
from proxmox_operator.planning.vmconfig import (
    PASSWORD_KEY,
    Put,
    Remove,
    followed,
    own_tags,
    password_reference,
)
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.proxmox.tasks import TaskResult

_NOTHING_WRITTEN = {
    "disks": (),
    "detached_disks": (),
    "managed": (),
    "tags": (),
    "protection_set": False,
    "password_from": None,
    "restart": None,
    "ha": None,
    "seed": None,
    "cloud_init_done": False,
}
"""What a status says of an earlier VM and is not true of a new one."""


class Applier:
    """Carries out steps for one object in one pass."""

    def __init__(
        self,
        context: Context,
        fleet: Fleet,
        member: Member,
        session: ClusterSession,
        observer: Observer,
        memory: Memory,
        record: Record,
    ) -> None:
        self._context = context
        self._fleet = fleet
        self._member = member
        self._session = session
        self._observer = observer
        self._memory = memory
        self._record = record
        self._ha = HAWriter(context, session, memory, record, self._event)
        self._drift = DriftTeller(context, session, memory, self._event)
        self.seed = SeedWriter(
            context,
            session,
            memory,
            observer.seeds,
            record=record,
            working=self._working,
            tell=self._event,
        )
        self._power = PowerWriter(
            context, session, memory, self._drift, record=record, working=self._working, tell=self._event
        )

    async def apply(self, facts: Facts, step: Step) -> bool:
        """Carry out ``step``; True when the facts can be gathered anew at once, False when a task has to end first."""
        match step:
            case Hold():
                await self._hold(facts.vm)
            case Reserve():
                await self._reserve(facts, step)
            case Adopt():
                await self._adopt(facts.vm, step)
            case Reclaim():
                await self._reclaim(facts.vm, step)
            case Clone():
                await self._clone(facts, step)
            case Follow():
                await self._follow(facts)
            case Migrate():
                await self._migrate(facts, step)
            case Configure():
                await self._configure(facts, step)
            case MoveDisk():
                await self._move(facts, step)
            case EndMove():
                await self._end_move(facts.vm, step)
            case GrowDisks():
                await self._grow(facts, step)
            case RecordStart():
                await self._record_start(facts.vm)
            case Start():
                await self._power.start(facts)
            case Stop():
                await self._power.stop(facts, step)
            case JoinHA() | AlignHA() | ClearHAError() | LeaveHA() | SetRule():
                await self._ha.write(facts, step)
            case NoteRestart():
                await self._power.note_restart(facts.vm, step)
            case PutSeed():
                await self.seed.put(facts)
            case DropSeed():
                await self.seed.drop(facts)
            case NoteCloudInit():
                await self.seed.note_boot(facts.vm)
            case Destroy():
                await self._destroy(facts)
            case Bury():
                await self._bury(facts)
            case Release():
                await self._release(facts.vm, step)
            case _:
                return False
        return self._memory.work is None and not isinstance(step, Release)

    async def _record_start(self, vm: ProxmoxVM) -> None:
        """A seed that the guest will not read is forgotten: by then it was removed, or it was told where it is left."""
        if has_user_data(vm):
            await self._record(started=True, provisioning=None)
        else:
            self._memory.written.pop("seed", None)
            await self._record(started=True, provisioning=None, seed=None)
        self._memory.first_start = True
        self._memory.know_power("Stopped", self._context.clock())

    async def tell_seen(self, facts: Facts) -> None:
        """Tell differences of a VM that is only looked at, once."""
        await self._drift.seen(facts)

    # Creation

    async def _hold(self, vm: ProxmoxVM) -> None:
        raw = self._context.store.get(vm_key(vm))
        if raw is not None:
            await self._context.status.add_finalizer(raw)

    async def _reserve(self, facts: Facts, step: Reserve) -> None:
        """Intent before effect: VMID, UUID, node and source are in the status before the first call."""
        vm, place, source = facts.vm, step.place, step.place.template
        if source.vmid is None:
            raise AssertionError("reserved only once its template is there")
        if password_reference(vm) is not None:
            await self._password(vm)  # missing: said before a VM is half made
        vmid, uuid = await self._number(facts)
        self._member.keys[vmid] = vm_key(vm)
        intent = Provisioning(
            source_node=source.node,
            source_vmid=source.vmid,
            full=place.full,
            storage=place.storage,
            since=self._now(),
        )
        used = None
        if source.name is not None and source.version is not None:
            used = TemplateUsed(name=source.name, version=source.version, linked=not place.full)
        self._memory.begin_anew()
        await self._record(
            cluster=self._member.name,
            vmid=vmid,
            uuid=uuid,
            node=place.node,
            template=used,
            provisioning=intent,
            started=False,
            **_NOTHING_WRITTEN,
        )
        self._memory.unsent = True
        self._memory.forget_config()

    async def _number(self, facts: Facts) -> tuple[int, str]:
        """VMID and UUID. A reserved VMID that is proven free is kept: a first call that comes late then fails."""
        vm = facts.vm
        reserved, uuid = vm.status.vmid, vm.status.uuid
        unused = isinstance(facts.existence, Absent) and vm.status.provisioning is not None
        if reserved is not None and uuid is not None and unused:
            return reserved, uuid
        if reserved is not None:
            self._member.forget(reserved, vm_key(vm))
        return vm.spec.vmid or await self._fleet.next_vmid(self._member), str(uuid4())

    async def _adopt(self, vm: ProxmoxVM, step: Adopt) -> None:
        """Our mark, beside what a person wrote, under the digest of the config that was found fit to be taken over.

        The digest decides between two who want one VM, also from two Kubernetes clusters. The intent is recorded
        first: a call that comes late must not meet an object that has been let go.
        """
        adoptee = step.adoptee
        mark = self._observer.mark(vm, adoptee.vmid, adoptee.uuid or str(uuid4()))
        intent = Task(action="Adopting", upid=None, node=adoptee.node, since=self._now())
        await self._record(cluster=self._member.name, task=intent)
        self._member.seen.pop(adoptee.vmid, None)
        with self._memory.sending():
            await self._session.vms.set_config(
                adoptee.node,
                adoptee.vmid,
                {"description": render_description(mark, user_text(adoptee.description))},
                digest=adoptee.digest,
                background_delay=10,
            )

    async def _reclaim(self, vm: ProxmoxVM, step: Reclaim) -> None:
        """Write the mark anew under the digest of what was read; ours only once that has succeeded.

        A crash in between leaves a mark that names this object: found again, and taken back again.
        """
        inventory = self._session.inventory.current
        guest = inventory.guests.get(step.vmid) if inventory else None
        if guest is None:
            raise Outdated(f"VM {step.vmid} is no longer where it was")
        config = await self._session.vms.config(guest.node, step.vmid)
        description = config.raw.get("description", "")
        found = read_mark(description)
        self._member.seen.pop(step.vmid, None)
        if found is None or found.vmid != step.vmid or found.uuid != step.uuid:
            raise Outdated(f"VM {step.vmid} no longer carries the mark")
        mark = self._observer.mark(vm, step.vmid, step.uuid)
        if found != mark:
            renewed = render_description(mark, user_text(description))
            await self._session.vms.set_config(
                guest.node, step.vmid, {"description": renewed}, digest=config.digest, background_delay=10
            )
            return
        adopting = vm.status.task is not None and vm.status.task.action == "Adopting"
        self._member.keys[step.vmid] = vm_key(vm)
        volume = attached_seed(config.raw, step.vmid, step.uuid)
        seed = (
            SeedStatus(
                volume=volume, node=guest.node, phase="Uploaded", since=self._now(), made_from=made_from(vm)
            )
            if volume is not None
            else None
        )
        await self._record(
            cluster=self._member.name,
            vmid=step.vmid,
            uuid=step.uuid,
            node=guest.node,
            provisioning=None,
            task=None,
            started=True,
            seed=seed,
        )
        if adopting:
            self._event(vm, "Adopted", f"took over VM {step.vmid} on {guest.node} as it is")
        else:
            self._event(vm, "Recovered", f"took VM {step.vmid} back, which carries this object's mark")

    async def _clone(self, facts: Facts, step: Clone) -> None:
        vm, place, source = facts.vm, step.place, step.place.template
        vmid = _vmid(vm)
        if source.vmid is None:
            raise AssertionError("cloned only from what was recorded")
        mark = self._observer.mark(vm, vmid, vm.status.uuid or "")
        clone = vm.spec.source.clone
        storages = {place.storage} if place.storage else source.storages()
        with self._memory.sending():
            upid = await self._session.vms.clone(
                source.node,
                source.vmid,
                vmid,
                name=vm.spec.name or vm.metadata.name,
                description=render_description(mark, vm.spec.description or ""),
                full=place.full if source.is_template else None,
                storage=place.storage,
                target=place.target,
                pool=self._member.cluster.spec.pool,
                snapname=clone.snapshot if clone is not None else None,
                slots=storages if place.full else (),
            )
        await self._working("Cloning", upid, vm, record=True)
        of = f" ({source})" if source.name is not None else ""
        self._event(vm, "Cloning", f"cloning VM {source.vmid}{of} to VM {vmid} on {place.node}")

    # Moving

    async def _follow(self, facts: Facts) -> None:
        vm, present, config = facts.vm, _present(facts), self._memory.config
        if config is None:
            raise Outdated("the config was not read in this pass")
        left, inventory = vm.status.node, self._session.inventory.current
        seen = self._memory.seen_before
        found = followed(
            vm,
            config.raw,
            before=seen[1] if seen is not None and seen[0] == left else None,
            shared={each.name for each in inventory.storages.values() if each.shared} if inventory else (),
        )
        await self._record(node=present.node, disks=found.disks, detached_disks=found.detached)
        self._event(vm, "Moved", f"VM {vm.status.vmid} is on {present.node} now; it was on {left}")

    async def _migrate(self, facts: Facts, step: Migrate) -> None:
        """No digest guards a migration: whose the VM is, is read live just before. Two calls exclude each other by the
        VM's lock, and one that comes late finds no VM on the node that it names."""
        vm, node, move = facts.vm, _present(facts).node, step.move
        vmid = _vmid(vm)
        if (others := self._member.await_move(vm_key(vm), vm.metadata.uid, node)) is not None:
            raise Waiting(others, reason="MoveQueued")
        self._member.moving[vm.metadata.uid] = node
        config = await self._session.vms.config(node, vmid)
        if self._observer.owner(vm, config) not in (Owner.OURS, Owner.UNMARKED) or config.lock is not None:
            raise Outdated(f"VM {vmid} is no longer as it was read")
        with self._memory.sending():
            upid = await self._session.vms.migrate(
                node, vmid, target=move.target, live=move.live, local_disks=move.local_disks
            )
        await self._working("Moving", upid, vm, record=True)
        if self._memory.work is not None:
            self._memory.work.target = move.target
        message = f"moving VM {vmid} from {node} to {move.target} ({'live' if move.live else 'stopped'}; {move.cause})"
        if cloud_init_may_run_again(config.raw):
            message += (
                ": its next cold boot there may run cloud-init again, as it has no name server of its own; set "
                "spec.cloudInit.dns to prevent that"
            )
        self._event(vm, "Moving", message)

    # Config

    async def _configure(self, facts: Facts, step: Configure) -> None:
        vm, present, config = facts.vm, _present(facts), self._memory.config
        if config is None:
            raise Outdated("the config was not read in this pass")
        changes = {put.key: await self._value(vm, put) for put in step.diff.puts}
        slots = {put.storage for put in step.diff.puts if put.storage is not None}
        try:
            with self._memory.sending():
                upid = await self._session.vms.set_config(
                    present.node,
                    _vmid(vm),
                    changes,
                    delete=[removal.key for removal in step.diff.removes],
                    digest=config.digest,
                    slots=slots,
                )
        except Forbidden as error:
            if fields := step.diff.needing(error.path):
                error.message = f"{error.message}, or remove {fields}"
            raise
        if PASSWORD_KEY in changes:
            self._memory.written["password_from"] = password_reference(vm)
        if "tags" in changes:
            # Ours from now on, also if the spec changes before the status can say so.
            self._memory.written["tags"] = tuple({*vm.status.tags, *own_tags(vm)})
        if "protection" in changes:
            self._memory.written["protection_set"] = changes["protection"] == "1"
        changed: tuple[Put | Remove, ...] = (*step.diff.puts, *step.diff.removes)
        done = tuple((change.event, change.sentence()) for change in changed if change.event is not None)
        if upid is not None:
            await self._working("Configuring", upid, vm)
            if self._memory.work is not None:
                self._memory.work.sets_password = PASSWORD_KEY in changes
                self._memory.work.done = done
        else:
            for reason, message in done:
                self._event(vm, reason, message)
        await self._drift.written(vm, present, step.diff)

    async def _value(self, vm: ProxmoxVM, put: Put) -> str:
        if put.value is not None:
            return put.value
        return await self._password(vm)

    async def _password(self, vm: ProxmoxVM) -> str:
        """Raises NeedsHuman, which names the field, where there is none."""
        field = "spec.cloudInit.passwordSecretRef"
        init = vm.spec.cloud_init
        if init is None or init.password_secret_ref is None:
            raise NeedsHuman(f"{field} is gone", reason="InvalidSpec")
        reference = init.password_secret_ref
        try:
            secret = await self._context.secrets.get(vm.metadata.namespace, reference.name)
            return secret.text(reference.key)
        except NeedsHuman as error:
            raise type(error)(f"{field}: {error.message}", reason=error.reason) from None

    async def _move(self, facts: Facts, step: MoveDisk) -> None:
        """The intent is recorded first, with the volume that is left: whether it was freed is not in any config.

        First of all there is a slot of the storage, so that waiting for one writes nothing. An answer that refuses the
        move takes the intent back; where no answer came it stays, since the move may have begun.
        """
        vm, node, config, move = facts.vm, _present(facts).node, self._memory.config, step.diff.moves[0]
        if config is None:
            raise Outdated("the config was not read in this pass")
        intent = Task(action=MOVING, upid=None, node=node, since=self._now(), volume=move.volume)
        try:
            with ExitStack() as sending:

                async def record() -> None:
                    await self._record(task=intent)
                    sending.enter_context(self._memory.sending())

                upid = await self._session.vms.move_disk(
                    node, _vmid(vm), disk=move.slot, storage=move.storage, digest=config.digest, intent=record
                )
        except (NeedsHuman, Outdated, Contended):
            await self._record(task=None)
            raise
        await self._working(MOVING, upid, vm)
        self._memory.settled_generation = None  # what is written after it has waited for it, and is no drift
        await self._record(task=intent.model_copy(update={"upid": upid}))
        self._event(vm, "MovingDisk", move.sentence())

    async def _end_move(self, vm: ProxmoxVM, step: EndMove) -> None:
        await self._record(task=None)
        for volume in step.left:
            message = (
                f"a disk was moved, and Proxmox could not free its old volume {volume}, which no VM uses: "
            )
            self._event(vm, "VolumeLeft", f"{message}remove it with `pvesm free {volume}`", warning=True)

    async def _grow(self, facts: Facts, step: GrowDisks) -> None:
        config, grow = self._memory.config, step.diff.grows[0]
        if config is None:
            raise Outdated("the config was not read in this pass")
        with self._memory.sending():
            upid = await self._session.vms.resize(
                _present(facts).node,
                _vmid(facts.vm),
                disk=grow.slot,
                size=str(grow.size),
                digest=config.digest,
            )
        await self._working("Resizing", upid, facts.vm)
        if self._memory.work is None:
            return
        self._memory.work.grows = (grow.slot, grow.size)
        if len(step.diff.grows) == 1 and not facts.vm.status.started:
            # A new VM is started without another reading. The digest is old: Proxmox refuses what is written under it.
            raw = {**config.raw, grow.slot: disks.with_size(config.raw[grow.slot], grow.size)}
            self._memory.work.leaves = replace(config, raw=raw)

    # The end

    async def _destroy(self, facts: Facts) -> None:
        """The intent is recorded first: an unanswered destroy may come late, and must not meet a successor."""
        vm, present = facts.vm, _present(facts)
        await self._record(task=Task(action="Destroying", upid=None, node=present.node, since=self._now()))
        vmid = _vmid(vm)
        self._session.inventory.expect_gone(vmid)
        with self._memory.sending():
            upid = await self._session.vms.destroy(present.node, vmid)
        await self._working("Destroying", upid, vm, record=True)
        self._event(vm, "Destroying", f"destroying VM {vmid} on {present.node}")

    async def _bury(self, facts: Facts) -> None:
        vm, config = facts.vm, self._memory.config
        if config is None:
            raise Outdated("the config was not read in this pass")
        mark = self._observer.mark(vm, _vmid(vm), vm.status.uuid or "")
        description = render_tombstone(config.raw.get("description", ""), mark)
        with self._memory.sending():
            await self._session.vms.set_config(
                _present(facts).node,
                _vmid(vm),
                {"description": description},
                digest=config.digest,
                background_delay=10,
            )
        attached = facts.seed is not None and facts.seed.attached
        seed = ", with its user data in a CD-ROM drive" if attached else ""
        self._event(vm, "Retained", f"VM {vm.status.vmid} stays in Proxmox{seed} (deletionPolicy Retain)")

    async def _release(self, vm: ProxmoxVM, step: Release) -> None:
        if step.left:
            free = " && ".join(f"pvesm free {volume}" for volume in step.left)
            message = f"VM {vm.status.vmid} is destroyed, but Proxmox could not free these volumes; on its node: {free}"
            conditions = set_condition(
                vm.status.conditions,
                "LeftBehind",
                True,
                "VolumesLeft",
                message,
                generation=vm.metadata.generation,
                now=self._now(),
            )
            await self._record(conditions=conditions)
            self._event(vm, "LeftBehind", message, warning=True)
        raw = self._context.store.get(vm_key(vm))
        if raw is not None and raw["metadata"]["uid"] == vm.metadata.uid:
            await self._context.status.drop_finalizer(raw)

    # What they share

    async def _working(self, action: str, upid: str, vm: ProxmoxVM, *, record: bool = False) -> None:
        """Sleep until the task has ended. ``record`` puts it into the status, where a restarted operator finds it."""
        self._memory.work = Work(action=action, upid=upid)
        self.watch(self._memory.work, vm)
        if record:
            node = upid.split(":")[1]
            await self._record(task=Task(action=action, upid=upid, node=node, since=self._now()))

    def watch(self, work: Work, vm: ProxmoxVM) -> None:
        """Have the tracker wake the object when the task has ended; one that is asked already is not asked again."""
        if work.watcher is self._session.tasks:
            return
        work.watcher = self._session.tasks

        def ended(result: TaskResult) -> None:
            work.result = result
            self._context.queue.add(vm_key(vm))

        self._session.tasks.watch(work.upid, ended)

    def _event(self, vm: ProxmoxVM, reason: str, message: str, *, warning: bool = False) -> None:
        raw = self._context.store.get(vm_key(vm))
        if raw is not None:
            (self._context.events.warning if warning else self._context.events.normal)(raw, reason, message)

    def _now(self) -> datetime:
        return self._context.now()


def _present(facts: Facts) -> Present:
    if not isinstance(facts.existence, Present):
        raise AssertionError("planned only for a VM that is present")  # noqa: TRY004
    return facts.existence


def _vmid(vm: ProxmoxVM) -> int:
    if vm.status.vmid is None:
        raise AssertionError("planned only once a VMID is recorded")
    return vm.status.vmid
