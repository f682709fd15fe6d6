"""The status of one ProxmoxVM during one pass: composed from facts, written only where it changed.

Intents are written at once; progress is not worth a write of its own unless it lasts, so a creation that takes
a second does not write ten times.
"""

from proxmox_operator.api import MAX_ADDRESSES, HAStatus, ProxmoxVM, VMStatus
from proxmox_operator.controllers.context import Context, key_of
from proxmox_operator.controllers.vm.memory import Memory
from proxmox_operator.controllers.vm.observe import MOVING, Observer
from proxmox_operator.errors import NeedsHuman, OperatorError, Waiting
from proxmox_operator.kube.client import Raw
from proxmox_operator.planning import report
from proxmox_operator.planning.availability import HA
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.lifecycle import Facts, Present, Step, restarting
from proxmox_operator.planning.moving import fulfilled, requested
from proxmox_operator.planning.vmconfig import (
    disk_records,
    managed,
    no_longer_managed,
    own_tags,
    recorded_networks,
)

PROGRESS_AFTER = 2.0
"""Seconds after which progress that is still the same is worth showing."""


class StatusKeeper:
    """Owns the object as it was last written or read in this pass."""

    def __init__(self, context: Context, raw: Raw) -> None:
        self._context = context
        self.raw = raw
        self.shown = False
        self._vm: ProxmoxVM | None = None
        self._memory: Memory | None = None
        self._observer: Observer | None = None
        self._facts: Facts | None = None
        self._verdict: report.Verdict | None = None

    @property
    def vm(self) -> ProxmoxVM:
        """The object, with the status as it was last written. Raises InvalidObject."""
        newest = self._context.store.get(key_of(self.raw))
        if (
            newest is not None
            and newest is not self.raw
            and newest["metadata"]["uid"] == self.raw["metadata"]["uid"]
        ):
            self.raw, self._vm = newest, None
        if self._vm is None:
            self._vm = ProxmoxVM.parse(self.raw)
        return self._vm

    def attach(self, memory: Memory, observer: Observer) -> None:
        """What the status is composed from, once the pass has it."""
        self._memory, self._observer = memory, observer

    def expect(self, facts: Facts, step: Step) -> None:
        """The step about to be taken: an intent written by it shows this progress."""
        self._facts, self._verdict = facts, report.verdict_of_step(step)

    async def record(self, **changes: object) -> ProxmoxVM:
        """Write these changes now; what must be known after a crash. Raises Outdated where the object has changed."""
        status = self._composed() if self._facts is not None else self.vm.status
        await self._write(status.model_copy(update=changes))
        return self.vm

    async def report(self, facts: Facts, verdict: report.Verdict) -> None:
        """Write what the pass found, if it differs; mere progress only once it lasts."""
        self._facts, self._verdict = facts, verdict
        self.shown = not (facts.working and self._is_recent())
        if self.shown:
            await self._write(self._composed())

    async def failed(self, error: OperatorError) -> None:
        """Show an error in the conditions; the rest is what the pass had found out before it failed."""
        before = VMStatus.model_validate(self.raw.get("status") or {})
        self._verdict = report.verdict_of_error(error)
        status = self._composed() if self._facts is not None else before
        generation = self.raw["metadata"].get("generation", 0)
        conditions = report.summarise(
            status.conditions, self._verdict, generation=generation, now=self._context.now()
        )
        seen = generation if isinstance(error, NeedsHuman | Waiting) else before.observed_generation
        await self._write(status.model_copy(update={"conditions": conditions, "observed_generation": seen}))

    async def paused(self, what: str) -> None:
        """Say that nothing is done, and leave the rest of the status as it was."""
        status = VMStatus.model_validate(self.raw.get("status") or {})
        generation = self.raw["metadata"].get("generation", 0)
        conditions = report.paused_conditions(
            status.conditions, report.paused_message(what), generation=generation, now=self._context.now()
        )
        await self._write(status.model_copy(update={"conditions": conditions}))

    def _is_recent(self) -> bool:
        memory = self._memory
        return memory is not None and self._context.clock() - memory.status_at < PROGRESS_AFTER

    def _composed(self) -> VMStatus:
        facts, memory, observer, verdict = self._facts, self._memory, self._observer, self._verdict
        if facts is None or memory is None or observer is None or verdict is None:
            raise AssertionError("composed only in a pass that has facts")
        vm = self.vm
        changes: dict[str, object] = {
            "observed_generation": facts.vm.metadata.generation,
            "conditions": report.vm_conditions(facts, verdict),
            "plan": report.plan_sentences(facts),
            **memory.written,
        }
        if vm.status.vmid is None:
            # Found on an object that is new, or has lost its status: nobody can tell what it was meant for.
            changes["restarted_for"] = restarting.token_of(vm)
            changes["moved_to"] = requested(vm)
        task = vm.status.task
        in_vain = vm.status.vmid is None and facts.settles_at is not None and facts.now >= facts.settles_at
        if task is not None and ((task.upid in memory.ended and task.action != MOVING) or in_vain):
            changes["task"] = None
        existence = facts.existence
        if isinstance(existence, Present) and existence.owner in (Owner.OURS, Owner.UNMARKED):
            changes["node"], changes["cluster"] = existence.node, facts.vm.status.cluster
            changes["moved_to"] = fulfilled(vm, existence.node)
            if existence.power != "Unknown":
                changes["power"] = existence.power
        if isinstance(existence, Present) and _is_ours(vm, existence):
            if existence.power in ("Running", "Paused"):
                changes["started"] = True  # whoever started it: its disks may hold data
            if existence.lock not in ("clone", "create"):
                changes["provisioning"] = None
            changes["restart"], changes["restarted_for"] = restarting.recorded(vm, existence)
            if not any(put.key == "tags" for put in existence.diff.puts):
                memory.written.pop("tags", None)
                changes["tags"] = own_tags(facts.vm)
            if memory.config is not None:
                wanted = observer.wanted(vm)
                changes["disks"], changes["detached_disks"] = disk_records(wanted, memory.config.raw)
                changes["networks"] = recorded_networks(wanted, memory.config.raw)
                changes["managed"] = managed(facts.vm.spec)
            changes["addresses"] = _addresses(vm, memory, existence)
            changes["ha"] = _ha(vm, facts.ha, existence)
        return vm.status.model_copy(update=changes)

    async def _write(self, status: VMStatus) -> None:
        before = self.raw
        let_go = self._let_go(status)
        self.raw = await self._context.status.write(self.raw, status.dump())
        self._vm = None
        if let_go is not None:
            self._context.events.normal(self.raw, "NoLongerManaged", let_go)
        if self._memory is not None and self.raw is not before:
            self._memory.status_at = self._context.clock()

    def _let_go(self, status: VMStatus) -> str | None:
        """That something was taken out of the spec, of the same VM; never on a first look, which only records."""
        config = self._memory.config if self._memory is not None else None
        before = VMStatus.model_validate(self.raw.get("status") or {})
        if config is None or before.vmid != status.vmid:
            return None
        return no_longer_managed(before.managed, status.managed, config.raw)


def _ha(vm: ProxmoxVM, ha: HA | None, present: Present) -> HAStatus | None:
    """As the HA manager has it; whether we put it there, and that an error was recovered, stays until it is over."""
    if ha is None:
        return None
    before = vm.status.ha or HAStatus()
    requested = ha.resource.state if ha.resource is not None else None
    is_over = requested == ha.state == _WHEN.get(present.power)
    after = HAStatus(
        state=ha.state,
        joined=ha.is_ours(vm) if ha.unreadable is None else before.joined,
        recovered=None if is_over else before.recovered,
    )
    return after if after != HAStatus() or vm.spec.availability is not None else None


_WHEN = {"Running": "started", "Stopped": "stopped"}
"""The state that the HA manager has for a VM when nothing is left to be done."""


def _is_ours(vm: ProxmoxVM, present: Present) -> bool:
    """One that ``management: Observe`` only looks at, before it is taken over, leaves no trace but node and power."""
    return present.owner in (Owner.OURS, Owner.UNMARKED) and vm.status.vmid is not None


def _addresses(vm: ProxmoxVM, memory: Memory, present: Present) -> tuple[str, ...]:
    """As the guest agent reports them; without its word, the static ones of ``spec.networks``."""
    if present.power != "Running":
        return ()
    if memory.addresses is not None:
        return memory.addresses[:MAX_ADDRESSES]
    if vm.spec.agent and vm.status.addresses:
        return vm.status.addresses
    versions = (version for network in vm.spec.networks for version in (network.ipv4, network.ipv6))
    static = (version.address.partition("/")[0] for version in versions if version and "/" in version.address)
    return tuple(static)[:MAX_ADDRESSES]
