"""Which VMIDs have left traces: in the task index, and as volumes and backups on storages.

Asked when the VMID cursor was lost: an id that is given out again mixes up backups, and a restore's rescan adopts
volumes that an earlier VM of that id left. Not the inventory, which tells of what exists now.
"""

from typing import Any

from proxmox_operator.errors import NeedsHuman, Transient

from .client import PveClient
from .request import ParamValue
from .resources import Inventory

TASKS = 1000
"""How many of each node's latest tasks are read."""


async def traces(client: PveClient, inventory: Inventory) -> frozenset[int]:
    """VMIDs named by tasks (``GET /nodes/{node}/tasks``) or volumes (``GET /nodes/{node}/storage/{storage}/content``).

    Nodes that are offline and storages that are not available are left out. Raises Unreachable where a node that is
    said to be online does not answer.
    """
    found: set[int] = set()
    for node in inventory.nodes.values():
        if node.online:
            tasks = await _items(client, ("nodes", node.name, "tasks"), source="all", limit=TASKS)
            found.update(int(task["id"]) for task in tasks if str(task.get("id", "")).isdecimal())
    read: set[str] = set()
    for storage in inventory.storages.values():
        info = inventory.nodes.get(storage.node)
        if (
            not storage.available
            or info is None
            or not info.online
            or (storage.shared and storage.name in read)
        ):
            continue
        read.add(storage.name)
        volumes = await _items(client, ("nodes", storage.node, "storage", storage.name, "content"))
        found.update(int(volume["vmid"]) for volume in volumes if volume.get("vmid"))
    return frozenset(found)


async def _items(client: PveClient, path: tuple[str, ...], **params: ParamValue) -> list[dict[str, Any]]:
    try:
        items: list[dict[str, Any]] | None = await client.get(path, **params)
    except NeedsHuman:  # what the credentials may not see: without Datastore.Audit it holds nothing of ours
        return []
    except Transient as error:
        if error.reason == "StorageUnavailable":
            return []
        raise
    return items or []
