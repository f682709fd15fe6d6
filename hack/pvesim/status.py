"""The status of one VM, live: what status/current and the VM lists say of it.

Facts: vmstatus of PVE::QemuServer and vm_status of qemu-server 9.2.6. Figures of load are made up.
"""

import time
from typing import Any

from .cloudinit import CloudInit
from .core import Values
from .model import SimVm
from .props import enabled, volids


class Status(CloudInit):
    """GET /nodes/{node}/qemu/{vmid}/status/current."""

    def _table_status(self) -> list[tuple[str, str, Any]]:
        return [("GET", "/nodes/{node}/qemu/{vmid}/status/current", self._status_read)]

    async def _status_read(self, v: Values, user: str) -> Values:
        vm = self.load_config(v["node"], v["vmid"])
        out = self.vm_usage(vm) | {
            "vmid": vm.vmid,
            "name": vm.name,
            "status": vm.status,
            "qmpstatus": vm.qmpstatus,
            "cpus": self.vm_cpus(vm),
            "ha": self.ha_status(vm),
            "clipboard": None,
        }
        if enabled(vm.config.get("agent")):
            out["agent"] = 1
        if vm.running:
            out |= {"pid": vm.pid, "running-qemu": "10.1.2", "running-machine": "pc-i440fx-10.1+pve0"}
        for key in ("lock", "tags"):
            if vm.config.get(key):
                out[key] = vm.config[key]
        return out | ({"template": 1} if vm.template else {})

    @staticmethod
    def vm_cpus(vm: SimVm) -> int:
        """Virtual processors."""
        return int(
            vm.config.get("vcpus") or int(vm.config.get("cores", 1)) * int(vm.config.get("sockets", 1))
        )

    def vm_usage(self, vm: SimVm) -> Values:
        """The usage figures that status/current and the VM list share; sizes in bytes."""
        memory = int(str(vm.config.get("memory", 512)).rpartition("=")[2]) * 1024**2
        used = memory // 4 if vm.running else 0
        disk = next(
            (self._disk_size(vm, volid) for volid in volids(vm.config) if "cloudinit" not in volid), 0
        )
        return {
            "cpu": 0.02 if vm.running else 0,
            "mem": used,
            "maxmem": memory,
            "maxdisk": disk,
            "disk": 0,
            "diskread": 0,
            "diskwrite": 0,
            "netin": 0,
            "netout": 0,
            "uptime": int(time.time() - vm.started_at) + 1 if vm.running and vm.started_at else 0,
        }

    def _disk_size(self, vm: SimVm, volid: str) -> int:
        volume = self.volume(volid, vm.node)
        return volume.size if volume is not None else 0
