"""Tables in Markdown, and what descriptions in the code become in them."""

import re
from collections.abc import Iterable, Sequence

_TAIL = re.compile(r"(?:^| )(?P<what>Required|Default: (?P<default>.*))\.$", re.DOTALL)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, with a newline at its end."""
    lines = [f"| {' | '.join(cells)} |\n" for cells in (heads, *rows)]
    return "".join([lines[0], f"|{'---|' * len(heads)}\n", *lines[1:]])


def plain(text: str) -> str:
    """Text of the code in a cell: what Markdown would take for its own is shown as it is."""
    for sign in ("\\", "|", "*", "[", "`"):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.replace("<", "&lt;").split())


def told(description: str) -> tuple[str, str]:
    """A description, and the default in words, or ``required``, that is its end; empty where it says neither."""
    match = _TAIL.search(description)
    if match is None:
        return description, ""
    return description[: match.start()].strip(), match["default"] or "required"
