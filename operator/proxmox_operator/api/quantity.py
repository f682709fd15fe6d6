"""Kubernetes quantities and durations as numbers.

Not a full ``resource.Quantity``: the schema admits only the forms parsed here.
"""

import re
from datetime import timedelta

_UNITS = {
    "": 1,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}
_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?$")
_DURATION = re.compile(r"^(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?$")


def parse_quantity(text: str) -> int:
    """Bytes of a quantity such as ``8Gi``; fractions are rounded down to a byte.

    Raises ``ValueError`` for anything else than digits and one of Ki, Mi, Gi, Ti, k, M, G, T.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity such as 512Mi or 8Gi")
    unit = _UNITS[match[2] or ""]
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def parse_duration(text: str) -> timedelta:
    """Length of a duration such as ``90d``, ``15m`` or ``1h30m``; raises ``ValueError`` otherwise."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration such as 90d, 15m or 1h30m")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def format_gib(size: int) -> str:
    """A size in bytes as people write it: ``20Gi`` where it is whole, else ``512Mi`` or bytes."""
    for unit in ("Ti", "Gi", "Mi"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)
