"""The Proxmox clusters in use: one :class:`Member` for each ProxmoxCluster, with all its state in one place.

Everything that is per cluster (connection, inventory, VMIDs, promises) hangs on the member, so that sharing clusters
between processes later is a matter of who holds which member. Not here: keeping the ProxmoxCluster object up to date.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from proxmox_operator.api import InvalidObject, ProxmoxCluster
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.controllers.context import CLUSTER_KIND, TEMPLATE_KIND, VM_KIND, Context, key_of
from proxmox_operator.controllers.template.memory import TemplateMemory
from proxmox_operator.engine.queue import Key
from proxmox_operator.errors import NeedsHuman, NotReadYet, OperatorError, Unreachable, Waiting
from proxmox_operator.kube.client import Raw
from proxmox_operator.planning.identity import Signs
from proxmox_operator.planning.templates import ImageFile
from proxmox_operator.proxmox.client import UPLOADS
from proxmox_operator.proxmox.permissions import Feature, Permissions
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.proxmox.traces import traces
from proxmox_operator.web.fetch import Wire

CURSOR_BLOCK = 16
"""VMIDs by which the persisted cursor runs ahead, so that most creations need no write of their own."""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What a VM that is being made or moved will take of its node; sizes in bytes, ``space`` by storage."""

    node: str
    memory: int
    cpus: int
    space: Mapping[str, int]


Place = tuple[str, str]
"""Where a file lies: its node ("" where the storage is shared) and its volume id."""


@dataclass(kw_only=True, eq=False)
class Coming:
    """An image on its way to ``node``. ``upid`` is the task that fetches it, or puts it into place: None until there is
    one.

    Of an upload (``job``) ``owners`` are the VMTemplates that wait for just this ``file``, each with the memory that a
    failure is kept in; one that nobody waits for any more is cancelled. ``wire`` is what it is fetched by, None as long
    as it has not begun.
    """

    node: str
    file: ImageFile | None = None
    upid: str | None = None
    job: asyncio.Task[None] | None = None
    wire: Wire | None = None
    owners: dict[Key, TemplateMemory] = field(default_factory=dict)
    cancelled: bool = False

    def leave(self, key: Key) -> None:
        """This VMTemplate no longer waits for it."""
        if self.owners.pop(key, None) is not None and not self.owners:
            self.cancel()

    def cancel(self) -> None:
        """End an upload, which clears up after itself; a task of Proxmox goes on."""
        self.cancelled = True
        if self.wire is not None:
            self.wire.cut()
        elif self.job is not None:
            self.job.cancel()


@dataclass(kw_only=True)
class Member:
    """One Proxmox cluster as this process knows it.

    ``problem`` is why no VM can be worked on now (set by the cluster controller). ``keys`` tells which object a VMID
    belongs to; ``promised`` is what VMs in the making, or on the move, will take, by object UID; ``waiting`` are
    objects that no node could host, woken when there is more room; ``moving`` tells which node an object's VM is just
    leaving, by object UID, and ``movers`` which one others wait to leave, of which one may at a time; ``seen`` is what
    a search has read of VMs that belong to no known object, all of them last at ``swept_at``; ``awaited`` are objects
    that wait for a VM which is not theirs yet, by its VMID (None: for any); ``copies_awaited`` are ProxmoxVMs that wait
    for a copy of a VMTemplate, with its name and the node they are placed on (None: for any copy). ``passes`` counts
    objects being worked on now; ``queued`` are those that wait until one of them is done (:meth:`Fleet.turn`).
    ``downloads`` are images on their way, by place: the same image of two VMTemplates is fetched once; ``whole`` are
    places of uploaded files that are known to be so; ``uploading`` bounds the uploads at once. ``cluster`` is the
    object at its newest (``raw``), ``acted_on`` as the cluster's own last pass saw it, which can hang for minutes.
    ``major`` is the version of Proxmox VE, ``granted`` what the credentials may do, ``lacking`` what only some VMs ask
    for and the credentials are not enough for, with the remedy.
    """

    name: str
    cluster: ProxmoxCluster
    session: ClusterSession | None = None
    problem: OperatorError | None = None
    fingerprint: tuple[object, ...] = ()
    keys: dict[int, Key] = field(default_factory=dict)
    promised: dict[str, Promise] = field(default_factory=dict)
    waiting: dict[Key, None] = field(default_factory=dict)
    moving: dict[str, str] = field(default_factory=dict)
    movers: dict[Key, str] = field(default_factory=dict)
    seen: dict[int, Signs] = field(default_factory=dict)
    swept_at: float = 0.0
    awaited: dict[Key, int | None] = field(default_factory=dict)
    copies_awaited: dict[Key, tuple[str, str | None]] = field(default_factory=dict)
    downloads: dict[Place, Coming] = field(default_factory=dict)
    whole: set[Place] = field(default_factory=set)
    uploading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UPLOADS))
    cursor: int | None = None
    major: int | None = None
    granted: Permissions = field(default_factory=dict)
    lacking: Mapping[Feature, str] = field(default_factory=dict)
    passes: int = 0
    queued: dict[Key, None] = field(default_factory=dict)
    acted_on: ProxmoxCluster | None = None
    raw: Raw | None = None
    allocating: asyncio.Lock = field(default_factory=asyncio.Lock)
    searching: asyncio.Lock = field(default_factory=asyncio.Lock)

    def usable(self) -> ClusterSession:
        """The connection. Raises Waiting or Unreachable where there is none; the cluster's controller wakes its VMs."""
        if isinstance(self.problem, NeedsHuman | Waiting):
            message = f"ProxmoxCluster {self.name} is not ready: {self.problem.message}"
            raise Waiting(message, reason="ClusterNotReady", after=30.0)
        if self.problem is not None:
            message = f"ProxmoxCluster {self.name} is not ready: {self.problem.message}"
            raise Unreachable(message, reason="ClusterNotReady")
        if self.session is None or self.session.inventory.current is None:
            raise NotReadYet(f"ProxmoxCluster {self.name} is being connected")
        return self.session

    def refuse_new(self) -> None:
        """Nothing new is made in a cluster that is being deleted: its deletion would never end. Raises Waiting."""
        if self.cluster.metadata.deletion_timestamp is not None:
            message = f"ProxmoxCluster {self.name} is being deleted: name another in a new object"
            raise Waiting(message, reason="ClusterNotReady")

    @property
    def connected(self) -> bool:
        """Whether VMs can be worked on."""
        return (
            self.problem is None and self.session is not None and self.session.inventory.current is not None
        )

    @property
    def abilities(self) -> tuple[object, ...]:
        """What VMs have to look again for when it changes: an upgrade, a privilege granted or taken away."""
        return self.major, *sorted(self.lacking)

    def await_move(self, key: Key, uid: str, node: str) -> str | None:
        """Why the object's VM cannot leave the node yet; the object is woken when it can."""
        if all(source != node for other, source in self.moving.items() if other != uid):
            return None
        self.movers[key] = node
        return f"another VM is being moved from {node}; one at a time"

    def end_move(self, uid: str) -> Key | None:
        """The object's VM is not being moved, or no longer; returns who may go next."""
        left = self.moving.pop(uid, None)
        return next((key for key, node in self.movers.items() if node == left), None)

    def forget(self, vmid: int, key: Key) -> None:
        """The object no longer has this VMID; another object that has it keeps it."""
        if self.keys.get(vmid) == key:
            del self.keys[vmid]

    def longing_for(self, vmids: set[int]) -> list[Key]:
        """The objects that wait for one of these VMs, which have come, changed, or been let go."""
        return [key for key, awaited in self.awaited.items() if vmids and awaited in {*vmids, None}]


class Fleet:
    """All members by name, and the questions that concern several of them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._members: dict[str, Member] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(tuple(self._members.values()))

    def share(self) -> int:
        """How many VMs of one cluster may be worked on at once, so that one that hangs leaves workers to the others."""
        workers, clusters = self._context.settings.workers, len(self._members)
        return workers if clusters <= 1 else max(1, workers // clusters - 1)

    @contextmanager
    def turn(self, member: Member, key: Key) -> Iterator[bool]:
        """Whether the object may be worked on now; one that may not is woken when a pass of the same cluster ends."""
        if member.passes >= self.share():
            member.queued[key] = None
            yield False
            return
        member.queued.pop(key, None)
        member.passes += 1
        try:
            yield True
        finally:
            member.passes -= 1
            self._wake_longest(member)

    def _wake_longest(self, member: Member) -> None:
        """Of those that wait for a turn; an object that is gone takes none, and would leave the others waiting."""
        while member.queued:
            longest = next(iter(member.queued))
            del member.queued[longest]
            if self._context.store.get(longest) is not None:
                self._context.queue.add(longest)
                return

    def get(self, name: str) -> Member | None:
        return self._members.get(name)

    def put(self, member: Member) -> None:
        """Take up a member; the VMs that are recorded for it are known from the start, and copies of templates."""
        for raw in self._context.store.list(TEMPLATE_KIND):
            status = raw.get("status") or {}
            if status.get("cluster") == member.name:
                member.keys |= {copy["vmid"]: key_of(raw) for copy in status.get("copies") or ()}
        for raw in self._context.store.list(VM_KIND):
            status = raw.get("status") or {}
            if status.get("cluster") == member.name and status.get("vmid"):
                member.keys[status["vmid"]] = key_of(raw)
                task = status.get("task") or {}
                if task.get("action") == "Moving":
                    member.moving[raw["metadata"]["uid"]] = task["node"]
        self._members[member.name] = member

    async def remove(self, name: str) -> None:
        member = self._members.pop(name, None)
        if member is not None and member.session is not None:
            self._context.metrics.forget_cluster(name)
            for coming in member.downloads.values():
                coming.cancel()
            await member.session.close()

    async def close(self) -> None:
        for name in tuple(self._members):
            await self.remove(name)

    def resolve(self, recorded: str | None, asked: str | None) -> Member:
        """The member an object uses: the one recorded in its status, the one it names, or the default.

        Raises NeedsHuman (ClusterNotFound) with the ways to name one.
        """
        name = recorded or asked or self._default()
        member = self._members.get(name)
        if member is not None:
            self._renew(member)
            return member
        if self._context.store.get(Key(CLUSTER_KIND, "", name)) is not None:
            raise NotReadYet(f"ProxmoxCluster {name} is being connected")
        message = (
            f"spec.clusterRef.name: there is no ProxmoxCluster {name}: create it, or name one that exists"
        )
        raise NeedsHuman(message, reason="ClusterNotFound")

    def _renew(self, member: Member) -> None:
        """A pause, a loss or a grant taken back holds from the next pass over a VM on, also while the cluster hangs."""
        raw = self._context.store.get(Key(CLUSTER_KIND, "", member.name))
        if raw is not None and raw is not member.raw:
            member.raw = raw
            with suppress(InvalidObject):
                member.cluster = ProxmoxCluster.parse(raw)

    def _default(self) -> str:
        clusters = self._context.store.list(CLUSTER_KIND)
        marked = [raw for raw in clusters if (raw.get("spec") or {}).get("default")]
        chosen = marked or clusters
        if len(chosen) == 1:
            return str(chosen[0]["metadata"]["name"])
        if not clusters:
            message = "there is no ProxmoxCluster: create one"
        else:
            count = f"{len(marked)} are marked default" if marked else "none is marked default"
            message = f"spec.clusterRef: there are {len(clusters)} ProxmoxClusters and {count}: name one"
        raise NeedsHuman(message, reason="ClusterNotFound")

    def users(self, name: str) -> list[str]:
        """Objects that hold on to a ProxmoxCluster: recorded in their status, or named in their spec and being made."""
        return [
            f"{raw['metadata']['namespace']}/{raw['metadata']['name']}"
            if kind == VM_KIND
            else f"{kind} {raw['metadata']['name']}"
            for kind in (VM_KIND, TEMPLATE_KIND)
            for raw in self._context.store.list(kind)
            if FINALIZER in (raw["metadata"].get("finalizers") or ()) and _cluster_of(raw) == name
        ]

    def user_gone(self) -> None:
        """An object holds on to nothing any more: a ProxmoxCluster that is being deleted may wait for just that."""
        for member in self:
            if member.cluster.metadata.deletion_timestamp is not None:
                self._context.queue.add(Key(CLUSTER_KIND, "", member.name))

    async def find_cursor(self, member: Member) -> None:
        """Know the next VMID before the first creation asks for it. Raises what reading the traces raises."""
        async with member.allocating:
            raw = self._context.store.get(Key(CLUSTER_KIND, "", member.name)) or {}
            persisted = (raw.get("status") or {}).get("vmidCursor")
            if member.cursor is None and persisted is None:
                member.cursor = await self._rebuilt(member)

    async def _rebuilt(self, member: Member) -> int:
        """A cursor that was lost with the status: above every VMID of the range that exists or has left traces."""
        span, session = member.cluster.spec.vmid_range, member.session
        inventory = session.inventory.current if session is not None else None
        known = set(member.keys)
        if session is not None and inventory is not None:
            known |= inventory.guests.keys() | await traces(session.client, inventory)
        return max((vmid + 1 for vmid in known if span.start <= vmid <= span.end), default=span.start)

    async def next_vmid(self, member: Member) -> int:
        """The next VMID of the cluster's range that nobody is known to use.

        The cursor only moves forward, since a recycled VMID mixes up backups; another range begins anew. It is
        persisted ahead in blocks (of one in a small range), before an id of the block is handed out.
        Raises NeedsHuman (VMIDRangeExhausted), Outdated, and what reading the traces raises.
        """
        span = member.cluster.spec.vmid_range
        async with member.allocating:
            raw = self._context.store.get(Key(CLUSTER_KIND, "", member.name)) or {}
            persisted = (raw.get("status") or {}).get("vmidCursor")
            inventory = member.session.inventory.current if member.session else None
            used = (member.keys, inventory.guests if inventory else {})
            if member.cursor is None:
                member.cursor = persisted or await self._rebuilt(member)
            candidate = member.cursor if span.start <= member.cursor <= span.end + 1 else span.start
            while any(candidate in vmids for vmids in used):
                candidate += 1
            if candidate > span.end:
                raise NeedsHuman(
                    f"ProxmoxCluster {member.name}: no VMID of {span.start}-{span.end} is left, as none is given twice "
                    f"and {candidate} would be next: let spec.vmidRange end above that",
                    reason="VMIDRangeExhausted",
                )
            if raw and (persisted is None or not candidate < persisted <= span.end + 1):
                block = max(1, min(CURSOR_BLOCK, (span.end - candidate) // CURSOR_BLOCK))
                ahead = {**(raw.get("status") or {}), "vmidCursor": candidate + block}
                await self._context.status.write(raw, ahead)
            member.cursor = candidate + 1
            return candidate


def _cluster_of(raw: Raw) -> str | None:
    status, spec = raw.get("status") or {}, raw.get("spec") or {}
    return status.get("cluster") or (spec.get("clusterRef") or {}).get("name")
