"""Writes the tables in docs/ that are made from the code: ``make docs-tables``."""

import re
from collections.abc import Callable
from pathlib import Path

from proxmox_operator.engine.metrics import Metrics
from proxmox_operator.planning.vmconfig.effects import TABLE, Effect, Row

DOCS = Path(__file__).resolve().parents[1] / "docs"
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


def metrics() -> str:
    """Each metric that Prometheus can read, with its labels."""
    rows = [
        f"| `{family.name}` | {family.type} | {', '.join(f'`{label}`' for label in family.labels)} | {family.text} |"
        for family in sorted(Metrics().families())
    ]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows, ""])


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "effects": ("vm.md", effects),
    "metrics": ("metrics.md", metrics),
}
"""The page of each table, which begins there after the comment that names it and ends with ``<!-- /NAME -->``."""


def page(name: str) -> str:
    """The page of a table as it should be."""
    file, table = TABLES[name]
    place = rf"(?<=checked by a test -->\n).*?(?=<!-- /{name} -->)"
    return re.sub(place, lambda _: table(), (DOCS / file).read_text(encoding="utf-8"), flags=re.DOTALL)


if __name__ == "__main__":
    for name, (file, _) in TABLES.items():
        (DOCS / file).write_text(page(name), encoding="utf-8")
