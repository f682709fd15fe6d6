"""Changes of a running real guest: disks, media and NICs are plugged through QEMU's monitor.

Facts: vm_deviceplug, vm_deviceunplug, qemu_devicedelverify (5 s) and vmconfig_update_disk of qemu-server 9.2.6. What
is not named here - processors, memory, USB, throttles - changes in the simulator's config only.
"""

import asyncio
from typing import Any

from . import qemu_command
from .core import die
from .model import SimVm
from .props import NET, Props, is_cdrom, is_drive, parse_drive, parse_net
from .qemu_command import node_name
from .qmp import Qmp, QmpError
from .real_power import RealPower

UNPLUG_SECONDS = 5.0
REPLUG_NET = ("model", "macaddr")


class RealDevices(RealPower):
    """Hotplug."""

    async def change_device(self, vm: SimVm, key: str, old: Any, new: Any) -> None:
        """Tell QEMU.

        :raises PveError: 500 with the words of QEMU, or of Proxmox VE for a guest that does not let go.
        """
        monitor = self.processes[vm.vmid].monitor
        try:
            if is_drive(key):
                before = parse_drive(old) if old is not None else None
                after = parse_drive(new) if new is not None else None
                await self._change_drive(monitor, vm, key, before, after)
            elif NET.fullmatch(key):
                await self._change_nic(monitor, vm, key, old, new)
        except QmpError as error:
            raise die(str(error)) from error

    async def grow_volume(self, volid: str, node: str, size: int) -> None:
        """Grow an open file through QEMU, which tells the guest."""
        await super().grow_volume(volid, node, size)
        user = self.user_of(volid, node)
        if user is not None:
            vm, key = user
            try:
                resize = {"node-name": node_name(key), "size": size}
                await self.processes[vm.vmid].monitor.execute("block_resize", **resize)
            except QmpError as error:
                raise die(str(error)) from error

    # ------------------------------------------------------------------ drives

    async def _change_drive(
        self, monitor: Qmp, vm: SimVm, key: str, old: Props | None, new: Props | None
    ) -> None:
        if old is not None and new is not None and old["file"] == new["file"]:
            return
        if old is not None and is_cdrom(old):
            await self._change_medium(monitor, vm, key, old, new)
            return
        if old is not None:
            await self._unplug_drive(monitor, vm, key)
        if new is not None:
            await self._plug_drive(monitor, vm, key, new)

    async def _plug_drive(self, monitor: Qmp, vm: SimVm, key: str, drive: Props) -> None:
        config = vm.qemu or {}
        present = {item["name"] for item in await monitor.execute("qom-list", path="/machine/peripheral")}
        for controller in qemu_command.controllers(key, config):
            if controller["id"] not in present:
                await monitor.execute("device_add", **controller)
        image = self.image_of(drive["file"], vm.node)
        if image is not None:
            await monitor.execute("blockdev-add", **qemu_command.blockdev(key, drive, image))
        device = qemu_command.drive_device(key, drive, config, self.pve, medium=image is not None)
        try:
            await monitor.execute("device_add", **device)
        except QmpError:
            if image is not None:
                await monitor.execute("blockdev-del", **{"node-name": node_name(key)})
            raise

    async def _unplug_drive(self, monitor: Qmp, vm: SimVm, key: str) -> None:
        config = vm.qemu or {}
        await self._unplug(monitor, key)
        await monitor.execute("blockdev-del", **{"node-name": node_name(key)})
        if key.startswith("scsi") and config.get("scsihw") == "virtio-scsi-single":
            for controller in qemu_command.controllers(key, config):
                await self._unplug(monitor, str(controller["id"]))

    async def _change_medium(self, monitor: Qmp, vm: SimVm, key: str, old: Props, new: Props | None) -> None:
        await monitor.execute("blockdev-open-tray", id=key, force=True)
        if self.image_of(old["file"], vm.node) is not None:
            await monitor.execute("blockdev-remove-medium", id=key)
            await monitor.execute("blockdev-del", **{"node-name": node_name(key)})
        image = self.image_of(new["file"], vm.node) if new is not None else None
        if new is not None and image is not None:
            await monitor.execute("blockdev-add", **qemu_command.blockdev(key, new, image))
            await monitor.execute("blockdev-insert-medium", id=key, **{"node-name": node_name(key)})
        await monitor.execute("blockdev-close-tray", id=key)

    # -------------------------------------------------------------------- NICs

    async def _change_nic(self, monitor: Qmp, vm: SimVm, key: str, old: Any, new: Any) -> None:
        before = parse_net(old) if old is not None else {}
        after = parse_net(new) if new is not None else {}
        if all(before.get(part) == after.get(part) for part in REPLUG_NET):
            await monitor.execute("set_link", name=key, up=after.get("link_down") != "1")
            return
        if before:
            await self._unplug(monitor, key)
            await monitor.execute("netdev_del", id=key)
        if after:
            config = {**(vm.qemu or {}), key: new}
            network = qemu_command.netdev(key, config)
            await monitor.execute("netdev_add", **network | {"hostfwd": [{"str": network["hostfwd"]}]})
            await monitor.execute("device_add", **qemu_command.nic_device(key, config))

    @staticmethod
    async def _unplug(monitor: Qmp, device: str) -> None:
        gone = monitor.expect("DEVICE_DELETED", device)
        await monitor.execute("device_del", id=device)
        try:
            await asyncio.wait_for(gone, UNPLUG_SECONDS)
        except TimeoutError:
            raise die(f"error on hot-unplugging device '{device}'") from None
