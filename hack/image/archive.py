"""An OCI archive, as file: what the image says of itself, and the files in it. Not here: how it came to be."""

import gzip
import json
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

GONE, ALL_GONE = ".wh.", ".wh..wh..opq"


class Archive:
    """The one image in an archive, for one platform."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with tarfile.open(path) as archive:
            index = _json(archive, "index.json")
            self.manifest = _blob(archive, index["manifests"][0])
            self._config = _blob(archive, self.manifest["config"])

    @property
    def config(self) -> dict[str, Any]:
        """What a container of it begins with: User, Entrypoint, Cmd, Env, Labels."""
        return dict(self._config["config"])

    @property
    def packed_size(self) -> int:
        """Bytes that are transferred when it is pulled by a machine that has none of its layers."""
        return sum(layer["size"] for layer in self.manifest["layers"])

    def layers(self) -> Iterator[tarfile.TarFile]:
        """Its layers, the base's first."""
        with tarfile.open(self.path) as archive:
            for layer in self.manifest["layers"]:
                with (
                    gzip.open(_file(archive, _place(layer))) as content,
                    tarfile.open(fileobj=content) as files,
                ):
                    yield files

    def unpacked_size(self) -> int:
        """Bytes of all files in all layers: what is on the disk of a machine that has pulled it."""
        return sum(member.size for layer in self.layers() for member in layer)

    def unpack(self, folder: Path) -> None:
        """Lay the layers over each other, with owners and modes: as root."""
        for layer in self.layers():
            for member in layer:
                place = folder / member.name
                if place.name == ALL_GONE:
                    shutil.rmtree(place.parent)
                    place.parent.mkdir()
                elif place.name.startswith(GONE):
                    _remove(place.with_name(place.name.removeprefix(GONE)))
                else:
                    if not member.isdir():
                        _remove(place)
                    layer.extract(member, folder, numeric_owner=True, filter="fully_trusted")


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def _json(archive: tarfile.TarFile, name: str) -> dict[str, Any]:
    return dict(json.load(_file(archive, name)))


def _blob(archive: tarfile.TarFile, descriptor: Mapping[str, Any]) -> dict[str, Any]:
    return _json(archive, _place(descriptor))


def _place(descriptor: Mapping[str, Any]) -> str:
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def _file(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    if found is None:
        raise ValueError(f"{name} is no file")
    return found
