"""What a version of a VMTemplate is: a digest of what shapes the result. And the image file that it comes from."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from proxmox_operator.api import Hardware, Image, TemplateSpec

DIGITS = 10
"""Hex digits of a version: names, tags and columns hold it."""

_UPLOADED = "-uploaded"
_SUM_DIGITS = 16
_DRAFT = "+draft"
_VERSION = re.compile(r"^(?P<template>.+)@(?P<version>[0-9a-f]{10})([+]draft)?$")
_NO_SHAPE = {"timeout", "seed_storage", "keep_failed"}
"""Fields of ``spec.build`` that do not shape the result."""


def version_of(spec: TemplateSpec, *, storage: str) -> str:
    """The version that the spec asks for, with disks on ``storage``.

    An image counts by its checksum, so another mirror is no other version. Where copies are, how many versions are kept
    and which tags new copies get does not shape them. What is as by default is left out: a field that a newer operator
    adds makes no new version.
    """
    image = spec.image
    file = image_file(image) if image is not None else None
    shape = {
        "image": (image.checksum or image.volume) if image is not None else None,
        "format": file.name.rpartition(".")[2] if file is not None else None,
        "fromVM": spec.from_vm.vmid if spec.from_vm is not None else None,
        "hardware": (spec.hardware or Hardware()).model_dump(mode="json", exclude_defaults=True),
        "build": spec.build.model_dump(mode="json", exclude=_NO_SHAPE, exclude_defaults=True)
        if spec.build
        else None,
        "storage": storage,
        "revision": spec.revision,
    }
    said = {part: value for part, value in shape.items() if value is not None}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:DIGITS]


def marked_name(template: str, version: str, *, draft: bool = False) -> str:
    """How a mark names a copy: no object is called so, so no ProxmoxVM takes it for its own.

    ``draft``: it is still to be built. It is called otherwise until it is sealed, so that one whose status was lost is
    never taken for a finished one.
    """
    return f"{template}@{version}{_DRAFT if draft else ''}"


def is_draft(marked: str) -> bool:
    """Whether the name in a mark is that of a copy that is still to be built."""
    return marked.endswith(_DRAFT)


def marked_version(template: str, marked: str) -> str | None:
    """The version in the name of a mark; None where the mark is not of this template."""
    match = _VERSION.match(marked)
    return match["version"] if match is not None and match["template"] == template else None


def proxmox_name(template: str, version: str) -> str:
    """Name of a copy in Proxmox: a DNS label of at most 63 characters that ends in the version."""
    stem = template.replace(".", "-")[: 63 - DIGITS - 1].rstrip("-")
    return f"{stem}-{version}"


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """A file that Proxmox downloads, or the operator uploads: ``algorithm`` and ``digest`` are what is verified.

    The name holds the checksum, so a file of this name has this content, or Proxmox refuses it. An uploaded one has
    another name: Proxmox copies it into place under that name, so that it can be there and not be whole, which a
    downloaded one cannot.
    """

    url: str
    storage: str
    name: str
    algorithm: str
    digest: str
    uploaded: bool = False

    @property
    def volume(self) -> str:
        """Its volume id."""
        return f"{self.storage}:import/{self.name}"


def image_file(image: Image) -> ImageFile | None:
    """What has to be downloaded; None for an image that lies on a storage already.

    Proxmox takes import images by these extensions only (``PVE::API2::Storage::Status``, download-url).
    """
    if image.url is None or image.checksum is None or image.storage is None:
        return None
    path = PurePosixPath(image.url.partition("://")[2])
    extension = image.format or path.name.rpartition(".")[2].replace("img", "qcow2")
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem if path.parts[1:] else "image")[:80].lstrip(".-")
    algorithm, _, digest = image.checksum.partition(":")
    uploaded = image.via == "Operator"
    mark = f"{digest[:_SUM_DIGITS]}{_UPLOADED if uploaded else ''}"
    return ImageFile(
        url=image.url,
        storage=image.storage,
        name=f"{stem or 'image'}-{mark}.{extension}",
        algorithm=algorithm,
        digest=digest,
        uploaded=uploaded,
    )


def is_uploaded(volume: str) -> bool:
    """Whether a volume id has the name of an :class:`ImageFile` that the operator uploads."""
    return volume.rpartition(".")[0].endswith(_UPLOADED)


def image_volume(image: Image) -> str | None:
    """The volume that boot disks are imported from: the one that lies there, or the one that is downloaded."""
    file = image_file(image)
    return image.volume if file is None else file.volume
