"""Storages and volumes. A local storage has one set of volumes per node, a shared one a single set.

Facts: PVE::Storage and its plugins - volume names, free names, linked clones that name their base, error
texts. Space is counted as allocated bytes; a thin pool refuses beyond its size as one that has reached its
threshold does.
"""

import itertools
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from .core import Values, die, param_error
from .mapping import Mappings
from .props import GIB, split_volid
from .storage_types import DEFAULT_CONTENT, FILE_CONTENT, FILE_TYPES, NAMES_BASE, SHARED_TYPES

EXTENT = 4 * 1024**2
OPTIONS = {
    "lvmthin": {"vgname": "pve", "thinpool": "data"},
    "lvm": {"vgname": "vg0"},
    "rbd": {"pool": "rbd"},
    "zfspool": {"pool": "rpool/data"},
    "nfs": {"server": "192.0.2.60", "export": "/export"},
    "dir": {"path": "/var/lib/vz"},
}


@dataclass(frozen=True)
class Volume:
    """A volume; `name` is the part of the volume id after the storage, `size` is in bytes.

    `data` stands for what is on it: a copy, a clone and a moved disk have the same, a new disk its own.
    `snapshots` holds (name, data, size) in the order in which they were taken.
    """

    name: str
    vmid: int
    size: int
    format: str = "raw"
    content: str = "images"
    ctime: int = 0
    base: str | None = None
    data: int = 0
    snapshots: tuple[tuple[str, int, int], ...] = ()


class Volumes(Mappings):
    """Storage state and allocation."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.disks: dict[tuple[str, str | None], dict[str, Volume]] = {}
        self.sizes: dict[str, int] = {}
        self.unfreeable: set[str] = set()
        self._data: Iterator[int] = itertools.count(1)

    # ---------------------------------------------------------------- set-up

    def add_storage(
        self,
        sid: str,
        kind: str,
        *,
        size_gib: float = 500,
        content: str | None = None,
        nodes: Iterable[str] | None = None,
        shared: bool | None = None,
    ) -> None:
        """Define a storage; `size_gib` is per node for a local one."""
        is_shared = kind in SHARED_TYPES if shared is None else shared
        default = DEFAULT_CONTENT.get(kind, FILE_CONTENT)
        config: Values = {"type": kind, "content": content or default, "active": 1, "files": set()}
        config |= OPTIONS.get(kind, {})
        if is_shared:
            config["shared"] = 1
        if nodes is not None:
            config["nodes"] = ",".join(nodes)
        self.storages[sid] = config
        self.sizes[sid] = int(size_gib * GIB)

    def is_shared(self, sid: str) -> bool:
        """True if all nodes see the same volumes."""
        return bool(self._store(sid).get("shared"))

    def is_file_based(self, sid: str) -> bool:
        """True if volumes are files in a directory."""
        return self._store(sid)["type"] in FILE_TYPES

    # --------------------------------------------------------------- volumes

    def disks_on(self, sid: str, node: str) -> dict[str, Volume]:
        """The volumes that `node` sees on a storage, by name."""
        return self.disks.setdefault((sid, None if self.storages[sid].get("shared") else node), {})

    def volume(self, volid: str, node: str) -> Volume | None:
        """The volume behind a volume id as `node` sees it."""
        parts = split_volid(volid)
        if parts is None or parts[0] not in self.storages:
            return None
        return self.disks_on(parts[0], node).get(parts[1])

    def used(self, sid: str, node: str) -> int:
        """Bytes allocated."""
        return sum(volume.size for volume in self.disks_on(sid, node).values())

    def images_store(self, sid: str, node: str) -> Values:
        """The storage, once it exists, is enabled on the node and takes VM images."""
        store: Values = self._check_enabled(sid, node)
        if "images" not in store["content"].split(","):
            raise param_error(storage=f"storage '{sid}' does not support vm images")
        return store

    def _free_name(self, sid: str, node: str, vmid: int, fmt: str) -> str:
        taken = re.compile(rf"(?:vm|base)-{vmid}-disk-(\d+)")
        numbers = {
            int(found[1]) for name in self.disks_on(sid, node) for found in [taken.search(name)] if found
        }
        number = next(n for n in range(len(numbers) + 1) if n not in numbers)
        return self._file_name(sid, vmid, f"vm-{vmid}-disk-{number}", fmt)

    def _file_name(self, sid: str, vmid: int, name: str, fmt: str) -> str:
        return f"{vmid}/{name}.{fmt}" if self.is_file_based(sid) else name

    def alloc(
        self,
        sid: str,
        node: str,
        vmid: int,
        size: int,
        *,
        fmt: str | None = None,
        suffix: str | None = None,
        base: Volume | None = None,
        copy_of: Volume | None = None,
        same_name: bool = False,
    ) -> str:
        """PVE::Storage::vdisk_alloc (and clone_image with `base`): the new volume's id. With `copy_of` it is
        about to hold what that volume holds, under the `same_name` if asked for and free (volume_import).

        :raises PveError: 500 with the storage's own text if it is offline or full.
        """
        store = self._check_enabled(sid, node)
        if not store.get("active", 1):
            raise die(f"storage '{sid}' is not online")
        fmt = (fmt or "raw") if self.is_file_based(sid) else "raw"
        if base is not None and self.is_file_based(sid):
            fmt = "qcow2"  # clone_image writes an overlay, whatever the base is
        disks = self.disks_on(sid, node)
        kept = ""
        if copy_of is not None and same_name:
            stem = copy_of.name.rpartition("/")[2].removesuffix(f".{copy_of.format}")
            kept = self._file_name(sid, vmid, stem, fmt)
        if suffix:
            name = self._file_name(sid, vmid, f"vm-{vmid}-{suffix}", fmt)
        else:
            name = kept if kept and kept not in disks else self._free_name(sid, node, vmid, fmt)
        if base is not None and store["type"] in NAMES_BASE:
            name = f"{base.name}/{name}"
        if name in disks:
            raise die(self._exists_text(sid, name))
        free = self.sizes[sid] - self.used(sid, node)
        if base is None and size > free:
            raise die(self._full_text(sid, name, size, free))
        linked = base.name if base is not None and store["type"] in NAMES_BASE else None
        original = base or copy_of
        data = original.data if original is not None else next(self._data)
        disks[name] = Volume(name, vmid, size, fmt, "images", int(time.time()), linked, data)
        return f"{sid}:{name}"

    def _exists_text(self, sid: str, name: str) -> str:
        store = self.storages[sid]
        if store["type"] in FILE_TYPES:
            return f"disk image '/mnt/pve/{sid}/images/{name}' already exists"
        return (
            f"lvcreate '{store.get('vgname', sid)}/{name}' error:   Logical Volume \"{name}\" already exists"
        )

    def _full_text(self, sid: str, name: str, size: int, free: int) -> str:
        """What the user sees: the error of the tool that the storage plugin runs."""
        store = self.storages[sid]
        kind = store["type"]
        if kind == "lvmthin":
            pool = f"{store['vgname']}/{store['thinpool']}"
            return (
                f"lvcreate '{store['vgname']}/{name}' error:   Cannot create new thin volume, "
                f"free space in thin pool {pool} reached threshold."
            )
        if kind == "lvm":
            return f"not enough free space ({free // 1024} < {size // 1024})"
        if kind == "rbd":
            return f"rbd create '{name}' error: rbd: create error: (28) No space left on device"
        if kind == "zfspool":
            return f"zfs error: cannot create '{store['pool']}/{name}': out of space"
        return f"unable to create image: qemu-img: /mnt/pve/{sid}/images/{name}: No space left on device"

    def free(self, volid: str, node: str) -> None:
        """PVE::Storage::vdisk_free.

        :raises PveError: 500 if the volume is a base in use, or was marked unfreeable by a test.
        """
        volume = self.volume(volid, node)
        if volume is None:
            return
        if self.in_use_as_base(volid, node):
            raise die(f"base volume '{volume.name}' is still in use by linked clones")
        if volid in self.unfreeable:
            raise die(f"lvremove '{volid}' error:   Logical volume {volume.name} in use.")
        sid = volid.partition(":")[0]
        del self.disks_on(sid, node)[volume.name]

    def in_use_as_base(self, volid: str, node: str) -> bool:
        """volume_is_base_and_used: false on LVM-thin, whose clones do not depend on the base."""
        volume = self.volume(volid, node)
        if volume is None:
            return False
        return any(
            other.base == volume.name for other in self.disks_on(volid.partition(":")[0], node).values()
        )

    def make_base(self, volid: str, node: str) -> str:
        """vdisk_create_base: vm-<id>-disk-<n> becomes base-<id>-disk-<n>; the new volume id."""
        sid, name = volid.split(":", 1)
        disks = self.disks_on(sid, node)
        new = re.sub(r"\bvm-(\d+)-disk", r"base-\1-disk", name)
        disks[new] = replace(disks.pop(name), name=new)
        return f"{sid}:{new}"

    async def grow_volume(self, volid: str, node: str, size: int) -> None:
        """volume_resize: grow a volume, if the storage has room."""
        sid, name = volid.split(":", 1)
        disks = self.disks_on(sid, node)
        growth, free = size - disks[name].size, self.sizes[sid] - self.used(sid, node)
        if growth > free:
            raise die(self._grow_text(sid, name, growth, free))
        disks[name] = replace(disks[name], size=size)

    def _grow_text(self, sid: str, name: str, growth: int, free: int) -> str:
        """What a grow on a full storage says."""
        store = self.storages[sid]
        kind = store["type"]
        if kind == "lvm":
            need, have = growth // EXTENT, free // EXTENT
            return (
                f"lvextend '/dev/{store['vgname']}/{name}' error:   Insufficient free space: "
                f"{need} extents needed, but only {have} available"
            )
        if kind == "zfspool":
            return f"zfs error: cannot set property for '{store['pool']}/{name}': size is greater than available space"
        if kind == "rbd":
            return f"rbd resize '{name}' error: rbd: resize error: (28) No space left on device"
        return (
            self._full_text(sid, name, growth, free)
            .replace("lvcreate", "lvextend")
            .replace("create", "resize")
        )
