"""The maintenance window: when it is open, and when it opens next.

A time of day is that of the window's time zone, and everything is compared in UTC, so that a change of the clocks
neither loses nor doubles a window: a time that the clocks leap over is the moment as far after midnight as without the
leap, one that they pass twice is the first. A window whose end comes before its start by that is left out that day.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from proxmox_operator.api.operations import MaintenanceWindow

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_AHEAD = 15
"""Days within which every window opens: one that a change of the clocks left out does so a week later."""


class Span(NamedTuple):
    """From ``opens`` to before ``closes``, both in UTC."""

    opens: datetime
    closes: datetime


def zone(window: MaintenanceWindow) -> ZoneInfo | None:
    """The window's time zone; None for a name that the time zone database does not have."""
    try:
        return ZoneInfo(window.time_zone)
    except (ZoneInfoNotFoundError, OSError, ValueError):  # a directory of the database is no zone either
        return None


def next_span(window: MaintenanceWindow, now: datetime) -> Span | None:
    """The window that is open, else the next one; None where its time zone is unknown."""
    where = zone(window)
    if where is None:
        return None
    return next(span for span in _spans(window, where, now) if now < span.closes)


def _spans(window: MaintenanceWindow, where: ZoneInfo, now: datetime) -> Iterator[Span]:
    """In order, from one that began yesterday."""
    today = now.astimezone(where).date()
    start, end = time.fromisoformat(window.start), time.fromisoformat(window.end)
    for ahead in range(-1, _AHEAD):
        day = today + timedelta(days=ahead)
        if window.days and _DAYS[day.weekday()] not in window.days:
            continue
        opens = _moment(day, start, where)
        closes = _moment(day if start < end else day + timedelta(days=1), end, where)
        if opens < closes:
            yield Span(opens, closes)


def _moment(day: date, at: time, where: ZoneInfo) -> datetime:
    return datetime.combine(day, at, where).astimezone(UTC)
