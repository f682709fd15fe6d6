"""Property strings as Proxmox VE writes them back: drives, NICs, sizes, tags. Pure functions, no state."""

import base64
import re
import secrets
from typing import Any
from urllib.parse import unquote

GIB = 1024**3
UNITS = {"K": 1024, "M": 1024**2, "G": GIB, "T": 1024**4}
DRIVE = re.compile(
    r"(ide[0-3]|sata[0-5]|scsi(?:[0-9]|[12][0-9]|30)|virtio(?:[0-9]|1[0-5])|efidisk0|tpmstate0)"
)
NET = re.compile(r"net\d+")
UNUSED = re.compile(r"unused\d+")
NEW_DISK = re.compile(r"(?:([^/:\s]+):)?(\d+(?:\.\d+)?)")
NET_MODELS = frozenset(
    [
        "e1000",
        "e1000-82540em",
        "e1000-82544gc",
        "e1000-82545em",
        "e1000e",
        "i82551",
        "i82557b",
        "i82559er",
        "ne2k_isa",
        "ne2k_pci",
        "pcnet",
        "rtl8139",
        "virtio",
        "vmxnet3",
    ]
)
KEY_TYPES = frozenset(
    [
        "ssh-rsa",
        "ssh-dss",
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ]
)
Props = dict[str, str]


def is_drive(key: str) -> bool:
    """True for a key that holds a drive (unusedN is not one)."""
    return DRIVE.fullmatch(key) is not None


def parse(text: Any, default: str = "") -> Props:
    """`value,key=value,...` as a dict; a leading bare value is stored under `default`."""
    out: Props = {}
    for part in str(text).split(","):
        key, equals, value = part.partition("=")
        if equals:
            out[key] = value
        elif part:
            out[default] = part
    return out


def parse_drive(text: Any) -> Props:
    """A drive; its volume is under `file`."""
    return parse(text, "file")


def print_drive(drive: Props) -> str:
    """A drive as Proxmox VE prints it: the volume, then the options in alphabetical order."""
    return ",".join([drive["file"]] + [f"{key}={drive[key]}" for key in sorted(drive) if key != "file"])


def is_cdrom(drive: Props) -> bool:
    """True for a CD-ROM drive, the cloud-init drive included."""
    return drive.get("media") == "cdrom" or drive.get("file") == "cdrom"


def is_cloudinit(drive: Props) -> bool:
    """True for the drive that holds the generated cloud-init ISO."""
    return re.search(r":cloudinit$|[:/]vm-\d+-cloudinit(\.\w+)?$", drive.get("file", "")) is not None


def split_volid(volid: str) -> tuple[str, str] | None:
    """(storage, volume name), or None for a path or a keyword."""
    sid, colon, name = volid.partition(":")
    return (sid, name) if colon and not volid.startswith("/") else None


def random_mac() -> str:
    """A MAC with Proxmox's own prefix."""
    return "BC:24:11:" + ":".join(f"{byte:02X}" for byte in secrets.token_bytes(3))


def parse_net(text: Any) -> Props:
    """A NIC as {model, macaddr, bridge, ...}; a missing MAC is generated, as parse_net in qemu-server
    does."""
    out: Props = {}
    for part in str(text).split(","):
        key, equals, value = part.partition("=")
        if key in NET_MODELS:
            out["model"] = key
            if equals:
                out["macaddr"] = value
        elif equals:
            out[key] = value
    if "model" in out and not out.get("macaddr"):
        out["macaddr"] = random_mac()
    return out


def print_net(net: Props) -> str:
    """A NIC as Proxmox VE prints it: model=MAC first, the rest in alphabetical order."""
    rest = [f"{key}={net[key]}" for key in sorted(net) if key not in ("model", "macaddr")]
    return ",".join([f"{net['model']}={net['macaddr']}", *rest])


def print_props(props: Props) -> str:
    """Any other property string: `key=value` in alphabetical order."""
    return ",".join(f"{key}={props[key]}" for key in sorted(props))


def size_bytes(text: str) -> int:
    """Bytes in `8G`, `512M` or `1048576`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT])?", text)
    if match is None:
        raise ValueError(f"not a size: {text!r}")
    return int(float(match[1]) * UNITS.get(match[2] or "", 1))


def print_size(size: int) -> str:
    """A size as Proxmox VE prints it: with the largest unit that divides it."""
    for unit in "TGMK":
        if size and size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    return str(size)


def unique_tags(text: Any) -> str:
    """Tags as they are stored: lower case, unique, sorted, joined by semicolons."""
    return ";".join(sorted({tag.lower() for tag in re.split(r"[;,\s]+", str(text)) if tag}))


def enabled(text: Any) -> bool:
    """True if a property string such as agent= is switched on."""
    return parse(text, "enabled").get("enabled") in ("1", "on", "yes", "true") if text is not None else False


def valid_ssh_keys(quoted: str) -> bool:
    """True if every non-empty line of the percent-decoded text is an SSH public key (as ssh-keygen -l would
    say)."""
    return all(_is_ssh_key(line) for line in unquote(quoted).split("\n") if line.strip())


def _is_ssh_key(line: str) -> bool:
    words = line.split()
    at = next((index for index, word in enumerate(words) if word in KEY_TYPES), None)
    if at is None or at + 1 >= len(words):
        return False
    try:
        blob = base64.b64decode(words[at + 1], validate=True)
    except ValueError:
        return False
    kind = words[at].encode()
    return blob[4 : 4 + len(kind)] == kind


def natural(key: str) -> tuple[str, int]:
    """Sort key: scsi2 before scsi10."""
    match = re.fullmatch(r"(\D+)(\d+)", key)
    return (match[1], int(match[2])) if match else (key, 0)


def drives(config: dict[str, Any]) -> list[tuple[str, Props]]:
    """The drives of a config in the order in which a clone walks them (plain string order of the keys)."""
    return [(key, parse_drive(config[key])) for key in sorted(config) if is_drive(key)]


def volids(config: dict[str, Any], *, unused: bool = False) -> list[str]:
    """The volumes that a config refers to, CD images excluded (the cloud-init drive is a volume)."""
    out = [drive["file"] for _, drive in drives(config) if not is_cdrom(drive) or is_cloudinit(drive)]
    if unused:
        out += [
            parse_drive(config[key])["file"] for key in sorted(config, key=natural) if UNUSED.fullmatch(key)
        ]
    return [volid for volid in out if split_volid(volid)]
