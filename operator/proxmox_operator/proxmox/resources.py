"""What one answer of ``GET /cluster/resources`` tells: guests, nodes and storages, and what differs between two.

Not here: polling, and what may be concluded from a guest that is missing (``inventory``).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from proxmox_operator.planning.propstring import parse_tags

MORE_ROOM = 0.01
"""Share of a storage that must have become free between two polls to count as more room."""

STALE = 20
"""Seconds that what one endpoint tells may be older than what another has told."""

GuestType = Literal["qemu", "lxc"]


@dataclass(frozen=True, slots=True)
class Guest:
    """A VM or container. ``status`` None: Proxmox has no data (just made, or its node silent): never
    "stopped". ``maxmem`` in bytes and ``maxcpu`` are what it is configured with. ``uptime``: seconds since QEMU was
    started, as of when its node told last.
    """

    vmid: int
    node: str
    type: GuestType
    status: str | None = None
    name: str | None = None
    template: bool = False
    tags: tuple[str, ...] = ()
    lock: str | None = None
    pool: str | None = None
    hastate: str | None = None
    maxmem: int = 0
    maxcpu: int = 0
    uptime: int = field(default=0, compare=False)

    def is_as(self, before: "Guest") -> bool:
        """Whether nothing has happened to it since: the same facts, load aside, and not started anew.

        Another endpoint may tell what is a few seconds older.
        """
        return self == before and self.uptime + STALE >= before.uptime

    @property
    def occupies(self) -> bool:
        """Whether it takes memory of its node, as far as anybody knows."""
        return not self.template and self.status != "stopped"


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node; sizes in bytes, None without Sys.Audit or data. ``maintenance``: HA moves its services away."""

    name: str
    online: bool
    maxcpu: int | None = None
    maxmem: int | None = None
    mem: int | None = field(default=None, compare=False)
    maintenance: bool = False

    @property
    def is_open(self) -> bool:
        """Whether guests may be put on it."""
        return self.online and not self.maintenance


@dataclass(frozen=True, slots=True)
class StorageInfo:
    """A storage as one node sees it. ``content``: images, iso, backup ... Sizes in bytes, None without data."""

    name: str
    node: str
    shared: bool
    type: str
    available: bool
    content: frozenset[str]
    maxdisk: int | None = None
    disk: int | None = field(default=None, compare=False)

    @property
    def free(self) -> int | None:
        """Bytes that are not used."""
        return None if self.maxdisk is None or self.disk is None else self.maxdisk - self.disk


@dataclass(frozen=True, slots=True)
class Given:
    """What a node's guests that run, VMs and containers, are configured with: memory in bytes, and processors."""

    memory: int = 0
    cpus: int = 0


@dataclass(frozen=True, slots=True)
class Inventory:
    """One snapshot. ``taken_at`` is monotonic and of the moment *before* the question was sent."""

    guests: Mapping[int, Guest]
    nodes: Mapping[str, NodeInfo]
    storages: Mapping[tuple[str, str], StorageInfo]
    taken_at: float
    generation: int
    given: Mapping[str, Given]
    """By node."""
    idle: tuple[Guest, ...]
    """Guests that are stopped; templates are not among them."""


def parse_resources(items: Iterable[Mapping[str, Any]], *, taken_at: float, generation: int) -> Inventory:
    """A snapshot of the answer of ``GET /cluster/resources``; items of other kinds or without id are left
    out.
    """
    guests: dict[int, Guest] = {}
    nodes: dict[str, NodeInfo] = {}
    storages: dict[tuple[str, str], StorageInfo] = {}
    for item in items:
        kind = item.get("type")
        if kind in ("qemu", "lxc") and "vmid" in item and "node" in item:
            guest = _guest(item, kind)
            guests[guest.vmid] = guest
        elif kind == "node" and "node" in item:
            name = str(item["node"])
            nodes[name] = NodeInfo(
                name,
                item.get("status") == "online",
                _int(item.get("maxcpu")),
                _int(item.get("maxmem")),
                _int(item.get("mem")),
                item.get("hastate") == "maintenance",
            )
        elif kind == "storage" and "storage" in item and "node" in item:
            storage = _storage(item)
            storages[storage.name, storage.node] = storage
    memory: Counter[str] = Counter()
    cpus: Counter[str] = Counter()
    for guest in guests.values():
        if guest.occupies:
            memory[guest.node] += guest.maxmem
            cpus[guest.node] += guest.maxcpu
    return Inventory(
        MappingProxyType(guests),
        MappingProxyType(nodes),
        MappingProxyType(storages),
        taken_at,
        generation,
        MappingProxyType({node: Given(memory[node], cpus[node]) for node in memory}),
        tuple(guest for guest in guests.values() if guest.status == "stopped" and not guest.template),
    )


def _guest(item: Mapping[str, Any], kind: GuestType) -> Guest:
    status = item.get("status")
    return Guest(
        int(item["vmid"]),
        str(item["node"]),
        kind,
        None if status in (None, "unknown") else str(status),
        item.get("name"),
        bool(int(item.get("template") or 0)),
        parse_tags(str(item.get("tags") or "")),
        item.get("lock") or None,
        item.get("pool") or None,
        item.get("hastate") or None,
        int(item.get("maxmem") or 0),
        int(item.get("maxcpu") or 0),
        int(item.get("uptime") or 0),
    )


def _storage(item: Mapping[str, Any]) -> StorageInfo:
    return StorageInfo(
        str(item["storage"]),
        str(item["node"]),
        bool(int(item.get("shared") or 0)),
        str(item.get("plugintype") or ""),
        item.get("status") == "available",
        frozenset(part for part in str(item.get("content") or "").split(",") if part),
        _int(item.get("maxdisk")),
        _int(item.get("disk")),
    )


def _int(value: Any) -> int | None:
    return None if value is None else int(value)


def changed_guests(before: Inventory | None, after: Inventory) -> set[int]:
    """VMIDs that appeared, vanished, were started anew or differ in anything else than load."""
    if before is None:
        return set(after.guests)
    old, new = before.guests, after.guests
    changed = old.keys() ^ new.keys()
    return changed | {vmid for vmid in old.keys() & new.keys() if not new[vmid].is_as(old[vmid])}


def changed_nodes(before: Inventory | None, after: Inventory) -> set[str]:
    """Nodes that appeared, vanished, or changed in being online or in size."""
    if before is None:
        return set(after.nodes)
    old, new = before.nodes, after.nodes
    return {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}


def has_more_room(before: Inventory, after: Inventory, changed: Collection[int]) -> bool:
    """Whether something that no node could host may find a place now; ``changed`` are the guests that differ.

    A node came, grew, or is online or out of maintenance again; a guest no longer takes memory where it did; a storage
    came, or was emptied.
    """
    for name, node in after.nodes.items():
        old = before.nodes.get(name)
        if node.is_open and (old is None or not old.is_open or (node.maxmem or 0) > (old.maxmem or 0)):
            return True
    for vmid in changed:
        guest, now = before.guests.get(vmid), after.guests.get(vmid)
        if (
            guest is not None
            and guest.occupies
            and not (
                now is not None and now.occupies and now.node == guest.node and now.maxmem >= guest.maxmem
            )
        ):
            return True
    return any(_has_grown(before.storages.get(key), storage) for key, storage in after.storages.items())


def _has_grown(old: StorageInfo | None, new: StorageInfo) -> bool:
    if not new.available:
        return False
    if old is None or not old.available or not new.content <= old.content:
        return True
    if new.free is None or old.free is None:
        return False
    return new.free - old.free > MORE_ROOM * (new.maxdisk or 0)
