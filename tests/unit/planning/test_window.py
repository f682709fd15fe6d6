"""A maintenance window is open when its clock on the wall says so, also when the clocks change."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.api import MaintenanceWindow
from proxmox_operator.planning.window import next_span, zone

BERLIN = "Europe/Berlin"
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ZONES = ("UTC", BERLIN, "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe")


def window(start, end, *days, zone="UTC"):
    return MaintenanceWindow(start=start, end=end, days=days, time_zone=zone)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


WEDNESDAY = "2026-11-25"  # on which it is 1 hour later in Berlin than in UTC


@pytest.mark.parametrize(
    ("given_window", "now", "opens", "closes"),
    [
        pytest.param(*row, id=sentence)
        for sentence, *row in (
            (
                "it opens later today",
                window("22:00", "23:00"), "2026-11-25T12:00", "2026-11-25T22:00", "2026-11-25T23:00",
            ),
            (
                "it is open from its first moment",
                window("22:00", "23:00"), "2026-11-25T22:00", "2026-11-25T22:00", "2026-11-25T23:00",
            ),
            (
                "it is closed at its last",
                window("22:00", "23:00"), "2026-11-25T23:00", "2026-11-26T22:00", "2026-11-26T23:00",
            ),
            (
                "it is still open after midnight",
                window("22:00", "02:00"), "2026-11-26T01:59", "2026-11-25T22:00", "2026-11-26T02:00",
            ),
            (
                "the day is that on which it opens: Saturday's is open on Sunday morning",
                window("22:00", "02:00", "Saturday"), "2026-11-29T01:00", "2026-11-28T22:00", "2026-11-29T02:00",
            ),
            (
                "and not open on Saturday morning",
                window("22:00", "02:00", "Saturday"), "2026-11-28T01:00", "2026-11-28T22:00", "2026-11-29T02:00",
            ),
            (
                "next week's, when today's is over",
                window("02:00", "04:00", "Wednesday"), "2026-11-25T05:00", "2026-12-02T02:00", "2026-12-02T04:00",
            ),
            (
                "times are those of its zone",
                window("02:00", "04:00", zone=BERLIN), "2026-11-25T00:30", "2026-11-25T01:00", "2026-11-25T03:00",
            ),
            (
                "and so are days: Monday in Apia begins on Sunday in UTC",
                window("00:30", "04:00", "Monday", zone="Pacific/Apia"), "2026-11-29T00:00", "2026-11-29T11:30",
                "2026-11-29T15:00",
            ),
            (
                "in summer it is an hour earlier in UTC",
                window("02:00", "04:00", zone=BERLIN), "2026-07-01T00:00", "2026-07-01T00:00", "2026-07-01T02:00",
            ),
            (
                "an hour that the clocks leap over is missing in it",
                window("01:30", "03:30", zone=BERLIN), "2026-03-29T00:00", "2026-03-29T00:30", "2026-03-29T01:30",
            ),
            (
                "a start that does not exist is the moment as far after midnight",
                window("02:30", "04:00", zone=BERLIN), "2026-03-29T00:00", "2026-03-29T01:30", "2026-03-29T02:00",
            ),
            (
                "with an end before that, the day is left out",
                window("02:30", "03:10", zone=BERLIN), "2026-03-29T00:00", "2026-03-30T00:30", "2026-03-30T01:10",
            ),
            (
                "an hour that comes twice is twice in it",
                window("01:30", "03:30", zone=BERLIN), "2026-10-24T23:30", "2026-10-24T23:30", "2026-10-25T02:30",
            ),
            (
                "a start that comes twice is the first",
                window("02:30", "03:30", zone=BERLIN), "2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T02:30",
            ),
        )
    ],
)  # fmt: skip
def test_the_window_that_is_open_or_comes_next(given_window, now, opens, closes):
    assert next_span(given_window, at(now)) == (at(opens), at(closes))


@pytest.mark.parametrize("name", ["Mars/Olympus_Mons", "Europe", "europe/nowhere"])
def test_a_zone_that_does_not_exist_has_no_window(name):
    assert zone(window("02:00", "04:00", zone=name)) is None
    assert next_span(window("02:00", "04:00", zone=name), at("2026-11-25T00:00")) is None


times = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
moments = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@given(
    st.builds(
        window, times, times, st.sampled_from(DAYS), st.sampled_from(DAYS), zone=st.sampled_from(ZONES)
    ).filter(lambda found: found.start != found.end),
    moments,
    st.floats(0, 0.999),  # nearer to 1 it rounds up to the closing moment
)
@settings(deadline=None)
def test_the_next_window_is_the_same_until_it_closes_and_opens_on_its_days_by_its_clock(found, now, share):
    span = next_span(found, now)
    assert span is not None
    opens, closes = span
    assert opens < closes
    assert now < closes
    assert closes - opens <= timedelta(hours=25)
    assert opens - now <= timedelta(days=15)
    assert next_span(found, opens + share * (closes - opens)) == (opens, closes)
    later = next_span(found, closes)
    assert later is not None
    assert later.opens >= closes
    wall = opens.astimezone(ZoneInfo(found.time_zone))
    leapt = wall.utcoffset() != (wall - timedelta(hours=26)).utcoffset()
    assert leapt or (f"{wall:%H:%M}" == found.start and DAYS[wall.weekday()] in found.days)
