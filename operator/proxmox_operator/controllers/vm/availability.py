"""High availability of one VM: what Proxmox's HA manager is told and makes of it is read, and written where planned.

Nothing is asked for a VM that neither its spec nor Proxmox has put under HA; for the others all share one reading.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from proxmox_operator.api import HAStatus, ProxmoxVM
from proxmox_operator.controllers.context import VM_KIND, Context, is_paused, key_of
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.controllers.vm.holds import reason_to_wait
from proxmox_operator.controllers.vm.memory import Memory
from proxmox_operator.errors import Forbidden, Outdated, Rejected, Waiting
from proxmox_operator.planning.availability import (
    DEFAULT_TRIES,
    HA,
    KEPT_OFF,
    HAResource,
    local_drives,
    sentences,
)
from proxmox_operator.planning.harules import DropRule, PutRule, RefusedRule, RuleFacts, comment_of
from proxmox_operator.planning.lifecycle import AlignHA, ClearHAError, Facts, JoinHA, LeaveHA, SetRule
from proxmox_operator.planning.lifecycle.checks import the_vm
from proxmox_operator.proxmox.ha import RULES_SINCE
from proxmox_operator.proxmox.permissions import Feature
from proxmox_operator.proxmox.session import ClusterSession

HAStep = JoinHA | AlignHA | ClearHAError | LeaveHA | SetRule


async def read(
    context: Context,
    member: Member,
    session: ClusterSession,
    vm: ProxmoxVM,
    memory: Memory,
    config: Mapping[str, str],
) -> HA | None:
    """What is known about the VM and HA; None where nobody has anything to do with it."""
    vmid, wish = vm.status.vmid or 0, vm.spec.availability
    inventory = session.inventory.current
    guest = inventory.guests.get(vmid) if inventory is not None else None
    state = guest.hastate if guest is not None else None
    if wish is None and state is None and vm.status.ha is None:
        return None
    owner = f"proxmox-operator {context.cluster_id}"
    asked = memory.power_asked_of_ha(context.clock())
    try:
        resources = await session.ha.resources()
    except Forbidden as error:
        return HA(state=state, unreadable=error.message, asked=asked)
    shared = (
        {storage.name: storage.shared for storage in inventory.storages.values()}
        if inventory is not None
        else {}
    )
    resource = resources.get(vmid)
    rules = None
    if resource is not None and wish is not None and member.major is not None:
        rules = await _rules(context, member, session, vm, resources, owner)
    return HA(
        resource=resource,
        state=state,
        lacking=member.lacking.get(Feature.HA),
        local=local_drives(config, shared),
        comment=comment_of(owner, vm),
        asked=asked,
        rules=rules,
        refused=memory.rule_not_to_try(context.clock()),
    )


async def _rules(
    context: Context,
    member: Member,
    session: ClusterSession,
    vm: ProxmoxVM,
    resources: Mapping[int, HAResource],
    owner: str,
) -> RuleFacts:
    supported = member.major is not None and member.major >= RULES_SINCE
    inventory = session.inventory.current
    rules = await session.ha.rules() if supported else None
    peers, bystanders = _peers(context, member, vm, resources) if supported else ({}, frozenset[int]())
    return RuleFacts(
        supported=supported,
        owner=owner,
        found=rules.found if rules is not None else {},
        digest=rules.digest if rules is not None else "",
        peers=peers,
        bystanders=bystanders,
        nodes=frozenset(inventory.nodes) if inventory is not None else frozenset(),
    )


def _peers(
    context: Context, member: Member, vm: ProxmoxVM, resources: Mapping[int, HAResource]
) -> tuple[dict[int, str], frozenset[int]]:
    """The VMs of the namespace, in the same cluster and under HA, that name the same group as this one.

    The second are those of them that are not managed at present, which this one never is: it is about to be written.
    """
    wish = vm.spec.availability
    group = wish.rule.resource_affinity if wish is not None and wish.rule is not None else None
    if group is None:
        return {}, frozenset()
    found, bystanders = {}, set()
    for raw in context.store.list(VM_KIND):
        metadata, status = raw["metadata"], raw.get("status") or {}
        if metadata.get("namespace") != vm.metadata.namespace or "deletionTimestamp" in metadata:
            continue
        named = _group_of(raw)
        vmid = int(status.get("vmid") or 0)
        if named.get("group") == group.group and status.get("cluster") == member.name and vmid in resources:
            found[vmid] = str(named.get("affinity"))
            if vmid != vm.status.vmid and not _is_managed(raw):
                bystanders.add(vmid)
    return found, frozenset(bystanders)


def _is_managed(raw: Mapping[str, Any]) -> bool:
    """Whether the VM of an object that has not been checked is known to be its own, and written to at present."""
    status = raw.get("status") or {}
    return (
        raw["spec"].get("management") != "Observe"
        and not is_paused(raw["metadata"].get("annotations"))
        and (status.get("task") or {}).get("action") != "Adopting"
        and any(
            condition.get("type") == "Provisioned" and condition.get("status") == "True"
            for condition in status.get("conditions") or ()
        )
    )


def _group_of(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """``spec.availability.rule.resourceAffinity`` of an object that has not been checked; empty where it has none."""
    value: Any = raw.get("spec") or {}
    for name in ("availability", "rule", "resourceAffinity"):
        if name == "rule" and not (isinstance(value, Mapping) and value.get("ha")):
            return {}
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


class Tell(Protocol):
    """Tells an Event about the object."""

    def __call__(self, vm: ProxmoxVM, reason: str, message: str, *, warning: bool = False) -> None: ...


class Record(Protocol):
    """Writes the status with these changes now, and returns the object as it then is."""

    async def __call__(self, **changes: object) -> ProxmoxVM: ...


class HAWriter:
    """Carries out the steps that concern HA. Decides nothing."""

    def __init__(
        self,
        context: Context,
        session: ClusterSession,
        memory: Memory,
        record: Record,
        tell: Tell,
    ) -> None:
        self._context = context
        self._session = session
        self._memory = memory
        self._record = record
        self._tell = tell

    async def write(self, facts: Facts, step: HAStep) -> None:
        """Carry out one step. Raises the errors of the doors."""
        vm, vmid = facts.vm, facts.vm.status.vmid or 0
        match step:
            case JoinHA():
                await self._join(facts, step)
            case AlignHA(changes=changes, was=was):
                await self._make_sure(facts, changes.get("state"))
                await self._send(lambda: self._session.ha.change(vmid, changes))
                restarting = vm.status.restart is not None and vm.status.restart.under_way
                recovering = vm.status.ha is not None and vm.status.ha.recovered is not None
                settled = self._memory.settled_generation == vm.metadata.generation
                is_drift = settled and not restarting and not recovering
                told = "; ".join(sentences(changes, was))
                if is_drift:
                    self._context.metrics.drifted(vm.kind, "corrected")
                    self._tell(
                        vm, "DriftCorrected", f"changed in Proxmox, changed back: {told}", warning=True
                    )
                else:
                    self._tell(vm, "ConfigChanged", told)
            case ClearHAError():
                before = vm.status.ha or HAStatus()
                await self._make_sure(facts, "disabled")
                await self._send(lambda: self._session.ha.change(vmid, {"state": "disabled"}))
                await self._record(ha=before.model_copy(update={"recovered": vm.metadata.generation}))
                message = "the HA manager had given the VM up (state error): its error state is cleared, once"
                self._tell(vm, "HARecovering", message, warning=True)
            case LeaveHA():
                await self._send(lambda: self._session.ha.remove(vmid))
                if vm.metadata.deletion_timestamp is None:
                    await self._record(ha=None)
                self._tell(vm, "LeftHA", f"VM {vmid} was taken out of HA")
            case SetRule(change=change):
                await self._set_rule(facts, change)

    async def _join(self, facts: Facts, step: JoinHA) -> None:
        """That it was us is recorded first: a resource that a person has made is not taken out again."""
        vm, ha = facts.vm, facts.ha
        if ha is None:
            return
        before = vm.status.ha or HAStatus()
        if not before.joined:
            await self._record(ha=before.model_copy(update={"joined": True}))
        tries = (step.wish.max_restart, step.wish.max_relocate)
        max_restart, max_relocate = (DEFAULT_TRIES if value is None else value for value in tries)
        await self._make_sure(facts, step.state)
        await self._send(
            lambda: self._session.ha.add(
                vm.status.vmid or 0,
                state=step.state,
                max_restart=max_restart,
                max_relocate=max_relocate,
                comment=ha.comment,
            )
        )
        self._tell(vm, "JoinedHA", f"VM {vm.status.vmid} was put under HA, to be {step.state}")

    async def _set_rule(self, facts: Facts, change: PutRule | DropRule) -> None:
        """A rule that Proxmox refuses is told in the condition and tried again later: it stops nothing else."""
        match change:
            case DropRule(id=name):
                await self._send(lambda: self._session.ha.remove_rule(name))
            case PutRule(rule=rule, digest=digest):
                try:
                    await self._send(lambda: self._session.ha.put_rule(rule, digest=digest))
                except Rejected as error:
                    refused = RefusedRule(rule=rule, message=error.message)
                    self._memory.rule_refused = (refused, self._context.clock())
                    return
        self._wake_peers(facts, change.rule.id if isinstance(change, PutRule) else change.id)

    def _wake_peers(self, facts: Facts, name: str) -> None:
        """The others of a group have the rule in their conditions, too, and make it again if it went too early."""
        rules = facts.ha.rules if facts.ha is not None else None
        if rules is None:
            return
        before = rules.found.get(name)
        sids = before.resources if before is not None else ()
        peers = {*rules.peers, *(int(sid.removeprefix("vm:")) for sid in sids if sid.startswith("vm:"))}
        peers.discard(facts.vm.status.vmid or 0)
        for raw in self._context.store.list(VM_KIND) if peers else ():
            status = raw.get("status") or {}
            if status.get("vmid") in peers and status.get("cluster") == facts.vm.status.cluster:
                self._context.queue.add(key_of(raw))

    async def _make_sure(self, facts: Facts, state: object) -> None:
        """Directly before this state is requested (None: none is): what is to be kept off is off.

        The manager switches off what it is to keep off, with a grace period of its own (``PVE::HA::Resources::PVEVM``),
        and what the inventory shows lags: so its node is asked whether the VM is off already. Raises Outdated where it
        is not, which is known to the next pass, and Waiting while a task of somebody works on it.
        """
        if state not in KEPT_OFF:
            return
        vmid, node = facts.vm.status.vmid or 0, the_vm(facts).node
        live = await self._session.vms.status(node, vmid)
        if live.status != "stopped":
            self._memory.know_power("Running", self._context.clock())
            raise Outdated(f"VM {vmid} is on: HA is not asked to keep it off")
        if hold := await reason_to_wait(self._session, node, vmid, live.lock, starting=False):
            raise Waiting(hold, reason="PowerOnHold", after=10.0)

    async def _send(self, call: Callable[[], Any]) -> None:
        with self._memory.sending(power_only=True):
            await call()
