"""What is written to a VM's config and waits for its next cold boot, in the words of the spec.

Proxmox's own word counts (``GET /nodes/{node}/qemu/{vmid}/pending``), whoever made the change. A reboot from inside
the guest keeps QEMU running and applies nothing of it.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.planning import disks
from proxmox_operator.planning.vmconfig.cloudinit import PASSWORD_KEY
from proxmox_operator.planning.vmconfig.effects import TABLE, parts_of

_OF_SEVERAL = {
    "agent": {"enabled"},
    "cpu": {"cputype"},
    "machine": {"type"},
    "memory": {"current"},
    "vga": {"type", "memory"},
}
"""The parts that the fields of ``spec`` are about; the others of these values are kept as they are."""


@dataclass(frozen=True, kw_only=True)
class PendingChange:
    """A key that runs with ``was`` until the next cold boot makes it ``becomes``; None is unset.

    ``field`` is the field that manages it, such as ``spec.memory.size``; None where the spec leaves it out.
    """

    key: str
    was: str | None
    becomes: str | None
    field: str | None = None

    def sentence(self) -> str:
        """For a person. A password is never shown."""
        what = f"{self.field} ({self.key})" if self.field else f"{self.key} (not managed by the spec)"
        if self.key == PASSWORD_KEY:
            return f"{what} changes"
        return f"{what}: {_clip(self.was)} -> {_clip(self.becomes)}"


def with_fields(
    changes: Iterable[PendingChange], vm: ProxmoxVM, config: Mapping[str, str]
) -> tuple[PendingChange, ...]:
    """The same changes with the fields that manage them; those that are managed come first."""
    changes = tuple(changes)
    spec = vm.spec.model_dump(exclude_none=True) if changes else {}
    named = [replace(change, field=_field(change, vm, spec, config)) for change in changes]
    return tuple(sorted(named, key=lambda change: (change.field is None, change.field or "", change.key)))


def fingerprint(changes: Iterable[PendingChange]) -> str:
    """The same for the same changes, whatever their order; it tells nothing about their values."""
    told = "\n".join(sorted(f"{change.key}={change.was!r}>{change.becomes!r}" for change in changes))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _field(
    change: PendingChange, vm: ProxmoxVM, spec: Mapping[str, Any], config: Mapping[str, str]
) -> str | None:
    """What is listed is owned whole; of the boot disk and of the VM itself only what is set counts."""
    key, changed = change.key, _changed(change)
    known = {disk.slot: disk.name for disk in vm.status.disks}
    if key in known:
        return f"spec.disks[{known[key]}]" if changed & _parts_of("disks") else None
    if vm.spec.boot_disk is not None and key == disks.boot_slot(config):
        owned = {row.part for row in TABLE if row.field.startswith("bootDisk.") and _is_set(spec, row.field)}
        return "spec.bootDisk" if changed & owned else None
    if any(item.get("name") == key for item in spec.get("networks", ())):
        return f"spec.networks[{key}]" if changed & _parts_of("networks") else None
    for listed in ("pciDevices", "usbDevices"):
        if any(item.get("name") == key for item in spec.get(listed, ())):
            return f"spec.{listed}[{key}]"
    if key.startswith("ide") and "cloudinit" in (change.becomes or ""):
        return "spec.cloudInit"
    if key in _OF_SEVERAL and not changed & _OF_SEVERAL[key]:
        return None
    paths = (row.field for row in TABLE if row.field and re.fullmatch(row.key, key))
    return next((f"spec.{path}" for path in paths if _is_set(spec, path)), None)


def _parts_of(block: str) -> set[str | None]:
    """The parts of a value that the fields of a listed item are written to, and its coming and going."""
    return {"", *(row.part for row in TABLE if row.field.startswith(f"{block}."))}


def _changed(change: PendingChange) -> set[str]:
    """The parts of its value that change; the empty one where the key comes or goes."""
    if change.was is None or change.becomes is None:
        gone_or_new = change.becomes if change.was is None else change.was
        return {"", *parts_of(change.key, gone_or_new or "")}
    before, after = parts_of(change.key, change.was), parts_of(change.key, change.becomes)
    return {part for part in before.keys() | after.keys() if before.get(part) != after.get(part)}


def _is_set(spec: Mapping[str, Any], path: str) -> bool:
    at: Any = spec
    for part in path.split("."):
        at = at.get(part) if isinstance(at, Mapping) else None
    return at not in (None, (), [])


def _clip(text: str | None) -> str:
    if text is None:
        return "unset"
    return text if len(text) <= 60 else f"{text[:57]}..."
