"""What a change of each field does to a running VM."""

from doctables.markdown import table
from proxmox_operator.planning.vmconfig.effects import TABLE, Effect, Row

_HOTPLUG = {"cpu": "CPU", "memory": "Memory", "usb": "USB", "network": "Network", "disk": "Disk"}
_WORDS = {
    Effect.LIVE: "**live**",
    Effect.REPLUG: "**live** (the device is unplugged and plugged in again)",
    Effect.RESTART: "**restart**",
    Effect.STOPPED: "**stopped**",
    Effect.NEVER: "**never**",
}


def effects() -> str:
    """Each field of ``spec`` and what its change does to a running VM; fields of a block with the same effect share a
    line.
    """
    lines: dict[tuple[str, str], dict[str, None]] = {}
    for row in TABLE:
        if row.field:
            block = row.field.partition(".")[0] if "." in row.field else ""
            lines.setdefault((block, _words(row)), {})[f"`{row.field}`"] = None
    body = [(", ".join(fields), words) for (_, words), fields in lines.items()]
    return table(("field of `spec`", "effect on a running VM"), body)


def _words(row: Row) -> str:
    words = _WORDS[row.effect]
    if row.hotplug is not None:
        words += f" with hotplug {_HOTPLUG[row.hotplug]}, else **restart**"
    return f"{words}; {row.also}" if row.also else words
