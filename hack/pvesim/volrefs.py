"""Every volume that a VM's config refers to, and from where: current, pending, unused, snapshots. Pure.

Facts: PVE::QemuServer::foreach_volid of qemu-server 9.2.6; the precondition of a migration shows these
attributes as they are.
"""

from collections.abc import Mapping
from typing import Any

from .model import SimVm
from .props import UNUSED, is_cdrom, is_cloudinit, is_drive, parse_drive, print_drive, size_bytes

Ref = dict[str, Any]


def volume_refs(vm: SimVm) -> dict[str, Ref]:
    """{volume id: attributes}, as foreach_volid builds them; `none` and paths are among the ids."""
    out: dict[str, Ref] = {}
    _collect(out, vm.config)
    _collect(out, {key: value for key, value in vm.pending.items() if value is not None}, pending=True)
    for name, config in vm.snapshots.items():
        _collect(out, config, snapshot=name)
    return out


def _collect(
    out: dict[str, Ref], config: Mapping[str, Any], *, snapshot: str | None = None, pending: bool = False
) -> None:
    for key in sorted(config):
        if not (is_drive(key) or UNUSED.fullmatch(key) or key == "vmstate"):
            continue
        drive = parse_drive(config[key])
        unused = UNUSED.fullmatch(key) is not None
        ref = out.setdefault(
            drive["file"],
            {"volid": drive["file"], "cdrom": 1, "is_cloudinit": 0, "replicate": 0, "shared": 0,
             "is_unused": 0, "is_attached": 0, "is_vmstate": 0, "is_tpmstate": 0},
        )  # fmt: skip
        ref["cdrom"] &= int(is_cdrom(drive))
        ref["is_cloudinit"] |= int(is_cloudinit(drive))
        ref["replicate"] |= int(drive.get("replicate", "1") != "0")
        ref["shared"] |= int(drive.get("shared") == "1")
        ref["is_unused"] |= int(unused)
        ref["is_attached"] |= int(not unused and snapshot is None and not pending)
        ref["is_vmstate"] |= int(key == "vmstate")
        ref["is_tpmstate"] |= int(key == "tpmstate0")
        if snapshot is not None:
            ref.setdefault("referenced_in_snapshot", {})[snapshot] = 1
        if pending:
            ref["referenced_in_pending"] = 1
        if drive.get("size"):
            ref.setdefault("size", size_bytes(drive["size"]))
        if is_drive(key):
            ref["drivename"] = key


def renamed(config: Mapping[str, Any], volids: Mapping[str, str]) -> dict[str, Any]:
    """update_volume_ids: a config whose drives have the new ids of `volids` {old: new}."""
    out = dict(config)
    for key, value in config.items():
        if value is None or not (is_drive(key) or UNUSED.fullmatch(key) or key == "vmstate"):
            continue
        drive = parse_drive(value)
        if drive["file"] in volids:
            out[key] = print_drive(drive | {"file": volids[drive["file"]]})
    return out
