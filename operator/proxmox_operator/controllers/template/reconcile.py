"""One pass over a VMTemplate: observe, plan, apply, until something has to be waited for.

Copies on different nodes do not wait for each other: all steps that can be taken are taken, each failure stays with its
copy. Every pass ends in a status that is written only if it changed, and wakes the ProxmoxVMs that wait for a copy.
"""

import logging
from math import inf

from proxmox_operator.api import InvalidObject, TemplateStatus, VMTemplate
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.controllers.context import TEMPLATE_KIND, Context, is_paused
from proxmox_operator.controllers.fleet import Coming, Fleet, Member, Place
from proxmox_operator.controllers.outcome import Outcome, outcome_of
from proxmox_operator.controllers.template.apply import TemplateApplier
from proxmox_operator.controllers.template.memory import TemplateMemory
from proxmox_operator.controllers.template.observe import UNWATCHED, TemplateObserver
from proxmox_operator.controllers.template.record import Record
from proxmox_operator.controllers.template.search import find_copies
from proxmox_operator.engine.queue import Key
from proxmox_operator.errors import (
    AnswerLost,
    NeedsHuman,
    NotReadYet,
    OperatorError,
    Outdated,
    Transient,
    Waiting,
)
from proxmox_operator.kube.client import Raw
from proxmox_operator.planning.report import (
    Verdict,
    paused_conditions,
    paused_message,
    summarise,
    verdict_of_error,
)
from proxmox_operator.planning.templates import (
    Download,
    Plan,
    Release,
    Step,
    TemplateFacts,
    conditions,
    counted,
    image_file,
    plan,
    version_of,
)
from proxmox_operator.proxmox.audit import Actor, current_actor
from proxmox_operator.proxmox.errors import clip
from proxmox_operator.proxmox.tasks import TaskResult

logger = logging.getLogger(__name__)

MAX_ROUNDS = 12
"""Rounds in one pass; more means that a step does not bring about what it should."""

LOOK_AGAIN = 30.0
"""Seconds until another look where something waits that may not wake us."""

LOOK_LATER = 300.0
"""The same where only a person can go on, whose doing mostly wakes us."""


UNCONFIRMED = 5.0
"""Seconds until another look at a copy that the inventory does not show as it is: as often as that is read."""


class TemplateReconciler:
    """Reconciles VMTemplates. One instance serves all of them; the queue never runs two passes over one object."""

    def __init__(self, context: Context, fleet: Fleet) -> None:
        self._context = context
        self._fleet = fleet
        self._memories: dict[Key, TemplateMemory] = {}

    async def reconcile(self, key: Key) -> Outcome:
        """One pass. Raises nothing but bugs and LeadershipLost; returns when to look again."""
        raw = self._context.store.get(key)
        try:
            return await self._look(key, raw) if raw is not None else self._gone(key)
        finally:
            self._wake_waiting(key.name)

    async def _look(self, key: Key, raw: Raw) -> Outcome:
        try:
            record = Record(self._context, raw)
        except InvalidObject as error:
            return await self._failed(raw, error)
        template = record.template
        if is_paused(template.metadata.annotations):
            self._leave_queued(key)
            return await self._paused(record, "this object")
        if template.metadata.deletion_timestamp is not None and FINALIZER not in template.metadata.finalizers:
            return self._gone(key)
        token = current_actor.set(
            Actor(TEMPLATE_KIND, "", key.name, template.metadata.uid, template.metadata.generation)
        )
        try:
            return await self._pass(key, record)
        except OperatorError as error:
            return await self._failed(record.raw, error)
        finally:
            current_actor.reset(token)

    async def _pass(self, key: Key, record: Record) -> Outcome:
        template = record.template
        asked = template.spec.cluster_ref.name if template.spec.cluster_ref is not None else None
        member = self._fleet.resolve(template.status.cluster, asked)
        if member.cluster.spec.lost and template.metadata.deletion_timestamp is not None:
            return await self._abandon(key, record, member)
        if is_paused(member.cluster.metadata.annotations):
            return await self._paused(record, f"ProxmoxCluster {member.name}")
        if FINALIZER not in template.metadata.finalizers:
            member.refuse_new()
        with self._fleet.turn(member, key) as ours:
            if not ours:
                return Outcome.again(5.0)  # woken earlier by a pass that ends
            return await self._work(key, record, member)

    async def _work(self, key: Key, record: Record, member: Member) -> Outcome:
        session, template = member.usable(), record.template
        memory = self._memory_of(key, template)
        memory.follow(session.tasks)
        for copy in template.status.copies:
            member.keys[copy.vmid] = key
        observer = TemplateObserver(self._context, member, session, memory)
        applier = TemplateApplier(self._context, self._fleet, member, session, observer, memory, record)
        if not memory.searched:
            await find_copies(self._context, member, session, record)
            memory.searched = True
        self._watch_downloads(key, record.template, member, memory)
        for _ in range(MAX_ROUNDS):
            await applier.take_up()
            await self._name_version(record, member)
            facts = await observer.facts(record.template)
            todo = plan(facts)
            _await_uploads(key, member, memory, facts)
            taken = [await self._take(applier, facts, step, memory) for step in todo.steps]
            self._watch_downloads(key, record.template, member, memory)
            if any(isinstance(step, Release) for step in todo.steps):
                return self._gone(key)
            if not any(taken):
                _await_source(key, member, facts, todo)
                return await self._finish(record, facts, todo, memory)
        raise Transient(f"still not settled after {MAX_ROUNDS} rounds: this is a bug", reason="NotConverging")

    async def _take(
        self, applier: TemplateApplier, facts: TemplateFacts, step: Step, memory: TemplateMemory
    ) -> bool:
        """Take one step; whether it was taken. What it fails of is remembered where it belongs."""
        what = step.node if isinstance(step, Download) else getattr(getattr(step, "copy", None), "vmid", None)
        try:
            await applier.apply(facts, step)
        except (Outdated, AnswerLost, NotReadYet):
            raise  # looked at anew, from the start
        except Waiting as error:
            logger.debug("%s: %s", error.reason, error.message)
            if isinstance(what, int):
                memory.answered.add(what)  # nothing was sent that could still take effect
            return False  # woken when there is a slot
        except OperatorError as error:
            if what is None:
                raise
            logger.info("%s: %s", error.reason, error.message)
            memory.fail(what, error, now=self._context.clock(), slow=self._context.settings.slow_retry)
            if isinstance(what, int):
                memory.answered.add(what)
        return True

    async def _name_version(self, record: Record, member: Member) -> None:
        """Record which version is wanted, and which of the earlier ones have copies."""
        template = record.template
        if template.metadata.deletion_timestamp is not None:
            return
        storage = template.spec.storage or member.cluster.spec.defaults.storage or ""
        if not storage and template.spec.from_vm is None:
            message = "spec.storage: name one, as the ProxmoxCluster has no defaults.storage"
            raise NeedsHuman(message, reason="StorageNotChosen")
        version = version_of(template.spec, storage=storage)
        present = {copy.version for copy in template.status.copies}
        earlier = [each for each in template.status.versions if each in present and each != version]
        versions = (*earlier, *sorted(present - {*earlier, version}), version)
        if (template.status.version, template.status.versions) == (version, versions):
            return
        if template.status.version not in (None, version):
            record.event(
                "NewVersion", f"version {version} is wanted now; {template.status.version} was the one before"
            )
        await record.write(version=version, versions=versions, cluster=member.name)

    def _watch_downloads(self, key: Key, of: VMTemplate, member: Member, memory: TemplateMemory) -> None:
        """Be woken when a download has ended that this object may wait for; what one of its image failed of is
        remembered for its node."""
        session, image = member.usable(), of.spec.image
        file = image_file(image) if image is not None else None
        for place, coming in list(member.downloads.items()):
            if coming.upid is None or coming.upid in memory.results:
                continue
            memory.results[coming.upid] = None

            def ended(result: TaskResult, place: Place = place, coming: Coming = coming) -> None:
                if member.downloads.get(place) is coming:
                    del member.downloads[place]
                    if coming.job is not None and result.error is None:
                        member.whole.add(place)
                memory.results.pop(result.upid, None)
                mine = file is not None and place[1] == file.volume
                if mine and (error := result.explained()) is not None:
                    if error.reason == "ChecksumMismatch":
                        # Another error: the same result is told to other VMTemplates, too. It holds no secret.
                        message = f"{error.message} ({clip(result.exitstatus)})"
                        error = NeedsHuman(message, reason=error.reason)
                    now, slow = self._context.clock(), self._context.settings.slow_retry
                    memory.fail(coming.node, error, now=now, slow=slow)
                self._context.queue.add(key)

            session.tasks.watch(coming.upid, ended)

    async def _finish(
        self, record: Record, facts: TemplateFacts, todo: Plan, memory: TemplateMemory
    ) -> Outcome:
        template = record.template
        await record.write(
            observed_generation=template.metadata.generation,
            conditions=conditions(
                template.status.conditions,
                facts,
                todo,
                generation=template.metadata.generation,
                now=self._context.now(),
            ),
            copies_ready=counted(facts, todo),
        )
        return next_look(facts, todo, memory, clock=self._context.clock())

    async def _failed(self, raw: Raw, error: OperatorError) -> Outcome:
        outcome = outcome_of(error)
        if isinstance(error, Outdated | AnswerLost | NotReadYet):
            logger.debug("%s: %s", error.reason, error.message)
            return outcome
        if not isinstance(error, NeedsHuman):
            logger.info("%s: %s", error.reason, error.message)
        return await self._show(
            raw, verdict_of_error(error), outcome, seen=isinstance(error, NeedsHuman | Waiting)
        )

    async def _show(self, raw: Raw, verdict: Verdict, outcome: Outcome, *, seen: bool) -> Outcome:
        """Show an error in the conditions, whatever the spec is like."""
        status = TemplateStatus.model_validate(raw.get("status") or {})
        generation = raw["metadata"].get("generation", 0)
        changes: dict[str, object] = {
            "conditions": summarise(
                status.conditions, verdict, generation=generation, now=self._context.now()
            )
        }
        if seen:
            changes["observed_generation"] = generation
        try:
            await self._context.status.write(raw, status.model_copy(update=changes).dump())
        except OperatorError as unwritten:
            return outcome_of(unwritten)
        return outcome

    async def _paused(self, record: Record, what: str) -> Outcome:
        template = record.template
        try:
            await record.write(
                conditions=paused_conditions(
                    template.status.conditions,
                    paused_message(what),
                    generation=template.metadata.generation,
                    now=self._context.now(),
                )
            )
        except OperatorError as unwritten:
            return outcome_of(unwritten)
        return Outcome.done()

    async def _abandon(self, key: Key, record: Record, member: Member) -> Outcome:
        """The cluster will not come back: let the object go and say what was left behind."""
        left = ", ".join(f"{copy.vmid} on {copy.node}" for copy in record.template.status.copies) or "nothing"
        message = f"ProxmoxCluster {member.name} is lost; left behind there: {left}"
        record.event("LeftBehind", message, warning=True)
        await record.release()
        return self._gone(key)

    def _leave_queued(self, key: Key) -> None:
        """An upload that is under way ends by itself; one that waits for its turn does not begin."""
        for member in self._fleet:
            for coming in member.downloads.values():
                if coming.wire is None:
                    coming.leave(key)

    def _gone(self, key: Key) -> Outcome:
        self._memories.pop(key, None)
        for member in self._fleet:
            member.awaited.pop(key, None)
            for coming in member.downloads.values():
                coming.leave(key)
            for vmid in [vmid for vmid, owner in member.keys.items() if owner == key]:
                del member.keys[vmid]
        self._fleet.user_gone()
        return Outcome.done()

    def _memory_of(self, key: Key, template: VMTemplate) -> TemplateMemory:
        known = self._memories.get(key)
        if known is None or known.uid != template.metadata.uid:
            known = self._memories[key] = TemplateMemory(uid=template.metadata.uid)
        return known.at(template.metadata.generation)

    def _wake_waiting(self, name: str) -> None:
        """ProxmoxVMs that wait for a copy of this template look again."""
        for member in self._fleet:
            for waiting, (template, _) in member.copies_awaited.items():
                if template == name:
                    self._context.queue.add(waiting)


def next_look(facts: TemplateFacts, todo: Plan, memory: TemplateMemory, *, clock: float) -> Outcome:
    """When to look again at what no task and no change in the inventory wakes us for.

    Judged by the time of the facts: what the plan waits for is waited for, though that time has passed meanwhile.
    """
    settling = [
        (each.settles_at - facts.now).total_seconds()
        for each in facts.copies
        if each.settles_at is not None and each.settles_at > facts.now
    ]
    waits = []
    if todo.troubles:
        waits.append(LOOK_AGAIN if any(each.waits for each in todo.troubles) else LOOK_LATER)
    if memory.again_at < inf:
        waits.append(max(0.05, memory.again_at - clock))
    if settling and todo.working:
        waits.append(max(0.05, min(settling)))
    if any(each.working and each.copy.upid is None for each in facts.copies):
        waits.append(UNWATCHED)
    if any(each.unconfirmed for each in facts.copies):
        waits.append(UNCONFIRMED)
    return Outcome.again(min(waits)) if waits else Outcome.done()


def _await_uploads(key: Key, member: Member, memory: TemplateMemory, facts: TemplateFacts) -> None:
    """Keep up the uploads of just the file that a copy on record waits for, and let go of the others.

    Judged by what the object says alone: that a node, or the storage, cannot be seen for a moment ends no upload.
    """
    file = facts.file if facts.template.metadata.deletion_timestamp is None else None
    making = {each.copy.node for each in facts.current if each.copy.state == "Creating"}
    for (node, _), coming in member.downloads.items():
        awaited = coming.node in making or (node == "" and making)
        if coming.job is not None and coming.file == file and awaited:
            coming.owners[key] = memory
        else:
            coming.leave(key)


def _await_source(key: Key, member: Member, facts: TemplateFacts, todo: Plan) -> None:
    """Be woken when something happens to the VM that is cloned, as long as it cannot be."""
    source = facts.template.spec.from_vm
    if source is not None and todo.troubles:
        member.awaited[key] = source.vmid
    else:
        member.awaited.pop(key, None)
