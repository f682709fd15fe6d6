"""What docs/ says about the code is so: tables that are made from it, and reasons that it can show."""

import re
from pathlib import Path

import pytest

import doctables

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = ROOT / "operator" / "proxmox_operator"
OF_TEMPLATES = (OPERATOR / "planning" / "templates", OPERATOR / "controllers" / "template", OPERATOR / "web")

REASON = re.compile(r'reason(?:: str)? ?=,? ?"([A-Z]\w+)"|return "([A-Z]\w+)", |(?:True|False), "([A-Z]\w+)"')
EVENT = re.compile(r'\.event\(\s*"([A-Z]\w+)"')

NEVER_SHOWN = {
    "NodeUnsuitable",  # a default that every refusal replaces
    "NotConverging",  # says itself that it is a bug
}


def found(pattern: re.Pattern[str]) -> set[str]:
    texts = [path.read_text(encoding="utf-8") for folder in OF_TEMPLATES for path in folder.glob("*.py")]
    return {next(filter(None, match.groups())) for text in texts for match in pattern.finditer(text)}


@pytest.mark.parametrize("name", doctables.TABLES)
def test_a_table_that_is_made_from_the_code_says_what_the_code_says(name: str):
    """Written anew with `make docs-tables`."""
    file, table = doctables.TABLES[name]
    page = (doctables.DOCS / file).read_text(encoding="utf-8")
    assert page == doctables.page(name)
    assert table() in page


def test_the_page_of_templates_names_each_reason_and_event_that_a_template_can_show():
    page = (ROOT / "docs" / "templates.md").read_text(encoding="utf-8")
    shown = (found(REASON) | found(EVENT)) - NEVER_SHOWN
    assert {"ImageNotFound", "SourceRunning", "StorageNotChosen", "Making", "CopyDropped"} <= shown
    assert sorted(name for name in shown if f"`{name}`" not in page) == []


def test_links_between_the_pages_lead_somewhere():
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
