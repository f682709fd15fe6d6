"""Moving a VM: everything that is read before, who moves when, and what becomes of a move that has failed.

Nothing about a move has to survive this process: where the VM is, its lock and the tasks that run tell how it stands.
"""

from collections.abc import Mapping

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.controllers.context import Context, vm_key
from proxmox_operator.controllers.fleet import Member, Promise
from proxmox_operator.controllers.vm import holds
from proxmox_operator.controllers.vm.memory import FailedMove, Memory, Work
from proxmox_operator.controllers.vm.nodes import gather_nodes, terms_of
from proxmox_operator.errors import Forbidden, OperatorError, Outdated
from proxmox_operator.planning.access import Access
from proxmox_operator.planning.lifecycle import Present
from proxmox_operator.planning.moving import Going, Staying, Wish, decide, wish_of
from proxmox_operator.planning.placement import Refusal
from proxmox_operator.proxmox import migration
from proxmox_operator.proxmox.errors import NotHere
from proxmox_operator.proxmox.permissions import Feature
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.proxmox.tasks import UPID, TaskInfo

RETRY, LONGEST_RETRY = 60.0, 3600.0
"""Seconds until a move that failed is tried again; doubled with each failure."""

HA_LAG = 60.0
"""Seconds that the HA manager may take to begin with a move that it was asked for."""

LOOK_AGAIN = 10.0
"""Seconds between two looks at a move that is under way, or that waits for something short."""


class Moves:
    """For one object in one pass."""

    def __init__(
        self, context: Context, member: Member, session: ClusterSession, access: Access, memory: Memory
    ) -> None:
        self._context = context
        self._member = member
        self._session = session
        self._access = access
        self._memory = memory

    async def look(self, vm: ProxmoxVM, present: Present) -> Going | Staying | None:
        """Where the VM is to go, or why it stays; None where nobody wants it elsewhere.

        A migration of ours that is found running becomes ``memory.work``. Raises Outdated and what reading raises.
        """
        memory, node = self._memory, present.node
        wish = wish_of(vm, node)
        fulfilled = wish is None and memory.wish is not None and node in memory.wish.nodes
        if wish != memory.wish and not fulfilled:  # kept for a while: HA may move it back
            memory.wish = wish
            memory.failed_moves.clear()
        if present.lock == "migrate":
            return await self._under_way(vm, present, wish)
        if wish is None or present.power == "Unknown":
            return None
        return await self._obstacle(vm, present) or await self._decide(vm, present, wish)

    async def progress(self) -> str | None:
        """How far the move that is under way has come, as far as its log tells."""
        work = self._memory.work
        if work is None:
            return None
        try:
            lines = await self._session.tasks.log_since(work.upid, work.lines_read)
        except OperatorError:
            return work.progress
        work.lines_read += len(lines)
        work.progress = migration.progress(lines) or work.progress
        return work.progress

    async def _under_way(self, vm: ProxmoxVM, present: Present, wish: Wish | None) -> Staying | None:
        """The VM is locked for a migration: ours, somebody else's, or that of a worker that is dead."""
        vmid, node = vm.status.vmid or 0, present.node
        running = await self._session.tasks.running_for(vmid) + await self._session.tasks.active(node)
        for task in running:
            if task.upid.type == "qmigrate" and task.upid.id == str(vmid):
                if self._take_up(vm, task) or wish is None:
                    return None
                return _waits("Moving", f"VM {vmid} is being moved by {task.upid.user}")
        try:
            config = await self._session.vms.config(node, vmid)
        except NotHere as moved:
            raise Outdated(f"VM {vmid} has just left {node}") from moved
        if config.lock != "migrate":
            self._memory.forget_config()
            raise Outdated(f"the migration of VM {vmid} has just ended")
        return Staying(
            reason="StuckLock",
            message=(
                f"VM {vmid} is locked by a migration that no task works on any more: run as root on {node}: "
                f"qm unlock {vmid}; copies of its disks may be left on the node that it was to go to"
            ),
        )

    def _take_up(self, vm: ProxmoxVM, task: TaskInfo) -> bool:
        if task.upid.user != self._session.user:
            return False
        self._member.moving[vm.metadata.uid] = task.upid.node
        self._memory.work = Work(action="Moving", upid=task.upid.text)
        return True

    async def _obstacle(self, vm: ProxmoxVM, present: Present) -> Staying | None:
        """What passes by itself: a lock, a task, the HA manager at work, another VM that leaves the same node."""
        vmid, node = vm.status.vmid or 0, present.node
        if present.lock:
            return _waits(
                "MoveOnHold", f"VM {vmid} is locked by Proxmox ({present.lock}), and moved after that"
            )
        inventory = self._session.inventory.current
        guest = inventory.guests.get(vmid) if inventory is not None else None
        asked, now = self._memory.move_asked_of_ha, self._context.clock()
        if guest is not None and guest.hastate is not None:
            under_way = guest.hastate in ("migrate", "relocate")
            if under_way or (asked is not None and now - asked < HA_LAG):
                return _waits("Moving", f"the HA manager was asked to move VM {vmid}, which takes it a while")
        if (others := self._member.await_move(vm_key(vm), vm.metadata.uid, node)) is not None:
            return Staying(reason="MoveQueued", message=others, waits=60.0)
        for task in await self._session.tasks.active(node):
            if task.upid.id == str(vmid):
                if task.upid.type == "qmigrate" and self._take_up(vm, task):
                    return None
                message = f"a Proxmox task works on VM {vmid} ({task.upid.type}), which is moved after that"
                return _waits("MoveOnHold", message)
            if task.upid.type in holds.NODE_WIDE:
                message = f"node {node} {holds.NODE_WIDE[task.upid.type]}; VM {vmid} is moved after that"
                return _waits("MoveOnHold", message)
        return None

    async def _decide(self, vm: ProxmoxVM, present: Present, wish: Wish) -> Going | Staying | None:
        """The place on the other node is promised at once, as for a new VM."""
        member, config = self._member, self._memory.config
        vmid, home, uid = vm.status.vmid or 0, present.node, vm.metadata.uid
        if self._memory.work is not None or config is None:
            return None
        try:
            check = await self._session.vms.migrate_check(home, vmid)
        except Forbidden as error:
            remedy = member.lacking.get(Feature.MOVE) or error.message
            return Staying(
                reason="MoveRefused", message=f"VM {vmid} stays on {home} ({wish.cause}): {remedy}"
            )
        devices = any("mapping=" in value for value in config.raw.values())
        nodes = await gather_nodes(self._context, member, self._session, vm, devices=devices)
        terms = terms_of(self._context, member, self._session, vm, self._access)
        found = decide(vm, wish, config.raw, check, nodes, terms, home=home, failed=self._failed(wish))
        if isinstance(found, Staying):
            member.promised.pop(uid, None)
            member.waiting[vm_key(vm)] = None
            return found
        needs = found.needs
        member.promised[uid] = Promise(
            node=found.target, memory=needs.memory, cpus=needs.cpus, space=needs.space
        )
        for task in await self._session.tasks.active(found.target):
            if task.upid.type in holds.NODE_WIDE:
                message = (
                    f"node {found.target} {holds.NODE_WIDE[task.upid.type]}; VM {vmid} is moved after that"
                )
                return _waits("MoveOnHold", message)
        return found

    def _failed(self, wish: Wish) -> Mapping[str, Refusal]:
        """Nodes that a move has failed to, as long as it is not tried again."""
        found = {}
        for node in wish.nodes:
            tries = self._memory.failed_moves
            failed = tries.get(node) or tries.get("")
            if failed is not None and self._context.clock() < failed.again_at:
                message = (
                    f"the move has failed: {failed.message}; tried again later, until the wish is taken back"
                )
                found[node] = Refusal(reason="MoveFailed", message=message)
        return found


def ended(memory: Memory, work: Work, now: float) -> str | None:
    """Take note of a move that has ended; returns what it failed of.

    Where the VM is then, is looked at anew in any case. A target that an earlier process has chosen is not known. The
    HA manager only takes a request, which it may ignore or undo: it counts as failed until the VM is there.
    """
    memory.moved = True
    error = work.result.error if work.result is not None else None
    if work.result is not None and error is not None:
        told = migration.cause(work.result.log_tail)
        _note(memory, work, told, now)
        return told
    if UPID.parse(work.upid).type == "hamigrate":
        memory.move_asked_of_ha = now
        told = (
            "the HA manager was asked for it, and has not done it or has moved the VM back: its rules, or a node in "
            "maintenance, may want it elsewhere"
        )
        _note(memory, work, told, now + HA_LAG)
    else:
        memory.failed_moves.clear()
    return None


def _note(memory: Memory, work: Work, told: str, now: float) -> None:
    before = memory.failed_moves.get(work.target or "")
    delay = min(2 * before.delay, LONGEST_RETRY) if before is not None else RETRY
    memory.failed_moves[work.target or ""] = FailedMove(message=told, again_at=now + delay, delay=delay)


def _waits(reason: str, message: str) -> Staying:
    return Staying(reason=reason, message=message, waits=LOOK_AGAIN)
