"""Typed calls about disk images on storages, that VMs are made from: list, download, delete.

Each method is one Proxmox call (said in its docstring) and decides nothing.
"""

from typing import Any

from .client import PveClient

CONTENT = "import"
"""Content type of images that disks are imported from; Proxmox VE has it since 8.3."""


class Images:
    """The calls. All raise the errors of client.py."""

    def __init__(self, client: PveClient) -> None:
        self._client = client

    async def listed(self, node: str, storage: str) -> frozenset[str]:
        """``GET /nodes/{node}/storage/{storage}/content``: volume ids of the images that lie there, whole ones only."""
        items: list[dict[str, Any]] = await self._client.get(
            ("nodes", node, "storage", storage, "content"), content=CONTENT
        )
        return frozenset(str(item["volid"]) for item in items)

    async def download(
        self, node: str, storage: str, *, url: str, filename: str, checksum: str, algorithm: str
    ) -> str:
        """``POST .../download-url``: the node fetches it, and keeps it only if its checksum is this one.

        A file of this name that is there already is checked instead, and kept. Needs Datastore.AllocateTemplate on the
        storage, and Sys.AccessNetwork on the node or Sys.Audit and Sys.Modify on /.
        """
        upid: str = await self._client.post(
            ("nodes", node, "storage", storage, "download-url"),
            **{
                "content": CONTENT,
                "url": url,
                "filename": filename,
                "checksum": checksum,
                "checksum-algorithm": algorithm,
            },
        )
        return upid

    async def delete(self, node: str, volume: str) -> None:
        """``DELETE .../content/{volume}``; needs Datastore.Allocate on the storage. Deletes at once, or in a task that
        nobody waits for."""
        storage = volume.partition(":")[0]
        await self._client.delete(("nodes", node, "storage", storage, "content", *volume.split("/")))
