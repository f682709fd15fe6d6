"""Uploads: a client sends a file to any node, and the node copies it to a storage.

Facts: file_upload_multipart of PVE::APIServer::AnyEvent (pve-http-server 6) and upload of PVE::API2::Storage::Status
(pve-storage 9.1.7). The bytes go to a temporary file as they come, before anything but the login is checked; the form
fields stand before the file, which may be of any size. A client that leaves, or rests for 5 s, before the last byte
leaves nothing. The task belongs to the node that was spoken to, which copies the file to the other one. Unlike a
download, an upload takes the place of a file that has its name: cp writes to it in place, so that half of it is listed
meanwhile, and stays where the worker is killed.
"""

import asyncio
import secrets
import shutil
from pathlib import Path
from typing import Any

from aiohttp import BodyPartReader, ClientError, web
from fakepve.model import PveError, TaskError

from . import images
from .core import Values, die
from .downloads import Downloads

CHUNK = 256 * 1024
FIELDS = frozenset({"content", "checksum", "checksum-algorithm"})
TEMPORARY = "/var/tmp/pveupload-"  # noqa: S108 - a path on the simulated node


class CutShort(Exception):
    """The client has left in the middle of an upload, or rested for too long."""


class Uploads(Downloads):
    """POST storage/{storage}/upload."""

    upload_patience = 5.0
    """Seconds without a byte (the timeout of the handle of PVE::APIServer::AnyEvent), whatever the time scale."""

    def _table_uploads(self) -> list[tuple[str, str, Any]]:
        return [("POST", "/nodes/{node}/storage/{storage}/upload", self._upload_post)]

    def _temporary(self, name: str) -> Path:
        """Where the bytes of a temporary file really are."""
        return self.scratch.path / name.rpartition("/")[2]

    async def receive_upload(self, request: web.Request) -> Values:
        """The parameters of a multipart request; `tmpfilename` names the temporary file on the node.

        :raises PveError: 500: the file is in a field of another name, or its length is not known beforehand.
        :raises CutShort: nothing of it is left.
        """
        if request.content_length is None:
            raise die("upload without content length header not supported")
        values: Values = {}
        try:
            await self._receive(request, values)
        except (ClientError, ConnectionError, ValueError, TimeoutError) as error:
            self.drop_upload(values)
            raise CutShort from error
        return values

    async def _receive(self, request: web.Request, values: Values) -> None:
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                continue
            if part.filename is None and part.name in FIELDS:
                values[part.name] = (await part.text()).strip()
            elif part.filename is not None:
                if part.name != "filename":
                    raise die(f"wrong field name '{part.name}' for file upload, expected 'filename'")
                values["filename"] = part.filename
                values["tmpfilename"] = TEMPORARY + secrets.token_hex(16)
                with self._temporary(values["tmpfilename"]).open("wb") as sink:
                    while chunk := await asyncio.wait_for(part.read_chunk(CHUNK), self.upload_patience):
                        sink.write(chunk)

    def drop_upload(self, values: Values) -> None:
        """The request was refused: nobody needs the temporary file."""
        if values.get("tmpfilename"):
            self._temporary(values["tmpfilename"]).unlink(missing_ok=True)

    async def _upload_post(self, v: Values, user: str) -> str:
        sid, node, content = v["storage"], v["node"], v["content"]
        store = self._check_enabled(sid, node)
        if not self.is_file_based(sid):
            raise die(f"can't upload to storage type '{store['type']}'")
        if not v.get("tmpfilename"):
            raise die("missing temporary file name")
        name = f"{content}/{images.new_filename(content, v['filename'])}"
        if content not in store["content"].split(","):
            raise die(f"storage '{sid}' does not support '{content}' content")
        self._active_store(sid, node)

        async def body() -> None:
            try:
                await self._store_upload(v, name)
            finally:
                self.drop_upload(v)

        return await self.task(self.answering.get(), "imgcopy", "", user, body)

    async def _store_upload(self, v: Values, name: str) -> None:
        sid, node, shown = v["storage"], v["node"], v["tmpfilename"]
        received = self._temporary(shown)
        self.say(f"starting file import from: {shown}")
        if v.get("checksum"):
            await self.verify_checksum(received, v)
            self.say("calculating checksum...OK, checksum verified")
        self.check_content(name, received, shown)
        target = self.file_path(sid, name)
        for line in (
            f"target node: {node}",
            f"target file: {target}",
            f"file size is: {received.stat().st_size}",
        ):
            self.say(line)
        copy = self.begin_file(sid, node, name)
        try:
            size = received.stat().st_size
            if size > self.sizes[sid] - self.used(sid, node):
                raise die(f"import failed: cp: error writing '{target}': No space left on device")
            with received.open("rb") as source, copy.path.open("wb", buffering=0) as sink:
                sink.write(source.read(min(CHUNK, size // 2)))
                await self.checkpoint("upload:copying")
                await self.work()
                await asyncio.to_thread(shutil.copyfileobj, source, sink)
        except (PveError, TaskError):
            self.remove_file(sid, node, copy)
            raise
        await self.finish_file(sid, node, copy, name)
        self.say("finished file import successfully")
