"""Files on storages: ISO images and images that disks are imported from. Disks of VMs are vm.py's.

Each method is one Proxmox call (said in its docstring) and decides nothing.
"""

import hashlib
from typing import Any

from .client import PveClient
from .request import File, ParamValue, Stream

IMPORT = "import"
"""Content type of images that disks are imported from; Proxmox VE has it since 8.3."""


class Files:
    """The calls. All raise the errors of client.py."""

    def __init__(self, client: PveClient) -> None:
        self._client = client

    async def images(self, node: str, storage: str) -> dict[str, int]:
        """``GET /nodes/{node}/storage/{storage}/content``: images to import by volume id, and their bytes.

        One that is being downloaded is not among them; one that Proxmox is copying into place after an upload is.
        """
        items: list[dict[str, Any]] = await self._client.get(
            ("nodes", node, "storage", storage, "content"), content=IMPORT
        )
        return {str(item["volid"]): int(item.get("size") or 0) for item in items}

    async def download_image(
        self, node: str, storage: str, *, url: str, filename: str, checksum: str, algorithm: str
    ) -> str:
        """``POST .../download-url``: the node fetches it, and keeps it only if its checksum is this one.

        A file of this name that is there already is checked instead, and kept. Needs Datastore.AllocateTemplate on the
        storage, and Sys.AccessNetwork on the node or Sys.Audit and Sys.Modify on /.
        """
        upid: str = await self._client.post(
            ("nodes", node, "storage", storage, "download-url"),
            **{
                "content": IMPORT,
                "url": url,
                "filename": filename,
                "checksum": checksum,
                "checksum-algorithm": algorithm,
            },
        )
        return upid

    async def upload_image(
        self, node: str, storage: str, image: Stream, *, checksum: str, algorithm: str
    ) -> str:
        """``POST /nodes/{node}/storage/{storage}/upload``: the UPID of the task, on the endpoint's node, that verifies
        it and copies it into place. Takes minutes.

        A file of that name is overwritten, and not whole before the task has ended; one that was cut short on its way
        leaves nothing. Raises also what the stream raises. Needs Datastore.AllocateTemplate on the storage; Proxmox VE
        has it for qcow2, raw and vmdk since 8.4, which keeps the file in /var/tmp of the endpoint meanwhile.
        """
        params: dict[str, ParamValue] = {
            "content": IMPORT,
            "checksum": checksum,
            "checksum-algorithm": algorithm,
            "filename": image,
        }
        upid: str = await self._client.post(("nodes", node, "storage", storage, "upload"), **params)
        return upid

    async def upload_iso(self, node: str, storage: str, name: str, data: bytes) -> str:
        """``POST /nodes/{node}/storage/{storage}/upload``: the UPID of the task that copies it into place.

        A file of that name is replaced; one that was cut short on its way fails by its checksum. Needs
        Datastore.AllocateTemplate on the storage.
        """
        params: dict[str, ParamValue] = {
            "content": "iso",
            "checksum": hashlib.sha256(data).hexdigest(),
            "checksum-algorithm": "sha256",
            "filename": File(name, data),
        }
        upid: str = await self._client.post(("nodes", node, "storage", storage, "upload"), **params)
        return upid

    async def delete(self, node: str, volume: str) -> str | None:
        """``DELETE /nodes/{node}/storage/{storage}/content/{volume}``: the UPID, or None where it was done at once.

        One that does not exist is no error. Needs Datastore.Allocate on the storage.
        """
        storage = volume.partition(":")[0]
        upid: str | None = await self._client.delete(
            ("nodes", node, "storage", storage, "content", *volume.split("/"))
        )
        return upid
