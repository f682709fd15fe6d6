"""A VM's power: read as it is, and brought to what was decided, with what must be known of a restart after a crash.

Decides nothing. Under HA a call only asks the manager, which acts later.
"""

from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from proxmox_operator.api import ProxmoxVM, Restart, Task
from proxmox_operator.controllers.context import Context
from proxmox_operator.controllers.vm.availability import Record, Tell
from proxmox_operator.controllers.vm.drift import DriftTeller
from proxmox_operator.controllers.vm.memory import LAG, Memory
from proxmox_operator.planning.lifecycle import Due, Facts, NoteRestart, Power, Present, Stop, restarting
from proxmox_operator.planning.lifecycle.checks import the_vm
from proxmox_operator.planning.vmconfig import taken_off
from proxmox_operator.proxmox.errors import AlreadyRunning
from proxmox_operator.proxmox.resources import Guest
from proxmox_operator.proxmox.session import ClusterSession

_POWER: dict[str, Power] = {"running": "Running", "stopped": "Stopped", "paused": "Paused"}


class Seen(NamedTuple):
    """A power state, as it is now (``live``) or as the inventory or an ended task of ours tells."""

    power: Power
    booted_after: datetime | None = None
    live: bool = False


class PowerReader:
    """For one object in one pass."""

    def __init__(self, context: Context, session: ClusterSession, memory: Memory) -> None:
        self._context = context
        self._session = session
        self._memory = memory

    async def seen(self, vm: ProxmoxVM, vmid: int, node: str, guest: Guest | None) -> Seen:
        """The power state; asked live where the inventory, which lags, does not show what is wanted."""
        if taken_off(vm):
            # No guest's consent and no digest guards an unplug: whether the VM is off is asked of its node.
            return await self.live(vmid, node)
        believed = self._memory.believed_power(guest, self._context.clock())
        if believed is not None:
            return Seen(believed)
        if self._memory.first_start or (not vm.status.started and vm.status.provisioning is not None):
            return Seen("Stopped")
        deleting = vm.metadata.deletion_timestamp is not None
        wanted = "Stopped" if deleting else vm.spec.wanted_power
        shown = _POWER.get(guest.status or "") if guest is not None else None
        if shown is None or shown != wanted or deleting or restarting.is_wished(vm):
            return await self.live(vmid, node)
        uptime = guest.uptime if guest is not None and shown == "Running" else None
        return Seen(shown, self._booted_after(uptime, LAG))

    async def live(self, vmid: int, node: str) -> Seen:
        """``GET .../status/current``: never behind."""
        live = await self._session.vms.status(node, vmid)
        if live.qmpstatus in ("paused", "suspended"):
            return Seen("Paused", live=True)
        power = _POWER.get(live.status, "Unknown")
        return Seen(power, self._booted_after(live.uptime, 2.0) if power == "Running" else None, live=True)

    def _booted_after(self, uptime: int | None, accuracy: float) -> datetime | None:
        """A moment that its boot was certainly after, ``accuracy`` being how old ``uptime`` can be."""
        return self._context.now() - timedelta(seconds=uptime + accuracy) if uptime else None


class Working(Protocol):
    """Sleeps until the task has ended; ``record`` puts it into the status."""

    async def __call__(self, action: str, upid: str, vm: ProxmoxVM, *, record: bool = False) -> None: ...


class PowerWriter:
    """Carries out the steps that concern power, for one object in one pass."""

    def __init__(
        self,
        context: Context,
        session: ClusterSession,
        memory: Memory,
        drift: DriftTeller,
        *,
        record: Record,
        working: Working,
        tell: Tell,
    ) -> None:
        self._context = context
        self._session = session
        self._memory = memory
        self._drift = drift
        self._record = record
        self._working = working
        self._tell = tell

    async def start(self, facts: Facts) -> None:
        """Start it; that it runs already is as good."""
        vm, present = facts.vm, the_vm(facts)
        try:
            with self._memory.sending(power_only=True):
                upid = await self._session.vms.start(present.node, vm.status.vmid or 0)
        except AlreadyRunning:
            return
        await self._working(self._asked(facts, "Running") or "Starting", upid, vm)
        await self._drift.switched(vm, present, by=upid)

    async def stop(self, facts: Facts, step: Stop) -> None:
        """Shut it down; where that is for a restart, its intent is recorded before."""
        vm, present = facts.vm, the_vm(facts)
        seconds = max(1, int(step.grace.total_seconds()))
        if step.restart is not None:
            await self._intend_restart(vm, present, step.restart)
        with self._memory.sending():
            upid = await self._session.vms.shutdown(
                present.node, vm.status.vmid or 0, timeout=seconds, force=step.force
            )
        asked = self._asked(facts, "Stopped")
        record = asked is None or step.restart is not None
        await self._working(asked or "Stopping", upid, vm, record=record)
        if step.restart is None:
            await self._drift.switched(vm, present, by=upid)

    def _asked(self, facts: Facts, power: Power) -> str | None:
        """Under HA the task only asks the manager, which acts later: what the task brings about is not the power."""
        if facts.ha is None or not facts.ha.governs:
            return None
        self._memory.asked_of_ha = (power, self._context.clock())
        return "AskingHA"

    async def _intend_restart(self, vm: ProxmoxVM, present: Present, restart: Due) -> None:
        """The intent is recorded first: whoever finds the VM stopped starts it again, also when the answer is lost."""
        begun = vm.status.restart
        if begun is None or begun.cause != restart.cause or not begun.under_way:
            begun = Restart(
                cause=restart.cause, phase="Stopping", since=self._context.now(), node=present.node
            )
            self._tell(vm, "Restarting", f"restarting VM {vm.status.vmid}: {restart.why}")
        task = Task(action="Stopping", upid=None, node=present.node, since=self._context.now())
        await self._record(restart=begun, task=task)

    async def note_restart(self, vm: ProxmoxVM, step: NoteRestart) -> None:
        """Record how far a restart has come, and tell it."""
        self._memory.stop_failed = None
        await self._record(restart=step.restart, restarted_for=step.restarted_for, task=None)
        if step.told is not None:
            reason = "RestartFailed" if step.failed else "Restarted"
            self._tell(vm, reason, step.told, warning=step.failed)
