"""What Proxmox tells about a migration: its precondition, how far it has come, and what it failed of.

Facts: ``migrate_vm_precondition`` (PVE::API2::Qemu), whose nodes are those that lack storages, mappings or HA's consent
(of a running VM Proxmox VE 8 names none), and the log lines of PVE::QemuMigrate.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from proxmox_operator.planning.moving import LocalDisk, Precondition

_REASONS = {
    "unavailable_storages": "storage {} is not available there",
    "unavailable-resources": "device {} has no mapping there",
    "blocking-ha-resources": "HA keeps it away from {} (resource affinity)",
}
_STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")
_MIRROR = re.compile(r"(?:mirror|drive)-(?P<what>\w+): transferred .*\((?P<percent>\d+)(?:\.\d+)?%\)")
_MEMORY = re.compile(
    r"migration active, transferred (?P<done>[\d.]+ ?\w+) of (?P<all>[\d.]+ ?\w+) VM-state", re.IGNORECASE
)
_UNITS = {"B": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_CAUSE = re.compile(r"can't migrate|non-migratable|^\[[\w-]+\] |^ERROR: (?!migration (?:aborted|finished))")


def parse_precondition(data: Mapping[str, Any]) -> Precondition:
    """The answer of ``GET .../migrate``; what is left out, or unknown here, stands in nobody's way."""
    refused: dict[str, str] = {}
    for node, problems in (data.get("not_allowed_nodes") or {}).items():
        texts = [
            _REASONS[kind].format(", ".join(_name(thing) for thing in things))
            for kind, things in problems.items()
            if kind in _REASONS and things
        ]
        refused[node] = "; ".join(texts) or "Proxmox does not allow this node"
    return Precondition(
        running=bool(int(data.get("running") or 0)),
        refused=refused,
        disks=tuple(_disk(item) for item in data.get("local_disks") or ()),
        devices=tuple(str(device) for device in data.get("local_resources") or ()),
        mapped={
            str(device): bool(int(info.get("live-migration") or 0))
            for device, info in (data.get("mapped-resource-info") or {}).items()
        },
    )


def _name(thing: Any) -> str:
    return str(thing.get("sid", "")) if isinstance(thing, Mapping) else str(thing)


def _disk(item: Mapping[str, Any]) -> LocalDisk:
    return LocalDisk(
        volume=str(item["volid"]),
        slot=item.get("drivename"),
        size=int(item.get("size") or 0),
        cdrom=bool(int(item.get("cdrom") or 0)),
        generated=bool(int(item.get("is_cloudinit") or 0)),
        snapshots=tuple(sorted(item.get("referenced_in_snapshot") or ())),
    )


def progress(lines: Sequence[str]) -> str | None:
    """How far a migration has come by the last of these lines of its log that tells: in steps of 10 percent."""
    for line in reversed(lines):
        if mirror := _MIRROR.search(line):
            return f"disk {mirror['what']}: {int(mirror['percent']) // 10 * 10} %"
        if (memory := _MEMORY.search(line)) and (whole := _size(memory["all"])):
            return f"memory: {min(100, int(100 * _size(memory['done']) / whole)) // 10 * 10} %"
    return None


def _size(text: str) -> float:
    match = re.match(r"([\d.]+) ?([BKMGT])?", text, re.IGNORECASE)
    return float(match[1]) * 1024 ** _UNITS[(match[2] or "B").upper()] if match else 0.0


def cause(lines: Sequence[str]) -> str:
    """What a migration failed of: Proxmox's exit status and last line never say it, the lines before do."""
    plain = [_STAMP.sub("", line) for line in lines]
    telling = [line.removeprefix("ERROR: ") for line in plain if _CAUSE.search(line)]
    return "; ".join(dict.fromkeys(telling[:3])) or (plain[-1] if plain else "its log cannot be read")
