"""What people do to VMs in the GUI, in a shell, or from inside the guest.

It happens as root@pam unless said otherwise. Methods that start a task wait for its end unless said otherwise.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .access import ROOT
from .core import Values
from .door import Door
from .gui_base import GuiBase
from .model import STUB_DESCRIPTION, Guest, SimVm
from .props import parse_drive


class VmActions(GuiBase):
    """VMs made, changed and broken by others."""

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

        async def make() -> SimVm:
            vm = self.server.add_simple_vm(vmid, node, base | config)
            if running:
                self.server.generate_seed(vm)
                await self.server.power_on(vm)
            return vm

        return self.run(make())

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
        image: Path | None = None,
        **config: Any,
    ) -> SimVm:
        """A template with one boot disk, one NIC and a cloud-init drive; `agent` says whether the image has
        an agent (and switches `agent=1` on in its config). Real guests boot from `image`, a qcow2 or raw file that
        must stay as it is (default: the one of hack/guest)."""
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
            vm = self.server.add_simple_vm(vmid, node, base | config)
            vm.guest_os.agent = agent
            self.server.install(vm, image)
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

        async def unprotect() -> SimVm:
            vm = self.vm(vmid)
            await self.server.power_off(vm)
            vm.config.pop("protection", None)
            vm.lock = None
            return vm

        node = self.run(unprotect()).node
        self.finish(self.server._destroy({"node": node, "vmid": vmid, "purge": 1}, ROOT))

    def vanish(self, vmid: int) -> None:
        """Config and volumes of a VM or template are removed in a shell, without a task."""
        self.call(lambda: self.server.vanish(vmid))

    def edit_config(self, vmid: int, *, delete: str = "", by: str | None = None, **changes: Any) -> None:
        """Change the config; the digest changes. With `by` (`alice@pve`) as the GUI does: the task list then
        has a qmconfig of this user. Without, as in a shell: no task. In key names `_` is meant literally."""
        values: Values = {"node": self.vm(vmid).node, "vmid": vmid, **changes}
        values |= {"delete": delete} if delete else {}
        if by is None:
            self.run(self.server._config_sync(values, ROOT))
        else:
            self.finish(self.server.edit_as(self._who(by), values))

    def clone_in_gui(self, vmid: int, newid: int, *, full: bool = True, name: str | None = None) -> SimVm:
        """A clone made in the GUI: the description - with any mark in it - is copied."""
        values: Values = {"node": self.vm(vmid).node, "vmid": vmid, "newid": newid, "full": int(full)}
        self.finish(self.server._clone_post(values | ({"name": name} if name else {}), ROOT))
        return self.vm(newid)

    def migrate(self, vmid: int, target: str, *, wait: bool = True, by: str | None = None) -> str:
        """Move a VM and its local disks to another node; returns the UPID.

        :raises PveError: it was refused, or - with `wait` - has failed.
        """
        values: Values = {"node": self.vm(vmid).node, "vmid": vmid, "target": target, "online": 1}
        upid = self.run(self.server._migrate_post(values | {"with-local-disks": 1}, self._who(by)))
        if wait:
            self.require_ok(self.wait_task(upid))
        return upid

    def set_lock(self, vmid: int, lock: str | None) -> None:
        """`qm set --lock` / `qm unlock`."""

        def change() -> None:
            self.vm(vmid).lock = lock

        self.call(change)

    def _one(self, vmid: int, **values: Any) -> Values:
        return {"node": self.vm(vmid).node, "vmid": vmid, **values}

    def _who(self, by: str | None) -> str:
        return self.call(lambda: self.server.person(by))

    def start(self, vmid: int, *, by: str | None = None) -> None:
        """Start a VM in the GUI."""
        self.finish(self.server._post_start(self._one(vmid), self._who(by)))

    def stop(self, vmid: int, *, by: str | None = None) -> None:
        """Stop a VM in the GUI (pull the plug)."""
        self.finish(self.server._post_stop(self._one(vmid), self._who(by)))

    def hibernate(self, vmid: int) -> None:
        """Suspend a VM to disk in the GUI."""
        self.finish(self.server._post_suspend(self._one(vmid, todisk=1), ROOT))

    def resize_disk(self, vmid: int, slot: str, size: str) -> None:
        """Grow a disk in the GUI: `+5G`, or `20G`."""
        self.finish(self.server._resize(self._one(vmid, disk=slot, size=size), ROOT))

    def move_disk(self, vmid: int, slot: str, storage: str, *, delete: bool = True) -> None:
        """Move a disk to another storage in the GUI."""
        values = self._one(vmid, disk=slot, storage=storage, delete=int(delete))
        self.finish(self.server._move_post(values, ROOT))

    def snapshot(self, vmid: int, name: str, *, memory: bool = False) -> None:
        """Take a snapshot in the GUI."""
        self.finish(self.server._snapshot_post(self._one(vmid, snapname=name, vmstate=int(memory)), ROOT))

    def delete_snapshot(self, vmid: int, name: str) -> None:
        """Delete a snapshot in the GUI."""
        self.finish(self.server._snapshot_delete(self._one(vmid, snapname=name), ROOT))

    def rollback(self, vmid: int, name: str) -> None:
        """Go back to a snapshot in the GUI; without memory in it, the VM ends stopped."""
        self.finish(self.server._rollback_post(self._one(vmid, snapname=name), ROOT))

    def power_loss(self, vmid: int) -> None:
        """QEMU dies (or the guest powers itself off): no task."""
        self.run(self.server.power_off(self.vm(vmid), abruptly=True))

    def door(self, vmid: int) -> Door:
        """The ways into a running real guest: ssh ports, serial console, process.

        :raises PveError: it does not run, or guests are not real.
        """
        return self.run(self.server.door(vmid))

    def write_disk(self, vmid: int, slot: str) -> None:
        """The guest writes to a disk: `VolumeState.data` is not what it was."""

        def change() -> None:
            vm = self.vm(vmid)
            self.server.write_data(parse_drive(vm.config[slot])["file"], vm.node)

        self.call(change)

    def guest_reboot(self, vmid: int) -> None:
        """The guest reboots itself: nothing pending is applied."""
        self.run(self.server.guest_reboot(self.vm(vmid)))

    def backup(self, vmid: int, seconds: float, *, mode: str = "snapshot") -> str:
        """A backup that locks the config for `seconds` real seconds; returns at once, with the UPID. In mode
        `stop` the VM is off for the first half."""
        return self.run(self.server.backup_vm(vmid, seconds, mode=mode))

    def restore(self, vmid: int, *, to: int | None = None, unique: bool = False, wait: bool = True) -> str:
        """Restore the last backup of a VM: in place, or as another id on the node of the first; the UPID."""
        node = self.vm(vmid).node
        upid = self.run(self.server.restore_vm(vmid, to or vmid, node, unique=unique))
        if wait:
            self.require_ok(self.wait_task(upid))
        return upid

    def hold_config_lock(self, vmid: int) -> Callable[[], None]:
        """Something holds the VM's lock file; call the result to let go."""
        lock = self.server.flock(vmid)
        self.run(lock.__aenter__())

        def release() -> None:
            self.run(lock.__aexit__(None, None, None))

        return release
