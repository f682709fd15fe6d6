"""Writes the tables in docs/ that are made from the code: ``make docs-tables``."""

import re
from pathlib import Path

from proxmox_operator.planning.vmconfig.effects import TABLE, Effect, Row

PAGE = Path(__file__).resolve().parents[1] / "docs" / "vm.md"
_PLACE = re.compile(r"(?<=checked by a test -->\n).*?(?=<!-- /effects -->)", re.DOTALL)
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
    body = [f"| {', '.join(fields)} | {words} |" for (_, words), fields in lines.items()]
    return "\n".join(["| field of `spec` | effect on a running VM |", "|---|---|", *body, ""])


def _words(row: Row) -> str:
    words = _WORDS[row.effect]
    if row.hotplug is not None:
        words += f" with hotplug {_HOTPLUG[row.hotplug]}, else **restart**"
    return f"{words}; {row.also}" if row.also else words


def page() -> str:
    """docs/vm.md as it should be."""
    return _PLACE.sub(lambda _: effects(), PAGE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
