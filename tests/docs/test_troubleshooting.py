"""docs/troubleshooting.md has an entry for each reason that the code can show, and for no other."""

import re

from docs import reasons

PAGE = reasons.ROOT / "docs" / "troubleshooting.md"


def entries() -> dict[str, str]:
    found = re.findall(
        r"^### (\w+)\n(.*?)(?=^#|\Z)", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return dict(found)


def test_each_reason_in_the_code_has_its_entry():
    shown = reasons.reasons()
    assert {
        "Missing",
        "ExistenceUnknown",
        "HAStarting",
        "Running",
        "StorageFull",
        "DriftCorrected",
    } <= shown.keys()
    assert {name: sorted(files) for name, files in shown.items() if name not in entries()} == {}


def test_each_entry_is_a_reason_in_the_code_and_says_something():
    assert sorted(entries().keys() - reasons.reasons().keys()) == []
    assert sorted(name for name, text in entries().items() if len(text.split()) < 4) == []


def test_no_word_in_camel_case_escapes_the_search_for_reasons():
    """Name it in tests/docs/reasons.py, or have the search find it."""
    assert reasons.unaccounted() == {}


def test_no_reason_is_put_together_at_run_time():
    """It could neither be searched for, nor be compared with the page."""
    assert reasons.composed() == []


def test_no_reason_has_two_entries():
    headings = re.findall(r"^### (\w+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted({name for name in headings if headings.count(name) > 1}) == []
