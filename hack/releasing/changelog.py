"""CHANGELOG.md, in the format of Keep a Changelog 1.1. Pure."""

import re

_SECTION = re.compile(
    r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?\n(.*?)(?=^## |^\[[^\]]+\]: |\Z)", re.M | re.S
)


def section(text: str, version: str) -> str | None:
    """What changed in a version that has a date; None where there is no such section."""
    for name, date, body in _SECTION.findall(text):
        if name == version and date:
            return str(body).strip()
    return None


def unreleased(text: str) -> str | None:
    """What is to be in the next version; None where there is no section for it."""
    return next((body.strip() for name, _, body in _SECTION.findall(text) if name == "Unreleased"), None)
