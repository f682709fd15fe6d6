"""Creating, destroying and templating VMs.

Facts: create_vm, destroy_vm (API and PVE::QemuServer::destroy_vm) and template of qemu-server 9.2.6. A
create holds `lock: create` until its config is written; pool membership is joined last in a create and left
first in a destroy; a destroy frees every unusedN, a failed free is a warning, and the config lives on as
`lock: destroyed` until the very end.
"""

import re
from typing import Any

from fakepve.model import PveError, TaskError

from .core import Values, as_task_error, die, forbidden
from .model import Guest, SimVm, fresh_identity
from .move_disk import MoveDisk
from .props import (
    NET,
    drives,
    is_cdrom,
    is_drive,
    natural,
    parse_drive,
    parse_net,
    print_drive,
    print_net,
    unique_tags,
    valid_ssh_keys,
)
from .validation import check_cpu, clamp_units, pinned_machine
from .volrefs import volume_refs

NOT_CONFIG = frozenset(
    [
        "node",
        "vmid",
        "archive",
        "storage",
        "force",
        "unique",
        "live-restore",
        "pool",
        "bwlimit",
        "start",
        "ha-managed",
        "import-working-storage",
    ]
)
BOOT_DISKS = ("ide", "sata", "scsi", "virtio")


class Lifecycle(MoveDisk):
    """POST /nodes/{node}/qemu, DELETE /nodes/{node}/qemu/{vmid}, POST .../template.

    `new_guest` is what is on every disk that a VM is created with.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.new_guest = Guest()

    def _table_lifecycle(self) -> list[tuple[str, str, Any]]:
        one = "/nodes/{node}/qemu/{vmid}"
        return [
            ("POST", "/nodes/{node}/qemu", self._create),
            ("DELETE", one, self._destroy),
            ("POST", one + "/template", self._make_template),
        ]

    # ------------------------------------------------------------------ create

    async def _create(self, v: Values, user: str) -> str:
        node, vmid, pool, default = v["node"], v["vmid"], v.get("pool"), v.get("storage")
        config = self._create_checks(v, user)
        try:
            async with self.flock(vmid, wait=5):
                vm = self._create_and_lock(node, vmid)
        except (PveError, TaskError) as error:
            raise die(f"unable to create VM {vmid} - {error}") from error
        made: list[str] = []

        async def body() -> None:
            try:
                full = {key: value for key, value in config.items() if not is_drive(key)}
                for key in sorted((key for key in config if is_drive(key)), key=natural):
                    full[key] = self.create_drive(vm, key, config[key], made, default=default, siblings=full)
                    await self.finish_import(vm, config[key], full[key])
                await self.work()
                await self.checkpoint("create:allocated")
                self.ensure_present(vm)
                self._complete_config(full)
            except (PveError, TaskError) as error:
                for volid in made:
                    self.free(volid, node)
                self.forget(vm)
                cause = as_task_error(error) if isinstance(error, PveError) else error
                raise TaskError(f"unable to create VM {vmid} - {cause}") from error
            vm.config = full
            if pool:
                self._pool_join(pool, vmid)
            if v.get("ha-managed"):
                self.say("Add as HA resource")
                self.ha_resources[f"vm:{vmid}"] = {"state": "started" if v.get("start") else "stopped"}
            elif v.get("start"):
                self.say("Execute autostart")
                await self._post_start({"node": node, "vmid": vmid}, user)

        return await self.task(node, "qmcreate", vmid, user, body, vm=vm)

    def _create_and_lock(self, node: str, vmid: int) -> SimVm:
        """create_and_lock_config: reserve the id, before the worker is forked."""
        existing = self.guest(vmid)
        if existing is not None:
            kind = "VM" if self.vm(vmid) else "CT"
            raise die(f"{kind} {vmid} already exists on node '{existing.node}'")
        vm = SimVm(vmid, node, {"lock": "create"}, self.new_guest.copy())
        self.vms.append(vm)
        return vm

    def _create_checks(self, v: Values, user: str) -> Values:
        vmid, pool, default = v["vmid"], v.get("pool"), v.get("storage")
        if pool and pool not in self.pools:
            raise forbidden(f"pool '{pool}' does not exist")
        if default:
            self.require(user, f"/storage/{default}", "Datastore.AllocateSpace")
        if v.get("archive"):
            raise die(f"unable to restore VM {vmid} - pvesim has no backups")
        if v.get("start"):
            self.require_vm(user, vmid, pool, "VM.PowerMgmt")
        if not self.allowed(user, f"/vms/{vmid}", "VM.Allocate") and not (
            pool and self.allowed(user, f"/pool/{pool}", "VM.Allocate")
        ):
            raise PveError(403, "Permission check failed")
        config: Values = {key: value for key, value in v.items() if key not in NOT_CONFIG}
        if "sshkeys" in config and not valid_ssh_keys(str(config["sshkeys"])):
            raise die("SSH public key validation error")
        if "cpu" in config:
            check_cpu(config["cpu"])
        if "cpuunits" in config:
            config["cpuunits"] = clamp_units(config["cpuunits"])
        self.check_drives(config, v["node"], vmid, user, default)
        self.check_config_privileges(user, vmid, pool, list(config))
        for key in sorted(config):
            self.check_device_privileges(user, vmid, pool, key, config[key])
        self.check_bridges(user, config)
        return config

    def _complete_config(self, config: Values) -> None:
        """What create_vm adds: MACs, boot order, uuids, meta; tags and description in their stored form."""
        for key in config:
            if NET.fullmatch(key):
                config[key] = print_net(parse_net(config[key]))
        if not config.get("boot"):
            config["boot"] = "order=" + ";".join(default_boot(config))
        fresh_identity(config)
        machine = pinned_machine(config.get("machine"), config.get("ostype"))
        if machine is not None:
            config["machine"] = machine
        if config.get("tags"):
            config["tags"] = unique_tags(config["tags"])
        if config.get("description"):
            config["description"] = str(config["description"]).rstrip()
        if config.get("cipassword"):
            config["cipassword"] = self.hash_password(str(config["cipassword"]))

    # ----------------------------------------------------------------- destroy

    async def _destroy(self, v: Values, user: str) -> str:
        node, vmid = v["node"], v["vmid"]
        self._root_only(v, user, "skiplock")

        def early() -> SimVm:
            vm = self.load_config(node, vmid)
            self._check_protection(vm, f"can't remove VM {vmid}")
            if f"vm:{vmid}" in self.ha_resources and not v.get("purge"):
                raise die(f"unable to remove VM {vmid} - used in HA resources and purge parameter not set.")
            if vm.running:
                raise die(f"VM {vmid} is running - destroy failed")
            return vm

        early()

        async def body() -> None:
            async with self.flock(vmid):
                vm = early()
                await self._destroy_worker(vm, v)

        return await self.task(node, "qmdestroy", vmid, user, body)

    async def _destroy_worker(self, vm: SimVm, v: Values) -> None:
        node, vmid = vm.node, vm.vmid
        self.need_quorum()
        if vm.lock != "suspended" and not v.get("skiplock"):
            self.check_lock(vm)
        refs = volume_refs(vm)
        owned = [volid for volid in refs if not refs[volid]["cdrom"] or refs[volid]["is_cloudinit"]]
        if vm.template:
            for volid in owned:
                if self.in_use_as_base(volid, node):
                    raise die(f"base volume '{volid}' is still in use by linked cloned")
        await self.work(0.5)
        await self.checkpoint("destroy:freeing")
        for volid in owned:
            volume = self.volume(volid, node)
            if volume is None or volume.vmid != vmid:
                continue
            try:
                self.free(volid, node)
            except PveError as error:
                self.warn(f"Could not remove disk '{volid}', check manually: {error.message}")
        if v.get("destroy-unreferenced-disks"):
            for sid in self.storages:
                for volume in [x for x in self.disks_on(sid, node).values() if x.vmid == vmid]:
                    self.free(f"{sid}:{volume.name}", node)
        vm.config, vm.pending, vm.snapshots = {"lock": "destroyed"}, {}, {}
        # remove_vm_access: the pool and the ACLs of the VM go before its config does.
        self._pool_leave(vmid)
        for entries in self.grants.values():
            entries.pop(f"/vms/{vmid}", None)
        self._effective.clear()
        self._fw()["guests"].pop(vmid, None)
        if v.get("purge"):
            self.say(f"purging VM {vmid} from related configurations..")
            if f"vm:{vmid}" in self.ha_resources:
                self.leave_ha(f"vm:{vmid}", purge=True)
                self.say(f"NOTE: removed VM {vmid} from HA resource configuration.")
        await self.work(0.5)
        await self.checkpoint("destroy:zombie")
        self.forget(vm)

    def forget(self, vm: SimVm) -> None:
        """Remove the config file; the id is free again."""
        if self.vm(vm.vmid) is vm:
            self.vms.remove(vm)

    # ---------------------------------------------------------------- template

    async def _make_template(self, v: Values, user: str) -> str:
        vm = self._check_template(v)

        async def body() -> None:
            vm = self._check_template(v)
            vm.template = True
            await self.work()
            await self.checkpoint("template:converting")
            self.to_template(vm, v.get("disk"))

        return await self.task(vm.node, "qmtemplate", vm.vmid, user, body, vm=vm)

    def _check_template(self, v: Values) -> SimVm:
        """$load_and_check: made before the worker is forked and again in it."""
        vm = self.load_config(v["node"], v["vmid"])
        self.check_lock(vm)
        if vm.snapshots:
            raise die("unable to create template, because VM contains snapshots")
        if vm.template and not v.get("disk"):
            raise die("you can't convert a template to a template")
        if vm.running:
            raise die("you can't convert a VM to template if VM is running")
        return vm

    def to_template(self, vm: SimVm, disk: str | None = None) -> None:
        """The config gets `template: 1`; its disks - or only one - become base volumes where the storage has
        such."""
        vm.template = True
        for key, drive in drives(vm.config):
            if disk is not None and key != disk:
                continue
            if not is_cdrom(drive) and self.has_feature("template", drive["file"], vm.node):
                vm.config[key] = print_drive(drive | {"file": self.make_base(drive["file"], vm.node)})


def default_boot(config: Values) -> list[str]:
    """get_default_bootdevices: the first disk, the first CD-ROM, the first NIC."""
    disks = [
        key
        for prefix in BOOT_DISKS
        for key in sorted(config, key=natural)
        if key.startswith(prefix) and is_drive(key)
    ]
    first = [key for key in disks if not is_cdrom(parse_drive(config[key]))][:1]
    first += [key for key in disks if is_cdrom(parse_drive(config[key]))][:1]
    return first + sorted((key for key in config if re.fullmatch(r"net\d+", key)), key=natural)[:1]
