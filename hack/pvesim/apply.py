"""Applying pending changes: all of them at a cold start, what can be on a running VM.

Facts: vmconfig_apply_pending and vmconfig_hotplug_pending of qemu-server 9.2.6. Which change is of which kind
is decided in hotplug.py.
"""

from typing import Any

from fakepve.model import PveError

from . import hotplug
from .core import Values
from .hotplug import Effect
from .model import SimVm
from .privileges import Privileges
from .props import NET, is_cdrom, is_drive, natural, parse_drive, parse_net


class Apply(Privileges):
    """Pending changes become the config, and - where QEMU runs - the machine."""

    def apply_pending(self, vm: SimVm, user: str = "root@pam") -> dict[str, str]:
        """Cold: every pending change becomes the config. Replaced and removed disks become unusedN."""
        errors: dict[str, str] = {}
        for key, value in sorted(vm.pending.items(), key=lambda item: item[1] is not None):
            try:
                old = vm.config.get(key)
                if is_drive(key) and old is not None:
                    self._detach(vm, key, user)
                if value is None:
                    vm.config.pop(key, None)
                else:
                    vm.config[key] = value
            except PveError as error:
                errors[key] = f"unable to apply pending change {key} : {error.message}"
                continue
            del vm.pending[key]
            vm.pending_force.discard(key)
        self.drop_used(vm)
        return errors

    def _detach(self, vm: SimVm, key: str, user: str) -> None:
        drive = parse_drive(vm.config[key])
        if key in vm.pending_force and not is_cdrom(drive):
            self.deallocate(vm, drive["file"], user)
        else:
            self.register_unused(vm, drive)

    async def hotplug_pending(self, vm: SimVm, user: str, touched: set[str]) -> dict[str, str]:
        """Running: apply what can be, leave the rest pending; {key: error} for what should have worked."""
        errors: dict[str, str] = {}
        order = sorted(
            vm.pending,
            key=lambda key: (not hotplug.fast_plug(key), vm.pending[key] is not None, natural(key)),
        )
        features = vm.config.get(
            "hotplug", "1"
        )  # as they were: what this very call changes counts from the next one
        for key in order:
            old, new = vm.config.get(key), vm.pending[key]
            config = {**vm.config, "hotplug": features}
            if new is not None and hotplug.fast_plug(key):
                effect = Effect.LIVE
            elif key not in touched:
                continue
            elif new is None:
                effect = hotplug.removal(key, old, config)
            else:
                effect = hotplug.change(key, old, new, config)
            if effect is Effect.PENDING:
                continue
            problem = self._hotplug_problem(vm, key, effect)
            try:
                if problem is None:
                    await self._commit(vm, key, effect, user)
            except PveError as error:
                problem = error.message
            if problem is not None:
                errors[key] = f"hotplug problem - {problem}\n"
        return errors

    async def change_device(self, vm: SimVm, key: str, old: Any, new: Any) -> None:
        """QEMU is told of a change of a running VM (None: not there). Here there is no QEMU to tell.

        :raises PveError: 500: QEMU or the guest refuses.
        """

    def _hotplug_problem(self, vm: SimVm, key: str, effect: Effect) -> str | None:
        """Why a change that QEMU could take fails, None if it does not."""
        old, new = vm.config.get(key), vm.pending[key]
        if effect in (Effect.PLUG, Effect.REPLUG) and key in vm.hotplug_errors:
            return vm.hotplug_errors[key]
        if NET.fullmatch(key) and new is not None:
            bridge = parse_net(new).get("bridge")
            same = old is not None and parse_net(old).get("bridge") == bridge
            if bridge and not same and bridge not in self.node_info[vm.node].bridges:
                return f"bridge '{bridge}' does not exist"
        present = vm.qemu or {}
        if new is None and is_drive(key) and key not in present:
            return None  # an earlier attempt got as far as the disk itself
        unplugs = not vm.guest_os.refuses_unplug
        problem = hotplug.problem(key, old, new, vm.config, unplugs=unplugs)
        if problem is not None and "virtioscsi" in problem:
            present.pop(key, None)
            vm.guest_os.lose(key)
        return problem

    async def _commit(self, vm: SimVm, key: str, effect: Effect, user: str) -> None:
        old, new = vm.config.get(key), vm.pending[key]
        if effect is not Effect.SILENT:
            await self.change_device(vm, key, old, new)
        qemu: Values = vm.qemu if vm.qemu is not None else {}
        if is_drive(key) and old is not None:
            same = new is not None and parse_drive(new)["file"] == parse_drive(old)["file"]
            if not same:
                self._detach(vm, key, user)
                vm.guest_os.lose(key)
        del vm.pending[key]
        vm.pending_force.discard(key)
        if new is None:
            vm.config.pop(key, None)
            qemu.pop(key, None)
            return
        if key == "memory":
            new = hotplug.memory_with_dimms(old or 512, new)
        vm.config[key] = new
        if effect is not Effect.SILENT:
            qemu[key] = new
