"""A frozen, comparable summary of the simulated world, for tests that assert end states."""

from dataclasses import dataclass, field

from .ha_rules import wish_of
from .server import Server


@dataclass(frozen=True)
class VmState:
    """A VM as its config file and its process are. `config` and `pending` are sorted (key, value) pairs as
    text."""

    vmid: int
    node: str
    name: str | None
    status: str
    lock: str | None
    template: bool
    pool: str | None
    config: tuple[tuple[str, str], ...]
    pending: tuple[tuple[str, str], ...]

    def __getitem__(self, key: str) -> str | None:
        """A key of the config, None if unset."""
        return dict(self.config).get(key)


@dataclass(frozen=True, order=True)
class VolumeState:
    """A volume; `node` is empty on a shared storage, `size` is in bytes.

    `data` stands for what is on it (see storage.Volume); it does not count when states are compared.
    """

    storage: str
    node: str
    name: str
    vmid: int
    size: int
    data: int = field(default=0, compare=False)


@dataclass(frozen=True, order=True)
class FileState:
    """An ISO, a template or a disk image to import, or an unfinished one (`import/x.qcow2.tmp_dwnl.1001`); `node` is
    empty on a shared storage, `size` is the file's, in bytes, and `data` as in VolumeState."""

    storage: str
    node: str
    name: str
    size: int
    data: int = field(default=0, compare=False)


@dataclass(frozen=True)
class World:
    """Everything that outlives a request: VMs by id, volumes, the running tasks as (type, id), the HA
    resources as (service, wanted state), and the files on storages."""

    vms: tuple[VmState, ...]
    volumes: tuple[VolumeState, ...]
    tasks: tuple[tuple[str, str], ...]
    ha: tuple[tuple[str, str], ...] = ()
    files: tuple[FileState, ...] = ()

    def vm(self, vmid: int) -> VmState | None:
        """The VM with this id."""
        return next((vm for vm in self.vms if vm.vmid == vmid), None)

    @property
    def vmids(self) -> list[int]:
        """The ids of all VMs, templates included."""
        return [vm.vmid for vm in self.vms]

    @property
    def guests(self) -> list[VmState]:
        """The VMs that are not templates."""
        return [vm for vm in self.vms if not vm.template]

    def volumes_of(self, vmid: int) -> list[VolumeState]:
        """The volumes that belong to a VM by name."""
        return [volume for volume in self.volumes if volume.vmid == vmid]

    @property
    def orphans(self) -> list[VolumeState]:
        """Volumes whose VM does not exist: leaks."""
        known = set(self.vmids)
        return [volume for volume in self.volumes if volume.vmid not in known]

    @property
    def unreferenced(self) -> list[VolumeState]:
        """Volumes that no config mentions: leaks, orphans included."""
        texts = {value.partition(",")[0] for vm in self.vms for _, value in (*vm.config, *vm.pending)}
        return [volume for volume in self.volumes if f"{volume.storage}:{volume.name}" not in texts]

    def diff(self, later: "World") -> list[str]:
        """What changed from this world to a later one, one line per difference."""
        out: list[str] = []
        for vmid in sorted({*self.vmids, *later.vmids}):
            old, new = self.vm(vmid), later.vm(vmid)
            if old is None or new is None:
                out.append(f"VM {vmid} {'appeared' if old is None else 'is gone'}")
                continue
            fields = ("node", "status", "lock", "pool", "pending")
            out += [f"VM {vmid} {name}: {getattr(old, name)} -> {getattr(new, name)}" for name in fields
                    if getattr(old, name) != getattr(new, name)]  # fmt: skip
            keys = sorted({key for key, _ in (*old.config, *new.config)})
            out += [f"VM {vmid} {key}: {old[key]} -> {new[key]}" for key in keys if old[key] != new[key]]
        out += [f"HA {sid} {state}: {sign}" for sign, these, others in
                (("gone", self.ha, later.ha), ("new", later.ha, self.ha))
                for sid, state in these if (sid, state) not in others]  # fmt: skip
        out += [f"volume {v.storage}:{v.name} is gone" for v in self.volumes if v not in later.volumes]
        out += [f"volume {v.storage}:{v.name} appeared" for v in later.volumes if v not in self.volumes]
        out += [f"file {f.storage}:{f.name} {sign}{f.node and f' on {f.node}'}" for sign, these, others in
                (("is gone", self.files, later.files), ("appeared", later.files, self.files))
                for f in these if f not in others]  # fmt: skip
        return out


def snapshot(server: Server) -> World:
    """The world as it is now; call it in the simulator's loop."""
    vms = tuple(
        VmState(
            vmid=vm.vmid,
            node=vm.node,
            name=vm.config.get("name"),
            status=vm.status,
            lock=vm.lock,
            template=vm.template,
            pool=server.pool_of(vm.vmid),
            config=tuple(sorted((key, str(value)) for key, value in vm.config.items())),
            pending=tuple(sorted((key, str(value)) for key, value in vm.pending.items())),
        )
        for vm in sorted(server.vms, key=lambda vm: vm.vmid)
    )
    volumes = tuple(
        sorted(
            VolumeState(sid, node or "", volume.name, volume.vmid, volume.size, volume.data)
            for (sid, node), disks in server.disks.items()
            for volume in disks.values()
        )
    )
    tasks = tuple(sorted((task.type, task.id) for task in server.running.values()))
    ha = tuple(sorted((sid, wish_of(resource)) for sid, resource in server.ha_resources.items()))
    files = tuple(
        sorted(
            FileState(sid, node or "", file.name, file.size, file.data)
            for (sid, node), found in server.files.items()
            for file in found.values()
        )
    )
    return World(vms, volumes, tasks, ha, files)
