"""What people and accidents do to a cluster behind an operator's back: the scenario half of `PveSim`.

Everything here happens as root@pam, as in the GUI or a shell, and is safe to call from any thread. Methods
that start a task wait for its end unless said otherwise.
"""

import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from .core import Values, die
from .model import STUB_DESCRIPTION, Guest, SimVm
from .props import parse_drive
from .server import ROOT, Server
from .tasks import Hold, Task

T = TypeVar("T")


class Gui:
    """Actions of other people, nodes and networks. `PveSim` provides `server`, `run` and `call`."""

    server: Server

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the simulator's loop and return its result."""
        raise NotImplementedError

    def call(self, function: Callable[[], T]) -> T:
        """Run a function in the simulator's loop and return its result."""
        raise NotImplementedError

    # -------------------------------------------------------------------- VMs

    def vm(self, vmid: int) -> SimVm:
        """The live VM object: look, or change it as a test needs.

        :raises KeyError: there is no such VM.
        """
        found = self.server.vm(vmid)
        if found is None:
            raise KeyError(f"no VM {vmid}")
        return found

    def agent(self, vmid: int) -> Guest:
        """The guest inside a VM: `sim.agent(100).hang()`."""
        return self.vm(vmid).guest_os

    def add_vm(
        self,
        vmid: int,
        *,
        node: str = "pve1",
        storage: str | None = "local-lvm",
        disk_gib: float = 4,
        running: bool = False,
        **config: Any,
    ) -> SimVm:
        """A VM made by somebody else, at once. `config` are config keys; new disks as
        `scsi1="local-lvm:8"`."""
        base: Values = {
            "name": f"foreign-{vmid}",
            "cores": 1,
            "memory": "512",
            "scsihw": "virtio-scsi-single",
        }
        base |= {"net0": "virtio,bridge=vmbr0"}
        if storage is not None:
            base["scsi0"] = f"{storage}:{disk_gib}"
        return self.call(lambda: self.server.add_simple_vm(vmid, node, base | config, running=running))

    def add_template(
        self,
        *,
        vmid: int = 9000,
        node: str = "pve1",
        storage: str = "local-lvm",
        name: str = "debian-12",
        agent: bool = True,
        disk_gib: float = 8,
        cloudinit: bool = True,
        **config: Any,
    ) -> SimVm:
        """A template with one boot disk, one NIC and a cloud-init drive; `agent` says whether the image has
        an agent (and switches `agent=1` on in its config)."""
        fmt = ",format=qcow2" if self.call(lambda: self.server.is_file_based(storage)) else ""
        base: Values = {
            "name": name,
            "cores": 1,
            "memory": "2048",
            "ostype": "l26",
            "scsihw": "virtio-scsi-single",
            "scsi0": f"{storage}:{disk_gib}{fmt}",
            "net0": "virtio,bridge=vmbr0",
            "boot": "order=scsi0",
        }
        base |= {"agent": "1"} if agent else {}
        base |= {"ide2": f"{storage}:cloudinit"} if cloudinit else {}

        def make() -> SimVm:
            vm = self.server.add_simple_vm(vmid, node, base | config, running=False)
            vm.guest_os.agent = agent
            self.server.to_template(vm)
            return vm

        return self.call(make)

    def add_stub(self, vmid: int, *, node: str = "pve1", lock: str = "clone") -> SimVm:
        """What a killed clone (`clone`) or destroy (`destroyed`) leaves: a config that holds hardly more
        than a lock."""
        config = {"lock": lock} | ({"description": STUB_DESCRIPTION} if lock == "clone" else {})

        def make() -> SimVm:
            vm = SimVm(vmid, node, config)
            self.server.vms.append(vm)
            return vm

        return self.call(make)

    def remove_vm(self, vmid: int) -> None:
        """Delete a VM in the GUI: stop it, take its protection off, destroy it with its disks."""

        def unprotect() -> SimVm:
            vm = self.vm(vmid)
            vm.power_off()
            vm.config.pop("protection", None)
            vm.lock = None
            return vm

        node = self.call(unprotect).node
        self._finish(self.server._destroy({"node": node, "vmid": vmid, "purge": 1}, ROOT))

    def vanish(self, vmid: int) -> None:
        """Config and volumes of a VM or template are removed in a shell, without a task."""
        self.call(lambda: self.server.vanish(vmid))

    def edit_config(self, vmid: int, *, delete: str = "", **changes: Any) -> None:
        """Change the config in the GUI; the digest changes. In key names `_` is meant literally."""
        values: Values = {"node": self.vm(vmid).node, "vmid": vmid, **changes}
        self.run(self.server._config_sync(values | ({"delete": delete} if delete else {}), ROOT))

    def clone_in_gui(self, vmid: int, newid: int, *, full: bool = True, name: str | None = None) -> SimVm:
        """A clone made in the GUI: the description - with any mark in it - is copied."""
        values: Values = {"node": self.vm(vmid).node, "vmid": vmid, "newid": newid, "full": int(full)}
        self._finish(self.server._clone_post(values | ({"name": name} if name else {}), ROOT))
        return self.vm(newid)

    def migrate(self, vmid: int, target: str, *, wait: bool = True) -> str:
        """Move a VM and its local disks to another node; returns the UPID.

        :raises PveError: it was refused, or - with `wait` - has failed.
        """
        values: Values = {"node": self.vm(vmid).node, "vmid": vmid, "target": target, "online": 1}
        upid = self.run(self.server._migrate_post(values | {"with-local-disks": 1}, ROOT))
        if wait:
            self._require_ok(self.wait_task(upid))
        return upid

    def set_lock(self, vmid: int, lock: str | None) -> None:
        """`qm set --lock` / `qm unlock`."""

        def change() -> None:
            self.vm(vmid).lock = lock

        self.call(change)

    def start(self, vmid: int) -> None:
        """Start a VM in the GUI."""
        self._finish(self.server._post_start({"node": self.vm(vmid).node, "vmid": vmid}, ROOT))

    def stop(self, vmid: int) -> None:
        """Stop a VM in the GUI (pull the plug)."""
        self._finish(self.server._post_stop({"node": self.vm(vmid).node, "vmid": vmid}, ROOT))

    def power_loss(self, vmid: int) -> None:
        """QEMU dies (or the guest powers itself off): no task."""
        self.call(lambda: self.vm(vmid).power_off())

    def write_disk(self, vmid: int, slot: str) -> None:
        """The guest writes to a disk: `VolumeState.data` is not what it was."""

        def change() -> None:
            vm = self.vm(vmid)
            self.server.write_data(parse_drive(vm.config[slot])["file"], vm.node)

        self.call(change)

    def guest_reboot(self, vmid: int) -> None:
        """The guest reboots itself: nothing pending is applied."""
        self.call(lambda: self.server.guest_reboot(self.vm(vmid)))

    def backup(self, vmid: int, seconds: float) -> str:
        """A backup that locks the config for `seconds` real seconds; returns at once, with the UPID."""
        return self.run(self.server.backup_vm(vmid, seconds))

    def set_ha(self, vmid: int, state: str | None) -> None:
        """Put the VM under HA with a state (`started`, `stopped`), or take it out."""

        def change() -> None:
            self.vm(vmid).ha_state = state

        self.call(change)

    def hold_config_lock(self, vmid: int) -> Callable[[], None]:
        """Something holds the VM's lock file; call the result to let go."""
        lock = self.server.flock(vmid)
        self.run(lock.__aenter__())

        def release() -> None:
            self.run(lock.__aexit__(None, None, None))

        return release

    # ---------------------------------------------------------- storage, tasks

    def add_storage(self, sid: str, kind: str, **options: Any) -> None:
        """See `Storages.add_storage`: size_gib, content, nodes, shared."""
        self.call(lambda: self.server.add_storage(sid, kind, **options))

    def add_mapping(self, kind: str, name: str, nodes: list[str], *, live: bool = False) -> None:
        """A resource mapping (`pci` or `usb`) with a device on each of `nodes`; `live`: it can be migrated in
        use."""

        def change() -> None:
            device = {"id": "10de:1eb8"} | ({"path": "0000:01:00.0"} if kind == "pci" else {})
            self.server.mappings[kind][name] = {node: dict(device) for node in nodes}
            if live:
                self.server.live_mappings.add(name)

        self.call(change)

    def fill_storage(self, sid: str, *, free_gib: float = 0.0, node: str = "pve1") -> None:
        """Shrink the storage's size until only `free_gib` is left (seen from `node`)."""

        def change() -> None:
            self.server.sizes[sid] = self.server.used(sid, node) + int(free_gib * 1024**3)

        self.call(change)

    def resize_storage(self, sid: str, size_gib: float) -> None:
        """Set the storage's size."""
        self.call(lambda: self.server.sizes.__setitem__(sid, int(size_gib * 1024**3)))

    def storage_offline(self, sid: str, offline: bool = True) -> None:
        """The storage does not answer: `storage 'x' is not online`."""
        self.call(lambda: self.server.storages[sid].__setitem__("active", int(not offline)))

    def tasks(self, ttype: str | None = None, *, running: bool | None = None) -> list[Task]:
        """All tasks, oldest first."""
        found = self.call(lambda: list(self.server.by_upid.values()))
        return [
            task
            for task in found
            if (ttype is None or task.type == ttype) and (running is None or task.running == running)
        ]

    def wait_task(self, upid: str) -> Task:
        """The task, once it has ended."""
        return self.run(self.server.wait_for_task(upid))

    def kill_tasks(self, ttype: str) -> list[Task]:
        """Shoot the running workers of a type: no clean-up, exit status `unexpected status`."""
        found = self.tasks(ttype, running=True)
        for task in found:
            self.call(lambda task=task: self.server.kill_task(task.upid))  # type: ignore[misc]
            self.wait_task(task.upid)
        return found

    @contextmanager
    def hold(self, stage: str) -> Iterator[Hold]:
        """Stop every worker that comes to a stage; `hold.reached.wait(t)` tells when one did. Leaving the
        context lets them go on. Stages: clone:stub, clone:copying, clone:moving, clone:joining,
        create:allocated, config:write, start:qemu, destroy:freeing, destroy:zombie, migrate:copying,
        migrate:moving, migrate:unlocking, move:copying, snapshot:taking, snapshot:deleting, snapshot:rolling.
        """
        hold = Hold()

        def let_go() -> None:
            self.server.holds.pop(stage, None)
            hold.released.set()

        self.call(lambda: self.server.holds.__setitem__(stage, hold))
        try:
            yield hold
        finally:
            self.call(let_go)

    def _finish(self, start: Coroutine[Any, Any, str]) -> Task:
        return self._require_ok(self.wait_task(self.run(start)))

    @staticmethod
    def _require_ok(task: Task) -> Task:
        if not re.fullmatch(r"OK|WARNINGS: \d+", str(task.exitstatus)):
            raise die(str(task.exitstatus))
        return task

    # ------------------------------------------------------------------ nodes

    def node_down(self, node: str) -> None:
        """Power loss of a node; see `Server.node_down`."""
        self.run(self.server.node_down(node))

    def node_up(self, node: str) -> None:
        """The node comes back and starts its onboot VMs."""
        self.run(self.server.node_up(node))

    def shutdown_node(self, node: str) -> None:
        """A clean shutdown: stopall by root@pam, then the node is gone."""
        self.wait_task(self.run(self.server.stop_all(node)))
        self.node_down(node)

    def set_capacity(self, node: str, *, cpus: int | None = None, memory_gib: float | None = None) -> None:
        """Change a node's processors or memory."""
        info = self.server.node_info[node]
        info.cpus = cpus or info.cpus
        info.memory = int(memory_gib * 1024**3) if memory_gib is not None else info.memory

    def lose_quorum(self) -> None:
        """The whole cluster loses quorum: reads work, writes are refused."""
        self.call(self.server.lose_quorum)

    def regain_quorum(self) -> None:
        """Undo lose_quorum()."""
        self.call(self.server.regain_quorum)

    # ------------------------------------------------------------------ access

    def grant(self, authid: str, path: str, privs: list[str]) -> None:
        """Add privileges on a path. A first entry there *replaces* what was inherited, as in Proxmox VE."""
        self.call(lambda: self.server.add_acl(authid, path, privs))

    def revoke(self, authid: str, path: str, privs: list[str] | None = None) -> None:
        """Take privileges (None: all) away on a path and below it."""
        self.call(lambda: self.server.drop_acl(authid, path, privs))

    def add_token(self, authid: str, secret: str, *, privsep: bool = True) -> None:
        """Create a token, or change its secret."""
        self.call(lambda: self.server.add_token(authid, secret, privsep=privsep))

    def remove_token(self, authid: str) -> None:
        """Delete a token."""
        self.call(lambda: self.server.remove_token(authid))

    def add_pool(self, name: str) -> None:
        """Create an empty pool."""
        self.call(lambda: self.server.pools.setdefault(name, set()))

    def fail(self, method: str, path: str, status: int, message: str, *, times: int | None = None) -> None:
        """Answer calls whose path ends with `path` (or a schema path with {braces}) with an error."""
        self.call(lambda: self.server.fail(method, path, status, message, times=times))

    def slow_api(self, seconds: float) -> None:
        """Every answer is late by `seconds` real seconds; 0 undoes it."""
        self.server.api_latency = seconds

    def clear_failures(self) -> None:
        """Undo all fail()."""
        self.call(self.server.failures.clear)
