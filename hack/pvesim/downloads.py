"""Downloads: a node really fetches a file from a URL, checks it and keeps it on a storage.

Facts: download_url of PVE::API2::Storage::Status (pve-storage 9.1.7, and 8.3.8 alike), download_file_from_url of
PVE::Tools, and query_url_metadata of PVE::API2::Nodes. The bytes go to `NAME.tmp_dwnl.PID` beside the target, which is
renamed at last; every failure removes it, but the kill of the worker does not. Compressed ISOs are not simulated.
"""

import asyncio
import re
from contextlib import aclosing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from fakepve.model import PveError, TaskError

from . import images
from .core import Values, die
from .storage_api import Storages
from .storage_files import File, digest
from .wget import Wget


class Downloads(Storages, Wget):
    """POST storage/{storage}/download-url and GET query-url-metadata."""

    def _table_downloads(self) -> list[tuple[str, str, Any]]:
        return [
            ("POST", "/nodes/{node}/storage/{storage}/download-url", self._download_url),
            ("GET", "/nodes/{node}/query-url-metadata", self._url_metadata),
        ]

    async def _download_url(self, v: Values, user: str) -> str:
        sid, node, content = v["storage"], v["node"], v["content"]
        store = self._check_enabled(sid, node)
        if not self.is_file_based(sid):
            raise die(f"can't upload to storage type '{store['type']}', not a file based storage!")
        if content not in store["content"].split(","):
            raise die(f"storage '{sid}' is not configured for content-type '{content}'")
        filename = images.new_filename(content, v["filename"])
        self._active_store(sid, node)

        async def body() -> None:
            if v.get("compression"):
                raise die(f"pvesim does not decompress {content}")
            await self._download(v, f"{content}/{filename}")

        return await self.task(node, "download", filename, user, body)

    async def _download(self, v: Values, name: str) -> None:
        sid, node = v["storage"], v["node"]
        target = self.file_path(sid, name)
        self.say(f"downloading {v['url']} to {target}")
        existing = self.files_on(sid, node).get(name)
        if existing is not None:
            if not v.get("checksum"):
                raise die(f"refusing to override existing file '{target}'")
            await self.verify_checksum(existing.path, v, ", aborting")
            self.say(
                "calculating checksum of existing file...OK, got correct file already, no need to download"
            )
            return
        partial = self.begin_file(sid, node, f"{name}.tmp_dwnl.{self.worker_pid()}")
        try:
            try:
                await self.interruptible(self._fetch(v, partial))
            except TaskError as error:
                raise TaskError("download failed: received interrupt") from error
            try:
                self.check_content(name, partial.path, self.file_path(sid, partial.name))
            except PveError as error:
                raise die(f"failed to verify file: {error.message}") from error
        except (PveError, TaskError):
            self.remove_file(sid, node, partial)
            raise
        await self.finish_file(sid, node, partial, name)
        self.say(f"download of '{v['url']}' to '{target}' finished")

    async def _fetch(self, v: Values, partial: File) -> None:
        """All of the bytes, and the right ones."""
        sid, node = v["storage"], v["node"]
        verify = bool(v.get("verify-certificates", 1))
        with partial.path.open("wb", buffering=0) as sink:
            async with aclosing(self.fetched(v["url"], verify=verify)) as pieces:
                async for piece in pieces:
                    if len(piece) > self.sizes[sid] - self.used(sid, node):
                        path = self.file_path(sid, partial.name)
                        raise die(f"download failed: Cannot write to '{path}' (No space left on device).")
                    sink.write(piece)
                    await self.checkpoint("download:fetching")
        await self.work()
        if v.get("checksum"):
            await self.verify_checksum(partial.path, v)
            self.say("calculating checksum...OK, checksum verified")

    @staticmethod
    def check_content(name: str, path: Path, shown: str) -> None:
        """What a new file `name` is looked at for: a disk image must be one of the format its extension says.

        :param shown: the path that an error names.
        :raises PveError: 500 with the text of qemu-img.
        """
        fmt = images.qemu_format(name)
        if name.startswith("import/") and fmt in images.QEMU_FORMATS:
            images.virtual_size(path, fmt, shown)

    @staticmethod
    async def verify_checksum(path: Path, v: Values, outcome: str = "") -> None:
        """get_file_hash against `checksum` and `checksum-algorithm`, in any case of letters.

        :raises PveError: 500: it is another one; `outcome` ends the sentence.
        """
        got = await asyncio.to_thread(digest, path, v["checksum-algorithm"])
        if got != v["checksum"].lower():
            raise die(f"checksum mismatch: got '{got}' != expect '{v['checksum']}'{outcome}")

    async def _url_metadata(self, v: Values, user: str) -> Values:
        tls = self.client_tls(verify=bool(v.get("verify-certificates", 1)))
        try:
            async with (
                aiohttp.ClientSession(headers={"User-Agent": "Proxmox VE"}) as session,
                session.head(v["url"], ssl=tls, allow_redirects=True) as response,
            ):
                status, headers = f"{response.status} {response.reason}", response.headers
        except aiohttp.ClientError as error:
            where = urlsplit(v["url"]).netloc
            raise die(f"invalid server response: '500 Can't connect to {where} ({error})'") from error
        if not status.startswith("200 "):
            raise die(f"invalid server response: '{status}'")
        named = re.search(r'filename="?([^";]*)', headers.get("Content-Disposition", ""))
        filename = named[1] if named else urlsplit(v["url"]).path.rpartition("/")[2]
        size = int(headers.get("Content-Length", 0))
        mimetype = headers.get("Content-Type", "").partition(";")[0]
        found = {"filename": filename, "size": size, "mimetype": mimetype}
        return {key: value for key, value in found.items() if value}
