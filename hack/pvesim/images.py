"""Files on a storage, as Proxmox VE names and reads them: which names are allowed, and how large the disk in an
image is. Pure but for reading a file's first bytes; no state.

Facts: parse_volname, get_subdir_files and file_size_info of PVE::Storage::Plugin, the `*_EXT_RE` of PVE::Storage and
the name rules of PVE::API2::Storage::Status (pve-storage 9.1.7; 8.3.8 differs by a plain `.tar` only), and the texts
of qemu-img.
"""

import re
import struct
from pathlib import Path

from .core import die, param_error

ISO = re.compile(r"[^/]+\.(?:iso|img)", re.IGNORECASE)
TEMPLATE = re.compile(r"[^/]+\.(?:(tar)|tar\.(gz|xz|zst|bz2))", re.IGNORECASE)
IMPORT = re.compile(r"[a-zA-Z0-9\-.+=_]+\.(ova|ovf|qcow2|raw|vmdk)")
NEW_IMPORT = re.compile(r"[a-zA-Z0-9\-.+=_]+\.(ova|qcow2|raw|vmdk)")
QEMU_FORMATS = frozenset({"raw", "qcow2", "vmdk"})
SECTOR = 512
QCOW2_HEADER = struct.Struct(
    ">4sIQIIQ"
)  # magic, version, offset and length of the backing file's name, bits, size
QCOW2_HEADER_V2 = 72
VMDK_HEADER = struct.Struct("<4sIIQ")  # magic, version, flags, sectors


def new_filename(content: str, filename: str) -> str:
    """The name under which an upload or download is kept: its folder is dropped, and whatever is not a letter, a
    digit or one of `_.-` becomes `_` (normalize_content_filename).

    :raises PveError: 400 at `filename`: the extension is none of this content.
    """
    name = re.sub(r"[^a-zA-Z0-9_.-]", "_", re.sub(r"^.*[/\\]", "", filename.removesuffix("\n")))
    if content == "import" and not NEW_IMPORT.fullmatch(name):
        raise param_error(filename="invalid filename or wrong extension")
    if content != "import" and not (ISO if content == "iso" else TEMPLATE).fullmatch(name):
        raise param_error(filename="wrong file extension")
    return name


def listed_format(name: str) -> str | None:
    """The format that the content list shows for a file (`import/x.qcow2`); None: it does not list such a name."""
    content, _, filename = name.partition("/")
    if content == "iso" and ISO.fullmatch(filename):
        return "iso"
    if content == "vztmpl" and (found := TEMPLATE.fullmatch(filename)):
        return found[1] or f"t{found[2]}"
    if content == "import" and (found := IMPORT.fullmatch(filename)):
        return found[1]
    return None


def qemu_format(name: str) -> str:
    """The format in which QEMU reads a file: an image's is its extension, anything else is raw."""
    return name.rpartition(".")[2] if name.startswith("import/") else "raw"


def virtual_size(path: Path, fmt: str, shown: str) -> int:
    """file_size_info of an untrusted file: bytes of the disk in it, which is not the size of the file.

    :param shown: the path that an error names.
    :raises PveError: 500 with the text of qemu-img, or of the check for backing files.
    """
    with path.open("rb") as file:
        header = file.read(QCOW2_HEADER_V2)
    if fmt == "qcow2":
        return _qcow2_size(header, shown)
    if fmt == "vmdk":
        if len(header) < VMDK_HEADER.size or not header.startswith(b"KDMV"):
            raise die(f"qemu-img: Could not open '{shown}': invalid VMDK image descriptor")
        sectors: int = VMDK_HEADER.unpack_from(header)[3]
        return sectors * SECTOR
    return -(-path.stat().st_size // SECTOR) * SECTOR


def _qcow2_size(header: bytes, shown: str) -> int:
    if not header.startswith(b"QFI\xfb"):
        raise die(f"qemu-img: Could not open '{shown}': Image is not in qcow2 format")
    if len(header) < QCOW2_HEADER_V2:
        raise die(f"qemu-img: Could not open '{shown}': qcow2 header too short")
    _, _, backing, _, _, size = QCOW2_HEADER.unpack_from(header)
    if backing:
        raise die(f"backing file not allowed for untrusted image '{shown}'!")
    return int(size)
