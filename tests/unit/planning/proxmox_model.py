"""How Proxmox takes a config write and hands it back: re-ordered, completed, normalised.

A small model of ``PUT .../config`` on a VM, for comparing a config with itself after a write: property strings come
back in another order, a new volume has a name and a size, a NIC has a MAC, a description ends in a line break, keys
are URL-encoded and a password is masked. The simulator (hack/pvesim) is the whole thing.
"""

import re
from urllib.parse import quote

from proxmox_operator.planning.propstring import parse_props
from proxmox_operator.planning.vmconfig import ConfigDiff

_NEW_VOLUME = re.compile(r"^(?P<storage>[^:]+):(?P<gib>\d+)$")
_MAC = re.compile(r"^[0-9A-F]{2}(:[0-9A-F]{2}){5}$", re.IGNORECASE)
_DRIVE = re.compile(r"^(scsi|virtio|sata|ide|efidisk|tpmstate)\d+$")
_SORTED = re.compile(r"^(ipconfig\d+|hostpci\d+|usb\d+|startup|smbios1)$")


def apply(config: dict[str, str], diff: ConfigDiff, *, secret: str = "geheim") -> dict[str, str]:
    """The config as Proxmox returns it after the writes of ``diff``."""
    after = dict(config)
    for removal in diff.removes:
        del after[removal.key]
    for put in diff.puts:
        after[put.key] = _stored(put.key, secret if put.value is None else put.value, after)
    if after.get("ostype") != config.get("ostype") and after.get("machine", "pc") in ("pc", "q35"):
        _pin(after)
    for grow in diff.grows:
        storage, options = _split(after[grow.slot])
        after[grow.slot] = _joined(storage, options | {"size": _size(grow.size)})
    return after


def _pin(config: dict[str, str]) -> None:
    """A VM that becomes a Windows one gets the version of its machine pinned."""
    if config["ostype"].startswith("w"):
        kind = "q35" if config.get("machine") == "q35" else "i440fx"
        config["machine"] = f"pc-{kind}-10.1"


def _stored(key: str, value: str, config: dict[str, str]) -> str:
    if key == "description":
        return value.rstrip("\n") + "\n"
    if key == "tags":
        return ";".join(sorted({tag for tag in re.split(r"[;, ]", value) if tag}))
    if key == "sshkeys":
        return quote(value, safe="")
    if key == "cipassword":
        return "**********"
    if _SORTED.match(key):
        return ",".join(sorted(value.split(",")))
    if key.startswith("net"):
        return _nic(value, len(config))
    return _drive(key, value, config) if _DRIVE.match(key) else value


def _nic(value: str, seed: int) -> str:
    props = parse_props(value, "model")
    model = props.pop("model", None)
    for key, text in [*props.items()]:
        if _MAC.match(text):
            model = f"{key}={props.pop(key).upper()}"
    if model is not None and "=" not in model:
        model = f"{model}=BC:24:11:00:00:{seed % 256:02X}"
    return ",".join([str(model), *sorted(f"{key}={text}" for key, text in props.items())])


def _drive(key: str, value: str, config: dict[str, str]) -> str:
    volume, options = _split(value)
    storage = volume.partition(":")[0]
    if volume.endswith(":cloudinit"):
        return _joined(f"{storage}:vm-10000-cloudinit", options | {"media": "cdrom", "size": "4M"})
    if new := _NEW_VOLUME.match(volume):
        number = sum(f"{storage}:vm-10000-disk-" in text for text in config.values())
        small = key.startswith(("efidisk", "tpmstate"))
        size = "4M" if small else f"{new['gib']}G"
        return _joined(f"{storage}:vm-10000-disk-{number}", options | {"size": size})
    return _joined(volume, options)


def _split(value: str) -> tuple[str, dict[str, str]]:
    props = parse_props(value, "file")
    return props.pop("file"), props


def _joined(volume: str, options: dict[str, str]) -> str:
    return ",".join([volume, *sorted(f"{key}={text}" for key, text in options.items())])


def _size(size: int) -> str:
    for unit, power in (("T", 40), ("G", 30), ("M", 20), ("K", 10)):
        if size % 2**power == 0:
            return f"{size >> power}{unit}"
    return str(size)
