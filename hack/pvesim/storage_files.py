"""Files on storages: ISOs, container templates, and disk images to import. They are real files, in a folder of their
own that lives as long as the simulator; a local storage has one set per node. Disks of VMs are in storage.py.

A download that is under way is a file too: its name (`import/x.qcow2.tmp_dwnl.1001`) is in no content list, but it
takes space, and the killed worker of a download leaves it behind.
"""

import asyncio
import hashlib
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import images
from .props import split_volid
from .storage_snapshots import VolumeSnapshots


@dataclass(frozen=True)
class File:
    """A file; `name` is the part of the volume id after the storage, `path` where the bytes really are.

    `data` stands for what is in it: files with the same content have the same, also on other storages, and so has a
    disk that was imported from one. 0: not complete.
    """

    name: str
    path: Path
    ctime: int
    data: int = 0

    @property
    def size(self) -> int:
        """Bytes of the file itself."""
        return self.path.stat().st_size

    @property
    def content(self) -> str:
        """iso, vztmpl or import."""
        return self.name.partition("/")[0]


def digest(path: Path, algorithm: str) -> str:
    """The checksum of a file's content, in lower-case hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


class Scratch:
    """A temporary folder, made when it is first needed."""

    def __init__(self) -> None:
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    @property
    def path(self) -> Path:
        """The folder."""
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="pvesim-")
        return Path(self._directory.name)

    def remove(self) -> None:
        """Remove the folder and everything in it."""
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None


class FileVolumes(VolumeSnapshots):
    """The files of all storages."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.files: dict[tuple[str, str | None], dict[str, File]] = {}
        self.scratch = Scratch()
        self._contents: dict[str, int] = {}

    def files_on(self, sid: str, node: str) -> dict[str, File]:
        """The files that `node` sees on a storage, by name, unfinished ones included."""
        return self.files.setdefault((sid, None if self.storages[sid].get("shared") else node), {})

    def file(self, volid: str, node: str) -> File | None:
        """The file behind a volume id as `node` sees it."""
        parts = split_volid(volid)
        if parts is None or parts[0] not in self.storages:
            return None
        return self.files_on(parts[0], node).get(parts[1])

    def file_path(self, sid: str, name: str) -> str:
        """The path of a file on the node, as logs and errors show it."""
        return str(self._volume_path(sid, name, name.partition("/")[0]))

    def image_size(self, sid: str, file: File) -> int:
        """The size of the disk in a file, in bytes.

        :raises PveError: 500 with the text of qemu-img: it is no such image.
        """
        return images.virtual_size(file.path, images.qemu_format(file.name), self.file_path(sid, file.name))

    def used(self, sid: str, node: str) -> int:
        """Bytes allocated, files included."""
        return super().used(sid, node) + sum(file.size for file in self.files_on(sid, node).values())

    def begin_file(self, sid: str, node: str, name: str) -> File:
        """An empty file that somebody is about to write to."""
        place = "shared" if self.is_shared(sid) else node
        path = self.scratch.path / place / sid / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        file = File(name, path, int(time.time()))
        self.files_on(sid, node)[name] = file
        return file

    async def finish_file(self, sid: str, node: str, file: File, name: str) -> None:
        """The file is complete: it gets this name, in place of a file that has it."""
        content = await asyncio.to_thread(digest, file.path, "sha256")
        if content not in self._contents:
            self._contents[content] = next(self._data)
        files = self.files_on(sid, node)
        del files[file.name]
        path = file.path.rename(file.path.with_name(name.rpartition("/")[2]))
        files[name] = File(name, path, int(time.time()), self._contents[content])

    async def put_file(self, sid: str, node: str, name: str, source: bytes | Path) -> None:
        """Somebody copies a file to the node in a shell."""
        file = self.begin_file(sid, node, f"{name}.part")
        if isinstance(source, Path):
            await asyncio.to_thread(shutil.copyfile, source, file.path)
        else:
            file.path.write_bytes(source)
        await self.finish_file(sid, node, file, name)

    def remove_file(self, sid: str, node: str, file: File) -> None:
        """unlink."""
        file.path.unlink()
        del self.files_on(sid, node)[file.name]
