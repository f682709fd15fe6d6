"""The files behind volumes, where guests are real: one qcow2 each, an ISO for the cloud-init drive.

A linked clone is an overlay of its base, and an import one of the image. A full copy is a copy of the file; both
then rest on what the original rested on, so a file stays until nothing rests on it any more - longer than its
volume does on LVM-thin, whose clones do not depend on the base. Everything lies in one folder. Not here: names,
sizes and space, which are the simulator's (storage.py).
"""

import itertools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .qemu_command import Image

# (storage, node or None where it is shared, name of the volume)
Key = tuple[str, str | None, str]


class DiskFiles:
    """What each volume holds. Blocking, but - other than `fill` - quick: nothing is converted."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._images: dict[Key, Image] = {}
        self._rests_on: dict[Path, Path] = {}
        self._numbers = itertools.count(1)

    def image(self, key: Key) -> Image | None:
        """The file of a volume, None if it has none."""
        return self._images.get(key)

    def path(self, key: Key) -> Path:
        """The file of a volume that has one."""
        return self._images[key].path

    def create(self, key: Key, size: int) -> None:
        """An empty disk of `size` bytes."""
        path = self._new(key, "qcow2")
        _qemu_img("create", "-q", "-f", "qcow2", str(path), str(size))

    def create_seed(self, key: Key) -> None:
        """An empty cloud-init medium."""
        self._new(key, "raw").touch()

    def overlay(self, key: Key, base: Path, size: int) -> None:
        """A disk of `size` bytes (at least those of `base`) that holds what `base` holds, without copying it."""
        shown = json.loads(_qemu_img("info", "--output=json", "--force-share", str(base)))
        path = self._new(key, "qcow2")
        self._rests_on[path] = base
        virtual = max(size, int(shown["virtual-size"]))
        _qemu_img(
            "create", "-q", "-f", "qcow2", "-F", shown["format"], "-b", str(base), str(path), str(virtual)
        )

    def fill(self, key: Key, source: Path, fmt: str, size: int) -> None:
        """An import: the disk, of `size` bytes, gets what an image of the format holds. Minutes for a large raw one."""
        path = self.path(key)
        if fmt == "qcow2":
            shutil.copyfile(source, path)
        else:
            _qemu_img("convert", "-f", fmt, "-O", "qcow2", str(source), str(path))
        _qemu_img("resize", "-q", str(path), str(size))

    def copy(self, key: Key, original: Key) -> None:
        """A disk of its own that holds what another holds, internal snapshots included."""
        source = self._images[original]
        path = self._new(key, source.format)
        shutil.copyfile(source.path, path)
        if source.path in self._rests_on:
            self._rests_on[path] = self._rests_on[source.path]

    def rename(self, key: Key, new: Key) -> None:
        """The volume has another name; its file stays where it is."""
        self._images[new] = self._images.pop(key)

    def resize(self, key: Key, size: int) -> None:
        """Grow a disk that no QEMU has open."""
        _qemu_img("resize", "-q", str(self.path(key)), str(size))

    def remove(self, key: Key) -> None:
        """Delete a disk, and whatever only it rested on."""
        image = self._images.pop(key, None)
        path = image.path if image is not None else None
        used = {other.path for other in self._images.values()}
        while (
            path is not None
            and path.parent == self.folder
            and path not in used | set(self._rests_on.values())
        ):
            path.unlink()
            path = self._rests_on.pop(path, None)

    def _new(self, key: Key, fmt: str) -> Path:
        path = self.folder / f"{key[2].replace('/', '_')}.{next(self._numbers)}"
        self._images[key] = Image(path, fmt)
        return path


def _qemu_img(*arguments: Any) -> str:
    done = subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"qemu-img {arguments[0]}: {done.stderr.strip()}")
    return done.stdout
