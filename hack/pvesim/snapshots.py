"""Snapshots of VMs: taking, deleting and rolling back, with the locks and what each leaves as unusedN.

Facts: PVE::AbstractConfig of pve-guest-common and PVE::QemuConfig of qemu-server 9.2.6. The checks are the
worker's. A rollback brings config and data back; a disk that the snapshot does not know becomes unusedN, and
so does - when a snapshot is deleted - a volume that only the snapshot held. Without RAM the VM ends stopped.
"""

import time
import uuid
from typing import Any

from fakepve.model import PveError

from .core import Values, die
from .model import SimVm
from .props import UNUSED, drives, is_cdrom, is_cloudinit, split_volid
from .suspend import Suspend

NOT_IN_SNAPSHOT = frozenset(
    {"snapshots", "snapstate", "snaptime", "vmstate", "lock", "digest", "description"}
)


class Snapshots(Suspend):
    """POST snapshot, DELETE snapshot/{snapname}, POST rollback, GET feature."""

    def _table_snapshots(self) -> list[tuple[str, str, Any]]:
        one = "/nodes/{node}/qemu/{vmid}"
        return [
            ("POST", one + "/snapshot", self._snapshot_post),
            ("DELETE", one + "/snapshot/{snapname}", self._snapshot_delete),
            ("POST", one + "/snapshot/{snapname}/rollback", self._rollback_post),
            ("GET", one + "/feature", self._feature_get),
        ]

    async def _feature_get(self, v: Values, user: str) -> Values:
        vm = self.load_config(v["node"], v["vmid"])
        name = v.get("snapname")
        if name and name not in vm.snapshots:
            raise die(f"snapshot '{name}' does not exist")
        config = vm.snapshots[name] if name else vm.config
        shared = all(
            self.is_shared(parts[0]) for _, drive in drives(config) if (parts := split_volid(drive["file"]))
        )
        has = self.config_has(v["feature"], vm, config, snapshot=bool(name))
        return {"hasFeature": int(has), "nodes": sorted(self.nodes) if shared else [vm.node]}

    def config_has(self, feature: str, vm: SimVm, config: Values, *, snapshot: bool = False) -> bool:
        """PVE::QemuConfig->has_feature: every disk can, CD-ROMs aside."""
        return all(
            self.has_feature(feature, drive["file"], vm.node, snapshot=snapshot)
            for _, drive in drives(config)
            if not is_cdrom(drive)
        )

    @staticmethod
    def _disks(config: Values) -> list[str]:
        return [drive["file"] for _, drive in drives(config) if not is_cdrom(drive)]

    # ------------------------------------------------------------------ create

    async def _snapshot_post(self, v: Values, user: str) -> str:
        vm = self.load_config(v["node"], v["vmid"])
        name = v["snapname"]
        if name in ("current", "pending"):
            raise die(f"unable to use snapshot name '{name}' (reserved name)")

        async def body() -> None:
            async with self.flock(vm.vmid):
                snapshot = self._prepare_snapshot(vm, name, v)
            done: list[str] = []
            try:
                await self.work()
                await self.checkpoint("snapshot:taking")
                self.ensure_present(vm)
                for volid in self._disks(snapshot):
                    self.snapshot_volume(volid, vm.node, name)
                    done.append(volid)
            except PveError:
                self.say("snapshot create failed: starting cleanup")
                for volid in done:
                    self.delete_volume_snapshot(volid, vm.node, name)
                vm.snapshots.pop(name, None)
                vm.lock = None
                raise
            del snapshot["snapstate"]
            vm.config["parent"] = name
            vm.lock = None

        return await self.task(vm.node, "qmsnapshot", vm.vmid, user, body)

    def _prepare_snapshot(self, vm: SimVm, name: str, v: Values) -> Values:
        self.need_quorum()
        if vm.template:
            raise die("you can't take a snapshot if it's a template")
        self.check_lock(vm)
        if name in vm.snapshots:
            raise die(f"snapshot name '{name}' already used")
        if not self.config_has("snapshot", vm, vm.config):
            raise die("snapshot feature is not available")
        snapshot = {
            key: value
            for key, value in vm.config.items()
            if key not in NOT_IN_SNAPSHOT and not UNUSED.fullmatch(key)
        }
        if v.get("vmstate") and vm.running:
            snapshot["vmstate"] = self.save_memory(vm, self.state_storage(vm), name)
        snapshot |= {"snapstate": "prepare", "snaptime": int(time.time())}
        snapshot |= {"description": v["description"]} if v.get("description") else {}
        vm.snapshots[name] = snapshot
        vm.lock = "snapshot"
        return snapshot

    # ------------------------------------------------------------------ delete

    async def _snapshot_delete(self, v: Values, user: str) -> str:
        vm = self.load_config(v["node"], v["vmid"])
        name = v["snapname"]

        async def body() -> None:
            self.need_quorum()
            if name not in vm.snapshots:
                raise die(f"snapshot '{name}' does not exist")
            async with self.flock(vm.vmid):
                self.check_lock(vm)
                if vm.template:
                    raise die("you can't delete a snapshot if vm is a template")
                vm.lock = "snapshot-delete"
                vm.snapshots[name]["snapstate"] = "delete"
            await self.work()
            await self.checkpoint("snapshot:deleting")
            self.ensure_present(vm)
            snapshot = vm.snapshots[name]
            if snapshot.get("vmstate"):
                self.free(snapshot["vmstate"], vm.node)
            for volid in self._disks(snapshot):
                self.delete_volume_snapshot(volid, vm.node, name)
            self._forget_snapshot(vm, name)
            for volid in self._disks(snapshot):
                self.add_unused(vm, volid)
            self.drop_used(vm)
            vm.lock = None

        return await self.task(vm.node, "qmdelsnapshot", vm.vmid, user, body)

    @staticmethod
    def _forget_snapshot(vm: SimVm, name: str) -> None:
        parent = vm.snapshots.pop(name).get("parent")
        for config in [*vm.snapshots.values(), vm.config]:
            if config.get("parent") == name:
                config.pop("parent")
                config |= {"parent": parent} if parent else {}

    # ---------------------------------------------------------------- rollback

    async def _rollback_post(self, v: Values, user: str) -> str:
        vm = self.load_config(v["node"], v["vmid"])
        name = v["snapname"]
        if v.get("start"):
            self.require(user, f"/vms/{vm.vmid}", "VM.PowerMgmt")

        async def body() -> None:
            async with self.flock(vm.vmid):
                snapshot = self._check_rollback(vm, name)
                await self.power_off(vm)
                vm.lock = "rollback"
            await self.work()
            await self.checkpoint("snapshot:rolling")
            self.ensure_present(vm)
            for volid in self._disks(snapshot):
                self.rollback_volume(volid, vm.node, name)
            self._apply_snapshot(vm, name, snapshot)
            if snapshot.get("vmstate"):
                await self.power_on(vm)
            elif v.get("start"):
                await self._start_worker(vm)

        return await self.task(vm.node, "qmrollback", vm.vmid, user, body)

    def _check_rollback(self, vm: SimVm, name: str) -> Values:
        self.need_quorum()
        if vm.template:
            raise die("you can't rollback if vm is a template")
        snapshot: Values | None = vm.snapshots.get(name)
        if snapshot is None:
            raise die(f"snapshot '{name}' does not exist")
        for volid in self._disks(snapshot):
            self.check_rollback(volid, vm.node, name)
        if snapshot.get("snapstate"):
            raise die(f"unable to rollback to incomplete snapshot (snapstate = {snapshot['snapstate']})")
        self.check_lock(vm)
        return snapshot

    def _apply_snapshot(self, vm: SimVm, name: str, snapshot: Values) -> None:
        """The snapshot's config, with the current description and unused disks; newer disks join these."""
        known = set(self._disks(snapshot))
        newer = [
            drive["file"]
            for _, drive in drives(vm.config)
            if (not is_cdrom(drive) or is_cloudinit(drive)) and drive["file"] not in known
        ]
        kept = {key: x for key, x in vm.config.items() if key == "description" or UNUSED.fullmatch(key)}
        restored = {key: x for key, x in snapshot.items() if key not in NOT_IN_SNAPSHOT}
        vm.config = kept | restored | {"parent": name}
        vm.pending = {}
        if vm.config.get("vmgenid"):
            vm.config["vmgenid"] = str(uuid.uuid4())
        for volid in newer:
            if self.volume(volid, vm.node) is not None:
                self.add_unused(vm, volid)
        self.drop_used(vm)
