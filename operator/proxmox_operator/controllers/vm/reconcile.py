"""One pass over a ProxmoxVM: observe, plan, apply, until something has to be waited for.

This is the loop and nothing else: reading is ``observe``, deciding is ``planning.lifecycle``, doing is
``apply``. Every pass ends in a status that is written only if it changed, also when the pass failed.
"""

import logging
from math import inf

from proxmox_operator.api import InvalidObject, ProxmoxVM, find_condition, raw_condition
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.controllers.context import (
    TEMPLATE_KIND,
    VM_KIND,
    Context,
    is_paused,
    vm_key,
)
from proxmox_operator.controllers.fleet import Fleet, Member
from proxmox_operator.controllers.outcome import Outcome, outcome_of
from proxmox_operator.controllers.vm import firstboot, moves
from proxmox_operator.controllers.vm.apply import Applier
from proxmox_operator.controllers.vm.memory import LAG, Memory
from proxmox_operator.controllers.vm.observe import Observer
from proxmox_operator.controllers.vm.seeding import CLEANING
from proxmox_operator.controllers.vm.statuses import PROGRESS_AFTER, StatusKeeper
from proxmox_operator.engine.queue import Key
from proxmox_operator.errors import (
    AnswerLost,
    NeedsHuman,
    NotReadYet,
    OperatorError,
    Outdated,
    Transient,
)
from proxmox_operator.planning.access import access_of
from proxmox_operator.planning.lifecycle import (
    Blocked,
    Facts,
    Present,
    Release,
    Settled,
    Wait,
    plan,
    restarting,
)
from proxmox_operator.planning.moving import requested
from proxmox_operator.planning.report import PAUSED, verdict_of_step
from proxmox_operator.planning.seed import comes_too_late
from proxmox_operator.proxmox.audit import Actor, current_actor
from proxmox_operator.proxmox.errors import AlreadyRunning, OutcomeUnknown
from proxmox_operator.proxmox.resources import Guest
from proxmox_operator.proxmox.tasks import unfreed

logger = logging.getLogger(__name__)

MAX_STEPS = 8
"""Steps in one pass; more means that a step does not bring about what it should."""

AGENT_TRIES = 12
"""Attempts at learning the addresses of a guest whose readiness does not depend on them: some ten minutes."""

HELD_AGAIN = 30.0
"""Seconds until the guest is asked again whether it has let go of a disk; longer where many are asked."""

ASKED_AGAIN = frozenset({"DiskInUse", "NotRecorded", "NotObserved", "SnapshotsUnknown"})
"""Why a change of a disk waits, where neither the inventory nor the next reading of the config tells in time."""


class VMReconciler:
    """Reconciles ProxmoxVMs. One instance serves all of them; the queue never runs two passes over one object."""

    def __init__(self, context: Context, fleet: Fleet) -> None:
        self._context = context
        self._fleet = fleet
        self._memories: dict[Key, tuple[str, Memory]] = {}

    async def reconcile(self, key: Key) -> Outcome:
        """One pass. Raises nothing but bugs and LeadershipLost; returns when to look again."""
        raw = self._context.store.get(key)
        if raw is None:
            self._forget(key)
            return Outcome.done()
        keeper = StatusKeeper(self._context, raw)
        try:
            vm = ProxmoxVM.parse(raw)
        except InvalidObject as error:
            return await self._failed(keeper, error)
        if is_paused(vm.metadata.annotations):
            return await self._paused(keeper, "this object")
        if vm.metadata.deletion_timestamp is not None and FINALIZER not in vm.metadata.finalizers:
            self._forget(vm_key(vm))
            return Outcome.done()
        memory = self._memory_of(key, vm.metadata.uid)
        token = current_actor.set(_actor(vm))
        try:
            return await self._pass(vm, keeper, memory)
        except OperatorError as error:
            return await self._failed(keeper, error)
        finally:
            current_actor.reset(token)

    async def _pass(self, vm: ProxmoxVM, keeper: StatusKeeper, memory: Memory) -> Outcome:
        asked = vm.spec.cluster_ref.name if vm.spec.cluster_ref is not None else None
        member = self._fleet.resolve(vm.status.cluster, asked)
        if vm.status.vmid is not None:
            member.keys[vm.status.vmid] = vm_key(vm)
            member.awaited.pop(vm_key(vm), None)
        if member.cluster.spec.lost and vm.metadata.deletion_timestamp is not None:
            return await self._abandon(vm, keeper, member)
        if is_paused(member.cluster.metadata.annotations):
            return await self._paused(keeper, f"ProxmoxCluster {member.name}")
        if vm.status.vmid is None and vm.metadata.deletion_timestamp is None:
            member.refuse_new()
        with self._fleet.turn(member, vm_key(vm)) as ours:
            if not ours:
                return Outcome.again(5.0)  # woken earlier by a pass that ends
            member.waiting.pop(vm_key(vm), None)
            member.movers.pop(vm_key(vm), None)
            memory.copy_awaited = None
            try:
                return await self._work(vm, keeper, memory, member)
            except NeedsHuman:
                if vm.status.vmid is None:
                    member.promised.pop(vm.metadata.uid, None)  # not made for now: others may have its place
                raise
            finally:
                self._await_copy(vm_key(vm), member, memory.copy_awaited)

    async def _work(self, vm: ProxmoxVM, keeper: StatusKeeper, memory: Memory, member: Member) -> Outcome:
        session = member.usable()
        read = self._context.read_namespace if vm.status.vmid is None else self._context.namespace
        namespace = await read(vm.metadata.namespace)
        access = access_of(member.cluster.spec, namespace.labels)
        observer = Observer(self._context, member, session, access, namespace, memory)
        applier = Applier(self._context, self._fleet, member, session, observer, memory, keeper.record)
        keeper.attach(memory, observer)
        self._take_up(vm, member, memory, applier)
        under = (member.cluster.metadata.generation, member.abilities, *sorted(namespace.labels.items()))
        memory.same_rules = memory.settled_under in (None, under)
        if memory.same_rules and self._is_quiet(vm, member, memory):
            return Outcome.again(self._next_look(vm.status.power, vm, member, memory))
        for _ in range(MAX_STEPS):
            facts = await observer.facts(keeper.vm)
            if memory.work is not None:
                applier.watch(memory.work, vm)
            step = plan(facts)
            if isinstance(step, Wait | Blocked | Settled):
                memory.settled_under = under
                return await self._finish(facts, step, keeper, applier, member, memory)
            keeper.expect(facts, step)
            again = await applier.apply(facts, step)
            if isinstance(step, Release):
                self._forget(vm_key(vm))
                return Outcome.done()
            if not again:
                return Outcome.again(PROGRESS_AFTER)
        raise Transient(f"still not settled after {MAX_STEPS} steps: this is a bug", reason="NotConverging")

    def _take_up(self, vm: ProxmoxVM, member: Member, memory: Memory, applier: Applier) -> None:
        """A task of ours that has ended: take note of what it brought about, or raise what it failed with."""
        recorded = vm.status.task
        if recorded is not None:
            memory.resume(recorded)
        if memory.work is not None and memory.work.result is None:
            applier.watch(memory.work, vm)
        elif (work := memory.end_work()) is not None and work.action == "Moving":
            # What it failed of is kept: until it is tried again, the VM is cared for where it is.
            failed, raw = (
                moves.ended(memory, work, self._context.clock()),
                self._context.store.get(vm_key(vm)),
            )
            if failed is not None and raw is not None:
                # Told in any case: where it can go to another node, Stalled says nothing of it.
                self._context.events.warning(raw, "MoveFailed", failed)
        elif work is not None and work.result is not None:
            error = work.result.error
            if error is None or isinstance(error, AlreadyRunning):
                memory.succeeded(work.action, self._context.clock())
                if work.action == "Destroying":
                    memory.left = unfreed(work.result.log_tail)
                if work.seed is not None:
                    memory.written["seed"], memory.seed_sent = work.seed, work.seed_digest
                if work.grows is not None:
                    memory.grown |= {work.grows}
                    memory.config = work.leaves
                if (raw := self._context.store.get(vm_key(vm))) is not None:
                    for reason, message in work.done:
                        self._context.events.normal(raw, reason, message)
                    for reason, message in work.warnings:
                        self._context.events.warning(raw, reason, message)
                if work.action == "Starting":
                    # Its memory shows in what its node uses now.
                    member.promised.pop(vm.metadata.uid, None)
            elif error.reason == "ShutdownTimeout" and restarting.under_way(vm) is not None:
                memory.stop_failed = error.message
            elif work.action in CLEANING:
                applier.seed.drop_failed(vm, error)
            elif not isinstance(error, OutcomeUnknown):
                if work.sets_password:
                    memory.written["password_from"] = None  # may not have been set: sent again
                if work.seed is not None:
                    raise _of_upload(error)  # without the log: it tells the checksum of what is secret
                raise work.result.explained() or error
        if recorded is not None:
            memory.resume(recorded)  # recorded late by an earlier process, while this one was at another task
        if memory.work is None or memory.work.action != "Moving":
            self._end_move(vm, member)

    def _await_copy(self, key: Key, member: Member, wish: tuple[str, str | None] | None) -> None:
        """Keep what the object waits for, and have the VMTemplate act on a new wish.

        Each pass over a VMTemplate wakes who waits for a copy of it. So this one also tells of a copy that became ready
        while the object was being placed; and a wish that is the same as before asks for no further pass.
        """
        if wish is None:
            member.copies_awaited.pop(key, None)
        elif member.copies_awaited.get(key) != wish:
            member.copies_awaited[key] = wish
            self._context.queue.add(Key(TEMPLATE_KIND, "", wish[0]))

    def _end_move(self, vm: ProxmoxVM, member: Member) -> None:
        """Let the next VM leave the node that this one no longer leaves."""
        following = member.end_move(vm.metadata.uid)
        if following is not None:
            self._context.queue.add(following)

    def _is_quiet(self, vm: ProxmoxVM, member: Member, memory: Memory) -> bool:
        """Nothing changed since a pass that found everything settled: neither the object nor, by the inventory, the VM.

        This is what keeps an idle operator idle: no call is made. A config is re-read at its time all the same.
        """
        guest = _shown(member, vm)
        ready = find_condition(vm.status.conditions, "Ready")
        now = self._context.clock()
        believed = memory.believed_power(guest, now)
        if memory.reread_at == 0.0:
            memory.reread_at = now + self._context.rng.uniform(0.0, self._interval(member))
        return (
            guest is not None
            and ready is not None
            and ready.status == "True"
            and find_condition(vm.status.conditions, PAUSED) is None
            and vm.metadata.deletion_timestamp is None
            and (FINALIZER in vm.metadata.finalizers or vm.spec.management == "Observe")
            and vm.status.observed_generation == vm.metadata.generation == ready.observed_generation
            and memory.work is None
            and requested(vm) == vm.status.moved_to
            and not _owes_addresses(vm, memory)
            and (memory.ask_at is None or now < memory.ask_at)
            and not firstboot.is_owed(vm, memory, now)
            and now < memory.reread_at
            and guest.node == vm.status.node
            and (memory.guest is None or guest.is_as(memory.guest))
            and not restarting.is_wished(vm)
            and not (restarting.awaits_window(vm) and (memory.restart_at is None or memory.restart_at <= now))
            and (believed or guest.status or "").lower() == (vm.status.power or "").lower()
        )

    async def _finish(
        self,
        facts: Facts,
        step: Wait | Blocked | Settled,
        keeper: StatusKeeper,
        applier: Applier,
        member: Member,
        memory: Memory,
    ) -> Outcome:
        memory.ask_at = self._ask_at(facts, member)
        if isinstance(step, Settled):
            memory.grown = frozenset()
            memory.settled_generation = facts.vm.metadata.generation
            member.promised.pop(facts.vm.metadata.uid, None)
            memory.reread_at = self._context.clock() + self._interval(member) * self._context.rng.uniform(
                0.9, 1.1
            )
            memory.restart_at = self._restart_at(facts)
        if facts.vm.spec.management == "Observe":
            await applier.tell_seen(facts)
        late = comes_too_late(facts.vm)
        if late is not None and facts.vm.status.seed is not None and late not in facts.vm.status.plan:
            self._context.events.warning(keeper.raw, "EditedTooLate", late)
        memory.seen_at = self._context.now().timestamp() - (self._context.clock() - memory.config_at)
        await keeper.report(facts, verdict_of_step(step))
        if isinstance(step, Settled):
            return Outcome.again(self._soonest(facts, member, memory))
        if isinstance(step, Blocked):
            return Outcome.blocked(
                after=len(member.keys) / member.cluster.spec.limits.config_reads_per_second
            )
        if facts.working:
            lasting = moves.LOOK_AGAIN if facts.working == "Moving" else 60.0
            return Outcome.again(lasting if keeper.shown else PROGRESS_AFTER)
        return Outcome.again(step.after)

    def _soonest(self, facts: Facts, member: Member, memory: Memory) -> float:
        """When to look again at a settled VM: for addresses the agent owes, a window, or when its config is due."""
        power = facts.existence.power if isinstance(facts.existence, Present) else None
        look = self._next_look(power, facts.vm, member, memory)
        return min(max(memory.agent_again, 1.0), look) if _owes_addresses(facts.vm, memory) else look

    def _restart_at(self, facts: Facts) -> float:
        """When more may be known of changes that wait for a restart; never where nothing can change by itself."""
        again = restarting.outlook(facts).again
        if again is None:
            return inf
        return self._context.clock() + (again - self._context.now()).total_seconds()

    def _ask_at(self, facts: Facts, member: Member) -> float | None:
        """When to ask again for what no watch tells. Each costs a reading of a config: kept below their rate."""
        held = facts.existence.diff.held if isinstance(facts.existence, Present) else ()
        if not any(each.reason in ASKED_AGAIN for each in held):
            return None
        rate = member.cluster.spec.limits.config_reads_per_second
        return self._context.clock() + max(HELD_AGAIN, len(member.keys) / rate)

    def _interval(self, member: Member) -> float:
        """Seconds between two readings of one config: stretched so that all of them stay below the cluster's rate."""
        rate = member.cluster.spec.limits.config_reads_per_second
        return max(self._context.settings.config_reread, len(member.keys) / rate)

    def _next_look(self, power: str | None, vm: ProxmoxVM, member: Member, memory: Memory) -> float:
        """Seconds until the config is due, or something that no watch tells; ``power`` is what the pass has found."""
        at = min(
            memory.reread_at,
            memory.restart_at if memory.restart_at is not None else inf,
            memory.ask_at if memory.ask_at is not None else inf,
            memory.boot.ask_at if memory.boot.ask_at is not None else inf,
        )
        # A VM that goes off again before the inventory has shown it on changes nothing there: nobody tells.
        soon = LAG if _is_behind(member, vm, power) else inf
        return max(min(at - self._context.clock(), soon), 1.0)

    async def _abandon(self, vm: ProxmoxVM, keeper: StatusKeeper, member: Member) -> Outcome:
        """The cluster will not come back: let the object go and say what was left behind."""
        left = f"VM {vm.status.vmid} on {vm.status.node}" if vm.status.vmid else "nothing"
        if (seed := vm.status.seed) is not None and seed.phase != "Removed":
            left += f", and its user data ({seed.volume} on {seed.node})"
        self._context.events.warning(
            keeper.raw, "LeftBehind", f"ProxmoxCluster {member.name} is lost; left behind there: {left}"
        )
        await self._context.status.drop_finalizer(keeper.raw)
        self._forget(vm_key(vm))
        return Outcome.done()

    async def _paused(self, keeper: StatusKeeper, what: str) -> Outcome:
        try:
            await keeper.paused(what)
        except OperatorError as unwritten:
            return outcome_of(unwritten)
        return Outcome.done()

    def _memory_of(self, key: Key, uid: str) -> Memory:
        """What is remembered of this object; another one of the same name begins anew."""
        known = self._memories.get(key)
        if known is None or known[0] != uid:
            known = self._memories[key] = (uid, Memory())
        return known[1]

    async def _failed(self, keeper: StatusKeeper, error: OperatorError) -> Outcome:
        outcome = outcome_of(error)
        if isinstance(error, Outdated | AnswerLost | NotReadYet):
            logger.debug("%s: %s", error.reason, error.message)
            return outcome
        shown = raw_condition(keeper.raw, "Ready").get("reason")
        if not isinstance(error, NeedsHuman) and shown != error.reason:
            logger.info("%s: %s", error.reason, error.message)
        try:
            await keeper.failed(error)
        except OperatorError as unwritten:  # Kubernetes cannot be told either: the next pass does both anew
            level = logging.DEBUG if isinstance(unwritten, Outdated) else logging.WARNING
            logger.log(level, "the status could not be written: %s", unwritten.message)
            return outcome_of(unwritten)
        return outcome

    def _forget(self, key: Key) -> None:
        """The object is gone, whoever let it go: nothing is kept for it any more."""
        uid, _ = self._memories.pop(key, ("", None))
        for member in self._fleet:
            member.promised.pop(uid, None)
            member.waiting.pop(key, None)
            member.awaited.pop(key, None)
            member.movers.pop(key, None)
            member.copies_awaited.pop(key, None)
            if (following := member.end_move(uid)) is not None:
                self._context.queue.add(following)
            for vmid in [vmid for vmid, owner in member.keys.items() if owner == key]:
                del member.keys[vmid]
                for waiting in member.longing_for({vmid}):
                    self._context.queue.add(waiting)
        self._fleet.user_gone()


def _shown(member: Member, vm: ProxmoxVM) -> Guest | None:
    """The VM as the inventory shows it, if it does."""
    inventory = member.session.inventory.current if member.session else None
    return inventory.guests.get(vm.status.vmid or 0) if inventory else None


def _is_behind(member: Member, vm: ProxmoxVM, power: str | None) -> bool:
    """Whether the inventory, which lags, still shows a VM off that is on, or the other way round."""
    guest = _shown(member, vm)
    return guest is not None and {guest.status, (power or "").lower()} == {"running", "stopped"}


def _owes_addresses(vm: ProxmoxVM, memory: Memory) -> bool:
    """The agent is there, or should be, and has not told an address yet."""
    return bool(vm.spec.agent) and memory.addresses is None and 0 < memory.agent_tries <= AGENT_TRIES


def _actor(vm: ProxmoxVM) -> Actor:
    metadata = vm.metadata
    return Actor(
        kind=VM_KIND,
        namespace=metadata.namespace or "",
        name=metadata.name,
        uid=metadata.uid,
        generation=metadata.generation,
    )


def _of_upload(error: OperatorError) -> OperatorError:
    """What an upload failed of; one that was damaged on its way is nobody's mistake."""
    if error.reason != "ChecksumMismatch":
        return error
    return Transient(
        "the user data was damaged on its way to the storage: sends it again", reason="SeedDamaged"
    )
