"""Pause, hibernation and resume.

Facts: vm_suspend and vm_resume of qemu-server 9.2.6, PVE::QemuServer::RunState. Hibernation (`todisk`) saves the
memory to a volume, `vmstate` in the config, and leaves `lock: suspended`; the next start goes on from there: it
applies nothing that is pending and rebuilds no cloud-init ISO, then frees the volume and the lock.
"""

import re
from typing import Any

from .core import Values, die
from .model import SimVm
from .power import Power
from .props import GIB, drives, is_cdrom

STATE_EXTRA = GIB // 2


class Suspend(Power):
    """POST status/suspend and status/resume."""

    def _table_suspend(self) -> list[tuple[str, str, Any]]:
        one = "/nodes/{node}/qemu/{vmid}/status"
        return [("POST", one + "/suspend", self._post_suspend), ("POST", one + "/resume", self._post_resume)]

    async def _post_suspend(self, v: Values, user: str) -> str:
        self._root_only(v, user, "skiplock")
        node, vmid = v["node"], v["vmid"]
        vm = self.assert_config_on_node(node, vmid)
        if not vm.running:
            raise die(f"VM {vmid} not running")
        if not v.get("todisk"):
            return await self.task(node, "qmpause", vmid, user, lambda: self._pause_worker(vm), vm=vm)
        if self.ha_managed(vm):
            raise die("Cannot suspend HA managed VM to disk")
        self.require_vm(user, vmid, None, "VM.Config.Disk")
        if any(re.fullmatch(r"hostpci\d+", key) for key in vm.config):
            raise die(
                "cannot suspend VM to disk due to passed-through PCI device(s), which lack the possibility"
                " to save/restore their internal state"
            )
        sid = v.get("statestorage") or self.state_storage(vm)
        self.require(user, f"/storage/{sid}", "Datastore.AllocateSpace")
        return await self.task(node, "qmsuspend", vmid, user, lambda: self._hibernate(vm, sid))

    async def _pause_worker(self, vm: SimVm) -> None:
        self.check_lock(vm)
        await self.pause_guest(vm)

    async def pause_guest(self, vm: SimVm) -> None:
        """QEMU stops the processors."""
        vm.qmpstatus = "paused"

    async def resume_guest(self, vm: SimVm) -> None:
        """QEMU lets the processors go on."""
        vm.qmpstatus = "running"

    async def _hibernate(self, vm: SimVm, sid: str) -> None:
        async with self.flock(vm.vmid):
            self.check_lock(vm)
            vm.config["vmstate"] = self.save_memory(vm, sid, "suspend")
            vm.lock = "suspending"
        await self.work()
        await self.checkpoint("suspend:saving")
        self.ensure_present(vm)
        vm.lock = "suspended"
        await self.power_off(vm)

    def state_storage(self, vm: SimVm) -> str:
        """find_vmstate_storage: as configured, else where the first disk is."""
        configured = vm.config.get("vmstatestorage")
        disks = [drive["file"] for _, drive in drives(vm.config) if not is_cdrom(drive)]
        return str(configured or (disks or ["local:"])[0].partition(":")[0])

    def save_memory(self, vm: SimVm, sid: str, name: str) -> str:
        """A volume for the memory of a VM: its id."""
        size = 2 * int(self.vm_usage(vm)["maxmem"]) + STATE_EXTRA
        return self.alloc(sid, vm.node, vm.vmid, size, suffix=f"state-{name}")

    async def _post_resume(self, v: Values, user: str) -> str:
        self._root_only(v, user, "skiplock", "nocheck")
        node, vmid = v["node"], v["vmid"]
        vm = self.assert_config_on_node(node, vmid)
        hibernated = vm.lock == "suspended"
        if not hibernated and not vm.running:
            raise die(f"VM {vmid} not running")

        async def body() -> None:
            async with self.flock(vmid):
                if hibernated:
                    await self._start_worker(self.load_config(node, vmid))
                else:
                    self.check_lock(vm)
                    await self.resume_guest(vm)

        return await self.task(node, "qmresume", vmid, user, body)
