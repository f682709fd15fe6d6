"""Cloning, with the half-made states that a real clone shows.

From the source of qemu-server 9.2.6 (PVE::API2::Qemu clone_vm): the checks run twice, before the worker is
forked and in it. The worker holds the source's lock file shared and the new id's exclusively (1 s each),
prints "creating a clone of VM N with ID M", and writes a config that holds nothing but `lock: clone` and a
comment - which the parser takes for the description ` qmclone temporary file`. With the first disk copied
the whole new config is written, still locked; after the last one the lock goes, then the file moves to
`target`, and last of all the VM joins the pool. A failure frees the new volumes and removes the config; a
killed worker cleans up nothing. The UPID carries the *template's* vmid.
"""

import copy
import uuid
from dataclasses import dataclass
from typing import Any

from fakepve.model import PveError, TaskError

from .core import Values, as_task_error, die, forbidden
from .model import STUB_DESCRIPTION, SimVm
from .props import (
    NET,
    UNUSED,
    Props,
    drives,
    is_cdrom,
    is_cloudinit,
    is_drive,
    parse,
    parse_net,
    print_drive,
    print_net,
    print_props,
    print_size,
    random_mac,
    split_volid,
)
from .uploads import Uploads

NOT_COPIED = frozenset(
    [
        "snapshots",
        "parent",
        "snaptime",
        "vmstate",
        "snapstate",
        "runningcpu",
        "runningmachine",
        "running-nets-host-mtu",
        "lock",
        "template",
    ]
)


@dataclass
class ClonePlan:
    """What the checks worked out: the new config without its disks, the disks, and which of them are copied
    whole."""

    config: Values
    drives: dict[str, Props]
    full: set[str]


class Clone(Uploads):
    """POST /nodes/{node}/qemu/{vmid}/clone."""

    def _table_clone(self) -> list[tuple[str, str, Any]]:
        return [("POST", "/nodes/{node}/qemu/{vmid}/clone", self._clone_post)]

    async def _clone_post(self, v: Values, user: str) -> str:
        node, vmid, newid = v["node"], v["vmid"], v["newid"]
        self.assert_config_on_node(node, vmid)
        self._clone_checks(v, user)

        async def body() -> None:
            source = self.assert_config_on_node(node, vmid)
            async with (
                self.flock(vmid, wait=1, shared=not source.running),
                self.flock(newid, wait=1),
            ):
                await self._clone_worker(v, user)

        return await self.task(node, "qmclone", vmid, user, body)

    # ----------------------------------------------------------------- checks

    def _clone_checks(self, v: Values, user: str) -> ClonePlan:
        node, newid, pool, storage = v["node"], v["newid"], v.get("pool"), v.get("storage")
        target = self._clone_target(v)
        if pool and pool not in self.pools:
            raise forbidden(f"pool '{pool}' does not exist")
        if target and target not in self.nodes:
            raise die(f"no such cluster node '{target}'")
        if storage:
            self.images_store(storage, node)
            if target:
                self._check_enabled(storage, target)
                if not self.is_shared(storage):
                    raise die(f"can't clone to non-shared storage '{storage}'")
        self.need_quorum()
        source = self.load_config(node, v["vmid"])
        self.check_lock(source)
        snapname = v.get("snapname")
        if snapname and snapname not in source.snapshots:
            raise die(f"snapshot '{snapname}' does not exist")
        full = bool(v["full"]) if v.get("full") is not None else not source.template
        for option in ("storage", "format"):
            if v.get(option) and not full:
                raise die(f"parameter '{option}' not allowed for linked clones")
        config = source.snapshots[snapname] if snapname else source.config
        shared = self._clone_access(config, storage, user)
        self.check_bridges(user, config)
        if target and not shared:
            raise die(f"can't clone VM to node '{target}' (VM uses local storage)")
        existing = self.vm(newid)
        if existing is not None and existing.node == node:
            raise die(f"unable to create VM {newid}: config file already exists")
        return self._clone_plan(config, node, full=full, running=source.running)

    @staticmethod
    def _clone_target(v: Values) -> str | None:
        target = v.get("target")
        return target if target not in (None, v["node"], "localhost") else None

    def _clone_access(self, config: Values, storage: str | None, user: str) -> bool:
        """check_storage_access_clone: AllocateSpace per disk; true if every drive is on shared storage."""
        shared = True
        for _, drive in drives(config):
            parts = split_volid(drive["file"])
            if parts is None:
                continue
            shared = shared and self.is_shared(parts[0])
            if not is_cdrom(drive):
                self.require(user, f"/storage/{storage or parts[0]}", "Datastore.AllocateSpace")
        return shared

    def _clone_plan(self, config: Values, node: str, *, full: bool, running: bool) -> ClonePlan:
        plan = ClonePlan({}, {}, set())
        for key in sorted(config):
            value = config[key]
            if key in NOT_COPIED or UNUSED.fullmatch(key):
                continue
            if full and running and key == "tpmstate0":
                raise die("cannot clone TPM state while VM is running")
            if NET.fullmatch(key):
                plan.config[key] = print_net(parse_net(value) | {"macaddr": random_mac()})
                continue
            drive = parse(value, "file") if is_drive(key) else None
            if (
                drive is None
                or (is_cdrom(drive) and not is_cloudinit(drive))
                or not split_volid(drive["file"])
            ):
                plan.config[key] = value
                continue
            if full or is_cloudinit(drive) or key == "tpmstate0":
                plan.full.add(key)
            elif not self.has_feature("clone", drive["file"], node):
                raise die(f"Linked clone feature is not supported for '{drive['file']}' ({key})")
            plan.drives[key] = drive
        return plan

    # ----------------------------------------------------------------- worker

    async def _clone_worker(self, v: Values, user: str) -> None:
        node, vmid, newid = v["node"], v["vmid"], v["newid"]
        plan = self._clone_checks(v, user)
        self.say(f"creating a clone of VM {vmid} with ID {newid}")
        source = self.load_config(node, vmid)
        self._clone_identity(v, source, plan.config)
        if self.guest(newid) is not None:
            # The id has a config on another node: pmxcfs refuses a second one.
            path = f"/etc/pve/nodes/{node}/qemu-server/{newid}.conf"
            raise TaskError(f"close (rename) atomic file '{path}' failed: File exists")
        new = SimVm(newid, node, {"lock": "clone", "description": STUB_DESCRIPTION}, source.guest_os.copy())
        self.vms.append(new)
        firewall = self._fw()["guests"]
        if vmid in firewall:
            firewall[newid] = copy.deepcopy(firewall[vmid])
        made: list[str] = []
        try:
            await self.checkpoint("clone:stub")
            config = plan.config | {"lock": "clone"}
            for key in sorted(plan.drives):
                await self._clone_disk(v, key, plan, config, made)
                new.config = dict(config)
                await self.checkpoint("clone:copying")
            config.pop("lock")
            new.config = dict(config)
            target = self._clone_target(v)
            if target:
                await self.work(0.05)
                await self.checkpoint("clone:moving")
                if not self.online(target):
                    raise TaskError(
                        f"Failed to move config to node '{target}' - rename failed: Device or resource busy"
                    )
                new.node = target
            if v.get("pool"):
                await self.work(0.05)
                await self.checkpoint("clone:joining")
                self._pool_join(v["pool"], newid)
        except (PveError, TaskError) as error:
            for volid in made:
                self.free(volid, node)
            firewall.pop(newid, None)
            self.vms.remove(new)
            cause = as_task_error(error) if isinstance(error, PveError) else error
            raise TaskError(f"clone failed: {cause}") from error

    @staticmethod
    def _clone_identity(v: Values, source: SimVm, config: Values) -> None:
        smbios = parse(config.get("smbios1", "")) | {"uuid": str(uuid.uuid4())}
        config["smbios1"] = print_props(smbios)
        if config.get("vmgenid"):
            config["vmgenid"] = str(uuid.uuid4())
        config["name"] = v.get("name") or f"Copy-of-VM-{source.config.get('name') or source.vmid}"
        if v.get("description"):
            config["description"] = str(v["description"]).rstrip()

    async def _clone_disk(
        self, v: Values, key: str, plan: ClonePlan, config: Values, made: list[str]
    ) -> None:
        node, newid, drive = v["node"], v["newid"], plan.drives[key]
        full, volid = key in plan.full, drive["file"]
        self.say(f"create {'full' if full else 'linked'} clone of drive {key} ({volid})")
        source = self._source_volume(volid, node)
        sid = v.get("storage") or volid.partition(":")[0]
        fmt = v.get("format") or source.format
        suffix = "cloudinit" if is_cloudinit(drive) else None
        origin = {"copy_of": source} if full else {"base": source}
        new = self.alloc(sid, node, newid, source.size, fmt=fmt, suffix=suffix, **origin)
        made.append(new)
        # A linked clone and the 4 MiB cloud-init drive take hardly any time.
        copies = [name for name in plan.full if not is_cloudinit(plan.drives[name])]
        await self.work(1 / len(copies) if key in copies else 0.05)
        self._source_volume(volid, node)
        config[key] = print_drive(
            drive | {"file": new} | ({} if suffix else {"size": print_size(source.size)})
        )

    def _source_volume(self, volid: str, node: str) -> Any:
        volume = self.volume(volid, node)
        if volume is None:
            raise TaskError(f"can't activate LV '/dev/{volid.replace(':', '/')}': no such volume")
        return volume

    def check_bridges(self, user: str, config: Values) -> None:
        """check_bridge_access: SDN.Use on the bridge, or on the VLAN of it that is used."""
        for key in sorted(config):
            net = parse_net(config[key]) if NET.fullmatch(key) else {}
            if user != "root@pam" and net.get("bridge"):
                path = f"/sdn/zones/localnetwork/{net['bridge']}"
                self.require(user, f"{path}/{net['tag']}" if net.get("tag") else path, "SDN.Use")
