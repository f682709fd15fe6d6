"""The seed of a first boot as an ISO image, made in memory: the same content is always the same bytes.

What is on it is decided in ``planning.seed``; nothing here reads, uploads or remembers. Source: cloud-init's NoCloud
data source (label ``cidata``; files ``user-data``, ``meta-data`` and ``network-config``).
"""

import io
from collections.abc import Mapping
from typing import Any

import yaml
from pycdlib import PyCdlib
from pycdlib.dates import DirectoryRecordDate
from pycdlib.dr import DirectoryRecord

from proxmox_operator.api import BEGINNINGS, MAX_USER_DATA
from proxmox_operator.errors import NeedsHuman

_EPOCH = bytes((70, 1, 1, 0, 0, 0, 0))
_UNSPECIFIED = b"0" * 16 + b"\0"
_SECTOR = 2048
_DESCRIPTORS = (16, 17)
_DATES = 813
"""Offset of the four dates in a volume descriptor (ECMA-119, 8.4.26)."""

_GZIP = b"\x1f\x8b"


def seed_image(user_data: bytes, meta_data: Mapping[str, Any], network_config: str | None) -> bytes:
    """The image; without ``network_config`` cloud-init sets up DHCP."""
    files = {"meta-data": _yaml(meta_data).encode(), "user-data": user_data}
    if network_config is not None:
        files["network-config"] = network_config.encode()
    return _iso(files)


def empty_image(meta_data: Mapping[str, Any]) -> bytes:
    """An image for the same instance that holds nothing: for a seed that may not be deleted."""
    return seed_image(cloud_config({}), meta_data, None)


def cloud_config(data: Mapping[str, Any]) -> bytes:
    """User data that says this."""
    return b"#cloud-config\n" + _yaml(data).encode()


def network_text(config: Mapping[str, Any] | None) -> str | None:
    """A network-config as the guest reads it."""
    return None if config is None else _yaml(config)


def checked(user_data: bytes, field: str) -> bytes:
    """The same user data. Raises NeedsHuman, which names ``field``, where it is too long or cloud-init ignored it."""
    if len(user_data) > MAX_USER_DATA:
        message = f"{field}: user data of {len(user_data)} bytes is more than {MAX_USER_DATA}: have it fetch the rest"
        raise NeedsHuman(message, reason="UserDataTooLarge")
    if not user_data.startswith((*(begin.encode() for begin in BEGINNINGS), _GZIP)):
        message = (
            f"{field}: user data must begin with #cloud-config, with #! where it is a script, or be a MIME message: "
            "cloud-init ignores anything else"
        )
        raise NeedsHuman(message, reason="UserDataInvalid")
    return user_data


def _yaml(data: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(data), sort_keys=False)


def _iso(files: Mapping[str, bytes]) -> bytes:
    """ISO 9660 with Joliet, which keeps the names as they are."""
    iso = PyCdlib()
    iso.new(interchange_level=3, joliet=3, vol_ident="cidata")
    for name, data in sorted(files.items()):
        plain = name.upper().replace("-", "_")
        iso.add_fp(io.BytesIO(data), len(data), f"/{plain}.;1", joliet_path=f"/{name}")
    for tree in ({"iso_path": "/"}, {"joliet_path": "/"}):
        for record in (iso.get_record(**tree), *iso.list_children(**tree)):
            if isinstance(record, DirectoryRecord):
                record.date = DirectoryRecordDate()
                record.date.parse(_EPOCH)
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    return _without_dates(out.getvalue())


def _without_dates(image: bytes) -> bytes:
    """pycdlib writes the present time into each volume descriptor."""
    result = bytearray(image)
    for sector in _DESCRIPTORS:
        start = sector * _SECTOR + _DATES
        result[start : start + 4 * len(_UNSPECIFIED)] = 4 * _UNSPECIFIED
    return bytes(result)
