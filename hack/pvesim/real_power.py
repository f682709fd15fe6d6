"""Power of real guests: a VM is running as long as its QEMU process does.

Facts: vm_start, _do_vm_stop and vm_reboot of qemu-server 9.2.6, and qmeventd: a guest that powers itself off leaves
a stopped VM, one that reboots itself stays in the same QEMU process, with `reboot: 0` it is stopped as well. Differs
from Proxmox VE: memory is not saved, so there is no hibernation.
"""

import asyncio
from contextlib import suppress
from typing import Any

from . import qemu_command
from .core import Values, die
from .door import Door
from .model import SimVm
from .props import NET, drives, enabled
from .qemu_process import QemuProcess
from .qga import COMMAND_SECONDS, AgentGone, AgentRefused
from .qmp import QmpError
from .real_disks import RealDisks


class RealPower(RealDisks):
    """Starting, ending and watching QEMU."""

    def __init__(self, *, accelerator: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.accelerator = accelerator
        self.processes: dict[int, QemuProcess] = {}

    async def close(self) -> None:
        """End all guests at once, then the rest."""
        processes, self.processes = self.processes, {}
        await asyncio.gather(*(process.end(abruptly=True) for process in processes.values()))
        await super().close()

    async def door(self, vmid: int) -> Door:
        """The ways into a running guest.

        :raises PveError: 500: it does not run.
        """
        process, vm = self.processes.get(vmid), self.vm(vmid)
        if process is None or vm is None or vm.qemu is None:
            raise die(f"VM {vmid} is not running")
        ports = await process.ssh_ports([key for key in vm.qemu if NET.fullmatch(key)])
        return Door(process.pid, ports, process.sockets.console, process.sockets.console_log)

    async def power_on(self, vm: SimVm) -> None:
        """Start QEMU.

        :raises PveError: 500: it does not start; its own words are in the task's log.
        """
        images = {key: self.image_of(drive["file"], vm.node) for key, drive in drives(vm.config)}
        sockets = qemu_command.Sockets(self.scratch.path / "guests" / str(vm.vmid))
        argv = qemu_command.command(
            vm.vmid,
            vm.config,
            {key: image for key, image in images.items() if image is not None},
            sockets,
            accelerator=self.accelerator,
            pve=self.pve,
        )
        try:
            process = await QemuProcess.start(argv, sockets)
        except QmpError as error:
            self.say(str(error))
            raise die("start failed: QEMU exited with code 1") from error
        self.processes[vm.vmid] = process
        vm.power_on(process.pid)
        self.spawn(self._watch(vm, process))

    async def power_off(self, vm: SimVm, *, abruptly: bool = False) -> None:
        """End QEMU."""
        process = self.processes.pop(vm.vmid, None)
        if process is not None:
            await process.end(abruptly=abruptly)
        vm.power_off()

    async def _watch(self, vm: SimVm, process: QemuProcess) -> None:
        await process.wait()
        if self.processes.get(vm.vmid) is process:
            await self.power_off(vm)

    async def _powerdown(self, vm: SimVm, v: Values) -> None:
        """Ask the guest, by its agent if QEMU has one, else by ACPI, and wait (60 s)."""
        await self.work()
        process = self.processes[vm.vmid]
        timeout = self.scaled(float(v["timeout"]) if v.get("timeout") is not None else 60)
        if enabled((vm.qemu or {}).get("agent")):
            self.spawn(self._tell_agent(process, "powerdown"))
        else:
            await process.monitor.execute("system_powerdown")
        await self.interruptible(process.wait(timeout))
        if not process.ended:
            if not v.get("forceStop"):
                raise die("VM quit/powerdown failed - got timeout")
            self.say("VM still running - terminating now with SIGTERM")
        await self.power_off(vm)

    @staticmethod
    async def _tell_agent(process: QemuProcess, mode: str) -> None:
        """guest-shutdown, which a guest that obeys does not answer; nobody else is to wait for that."""
        with suppress(AgentGone, AgentRefused):
            await process.agent.execute("guest-shutdown", seconds=COMMAND_SECONDS, mode=mode)

    async def reset_guest(self, vm: SimVm) -> None:
        """QEMU presses the reset button."""
        await self.processes[vm.vmid].monitor.execute("system_reset")

    async def guest_reboot(self, vm: SimVm) -> None:
        """The guest reboots itself."""
        self.spawn(self._tell_agent(self.processes[vm.vmid], "reboot"))

    async def pause_guest(self, vm: SimVm) -> None:
        """QEMU stops the processors."""
        await self.processes[vm.vmid].monitor.execute("stop")
        await super().pause_guest(vm)

    async def resume_guest(self, vm: SimVm) -> None:
        """QEMU lets the processors go on."""
        await self.processes[vm.vmid].monitor.execute("cont")
        await super().resume_guest(vm)

    def save_memory(self, vm: SimVm, sid: str, name: str) -> str:
        """Not with real guests."""
        raise die("pvesim does not save the memory of real guests")
