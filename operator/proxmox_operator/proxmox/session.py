"""Everything about one Proxmox cluster in one object: client, inventory, tasks, VM calls. Made anew when
its spec or Secret changes; per-cluster state lives here and nowhere else.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from proxmox_operator import errors
from proxmox_operator.planning.propstring import parse_props

from .audit import Actor
from .cache import Remembered
from .client import Fence, Limits, Metrics, PveClient, Trace
from .credentials import Credentials, Endpoint, TLSSettings, TokenCredentials
from .files import Files
from .ha import HighAvailability
from .https import ProxmoxerTransport
from .identity import ClusterIdentity
from .inventory import InventoryPoller
from .slots import AllocationSlots, Usage
from .tasks import UPID, TaskResult, TaskTracker
from .transport import Transport
from .vm import VMConfig, VMs

FRESH = 60.0
"""Seconds for which templates, bridges, mappings and the configuration of HA are remembered."""

ENDPOINT_INTERVAL = 60.0
"""Seconds between looks at all endpoints."""

Connect = Callable[[Endpoint, Credentials, TLSSettings], Transport]


def connect(endpoint: Endpoint, credentials: Credentials, tls: TLSSettings) -> Transport:
    """The transport of production; tests give another one."""
    return ProxmoxerTransport(endpoint, credentials, tls)


@dataclass(frozen=True, slots=True)
class Figures:
    """How the cluster does at this moment; ``inventory_age`` is in seconds, infinite before the first inventory."""

    inventory_age: float
    frozen: bool
    endpoints: Mapping[str, int]
    silent_nodes: int
    tasks: int
    limits: Mapping[str, Usage]


class ClusterSession:
    """``on_change(vmids, nodes)`` is told of every change in the inventory; ``on_turn()`` when reading it
    begins to fail or succeeds again; ``on_room()`` when something that had no place may have one now;
    ``on_slot(actor)`` when storage is free again.

    Raises ``ValueError`` for an endpoint, token id or CA bundle that cannot be right.
    """

    def __init__(
        self,
        name: str,
        endpoints: Sequence[str],
        credentials: Credentials,
        *,
        tls: TLSSettings | None = None,
        limits: Limits | None = None,
        expected: ClusterIdentity | None = None,
        fence: Fence | None = None,
        metrics: Metrics | None = None,
        trace: Trace | None = None,
        on_change: Callable[[set[int], set[str]], None] = lambda vmids, nodes: None,
        on_turn: Callable[[], None] = lambda: None,
        on_room: Callable[[], None] = lambda: None,
        on_slot: Callable[[Actor], None] = lambda actor: None,
        connect: Connect = connect,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.user = (
            credentials.token_id if isinstance(credentials, TokenCredentials) else credentials.username
        )
        self.limits = limits or Limits()
        settings = tls or TLSSettings()
        transports = {
            endpoint: connect(endpoint, credentials, settings) for endpoint in map(Endpoint.parse, endpoints)
        }
        self.client = PveClient(
            name,
            transports,
            limits=self.limits,
            expected=expected,
            fence=fence,
            metrics=metrics,
            trace=trace,
            clock=clock,
        )
        self.slots = AllocationSlots(self.limits.allocations_per_storage, on_slot)
        self.tasks = TaskTracker(self.client, on_end=self._task_ended, clock=clock)
        self.vms = VMs(self.client, self.tasks, self.slots, clock=clock)
        self.files = Files(self.client)
        self.inventory = InventoryPoller(
            lambda: self.client.get("cluster/resources"),
            self.vms.vmid_free,
            self._changed,
            on_turn,
            on_room,
            interval=self.limits.poll_interval,
            clock=clock,
        )
        self.client.frozen = lambda: self.inventory.frozen_reason
        self._on_change = on_change
        self._offline: set[str] = set()
        self._metrics = metrics
        self._templates = Remembered(self._read_config, seconds=FRESH, clock=clock)
        self._bridges = Remembered(self._read_bridges, seconds=FRESH, clock=clock)
        self._mappings = Remembered(self._read_mappings, seconds=FRESH, clock=clock)
        self.ha = HighAvailability(self.client, seconds=FRESH, clock=clock)
        self._background: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin polling; needs a running event loop."""
        if not self._background:
            self._background = [
                asyncio.create_task(self.inventory.run(), name=f"inventory-{self.name}"),
                asyncio.create_task(self._check_endpoints(), name=f"endpoints-{self.name}"),
            ]

    async def close(self) -> None:
        """Stop polling and watching; no Proxmox task is awaited or stopped, calls under way end by
        themselves."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.tasks.close()
        await self.client.close()

    def figures(self) -> Figures:
        """For metrics; asks nobody."""
        inventory = self.inventory.current
        return Figures(
            inventory_age=self.inventory.age,
            frozen=self.inventory.frozen_reason is not None,
            endpoints=self.client.endpoint_states(),
            silent_nodes=len(self.client.silent_nodes() & inventory.nodes.keys()) if inventory else 0,
            tasks=self.tasks.watched,
            limits={**self.client.usage(), "allocations_per_storage": self.slots.usage()},
        )

    async def template_config(self, node: str, vmid: int) -> VMConfig:
        """The configuration of a template, at most FRESH seconds old; raises NotHere and the client's
        errors.
        """
        return await self._templates.get((node, vmid))

    async def bridges(self, node: str) -> frozenset[str] | None:
        """Bridges on the node that the credentials may use (SDN.Use), at most FRESH seconds old; None when
        not known."""
        try:
            return await self._bridges.get(node)
        except errors.OperatorError:
            return None

    async def mappings(self, node: str) -> frozenset[tuple[str, str]] | None:
        """Resource mappings, as kind (pci, usb) and name, that have a device on the node and that the credentials may
        see (Mapping.Use), at most FRESH seconds old; None when not known."""
        try:
            found = [await self._mappings.get(kind) for kind in ("pci", "usb")]
        except errors.OperatorError:
            return None
        return frozenset(mapping for each in found for mapping in each.get(node, ()))

    async def _read_config(self, key: tuple[str, int]) -> VMConfig:
        return await self.vms.config(*key)

    async def _read_bridges(self, node: str) -> frozenset[str]:
        """``GET /nodes/{node}/network?type=any_bridge``: Linux and OVS bridges and SDN vnets."""
        items = await self.client.get(("nodes", node, "network"), type="any_bridge")
        return frozenset(str(item["iface"]) for item in items)

    async def _read_mappings(self, kind: str) -> dict[str, set[tuple[str, str]]]:
        """``GET /cluster/mapping/{kind}``: which mappings each node has a device for."""
        found: dict[str, set[tuple[str, str]]] = {}
        for item in await self.client.get(("cluster", "mapping", kind)):
            for device in item.get("map") or ():
                node = parse_props(str(device), None).get("node")
                if node is not None:
                    found.setdefault(node, set()).add((kind, str(item["id"])))
        return found

    async def _check_endpoints(self) -> None:
        """Endpoints that are not in use are looked at too, so that one that is down or foreign is told in
        time."""
        while True:
            await asyncio.sleep(ENDPOINT_INTERVAL)
            await self.client.check_endpoints()

    def _changed(self, vmids: set[int], nodes: set[str]) -> None:
        snapshot = self.inventory.current
        if vmids:
            self.ha.forget()
        if snapshot is not None:
            offline = {name for name, node in snapshot.nodes.items() if not node.online}
            self.vms.give_up(offline)
            for node in (self._offline - offline) & snapshot.nodes.keys():
                self.client.node_came_back(node)
            self._offline = offline
        self._on_change(vmids, nodes)

    def _task_ended(self, result: TaskResult, seconds: float) -> None:
        self.inventory.poke()
        if self._metrics is not None:
            kind = UPID.parse(result.upid).type
            self._metrics.task_ended(
                cluster=self.name, type=kind, outcome=result.outcome.value, seconds=seconds
            )
