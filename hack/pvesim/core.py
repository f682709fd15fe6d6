"""What all areas of the simulator share: settings, time, VM look-up, file locks, and the seam to fakepve.

`Core` is the only place that derives from fakepve (AGPL, development only). fakepve is untyped, so
attributes that come from it are `Any` here; everything the simulator adds is typed.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fakepve.model import PveError, TaskError
from fakepve.server import FakePve

from .model import SimVm
from .props import GIB

Values = dict[str, Any]
VERSIONS = {8: ("8.4.21", "8.4"), 9: ("9.2.11", "9.2")}


def param_error(**fields: str) -> PveError:
    """PVE's raise_param_exc: a 400 with one message per field."""
    return PveError(400, "Parameter verification failed.", fields)


def die(message: str) -> PveError:
    """A plain `die` inside an API handler: status 500 and the message."""
    return PveError(500, message)


def forbidden(why: str) -> PveError:
    """PVE's raise_perm_exc."""
    return PveError(403, f"Permission check failed ({why})")


def as_task_error(error: PveError) -> TaskError:
    """What the exit status of a worker says that died of an API exception: code and field errors are spelled
    out."""
    parts = [error.message if error.status == 500 else f"{error.status} {error.message}"]
    parts += [f"{field}: {text}" for field, text in (error.errors or {}).items()]
    return TaskError(" ".join(parts).strip())


@dataclass
class Node:
    """Capacity and identity of a node; memory in bytes."""

    name: str
    cpus: int = 16
    memory: int = 64 * GIB
    memory_used: int = 4 * GIB
    bridges: tuple[str, ...] = ("vmbr0", "vmbr1")
    nameservers: tuple[str, ...] = ("192.0.2.53",)
    searchdomain: str = "pvesim.invalid"


class _Flock:
    """The state of one lock file: who holds it, exclusively or shared."""

    def __init__(self) -> None:
        self.exclusive = False
        self.shared = 0
        self.changed = asyncio.Event()

    def free_for(self, shared: bool) -> bool:
        return not self.exclusive and (shared or not self.shared)


class Vms(list[SimVm]):
    """The VM list fakepve keeps, with an index by vmid. Only append and remove are used on it."""

    def __init__(self, vms: Iterable[SimVm] = ()) -> None:
        super().__init__(vms)
        self.by_id: dict[int, SimVm] = {vm.vmid: vm for vm in self}

    def append(self, vm: SimVm) -> None:
        super().append(vm)
        self.by_id[vm.vmid] = vm

    def remove(self, vm: SimVm) -> None:
        super().remove(vm)
        self.by_id.pop(vm.vmid, None)


class Core(FakePve):  # type: ignore[misc]
    """fakepve with the simulator's settings. Areas derive from it and add routes by methods named
    `_table_*`."""

    def __init__(
        self, *, nodes: int | Iterable[str], task_seconds: float, time_scale: float, pve: int
    ) -> None:
        names = [f"pve{number + 1}" for number in range(nodes)] if isinstance(nodes, int) else list(nodes)
        super().__init__(host="127.0.0.1", port=0)
        self.pve = pve
        self.version, self.release_version = VERSIONS[pve]
        self.task_seconds = task_seconds
        self.time_scale = time_scale
        self.vms: Vms = Vms()
        self.nodes = {name: {"online": True} for name in names}
        self.node_info = {name: Node(name) for name in names}
        self.storages: dict[str, Values] = {}
        self.qemu_pids: Iterator[int] = itertools.count(20_000)
        self._flocks: dict[int, _Flock] = {}

    # ---------------------------------------------------------------- look-up

    def vm(self, vmid: int) -> SimVm | None:
        """The VM with this id on any node."""
        return self.vms.by_id.get(vmid)

    def load_config(self, node: str, vmid: int) -> SimVm:
        """PVE::QemuConfig->load_config: 500 when there is no such config file on this node."""
        vm: SimVm = self.find(node, vmid)
        return vm

    def assert_config_on_node(self, node: str, vmid: int) -> SimVm:
        """PVE::QemuServer::check_running's look-up: the same absence in other words."""
        vm = self.vm(int(vmid))
        if vm is None or vm.node != node:
            raise die(f"unable to find configuration file for VM {vmid} on node '{node}'")
        return vm

    @staticmethod
    def check_lock(vm: SimVm) -> None:
        """PVE::AbstractConfig->check_lock."""
        if vm.lock:
            raise die(f"VM is locked ({vm.lock})")

    def online(self, node: str) -> bool:
        """True if the node is a member of the cluster right now."""
        return bool(self.nodes.get(node, {}).get("online", False))

    # ------------------------------------------------------------------ power

    def hash_password(self, password: str) -> str:
        """What becomes of cipassword in the config: a crypt hash."""
        return "$5$pvesim$hashed"

    async def power_on(self, vm: SimVm) -> None:
        """QEMU is started with the config as it is now."""
        vm.power_on(next(self.qemu_pids))

    async def power_off(self, vm: SimVm, *, abruptly: bool = False) -> None:
        """QEMU ends: by itself, or `abruptly` with its host."""
        vm.power_off()

    # ------------------------------------------------------------------- time

    def scaled(self, seconds: float) -> float:
        """Real seconds for a time-out or delay that is `seconds` long in Proxmox VE."""
        return seconds * float(self.time_scale)

    # ------------------------------------------------------------ lock files

    @asynccontextmanager
    async def flock(self, vmid: int, *, wait: float = 10.0, shared: bool = False) -> AsyncIterator[None]:
        """/var/lock/qemu-server/lock-<vmid>.conf, held as flock(2) does; `wait` is in Proxmox seconds.

        The kernel frees it when the holder dies, so it is released on any exit.
        """
        lock = self._flocks.setdefault(vmid, _Flock())
        deadline = asyncio.get_running_loop().time() + self.scaled(wait)
        while not lock.free_for(shared):
            remaining = deadline - asyncio.get_running_loop().time()
            lock.changed.clear()
            try:
                await asyncio.wait_for(lock.changed.wait(), max(remaining, 0))
            except TimeoutError:
                raise TaskError(
                    f"can't lock file '/var/lock/qemu-server/lock-{vmid}.conf' - got timeout"
                ) from None
        if shared:
            lock.shared += 1
        else:
            lock.exclusive = True
        try:
            yield
        finally:
            if shared:
                lock.shared -= 1
            else:
                lock.exclusive = False
            lock.changed.set()

    async def acquire(self, vm: SimVm, holder: object, wait: float | None = None) -> None:
        """fakepve's lock, mapped to the lock file, for the handlers that stay fakepve's (snapshots)."""
        lock = self.flock(vm.vmid, wait=10.0 if wait is None else wait)
        await lock.__aenter__()
        self._held[vm.vmid, holder] = lock

    def release(self, vm: SimVm, holder: object) -> None:
        """The counterpart of acquire()."""
        if (vm.vmid, holder) in self._held:
            del self._held[vm.vmid, holder]
            lock = self._flocks[vm.vmid]
            lock.exclusive = False
            lock.changed.set()

    @property
    def _held(self) -> dict[tuple[int, object], Any]:
        held: dict[tuple[int, object], Any] = self.__dict__.setdefault("_held_locks", {})
        return held
