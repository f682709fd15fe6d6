"""Typed calls about one virtual machine, and the proof that one is absent.

Each method is one Proxmox call (said in its docstring) and decides nothing. Writes return the UPID of the
task they started. A config write without the digest of what was read is not offered.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from proxmox_operator import errors
from proxmox_operator.planning.guestfs import Filesystem
from proxmox_operator.planning.moving import Precondition
from proxmox_operator.planning.vmconfig import PendingChange

from .agent import MAX_SILENCE, AgentGate, ExecResult, parse_filesystems, parse_interfaces, parse_result
from .audit import current_actor, is_upid
from .client import PveClient
from .errors import NotQuorate, Taken
from .migration import parse_precondition
from .request import ParamValue, Request
from .slots import AllocationSlots
from .tasks import UPID, TaskTracker


@dataclass(frozen=True, slots=True)
class VMConfig:
    """A VM's configuration, all values as text. ``raw`` is what is written, ``pending`` what of it waits for a
    cold boot; ``digest`` covers the whole file.
    """

    raw: Mapping[str, str]
    digest: str
    pending: tuple[PendingChange, ...] = ()

    @property
    def current(self) -> Mapping[str, str]:
        """What is in force: without what waits for a cold boot."""
        waiting = {change.key: change.was for change in self.pending}
        written = {key: value for key, value in self.raw.items() if key not in waiting}
        return written | {key: was for key, was in waiting.items() if was is not None}

    @property
    def lock(self) -> str | None:
        """The name of the lock it holds (clone, backup, migrate ...)."""
        return self.raw.get("lock")

    @property
    def is_template(self) -> bool:
        """Whether it is a template."""
        return self.raw.get("template") == "1"


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """Live state from the VM's node. ``status`` is running or stopped; ``qmpstatus`` finer (paused,
    prelaunch ...). ``uptime``: seconds since QEMU was started; a reboot from inside the guest does not end it.
    """

    status: str
    qmpstatus: str | None
    lock: str | None
    uptime: int = 0


class Presence(StrEnum):
    """Whether a VMID is in use: proven, disproven, or not to be known now."""

    ABSENT = "Absent"
    EXISTS = "Exists"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Absence:
    """A presence and, for Unknown, what stood in the way of knowing."""

    presence: Presence
    why: str = ""


class VMs:
    """The calls. All raise the errors of client.py."""

    def __init__(
        self,
        client: PveClient,
        tasks: TaskTracker,
        slots: AllocationSlots,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._tasks = tasks
        self._slots = slots
        self._allocating: dict[str, list[str]] = {}
        self._agents = AgentGate(client, clock)

    # -- reading ---------------------------------------------------------------------------------

    async def config(self, node: str, vmid: int) -> VMConfig:
        """``GET .../pending``: everything that is written, what of it waits for a cold boot, and the digest, in one
        call (``GET .../config`` does not tell what waits). Raises NotHere.
        """
        items: list[dict[str, Any]] = await self._client.get(_vm(node, vmid, "pending"))
        raw: dict[str, str] = {}
        waiting: list[PendingChange] = []
        for item in items:
            key, was = str(item["key"]), _text(item.get("value"))
            becomes = None if item.get("delete") else _text(item.get("pending", was))
            if becomes is not None:
                raw[key] = becomes
            if "pending" in item or item.get("delete"):
                waiting.append(PendingChange(key=key, was=was, becomes=becomes))
        digest = raw.pop("digest", None)
        if digest is None:
            message = f"Proxmox tells no digest of the config of VM {vmid}, and no write is safe without one"
            raise errors.NeedsHuman(message, reason="DigestMissing")
        return VMConfig(MappingProxyType(raw), digest, tuple(waiting))

    async def status(self, node: str, vmid: int) -> LiveStatus:
        """``GET .../status/current``: live, unlike the inventory."""
        data: dict[str, Any] = await self._client.get(_vm(node, vmid, "status", "current"))
        return LiveStatus(
            str(data["status"]), data.get("qmpstatus"), data.get("lock") or None, int(data.get("uptime") or 0)
        )

    async def snapshots(self, node: str, vmid: int) -> dict[str, Mapping[str, str]]:
        """``GET .../snapshot`` and, for each of them, ``GET .../config?snapshot=``: the configs by name."""
        items: list[dict[str, Any]] = await self._client.get(_vm(node, vmid, "snapshot"))
        found: dict[str, Mapping[str, str]] = {}
        for name in (str(item["name"]) for item in items if item.get("name") != "current"):
            data: dict[str, Any] = await self._client.get(_vm(node, vmid, "config"), snapshot=name)
            found[name] = {str(key): str(value) for key, value in data.items() if value is not None}
        return found

    async def volumes(self, node: str, vmid: int, storage: str) -> frozenset[str]:
        """``GET /nodes/{node}/storage/{storage}/content``: the disk images there that belong to the VM."""
        items: list[dict[str, Any]] = await self._client.get(
            ("nodes", node, "storage", storage, "content"), content="images", vmid=vmid
        )
        return frozenset(str(item["volid"]) for item in items)

    async def vmid_free(self, vmid: int) -> bool:
        """``GET /cluster/nextid?vmid=``: whether no guest has this id, whatever we may see of it. Needs no
        privilege.
        """
        try:
            await self._client.get("cluster/nextid", vmid=vmid)
        except Taken:
            return False
        return True

    async def prove_absent(
        self, vmid: int, *, clone_of: tuple[str, int] | None = None, since: float = 0
    ) -> Absence:
        """Whether no guest has this id and none is being made under it.

        Asked of one endpoint that has quorum and has proven its cluster within the last seconds
        (client.py), in this order: quorum, id, live tasks; so the answer is true for the moment of the
        first. ``clone_of`` (node, template vmid) also looks for a clone to this id under way there, since
        ``since`` (Unix seconds): its task names the template only.
        """
        try:
            status = await self._client.exchange(Request("GET", ("cluster", "status")))
            if not _quorate(status.data):
                return Absence(Presence.UNKNOWN, f"{status.endpoint} has no quorum")
            try:
                await self._client.exchange(
                    Request("GET", ("cluster", "nextid"), {"vmid": vmid}), endpoint=status.endpoint
                )
            except Taken:
                return Absence(Presence.EXISTS)
            running = await self._tasks.running_for(vmid)
            if running:
                return Absence(Presence.UNKNOWN, f"task {running[0].upid.type} still runs for VM {vmid}")
            if clone_of is not None:
                clone = await self._tasks.find_clone(clone_of[1], vmid, node=clone_of[0], since=since)
                if clone is not None and clone.running:
                    return Absence(Presence.UNKNOWN, f"a clone to VM {vmid} is under way ({clone.upid.text})")
        except (errors.Unreachable, NotQuorate, errors.Forbidden) as error:
            return Absence(Presence.UNKNOWN, error.message)
        return Absence(Presence.ABSENT)

    # -- making and changing ---------------------------------------------------------------------

    async def create(
        self,
        node: str,
        vmid: int,
        config: Mapping[str, ParamValue],
        *,
        pool: str | None,
        slots: Collection[str],
    ) -> str:
        """``POST /nodes/{node}/qemu``: a VM with this config; its task makes disks, or imports them (``import-from``).

        A VM that could not be made whole is removed by Proxmox again. ``slots`` as for :meth:`clone`.
        """
        upid: str = await self._allocate(
            ("nodes", node, "qemu"), {"vmid": vmid, "pool": pool, **config}, slots
        )
        return upid

    async def convert(self, node: str, vmid: int) -> str:
        """``POST .../template``: the stopped VM becomes a template, its disks base volumes."""
        upid: str = await self._client.post(_vm(node, vmid, "template"))
        return upid

    async def clone(
        self,
        node: str,
        vmid: int,
        newid: int,
        *,
        name: str,
        description: str,
        full: bool | None = None,
        storage: str | None = None,
        target: str | None = None,
        pool: str | None = None,
        snapname: str | None = None,
        slots: Collection[str] = (),
    ) -> str:
        """``POST .../clone`` on the *source's* node; the UPID names ``vmid``, not ``newid``.

        ``storage`` is for full clones only. ``slots``: the storages that are written to; one slot of each
        is held until the task ends (raises Waiting when none is free).
        """
        params: dict[str, ParamValue] = {
            "newid": newid,
            "name": name,
            "description": description,
            "full": full,
            "storage": storage,
            "target": target,
            "pool": pool,
            "snapname": snapname,
        }
        upid: str = await self._allocate(_vm(node, vmid, "clone"), params, slots)
        return upid

    async def set_config(
        self,
        node: str,
        vmid: int,
        changes: Mapping[str, ParamValue],
        *,
        digest: str,
        delete: Sequence[str] = (),
        background_delay: int = 2,
        slots: Collection[str] = (),
    ) -> str | None:
        """``POST .../config`` (asynchronous): the UPID, or None when it was done within
        ``background_delay`` seconds.

        Raises Outdated when the configuration is no longer the one with ``digest``; that can also be the
        task's error. ``sshkeys`` is given as plain text and encoded here. ``slots``: storages on which new
        disks are allocated.
        """
        params: dict[str, ParamValue] = dict(changes)
        if isinstance(keys := params.get("sshkeys"), str):
            params["sshkeys"] = quote(keys, safe="")
        params |= {
            "digest": digest,
            "delete": ",".join(delete) or None,
            "background_delay": background_delay or None,
        }
        upid: str | None = await self._allocate(_vm(node, vmid, "config"), params, slots)
        return upid

    async def resize(self, node: str, vmid: int, *, disk: str, size: str, digest: str) -> str:
        """``PUT .../resize`` to an absolute size such as ``40G``; growing only, the same size is no error."""
        upid: str = await self._client.put(_vm(node, vmid, "resize"), disk=disk, size=size, digest=digest)
        return upid

    async def move_disk(
        self,
        node: str,
        vmid: int,
        *,
        disk: str,
        storage: str,
        digest: str,
        intent: Callable[[], Awaitable[None]] | None = None,
    ) -> str:
        """``POST .../move_disk`` to another storage, running or not; the source is freed after the copy.

        A source that cannot be freed is a line in the task's log, and in no config: see :meth:`volumes`. The copy
        takes a slot of the storage until the task ends (raises Waiting when none is free). ``intent`` is recorded once
        there is one, before the call.
        """
        params: dict[str, ParamValue] = {"disk": disk, "storage": storage, "delete": True, "digest": digest}
        upid: str = await self._allocate(_vm(node, vmid, "move_disk"), params, (storage,), intent)
        return upid

    async def migrate_check(self, node: str, vmid: int) -> Precondition:
        """``GET .../migrate``: what Proxmox says of each node, and what would stay behind. Raises Locked, Forbidden
        (VM.Migrate)."""
        return parse_precondition(await self._client.get(_vm(node, vmid, "migrate")))

    async def migrate(self, node: str, vmid: int, *, target: str, live: bool, local_disks: bool) -> str:
        """``POST .../migrate`` on the node that the VM is on; local disks go to the storage of the same name.

        Of a VM under HA the task only asks the HA manager, and ends before the VM has moved.
        """
        upid: str = await self._client.post(
            _vm(node, vmid, "migrate"),
            **{"target": target, "online": live or None, "with-local-disks": local_disks or None},
        )
        return upid

    async def start(self, node: str, vmid: int) -> str:
        """``POST .../status/start``; the task of a VM that runs already fails with AlreadyRunning."""
        self._agents.forget(vmid)
        return await self._power(node, vmid, "start")

    async def stop(self, node: str, vmid: int) -> str:
        """``POST .../status/stop``: pulls the plug."""
        return await self._power(node, vmid, "stop")

    async def shutdown(self, node: str, vmid: int, *, timeout: int, force: bool = False) -> str:
        """``POST .../status/shutdown``: asks the guest; ``force`` pulls the plug after ``timeout`` (s)."""
        return await self._power(node, vmid, "shutdown", timeout=timeout, forceStop=force or None)

    async def destroy(self, node: str, vmid: int) -> str:
        """``DELETE .../qemu/{vmid}`` with purge (jobs, HA, replication); disks that no config names are
        never touched.
        """
        upid: str = await self._client.delete(
            _vm(node, vmid), **{"purge": True, "destroy-unreferenced-disks": False}
        )
        return upid

    async def _power(self, node: str, vmid: int, action: str, **params: ParamValue) -> str:
        upid: str = await self._client.post(_vm(node, vmid, "status", action), **params)
        return upid

    async def _allocate(
        self,
        path: tuple[str, ...],
        params: Mapping[str, ParamValue],
        slots: Collection[str],
        intent: Callable[[], Awaitable[None]] | None = None,
    ) -> Any:
        """Send, and keep the slots until the task it starts has ended. A lost answer gives them back at
        once: the allocation may be under way, but nobody knows which task to wait for.
        """
        taken: list[str] = []
        try:
            for storage in sorted(set(slots)):
                self._slots.take(storage, current_actor.get())
                taken.append(storage)
            if intent is not None:
                await intent()
            upid = await self._client.call(Request("POST", path, params))
        except BaseException:
            self._release(taken)
            raise
        if taken and is_upid(upid):
            self._allocating[upid] = taken
            self._tasks.watch(upid, lambda result: self._allocated(result.upid))
        else:
            self._release(taken)
        return upid

    def give_up(self, nodes: Collection[str]) -> None:
        """Give back the slots of tasks on these nodes, which are offline: a dead node must not keep a shared
        storage busy, and its tasks' end may never be told. What a node still does is not undone by that.
        """
        for upid in [upid for upid in self._allocating if UPID.parse(upid).node in nodes]:
            self._allocated(upid)

    def _allocated(self, upid: str) -> None:
        """Give back the slots of a task; only once, whoever says first that it is over."""
        self._release(self._allocating.pop(upid, ()))

    def _release(self, storages: Collection[str]) -> None:
        for storage in storages:
            self._slots.release(storage)

    # -- the guest agent -------------------------------------------------------------------------

    async def agent_addresses(self, node: str, vmid: int) -> dict[str, list[str]]:
        """``GET .../agent/network-get-interfaces``: addresses by MAC (upper case), without loopback and
        link-local ones.

        Raises AgentUnavailable, at once and without a call while the VM's agent is known to be silent.
        """
        data = await self._agents.call(
            vmid, Request("GET", _vm(node, vmid, "agent", "network-get-interfaces"))
        )
        return parse_interfaces(data)

    async def filesystems(self, node: str, vmid: int) -> tuple[Filesystem, ...]:
        """``GET .../agent/get-fsinfo``: what the guest has mounted. Raises AgentUnavailable as above."""
        data = await self._agents.call(vmid, Request("GET", _vm(node, vmid, "agent", "get-fsinfo")))
        return parse_filesystems(data)

    async def agent_exec(
        self,
        node: str,
        vmid: int,
        command: Sequence[str],
        *,
        stdin: str | None = None,
        silence: float = MAX_SILENCE,
    ) -> int:
        """``POST .../agent/exec`` of an argv list, run as root without a shell: the process ID in the guest.

        ``stdin`` (``input-data``) is ASCII of at most 64 KiB. Raises AgentRefused where the agent, or the guest, will
        not run it, AgentUnavailable as above, where that is for ``silence`` seconds at most.
        """
        params: dict[str, ParamValue] = {"command": list(command), "input-data": stdin}
        request = Request("POST", _vm(node, vmid, "agent", "exec"), params)
        return int((await self._agents.call(vmid, request, silence=silence))["pid"])

    async def agent_result(
        self, node: str, vmid: int, pid: int, *, silence: float = MAX_SILENCE
    ) -> ExecResult | None:
        """``GET .../agent/exec-status``: None while the process runs. The result is told exactly once: after a lost
        answer it is gone (LostProcess).
        """
        request = Request("GET", _vm(node, vmid, "agent", "exec-status"), {"pid": pid})
        return parse_result(await self._agents.call(vmid, request, silence=silence))


def _vm(node: str, vmid: int, *rest: str) -> tuple[str, ...]:
    return ("nodes", node, "qemu", str(vmid), *rest)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _quorate(status: list[dict[str, Any]]) -> bool:
    """A node that is in no cluster always has quorum."""
    return all(item.get("quorate") for item in status if item.get("type") == "cluster")
