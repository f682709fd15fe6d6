"""Mermaid drawings as SVG, so that the site needs no script of a third party to show them.

A page holds the source (GitHub draws it by itself); ``docs/drawings`` holds what ``make drawings`` made of it, under a
name that is a digest of the source. Building the site needs neither Node.js nor a browser; drawing anew needs both.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymdownx.superfences import SuperFencesException

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "drawings"

PROGRAM = "@mermaid-js/mermaid-cli@12.2.0"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
"""The browser draws a file of ours, and nothing else; as root it has no sandbox."""

STYLE = {
    "theme": "base",
    "htmlLabels": False,
    "flowchart": {"htmlLabels": False},
    "fontFamily": "sans-serif",
    "themeVariables": {
        "fontFamily": "sans-serif",
        "primaryColor": "#e8eaf6",
        "primaryBorderColor": "#3f51b5",
        "primaryTextColor": "#1a237e",
        "lineColor": "#5c6bc0",
        "secondaryColor": "#fff8e1",
        "tertiaryColor": "#f5f5f5",
        "edgeLabelBackground": "#fafbff",
    },
}

_FENCE = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fence(source: str, language: str, css_class: str, options: dict[str, Any], md: Any, **_: Any) -> str:
    """The drawing, in place of its source: a formatter of ``pymdownx.superfences``.

    Raises SuperFencesException where it has not been made, which ends the build; others would be swallowed.
    """
    svg = file_of(source)
    if not svg.exists():
        raise SuperFencesException(
            f"{svg.name} is missing: a drawing in docs/ was changed, run `make drawings`"
        )
    return f'<div class="{css_class}">{svg.read_text(encoding="utf-8")}</div>'


def sources() -> Iterator[str]:
    """The drawings of all pages."""
    for page in sorted(DOCS.rglob("*.md")):
        yield from _FENCE.findall(page.read_text(encoding="utf-8"))


def file_of(source: str) -> Path:
    """Where the drawing of this source is, or is to be; another style is another drawing."""
    shaped_by = json.dumps([PROGRAM, STYLE, source.strip()])
    return FOLDER / f"{hashlib.sha256(shaped_by.encode()).hexdigest()[:16]}.svg"


def draw() -> None:
    """Make the drawings that are missing, and remove those that no page has any more.

    Raises SystemExit, which says what is missing on this machine.
    """
    wanted = {file_of(source): source for source in sources()}
    for stale in set(FOLDER.glob("*.svg")) - wanted.keys():
        stale.unlink()
    missing = {file: source for file, source in wanted.items() if not file.exists()}
    if not missing:
        return
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None or shutil.which("npx") is None:
        sys.exit("drawing needs npx (Node.js) and chromium")
    FOLDER.mkdir(exist_ok=True)
    for file, source in missing.items():
        _draw(source, file, browser)


def _draw(source: str, file: Path, browser: str) -> None:
    """An id of its own keeps the styles of two drawings on one page apart."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "source.mmd").write_text(source, encoding="utf-8")
        (here / "style.json").write_text(json.dumps(STYLE), encoding="utf-8")
        (here / "browser.json").write_text(
            json.dumps({"executablePath": browser, "args": BROWSER_FLAGS}), encoding="utf-8"
        )
        subprocess.run(
            ["npx", "--yes", PROGRAM, "--quiet", "--input", "source.mmd", "--output", "drawing.svg",
             "--configFile", "style.json", "--puppeteerConfigFile", "browser.json", "--backgroundColor", "transparent",
             "--svgId", f"drawing-{file.stem}"],
            cwd=here, check=True, env={**os.environ, "PUPPETEER_SKIP_DOWNLOAD": "1"},
        )  # fmt: skip
        drawn = (here / "drawing.svg").read_text(encoding="utf-8")
    file.write_text(f"{drawn.strip()}\n", encoding="utf-8")


if __name__ == "__main__":
    draw()
