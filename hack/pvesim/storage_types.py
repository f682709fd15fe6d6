"""What each storage type can do: the feature matrix, formats, contents and migration. Pure tables, no state.

Facts: volume_has_feature, plugindata and volume_export_formats of the plugins of pve-storage 9.1.7. Thick
LVM without `snapshot-as-volume-chain`: no snapshot, no template, no linked clone. CephFS holds no images.
"""

FILE_TYPES = frozenset({"dir", "nfs", "cifs", "cephfs", "btrfs"})
SHARED_TYPES = frozenset({"nfs", "cifs", "cephfs", "rbd", "pbs", "iscsi", "iscsidirect", "zfs"})
# Types whose linked clones carry the base in their name, so that the base is known to be in use.
NAMES_BASE = frozenset({"rbd", "zfspool", "dir", "nfs", "cifs"})
# Types of which a migration can copy a local volume; scan_local_volumes refuses all others.
MIGRATABLE = frozenset({"dir", "btrfs", "zfspool", "lvmthin", "lvm"})
# Types of which a local volume migrates together with its snapshots, when the VM is stopped.
MIGRATES_SNAPSHOTS = frozenset({"zfspool"})
# Types on which only the newest snapshot can be rolled back to.
ROLLS_BACK_NEWEST = frozenset({"zfspool"})
DEFAULT_CONTENT = {
    "cephfs": "vztmpl,iso,backup,snippets,import",
    "lvm": "images,rootdir",
    "lvmthin": "images,rootdir",
    "rbd": "images,rootdir",
    "zfspool": "images,rootdir",
    "pbs": "backup",
}
# What a disk's size is a multiple of, in bytes; all others: KiB. Facts: alloc_image of the plugins.
GRANULES = {"lvm": 4 * 1024**2, "lvmthin": 4 * 1024**2, "rbd": 1024**2, "zfspool": 1024**2}
FILE_CONTENT = "images,rootdir,iso,vztmpl,backup,snippets,import"

# feature -> what it applies to (a base image, the current state, a snapshot); for files, by format.
_BLOCK: dict[str, dict[str, set[str]]] = {
    "lvmthin": {
        "snapshot": {"current"},
        "clone": {"base", "snap"},
        "template": {"current"},
        "copy": {"base", "current", "snap"},
        "rename": {"current"},
    },
    "rbd": {
        "snapshot": {"current", "snap"},
        "clone": {"base", "snap"},
        "template": {"current"},
        "copy": {"base", "current", "snap"},
        "rename": {"current"},
    },
    "zfspool": {
        "snapshot": {"current", "snap"},
        "clone": {"base"},
        "template": {"current"},
        "copy": {"base", "current"},
        "rename": {"current"},
    },
    "lvm": {"copy": {"base", "current"}, "rename": {"current"}},
}
_FILE: dict[str, dict[str, set[str]]] = {
    "snapshot": {"current": {"qcow2"}, "snap": {"qcow2"}},
    "clone": {"base": {"qcow2", "raw", "vmdk"}},
    "template": {"current": {"qcow2", "raw", "vmdk"}},
    "copy": {"base": {"qcow2", "raw", "vmdk"}, "current": {"qcow2", "raw", "vmdk"}, "snap": {"qcow2"}},
    "rename": {"current": {"qcow2", "raw", "vmdk"}},
}


def has_feature(kind: str, feature: str, where: str, fmt: str) -> bool:
    """volume_has_feature: whether a volume of format `fmt` on a storage of type `kind` can do `feature`.

    `where` is what is asked about: `base` (a base image), `current` or `snap` (a snapshot of it).
    """
    if kind in FILE_TYPES:
        return fmt in _FILE.get(feature, {}).get(where, set())
    return where in _BLOCK.get(kind, {}).get(feature, set())


def formats(kind: str) -> frozenset[str]:
    """The formats a storage can hold; all but files are raw."""
    return frozenset({"raw", "qcow2", "vmdk"}) if kind in FILE_TYPES else frozenset({"raw"})


def allocated(kind: str, size: int) -> int:
    """The size of a disk that was asked for with `size` bytes."""
    granule = GRANULES.get(kind, 1024)
    return -(-size // granule) * granule


def transfer_format(kind: str, fmt: str) -> str:
    """The stream in which a stopped disk leaves a storage; the target must know the same one."""
    if kind == "zfspool":
        return "zfs"
    return f"{fmt}+size" if fmt in ("qcow2", "vmdk") else "raw+size"


def accepts(kind: str, stream: str) -> bool:
    """True if a storage of this type can import such a stream."""
    if kind == "zfspool":
        return stream == "zfs"
    return stream == "raw+size" or (kind in FILE_TYPES and stream != "zfs")
