"""Why a node cannot build a copy, and the remedy: looked at before one is made."""

from collections.abc import Set

from proxmox_operator.api import Build
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.controllers.template.images import HOLDS_NO_FILES
from proxmox_operator.proxmox.permissions import Feature, Scope, remedy
from proxmox_operator.proxmox.resources import Inventory


def seed_storage(member: Member, build: Build) -> str | None:
    """The storage that the seed of the boot is uploaded to."""
    return build.seed_storage or member.cluster.spec.defaults.seed_storage


def refusal_of_build(
    member: Member, inventory: Inventory, build: Build, node: str, bridges: Set[str] | None = None
) -> tuple[str, str | None]:
    """Reason and message, None where nothing stands in the way. ``bridges`` are those that the credentials may use
    there, None where that is not known."""
    field, storage = "spec.build.seedStorage", seed_storage(member, build)
    if storage is None:
        message = "name a storage that takes ISO images, or set defaults.seedStorage on the ProxmoxCluster"
        return "StorageNotChosen", f"{field}: {message}"
    found = inventory.storages.get((storage, node))
    if found is not None and found.type in HOLDS_NO_FILES:
        message = f"storage {storage}, of type {found.type}, holds no ISO images: name a directory, NFS, CIFS or CephFS"
        return "StorageNotUsable", f"{field}: {message} storage, such as local"
    if found is None or not found.available or "iso" not in found.content:
        message = (
            f"storage {storage} is not available on {node}, or takes no ISO images: add iso to its content"
        )
        return "StorageNotUsable", f"{field}: {message}, or name another one"
    bridge = build.network.bridge if build.network is not None else None
    if bridge is not None and bridges is not None and bridge not in bridges:
        message = (
            f"spec.build.network.bridge: {node} has no bridge or vnet {bridge}, or the credentials may not use it: "
            f"name another, or grant SDN.Use on /sdn/zones/localnetwork/{bridge}; of a vnet on that of its zone"
        )
        return "BridgeNotFound", message
    scope = Scope(
        pool=member.cluster.spec.pool,
        storages=(storage,),
        bridges=(bridge,) if bridge is not None else (),
        features=(Feature.BUILD,),
    )
    if (lack := remedy(member.granted, scope, member.major or 0)) is not None:
        return "PermissionDenied", f"spec.build: {lack}"
    return "", None
