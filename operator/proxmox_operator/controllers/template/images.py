"""Why a node cannot import an image, and the remedy."""

import re

from proxmox_operator.controllers.fleet import Member
from proxmox_operator.proxmox.files import IMPORT
from proxmox_operator.proxmox.resources import Inventory, StorageInfo

IMPORTS_SINCE = (8, 3)
"""Version of Proxmox VE whose API imports disks from images on a storage."""

HOLDS_NO_FILES = frozenset({"lvm", "lvmthin", "zfspool", "zfs", "rbd", "iscsi", "iscsidirect"})
"""Types of storages that have disks of VMs only (``plugindata`` of ``PVE::Storage::*Plugin``)."""

UPLOADS_SINCE = (8, 4)
"""Version whose API takes uploads of such images (pve-storage 8.3.6)."""


def refusal_of_image(
    member: Member, inventory: Inventory, field: str, node: str, volume: str, *, uploaded: bool
) -> tuple[str, str | None]:
    """Reason and message, None where nothing stands in the way; ``field`` is what a person would change."""
    storage = volume.partition(":")[0]
    found = inventory.storages.get((storage, node))
    version = member.cluster.status.version
    if version is not None and _version(version) < IMPORTS_SINCE:
        message = (
            f"spec.image: Proxmox VE {version} imports no images through its API, 8.3 and newer do: upgrade it, or "
            "use spec.fromVM"
        )
        return "ImportNotSupported", message
    if uploaded and version is not None and _version(version) < UPLOADS_SINCE:
        message = (
            f"spec.image.via: Proxmox VE {version} takes no uploads of images, 8.4 and newer do: upgrade it, or set "
            "via to Proxmox"
        )
        return "ImportNotSupported", message
    if found is None or not found.available:
        message = f"{field}: {storage} is not available on {node}: name one that is, or enable it"
        return "ImageStorageNotFound", message
    if IMPORT not in found.content:
        return "ImageStorageNotUsable", f"{field}: {storage} takes no images to import: {_remedy(found)}"
    return "", None


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _remedy(storage: StorageInfo) -> str:
    """The exact command that lets the storage take images, where any does."""
    if storage.type in HOLDS_NO_FILES:
        return f"a storage of type {storage.type} holds no files; name a directory, NFS, CIFS, CephFS or Btrfs storage"
    content = ",".join(sorted({*storage.content, IMPORT}))
    return f"run `pvesm set {storage.name} --content {content}` on a node, or name another storage"
