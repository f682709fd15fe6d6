"""The simulated cluster: all areas put together, plus the scenarios that need its internals. Runs in one
event loop."""

import asyncio
import copy
from pathlib import Path
from typing import Any

from .access import ROOT
from .core import Values, die
from .door import Door
from .endpoints import Listener
from .http import Http
from .model import SimVm
from .props import split_volid, volids


class Server(Http):
    """One cluster. Tests use the facade `PveSim`; this class is for code that runs inside the loop."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.listeners: dict[str, Listener] = {}

    async def open(self, address: str, port_base: int) -> None:
        """Listen on one port per node: `port_base`, +1, ... or free ones for 0."""
        for number, node in enumerate(self.nodes):
            self.listeners[node] = Listener(node, self, address, port_base + number if port_base else 0)
            await self.listeners[node].up()
        self.spawn(self.pvestatd())
        self.spawn(self.ha_daemons())

    async def close(self) -> None:
        """Stop everything."""
        for listener in self.listeners.values():
            await listener.down()
        workers = [task.worker for task in self.running.values() if task.worker is not None]
        jobs = [*self.background, *workers]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        self.scratch.remove()

    # -------------------------------------------------------------- scenarios

    async def node_down(self, node: str) -> None:
        """Power loss: workers die, VMs are off, the endpoint is gone, the other nodes say 595."""
        self.nodes[node]["online"] = False
        for task in [task for task in self.running.values() if task.node == node]:
            self.kill_task(task.upid)
            await self.wait_for_task(task.upid)
        for vm in self.vms:
            if vm.node == node:
                await self.power_off(vm, abruptly=True)
        if node in self.listeners:
            await self.listeners[node].down()

    async def node_up(self, node: str) -> None:
        """The node is back; VMs with onboot=1 are started by root@pam's startall."""
        self.nodes[node]["online"] = True
        self.lrm_stopped.discard(node)
        if node in self.listeners:
            await self.listeners[node].up()
        await self.start_all(node)

    async def start_all(self, node: str) -> str:
        """What a booting node does."""

        async def body() -> None:
            await self.checkpoint("startall:starting")
            for vm in [vm for vm in self.vms if vm.node == node and str(vm.config.get("onboot", 0)) == "1"]:
                if not vm.running and not vm.template and not self.ha_managed(vm):
                    await self.wait_for_task(await self._post_start({"node": node, "vmid": vm.vmid}, ROOT))

        return await self.task(node, "startall", "", ROOT, body)

    async def stop_all(self, node: str) -> str:
        """What a node that shuts down does first: every VM is shut down by root@pam."""

        async def body() -> None:
            await self.checkpoint("stopall:stopping")
            for vm in [vm for vm in self.vms if vm.node == node and vm.running and not self.ha_managed(vm)]:
                await self.wait_for_task(
                    await self._post_shutdown(
                        {"node": node, "vmid": vm.vmid, "forceStop": 1, "timeout": 180}, ROOT
                    )
                )

        return await self.task(node, "stopall", "", ROOT, body)

    async def migrate_all(self, node: str, target: str) -> str:
        """Every VM of a node moves, one after the other, templates and managed ones included."""

        async def body() -> None:
            for vm in [vm for vm in self.vms if vm.node == node]:
                v: Values = {"node": node, "vmid": vm.vmid, "target": target, "online": int(vm.running)}
                await self.wait_for_task(await self._migrate_post(v | {"with-local-disks": 1}, ROOT))

        return await self.task(node, "migrateall", "", ROOT, body)

    async def stop_services(self, node: str) -> None:
        """What the HA daemon of a node does first when the node shuts down."""
        self.lrm_stopped.add(node)
        for vm in [vm for vm in self.vms if vm.node == node and vm.running and self.ha_managed(vm)]:
            v = {"node": node, "vmid": vm.vmid, "forceStop": 1, "timeout": 60}
            await self.wait_for_task(await self.shutdown_task(v, ROOT))

    def frozen_copy(self, local: str) -> "Server":
        """The cluster as a node remembers it that lost contact: nothing changes, no quorum, others
        offline."""
        twin = copy.copy(self)
        twin.vms = type(self.vms)(vm.frozen() for vm in self.vms)
        twin.nodes = {name: {"online": name == local} for name in self.nodes}
        twin.pools = {name: set(ids) for name, ids in self.pools.items()}
        twin.disks = {key: dict(disks) for key, disks in self.disks.items()}
        twin.files = {key: dict(files) for key, files in self.files.items()}
        twin.grants = {
            who: {path: dict(privs) for path, privs in by.items()} for who, by in self.grants.items()
        }
        twin.by_upid, twin.running = dict(self.by_upid), {}
        twin.archive = {node: done.copy() for node, done in self.archive.items()}
        twin.frozen_stats = {vm.vmid: dict(self.stats_of(vm)) for vm in self.vms}
        twin._effective = {}
        twin.quorate = False
        twin.rebind()
        return twin

    def person(self, name: str | None) -> str:
        """Who does something in the GUI: root@pam, or a user that may then do everything."""
        if name is not None:
            self.set_acl(name, "/", self.privileges)
        return name or ROOT

    async def edit_as(self, user: str, v: Values) -> str:
        """The GUI's POST config; the UPID."""
        return str(await self._config_async(v, user))

    def vanish(self, vmid: int) -> None:
        """Somebody with a shell removed config and volumes."""
        vm = self.vm(vmid)
        if vm is None:
            return
        for volid in volids(vm.config, unused=True):
            parts = split_volid(volid)
            if parts is not None:
                self.disks_on(parts[0], vm.node).pop(parts[1], None)
        self._pool_leave(vmid)
        self.forget(vm)

    async def door(self, vmid: int) -> Door:
        """The ways into a running guest.

        :raises PveError: 500: it does not run.
        """
        raise die("nothing is in a VM of this simulator: it runs with guests='none'")

    def install(self, vm: SimVm, image: Path | None) -> None:
        """The boot disk of a new template holds the image. Only real guests notice."""

    def add_simple_vm(self, vmid: int, node: str, config: Values) -> SimVm:
        """Put a VM there without a task; a value `STORAGE:GIB` of a drive is allocated."""
        if self.guest(vmid) is not None:
            raise ValueError(f"VM {vmid} already exists")
        vm = SimVm(vmid, node, {})
        full = dict(config)
        for key in [
            key
            for key in sorted(config)
            if key.startswith(("scsi", "ide", "sata", "virtio", "efidisk", "tpm")) and key != "scsihw"
        ]:
            full[key] = self.create_drive(vm, key, config[key], [], siblings=full)
        self._complete_config(full)
        vm.config = full
        self.vms.append(vm)
        return vm
