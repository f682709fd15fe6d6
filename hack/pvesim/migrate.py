"""Migration: its precondition, and what else is checked before a worker is forked.

Facts: migrate_vm_precondition and migrate_vm of qemu-server 9.2.6, check_local_resources of
PVE::QemuMigrate::Helpers. `allowed_nodes` is every other node whose storages and mappings are there: it does
not ask whether a node is online, has the bridges, the memory or the CPU.
"""

import re
from typing import Any

from .agent import Agent
from .core import Values, die, param_error
from .model import SimVm
from .props import drives, parse, split_volid
from .volrefs import volume_refs

LOCAL_DEVICE = re.compile(r"(usb|hostpci|serial|parallel|virtiofs)\d+")
IDENTITY = "1"


class MigrateChecks(Agent):
    """GET /nodes/{node}/qemu/{vmid}/migrate, and the checks that a migration shares with it."""

    def _table_migrate_checks(self) -> list[tuple[str, str, Any]]:
        return [("GET", "/nodes/{node}/qemu/{vmid}/migrate", self._migrate_check)]

    async def _migrate_check(self, v: Values, user: str) -> Values:
        self.need_quorum()
        vm = self.load_config(v["node"], v["vmid"])
        self.check_lock(vm)
        resources, mapped, missing = self.local_resources(vm.config, running=vm.running)
        managed = self.ha_managed(vm)
        dependent, blocking = self.motion_info(vm) if managed else ([], {})
        allowed, refused = [], {}
        for node in sorted(self.nodes):
            if node == vm.node:
                continue
            problems: Values = {}
            storages = self._unavailable_storages(vm.config, node)
            problems |= {"unavailable_storages": storages} if storages else {}
            problems |= {"unavailable-resources": missing[node]} if missing[node] else {}
            problems |= {"blocking-ha-resources": blocking[node]} if node in blocking else {}
            if problems:
                refused[node] = problems
            else:
                allowed.append(node)
        return {
            "running": int(vm.running),
            "allowed_nodes": allowed,
            "not_allowed_nodes": refused,
            "local_disks": self._local_disks(vm),
            "local_resources": resources,
            "mapped-resources": sorted(mapped),
            "mapped-resource-info": mapped,
            "has-dbus-vmstate": 1,
        } | ({"dependent-ha-resources": dependent} if managed else {})

    def _unavailable_storages(self, config: Values, node: str) -> list[str]:
        """check_local_storage_availability: the config's storages that are not configured for a node."""
        used = {parts[0] for _, drive in drives(config) if (parts := split_volid(drive["file"]))}
        return sorted(sid for sid in used if sid in self.storages and not self._storage_enabled(sid, node))

    def _local_disks(self, vm: SimVm) -> list[Values]:
        out = []
        for volid, ref in sorted(volume_refs(vm).items()):
            parts = split_volid(volid)
            if parts is not None and self.is_shared(parts[0]):
                continue
            if not ref["shared"] and not (ref["cdrom"] and volid == "none"):
                out.append(ref)
        return out

    def local_resources(
        self, config: Values, *, running: bool
    ) -> tuple[list[str], dict[str, Values], dict[str, list[str]]]:
        """check_local_resources: devices of the host, mapped ones, and {node: keys without a mapping there}."""
        local: list[str] = []
        mapped: dict[str, Values] = {}
        missing: dict[str, list[str]] = {node: [] for node in self.nodes}
        for key in sorted(config):
            if not LOCAL_DEVICE.fullmatch(key):
                continue
            device = parse(config[key], "host")
            kind = "pci" if key.startswith("hostpci") else "usb"
            if kind == "usb" and device.get("host", "").lower() == "spice":
                continue
            if name := device.get("mapping"):
                for node in self.nodes:
                    if not self.mapped_on(kind, name, node):
                        missing[node].append(key)
                mapped[key] = {"name": name}
                if kind == "pci":
                    if name in self.live_mappings:
                        mapped[key]["live-migration"] = 1
                        continue
                    if not running:
                        continue
            if key.startswith("serial") and config[key] == "socket":
                continue
            local.append(key)
        return local, mapped, missing

    def storage_map(self, v: Values, vm: SimVm, user: str) -> dict[str, str]:
        """`targetstorage` as {source: target}, `""` being the default; nothing is the identity."""
        text = v.get("targetstorage")
        if not text or text == IDENTITY:
            self._check_storages(vm, v["target"])
            return {}
        storages: dict[str, str] = {}
        for pair in text.split(","):
            source, _, target = pair.rpartition(":")
            if source in storages:
                raise param_error(targetstorage="failed to parse storage map: duplicate source mapping")
            storages[source] = target
        self.require_vm(user, vm.vmid, None, "VM.Config.Disk")
        for sid in storages.values():
            store = self._check_enabled(sid, v["target"])
            self.require(user, f"/storage/{sid}", "Datastore.AllocateSpace")
            if "images" not in store["content"].split(","):
                raise die(f"storage '{sid}' does not support vm images")
        return storages

    def _check_storages(self, vm: SimVm, target: str) -> None:
        """check_storage_availability: on both nodes."""
        for _, drive in drives(vm.config):
            parts = split_volid(drive["file"])
            if parts is None:
                continue
            self._check_enabled(parts[0], vm.node)
            self._check_enabled(parts[0], target)

    def check_devices(self, vm: SimVm, target: str, *, force: bool = False) -> None:
        """The part of prepare() about devices of the host.

        :raises PveError: the VM holds one, or a mapped one does not exist on the target or cannot move live.
        """
        local, mapped, missing = self.local_resources(vm.config, running=vm.running)
        blocking = [key for key in local if key not in mapped]
        if blocking and not force:
            raise die(f"can't migrate VM which uses local devices: {', '.join(blocking)}")
        if missing[target]:
            lacking = ", ".join(missing[target])
            raise die(f"can't migrate to '{target}': missing mapped devices {lacking}")
        fixed = [
            f"{key}:{mapped[key]['name']}" for key in sorted(mapped) if "live-migration" not in mapped[key]
        ]
        if vm.running and fixed:
            raise die(
                f"can't live migrate running VM which uses following mapped devices: {', '.join(fixed)}"
            )
