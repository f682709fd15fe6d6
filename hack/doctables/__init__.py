"""Writes the parts of docs/ that are made from the code: ``make docs-tables``.

A page says where such a part goes by two comments, ``<!-- NAME: made by `make docs-tables`, checked by a test -->`` and
``<!-- /NAME -->``; all between them is replaced. Which names there are is ``PARTS``. A test fails while one is stale.
"""

import re
from collections.abc import Callable
from pathlib import Path

from doctables.commands import commands
from doctables.effects import effects
from doctables.metrics import metrics
from doctables.privileges import privileges
from doctables.reference import fields
from doctables.settings import settings

DOCS = Path(__file__).resolve().parents[2] / "docs"

PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "effects": effects,
    "metrics": metrics,
    "privileges": privileges,
    "settings": settings,
    "ProxmoxCluster": lambda: fields("proxmoxclusters"),
    "ProxmoxVM": lambda: fields("proxmoxvms"),
    "VMTemplate": lambda: fields("vmtemplates"),
}

PLACE = re.compile(
    r"(?P<begin><!-- (?P<name>\w+): made by `make docs-tables`, checked by a test -->\n)"
    r".*?(?P<end><!-- /(?P=name) -->)",
    re.DOTALL,
)


def pages() -> list[Path]:
    """All pages that could have such parts."""
    return sorted(DOCS.rglob("*.md"))


def written(text: str) -> str:
    """The text of a page as it should be. Raises KeyError for a part of an unknown name."""
    return PLACE.sub(lambda place: f"{place['begin']}{PARTS[place['name']]()}{place['end']}", text)


def files() -> dict[Path, str]:
    """The text of each page that has such parts, as it should be."""
    texts = {page: page.read_text(encoding="utf-8") for page in pages()}
    return {page: written(text) for page, text in texts.items() if PLACE.search(text)}
