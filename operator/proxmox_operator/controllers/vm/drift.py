"""Telling drift: an Event with what was changed in Proxmox, from which to which value, and by whom where that is known.

The task list is asked only once drift was found, with one call; that it cannot be read keeps nothing from being told.
"""

from collections.abc import Callable, Sequence

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.controllers.context import Context
from proxmox_operator.controllers.vm.availability import Tell
from proxmox_operator.controllers.vm.memory import Memory
from proxmox_operator.errors import OperatorError
from proxmox_operator.planning.drift import (
    Deed,
    had_power,
    told,
    unsaid,
    was_in_sync,
    who_edited,
    who_switched,
)
from proxmox_operator.planning.lifecycle import Facts, Present, differences
from proxmox_operator.planning.vmconfig import ConfigDiff
from proxmox_operator.proxmox.session import ClusterSession

TASKS = 20
"""How many of the VM's latest tasks are looked at."""


class DriftTeller:
    """For one object in one pass."""

    def __init__(self, context: Context, session: ClusterSession, memory: Memory, tell: Tell) -> None:
        self._context = context
        self._session = session
        self._memory = memory
        self._tell = tell

    async def written(self, vm: ProxmoxVM, present: Present, diff: ConfigDiff) -> None:
        """The config was written: because the spec changed, or the VM had. What makes a new VM complete is not told.

        Nor is what has an Event of its own: a disk that the guest let go of at last is not drift.
        """
        sentences = diff.unexplained()
        if not sentences or (not vm.status.started and not was_in_sync(vm)):
            return
        if diff.only_mark():
            message = "the mark in the VM's description was lost and has been written again"
            self._tell(vm, "MarkRestored", message)
        elif self._memory.same_rules and (self._nobody_asked(vm) or was_in_sync(vm)):
            self._context.metrics.drifted(vm.kind, "corrected")
            who = await self._who(
                vm, present, lambda deeds, ours: who_edited(deeds, ours, self._memory.seen_at)
            )
            unwatched = " while no operator was running" if self._memory.seen_at is None else ""
            message = f"changed in Proxmox{who}{unwatched}, changed back: {told(sentences)}"
            self._tell(vm, "DriftCorrected", message, warning=True)
        else:
            self._tell(vm, "ConfigChanged", told(sentences))

    async def switched(self, vm: ProxmoxVM, present: Present, *, by: str) -> None:
        """The task ``by`` starts it or shuts it down: because the spec changed, or somebody had switched it."""
        wanted, restart = vm.spec.wanted_power, vm.status.restart
        restarting = restart is not None and restart.under_way
        if vm.metadata.deletion_timestamp is not None or restarting:
            return
        if not (self._nobody_asked(vm) or had_power(vm, wanted)):
            return
        self._context.metrics.drifted(vm.kind, "corrected")
        who = await self._who(
            vm, present, lambda deeds, ours: who_switched(deeds, ours, present.power), besides=by
        )
        done, doing = ("stopped", "starting it") if wanted == "Running" else ("started", "shutting it down")
        message = f"the VM was {done} in Proxmox{who} while spec.power is {wanted}: {doing}"
        self._tell(vm, "PowerDriftCorrected", message, warning=True)

    async def seen(self, facts: Facts) -> None:
        """A VM that is only looked at differs from its spec in more than ``status.plan`` says: told once."""
        vm, present = facts.vm, facts.existence
        new = unsaid(vm, differences(facts))
        if not new or not isinstance(present, Present):
            return
        self._context.metrics.drifted(vm.kind, "shown")

        def who(deeds: Sequence[Deed], ours: str) -> str | None:
            edited = who_edited(deeds, ours, self._memory.seen_at) if present.diff.sentences() else None
            return edited or who_switched(deeds, ours, present.power)

        message = f"changed in Proxmox{await self._who(vm, present, who)}, and left so: {told(new)}"
        self._tell(vm, "DriftSeen", message, warning=True)

    def _nobody_asked(self, vm: ProxmoxVM) -> bool:
        return self._memory.settled_generation == vm.metadata.generation

    async def _who(
        self,
        vm: ProxmoxVM,
        present: Present,
        decide: Callable[[Sequence[Deed], str], str | None],
        *,
        besides: str | None = None,
    ) -> str:
        """`` by NAME``, or nothing where it is not known."""
        try:
            tasks = await self._session.tasks.latest(present.node, vm.status.vmid or 0, limit=TASKS)
        except OperatorError:
            return ""
        deeds = [
            Deed(type=task.type, user=task.user, started=task.started)
            for task in tasks
            if task.text != besides
        ]
        name = decide(deeds, self._session.user)
        return f" by {name}" if name is not None else ""
