"""Which fields and items of a spec are managed, and what it means when one no longer is: the VM keeps what it has.

Not here: disks, which have ``onRemove``; tags, which are taken away again; and what has a default of its own.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from proxmox_operator.api import VMSpec
from proxmox_operator.planning.vmconfig.changes import short
from proxmox_operator.planning.vmconfig.effects import TABLE

MAX_MANAGED = 50
"""Names kept in ``status.managed``."""

_LISTS = ("pciDevices", "usbDevices", "networks")
_NEVER_LET_GO = ("name", "tags", "startup.onBoot", "disks")


def managed(spec: VMSpec) -> tuple[str, ...]:
    """``cpu.cores``, ``networks[net0]`` and so on: what the spec manages, in the order of the table."""
    return tuple(dict.fromkeys(_managed(spec)))[:MAX_MANAGED]


def no_longer_managed(before: Sequence[str], now: Sequence[str], config: Mapping[str, str]) -> str | None:
    """What a person reads when names have gone from the list, with the values that the VM keeps; None if none has."""
    gone = [name for name in before if name not in now]
    if not gone:
        return None
    blocks = {_block(name) for name in now}
    shown = dict.fromkeys(name if _block(name) in blocks else _block(name) for name in gone)
    fields = ", ".join(f"spec.{name}" for name in shown)
    kept = ", ".join(dict.fromkeys(kept for name in gone for kept in _kept(name, config)))
    verb = "is" if len(shown) == 1 else "are"
    return f"{fields} {verb} no longer managed: the VM keeps {kept or 'what it has'}"[:1000]


def _managed(spec: VMSpec) -> Iterator[str]:
    whole = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    for row in TABLE:
        block = row.field.partition(" ")[0].partition(".")[0]
        if block in _LISTS:
            yield from (f"{block}[{item['name']}]" for item in whole[block])
        elif (
            row.field
            and row.field not in _NEVER_LET_GO
            and block not in _NEVER_LET_GO
            and _has(whole, row.field)
        ):
            yield row.field


def _has(whole: Mapping[str, Any], path: str) -> bool:
    """Whether the field is set; an empty list is, where that says something (hotplug), and else has no words."""
    value: Any = whole
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value is not None and (value != [] or path == "hotplug")


def _block(name: str) -> str:
    """The block of a field; an item of a list is one of its own."""
    return name.partition(".")[0]


def _kept(name: str, config: Mapping[str, str]) -> Iterator[str]:
    item = re.search(r"\[(.+)\]", name)
    keys = [item[1]] if item else [row.key for row in TABLE if row.field == name and row.part is None]
    yield from (f"{key} {short(config[key])}" for key in keys if key in config and key != "cipassword")
