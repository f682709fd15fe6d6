"""Reading what a change of disks depends on, besides the config: only where the plan asks for it."""

from collections.abc import Mapping

from proxmox_operator.errors import Forbidden, OperatorError
from proxmox_operator.planning import disks
from proxmox_operator.planning.diskfacts import DiskFacts, Question, Room
from proxmox_operator.planning.lifecycle import Power
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.proxmox.vm import VMConfig


async def read(
    session: ClusterSession,
    node: str,
    vmid: int,
    config: VMConfig,
    asked: frozenset[Question],
    *,
    power: Power,
    grown: frozenset[tuple[str, int]],
) -> DiskFacts:
    """``power`` as it was just seen, ``config`` as it was just read."""
    filesystems, silence = None, "the VM does not run, and is not off either"
    if "guest" in asked and power == "Running":
        try:
            filesystems = await session.vms.filesystems(node, vmid)
        except OperatorError as error:
            silence = error.message
    return DiskFacts(
        node=node,
        current=config.current,
        stopped="guest" in asked and power == "Stopped",
        filesystems=filesystems,
        silence=silence,
        snapshots=await session.vms.snapshots(node, vmid) if "snapshots" in asked else None,
        storages=_rooms(session, node),
        grown=grown,
    )


def _rooms(session: ClusterSession, node: str) -> dict[str, Room] | None:
    inventory = session.inventory.current
    if inventory is None:
        return None
    return {
        storage.name: Room(content=storage.content, free=storage.free, shared=storage.shared)
        for (_, on), storage in inventory.storages.items()
        if on == node and storage.available
    }


async def left_behind(
    session: ClusterSession, node: str, vmid: int, config: Mapping[str, str], volume: str
) -> tuple[str, ...]:
    """The volume that a disk was moved away from, where Proxmox could not free it and no config names it any more."""
    named = {drive.volume for drive in disks.drives(config).values()} | {*disks.unused(config).values()}
    if volume in named:
        return ()
    try:
        there = await session.vms.volumes(node, vmid, volume.partition(":")[0])
    except Forbidden:
        return ()  # a storage that only the source was on, and that we may not look into
    return (volume,) if volume in there else ()
