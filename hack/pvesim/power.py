"""Power: start, stop, shutdown, reboot, reset, as worker tasks with the exit statuses of the real ones.

Facts: vm_start, vm_stop, vm_shutdown, vm_reboot and _do_vm_stop of qemu-server 9.2.6. Only a start needs
quorum. Most refusals are the task's, not the call's: a VM that does not exist, is locked, or already runs. A
start through the API applies [PENDING] and rebuilds the cloud-init ISO; a reboot from inside the guest does
neither.
"""

import re
import time
from typing import Any

from fakepve.model import PveError, TaskError

from .access import ROOT
from .core import Values, die, param_error
from .hotplug import STATIC_MEMORY, features, max_cpus
from .model import SimVm
from .props import NET, parse, parse_net, volids
from .status import Status


class Power(Status):
    """POST status/*."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.guest_shutdown_seconds = 0.0
        self.start_errors: dict[int, str] = {}

    def _table_power(self) -> list[tuple[str, str, Any]]:
        one = "/nodes/{node}/qemu/{vmid}/status"
        return [
            ("POST", one + "/start", self._post_start),
            ("POST", one + "/stop", self._post_stop),
            ("POST", one + "/shutdown", self._post_shutdown),
            ("POST", one + "/reboot", self._post_reboot),
            ("POST", one + "/reset", self._post_reset),
        ]

    # ------------------------------------------------------------------- start

    async def _post_start(self, v: Values, user: str) -> str:
        self._root_only(v, user, "skiplock")
        self.need_quorum()
        vm = self.vm(v["vmid"])
        if vm is not None and self.ha_managed(vm):
            return await self._ha_start(vm, user)
        return await self.start_task(v, user)

    async def start_task(self, v: Values, user: str) -> str:
        """A start that is carried out, not asked of HA."""
        node, vmid = v["node"], v["vmid"]

        async def body() -> None:
            async with self.flock(vmid):
                await self._start_worker(self.load_config(node, vmid), skiplock=bool(v.get("skiplock")))

        return await self.task(node, "qmstart", vmid, user, body)

    async def _start_worker(self, vm: SimVm, *, skiplock: bool = False) -> None:
        if vm.template:
            raise die("you can't start a vm if it's a template")
        if vm.lock != "suspended" and not skiplock:
            self.check_lock(vm)
        if vm.running:
            raise die(f"VM {vm.vmid} already running")
        if vm.lock != "suspended":
            self.apply_pending(vm)
            self.generate_seed(vm)
        self._check_startable(vm)
        await self.work()
        await self.checkpoint("start:qemu")
        self.ensure_present(vm)
        if vm.vmid in self.start_errors:
            raise TaskError(self.start_errors[vm.vmid])
        if vm.lock == "suspended":
            vm.lock = None
            self.free(vm.config.pop("vmstate", ""), vm.node)
        await self.power_on(vm)

    def _check_startable(self, vm: SimVm) -> None:
        for volid in volids(vm.config):
            sid = volid.partition(":")[0]
            store = self._check_enabled(sid, vm.node)
            if not store.get("active", 1):
                raise die(f"storage '{sid}' is not online")
            if self.volume(volid, vm.node) is None:
                raise die(f"can't activate LV '/dev/{volid.replace(':', '/')}': no such volume")
        self.check_host(vm.config, vm.node)

    def check_host(self, config: Values, node: str) -> None:
        """What QEMU needs of its host: processors, memory, bridges, the devices behind mappings."""
        cpus, most = self.node_info[node].cpus, max_cpus(config)
        if most > cpus:
            raise die(f"MAX {cpus} vcpus allowed per VM on this node")
        if int(config.get("vcpus") or 1) > most:
            raise die("start failed: QEMU exited with code 1")
        if "memory" in features(config):
            self._check_dimms(config)
        for key in sorted(config):
            kind = re.match(r"(usb|hostpci)\d+$", key)
            mapping = parse(config[key], "host").get("mapping") if kind else None
            if kind and mapping and not self.mapped_on(kind[1].removeprefix("host"), mapping, node):
                raise die(f"{kind[1].removeprefix('host').upper()} device mapping not found for '{mapping}'")
        for key in sorted(key for key in config if NET.fullmatch(key)):
            bridge = parse_net(config[key]).get("bridge")
            if bridge and bridge not in self.node_info[node].bridges:
                raise die(f"bridge '{bridge}' does not exist")
        memory = int(str(config.get("memory", 512)).rpartition("=")[2]) * 1024**2
        if memory > self.node_info[node].memory:
            raise die("start failed: QEMU exited with code 1")

    @staticmethod
    def _check_dimms(config: Values) -> None:
        """What memory hotplug asks of a config before QEMU starts."""
        if str(config.get("numa", 0)) != "1":
            raise die("NUMA needs to be enabled for memory hotplug")
        if int(parse(config.get("memory", 512), "current")["current"]) < STATIC_MEMORY:
            raise die(f"minimum memory must be {STATIC_MEMORY}MB")

    # -------------------------------------------------------------------- stop

    async def _post_stop(self, v: Values, user: str) -> str:
        self._root_only(v, user, "skiplock", "keepActive", "migratedfrom")
        vm = self.vm(v["vmid"])
        if vm is not None and self.ha_managed(vm):
            if v.get("overrule-shutdown"):
                raise param_error(**{"overrule-shutdown": "Not applicable for HA resources."})
            return await self._ha_stop(vm, user, 0)
        return await self.stop_task(v, user)

    async def stop_task(self, v: Values, user: str) -> str:
        """A stop that is carried out, not asked of HA."""
        node, vmid = v["node"], v["vmid"]

        async def body() -> None:
            if v.get("overrule-shutdown"):
                for task in [
                    task
                    for task in self.running.values()
                    if task.type == "qmshutdown" and task.id == str(vmid)
                ]:
                    self.interrupt_task(task.upid)
                await self.wait_seconds(0.001)
            async with self.flock(vmid):
                vm = self.assert_config_on_node(node, vmid)
                if vm.running:
                    self.check_lock(vm)
                    await self.work()
                    await self.power_off(vm)

        return await self.task(node, "qmstop", vmid, user, body)

    async def _post_shutdown(self, v: Values, user: str) -> str:
        self._root_only(v, user, "skiplock", "keepActive")
        vm = self.vm(v["vmid"])
        if vm is not None and self.ha_managed(vm):
            return await self._ha_stop(vm, user, int(v.get("timeout", 60)))
        return await self.shutdown_task(v, user)

    async def shutdown_task(self, v: Values, user: str) -> str:
        """A shutdown that is carried out, not asked of HA."""
        node, vmid = v["node"], v["vmid"]
        vm = self.vm(vmid)
        if vm is not None and vm.qmpstatus == "paused" and not v.get("forceStop"):
            raise die("VM is paused - cannot shutdown")

        async def body() -> None:
            async with self.flock(vmid):
                vm = self.assert_config_on_node(node, vmid)
                if vm.running:
                    self.check_lock(vm)
                    await self._powerdown(vm, v)

        return await self.task(node, "qmshutdown", vmid, user, body)

    async def _powerdown(self, vm: SimVm, v: Values) -> None:
        """Ask the guest; it obeys by its agent or ACPI, or the task gives up at the time-out (60 s)."""
        await self.work()
        timeout = self.scaled(float(v["timeout"]) if v.get("timeout") is not None else 60)
        guest = vm.guest_os
        needed = max(guest.shutdown_seconds, self.guest_shutdown_seconds)
        listens = guest.acpi and not guest.hung
        await self.wait_seconds(needed if listens and needed <= timeout else timeout)
        if not listens or needed > timeout:
            if not v.get("forceStop"):
                raise die("VM quit/powerdown failed - got timeout")
            self.say("VM still running - terminating now with SIGTERM")
        await self.power_off(vm)

    # ------------------------------------------------------------------ reboot

    async def _post_reboot(self, v: Values, user: str) -> str:
        node, vmid = v["node"], v["vmid"]
        vm = self.assert_config_on_node(node, vmid)
        if vm.qmpstatus == "paused":
            raise die("VM is paused - cannot shutdown")
        if not vm.running:
            raise die(f"VM {vmid} not running")

        async def body() -> None:
            async with self.flock(vmid):
                vm = self.assert_config_on_node(node, vmid)
                if not vm.running:
                    return
                self.check_lock(vm)
                await self._powerdown(vm, v)
                self.spawn(self._restart(vm))

        return await self.task(node, "qmreboot", vmid, user, body)

    async def _restart(self, vm: SimVm) -> None:
        """qmeventd sees QEMU end after a reboot request and has root start the VM, as a task of its own.

        So for a moment after the end of the qmreboot task the VM is stopped.
        """
        await self.pause(0.5)
        await self._post_start({"node": vm.node, "vmid": vm.vmid}, ROOT)

    async def _post_reset(self, v: Values, user: str) -> str:
        node, vmid = v["node"], v["vmid"]
        vm = self.assert_config_on_node(node, vmid)
        if not vm.running:
            raise die(f"VM {vmid} not running")

        async def body() -> None:
            self.check_lock(vm)
            await self.reset_guest(vm)

        return await self.task(node, "qmreset", vmid, user, body, vm=vm)

    async def reset_guest(self, vm: SimVm) -> None:
        """QEMU presses the reset button."""
        vm.booted = time.monotonic()

    async def guest_reboot(self, vm: SimVm) -> None:
        """The guest reboots itself: the same QEMU process, hence nothing pending is applied and no ISO
        rebuilt."""
        vm.booted = time.monotonic()

    # ---------------------------------------------------------------------- HA

    async def _ha_start(self, vm: SimVm, user: str) -> str:
        """A managed VM: the wish is noted in a task of its own; the manager acts later."""

        async def body() -> None:
            self.say(f"Requesting HA start for VM {vm.vmid}")
            try:
                self.check_service_state(f"vm:{vm.vmid}", "started")
            except PveError as error:
                self.say(error.message)
                raise die(
                    f"command 'ha-manager set vm:{vm.vmid} --state started' failed: exit code 255"
                ) from error
            self.ha_resources[f"vm:{vm.vmid}"]["state"] = "started"

        return await self.task(vm.node, "hastart", vm.vmid, user, body)

    async def _ha_stop(self, vm: SimVm, user: str, timeout: int) -> str:
        """The same for a stop; the manager takes the command in its next round."""

        async def body() -> None:
            self.say(f"Requesting HA stop for VM {vm.vmid}")
            self.ha_commands.append(("stop", f"vm:{vm.vmid}", str(timeout)))

        return await self.task(vm.node, "hastop", vm.vmid, user, body)
