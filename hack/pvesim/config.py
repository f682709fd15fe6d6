"""Reading and changing a VM's config: checks, permissions per key, and what goes to [PENDING].

Facts: $update_vm_api, vm_config and vm_pending of qemu-server 9.2.6. The order is the real one: checks before
the worker, again in it; every change goes to [PENDING]; what did not change is dropped; the rest is applied
(stopped) or hotplugged (running), and what cannot be stays pending.
"""

import re
from typing import Any

from fakepve.model import PveError, TaskError

from .apply import Apply
from .core import Values, die, param_error
from .model import SimVm
from .props import (
    NET,
    UNUSED,
    is_cdrom,
    is_drive,
    natural,
    parse,
    parse_drive,
    parse_net,
    print_net,
    unique_tags,
    valid_ssh_keys,
)
from .tasks import succeeded
from .validation import check_cpu, clamp_units, option_exists, pinned_machine

PASSWORD_MASK = "**********"
CHANGE_OPTIONS = frozenset(
    [
        "node",
        "vmid",
        "digest",
        "delete",
        "revert",
        "force",
        "skiplock",
        "background_delay",
        "skip_cloud_init",
        "import-working-storage",
    ]
)


class Config(Apply):
    """GET, PUT and POST config, GET pending."""

    def _table_config(self) -> list[tuple[str, str, Any]]:
        one = "/nodes/{node}/qemu/{vmid}"
        return [
            ("GET", one + "/config", self._config_read),
            ("GET", one + "/pending", self._pending_read),
            ("PUT", one + "/config", self._config_sync),
            ("POST", one + "/config", self._config_async),
        ]

    # ---------------------------------------------------------------- reading

    async def _config_read(self, v: Values, user: str) -> Values:
        vm = self.load_config(v["node"], v["vmid"])
        if v.get("snapshot"):
            if v["snapshot"] not in vm.snapshots:
                raise die(f"snapshot '{v['snapshot']}' does not exist")
            config = dict(vm.snapshots[v["snapshot"]])
        else:
            config = dict(vm.config) if v.get("current") else vm.merged()
        return self._shown(config) | {"digest": vm.digest()}

    @staticmethod
    def _shown(config: Values) -> Values:
        """Types as the API sends them: memory is a property string, hence text; passwords never leave."""
        out = dict(config)
        if "memory" in out:
            out["memory"] = str(out["memory"])
        if out.get("cipassword"):
            out["cipassword"] = PASSWORD_MASK
        return out

    async def _pending_read(self, v: Values, user: str) -> list[Values]:
        vm = self.load_config(v["node"], v["vmid"])
        now, later = (
            self._shown(vm.config),
            self._shown({k: x for k, x in vm.pending.items() if x is not None}),
        )
        out = []
        for key in sorted(set(now) | set(vm.pending)):
            item: Values = {"key": key}
            if key in now:
                item["value"] = now[key]
            if key in later:
                item["pending"] = later[key]
            elif key in vm.pending:
                item["delete"] = 2 if key in vm.pending_force else 1
            out.append(item)
        return [*out, {"key": "digest", "value": vm.digest()}]

    # ---------------------------------------------------------------- changing

    async def _config_sync(self, v: Values, user: str) -> None:
        change = self._prepare_change(v, user)
        self._check_change(v, change, user)
        async with self.flock(v["vmid"]):
            await self._change(v, change, user)

    async def _config_async(self, v: Values, user: str) -> str | None:
        change = self._prepare_change(v, user)
        vm = self._check_change(v, change, user)

        async def body() -> None:
            await self._change(v, change, user)

        upid = await self.task(vm.node, "qmconfig", vm.vmid, user, body, vm=vm)
        if v.get("background_delay"):
            status = await self.ended_within(upid, v["background_delay"])
            if status is not None:
                if succeeded(status):
                    return None
                raise die(f"failed to update VM {vm.vmid}: {status}")
        return upid

    def _prepare_change(self, v: Values, user: str) -> Values:
        """Everything that is refused before the config is even read; returns the values to set."""
        vmid = v["vmid"]
        self._root_only(v, user, "skiplock")
        change = {key: value for key, value in v.items() if key not in CHANGE_OPTIONS}
        if "sshkeys" in change and not valid_ssh_keys(str(change["sshkeys"])):
            raise die("SSH public key validation error")
        if "cpu" in change:
            check_cpu(change["cpu"])
        if "cpuunits" in change:
            change["cpuunits"] = clamp_units(change["cpuunits"])
        deletes, reverts = _split(v.get("delete")), _split(v.get("revert"))
        if not change and not deletes and not reverts:
            raise die("no options specified")
        for name, keys in (("revert", reverts), ("delete", deletes)):
            for key in keys:
                if key in change:
                    raise param_error(delete=f"you can't use '-{key}' and -{name} {key}' at the same time")
                if not option_exists(key):
                    raise param_error(**{name: f"unknown option '{key}'"})
        self.check_config_privileges(user, vmid, None, deletes)
        self.check_config_privileges(user, vmid, None, list(change))
        self.check_drives(change, v["node"], vmid, user)
        for key in change:
            if NET.fullmatch(key):
                change[key] = print_net(parse_net(change[key]))
        self.check_bridges(user, change)
        return change

    def _check_change(self, v: Values, change: Values, user: str) -> SimVm:
        """load_and_check_config: made before the worker is forked and again in it."""
        vm = self.load_config(v["node"], v["vmid"])
        if v.get("digest") and v["digest"] != vm.digest():
            raise die("checksum mismatch (file change by other user?)")
        if not v.get("skiplock"):
            self.check_lock(vm)
        balloon = change.get("balloon", vm.merged().get("balloon"))
        if ("memory" in change or "balloon" in change) and balloon:
            memory = change.get("memory", vm.merged().get("memory", 512))
            if int(balloon) > int(parse(memory, "current")["current"]):
                raise die("balloon value too large (must be smaller than assigned memory)")
        return vm

    async def _change(self, v: Values, change: Values, user: str) -> None:
        self.need_quorum()
        vm = self._check_change(v, change, user)
        shown = {key: "<hidden>" if key == "cipassword" else value for key, value in change.items()}
        if v.get("delete"):
            shown["delete"] = v["delete"]
        self.say(f"update VM {vm.vmid}: " + " ".join(f"-{key} {shown[key]}" for key in sorted(shown)))
        await self.work()
        await self.checkpoint("config:write")
        self.ensure_present(vm)
        for key in _split(v.get("revert")):
            vm.pending.pop(key, None)
        touched = set(change)
        for key in _split(v.get("delete")):
            touched |= self._request_delete(vm, key, user, force=bool(v.get("force")))
        for key in sorted(change, key=natural):
            if key == "boot":
                self._check_boot(vm, str(change[key]), change)
            await self._request_set(vm, key, change[key], user)
        self.drop_used(vm)
        for key in [key for key, value in vm.pending.items() if vm.config.get(key) == value]:
            del vm.pending[key]
        errors = await self.hotplug_pending(vm, user, touched) if vm.running else self.apply_pending(vm, user)
        self.drop_used(vm)
        if errors:
            raise param_error(**errors)

    def ensure_present(self, vm: SimVm) -> None:
        """The config file may have been removed behind the worker's back."""
        if self.vm(vm.vmid) is not vm:
            raise die(f"Configuration file 'nodes/{vm.node}/qemu-server/{vm.vmid}.conf' does not exist")

    def _request_delete(self, vm: SimVm, key: str, user: str, *, force: bool) -> set[str]:
        value = vm.config.get(key, vm.pending.get(key))
        if value is None:
            self.say(f"cannot delete '{key}' - not set in current configuration!")
            return set()
        self.check_device_privileges(user, vm.vmid, None, key, value, verb="delete")
        was_pending = vm.pending.pop(key, None)
        touched = {key} | self._leave_boot_order(vm, key)
        if UNUSED.fullmatch(key):
            volid = parse_drive(value)["file"]
            self._check_protection(vm, f"can't remove unused disk '{volid}'")
            self.deallocate(vm, volid, user)
            del vm.config[key]
            return touched
        if is_drive(key):
            self._check_protection(vm, f"can't remove drive '{key}'")
            if was_pending is not None:
                self.register_unused(vm, parse_drive(was_pending))
        if key == "tags":
            vm.config.pop(key, None)
        elif key in vm.config:
            vm.pending[key] = None
            if force:
                vm.pending_force.add(key)
        return touched

    @staticmethod
    def _leave_boot_order(vm: SimVm, key: str) -> set[str]:
        order = parse(vm.config.get("boot", "")).get("order", "")
        devices = [device for device in order.split(";") if device]
        if key not in devices:
            return set()
        vm.pending["boot"] = "order=" + ";".join(device for device in devices if device != key)
        return {"boot"}

    def _check_protection(self, vm: SimVm, message: str) -> None:
        if str(vm.config.get("protection", 0)) == "1":
            raise die(f"{message} - protection mode enabled")

    async def _request_set(self, vm: SimVm, key: str, value: Any, user: str) -> None:
        if is_drive(key):
            await self._request_drive(vm, key, value, user)
            return
        if vm.config.get(key):
            self.check_device_privileges(user, vm.vmid, None, key, vm.config[key], verb="modify")
        self.check_device_privileges(user, vm.vmid, None, key, value, verb="modify")
        if key == "tags":
            value = unique_tags(value)
        elif key == "description":
            value = str(value).rstrip()
        elif key == "ostype" and "machine" not in vm.pending:
            self._pin_machine(vm, value)
        elif key == "cipassword":
            vm.config[key] = self.hash_password(str(value))
            return
        elif NET.fullmatch(key) and vm.config.get(key):
            self.check_bridges(user, {key: vm.config[key]})
        vm.pending[key] = value
        vm.pending_force.discard(key)

    @staticmethod
    def _pin_machine(vm: SimVm, ostype: Any) -> None:
        """A VM that becomes a Windows one gets its machine version pinned."""
        pinned = pinned_machine(vm.config.get("machine"), ostype)
        if pinned is not None:
            vm.pending["machine"] = pinned

    async def _request_drive(self, vm: SimVm, key: str, value: Any, user: str) -> None:
        if vm.config.get(key):
            self.check_device_privileges(user, vm.vmid, None, key, vm.config[key])
            _check_tpm_version(key, vm.config[key], value)
        self.check_device_privileges(user, vm.vmid, None, key, value)
        if vm.pending.get(key):
            self.register_unused(vm, parse_drive(vm.pending[key]))
        made: list[str] = []
        try:
            stored = self.create_drive(vm, key, value, made)
            await self.finish_import(vm, value, stored)
        except (PveError, TaskError):
            for volid in made:
                self.free(volid, vm.node)
            raise
        vm.pending[key] = stored
        vm.pending_force.discard(key)
        order = parse(vm.config.get("boot", "")).get("order")
        if order and is_cdrom(parse_drive(value)) and key not in order.split(";"):
            vm.pending["boot"] = f"order={order};{key}"

    @staticmethod
    def _check_boot(vm: SimVm, value: str, change: Values) -> None:
        """A device may also be one that the same call makes."""
        for device in parse(value).get("order", "").split(";"):
            if device and device not in vm.merged() and device not in change:
                raise die(f"invalid bootorder: device '{device}' does not exist'")


def _split(text: Any) -> list[str]:
    return [item for item in re.split(r"[\s,;]+", str(text or "")) if item]


def _check_tpm_version(key: str, old: Any, new: Any) -> None:
    if key != "tpmstate0":
        return
    before, after = parse_drive(old), parse_drive(new)
    if before["file"] == after["file"] and before.get("version", "v1.2") != after.get("version", "v1.2"):
        raise die("cannot change TPM state version after creation")
