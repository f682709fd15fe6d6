"""Quantities and durations as numbers."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxmox_operator.api.quantity import format_gib, parse_duration, parse_quantity


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("512Mi", 512 << 20), ("8Gi", 8 << 30), ("1.5Gi", 3 << 29), ("2Ti", 2 << 40), ("1k", 1000)],
)
def test_a_quantity_is_its_number_of_bytes(text: str, size: int):
    assert parse_quantity(text) == size


@pytest.mark.parametrize("text", ["", "Gi", "-1Gi", "1 Gi", "8GB", "1e3", "8Gi\n"])
def test_what_is_no_quantity_is_refused(text: str):
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("90s", timedelta(seconds=90)),
        ("3m", timedelta(minutes=3)),
        ("1h30m", timedelta(minutes=90)),
        ("90d", timedelta(days=90)),
    ],
)
def test_a_duration_is_its_length(text: str, length: timedelta):
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "3", "m", "1m1h", "-1m", "1.5h", "3m\n"])
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@given(st.integers(0, 2**50))
def test_a_size_shown_to_people_is_still_that_size(size: int):
    assert parse_quantity(format_gib(size)) == size


def test_a_size_is_shown_in_the_largest_unit_that_is_whole():
    assert [format_gib(size) for size in (20 << 30, 1536 << 20, 1 << 40, 1000)] == [
        "20Gi",
        "1536Mi",
        "1Ti",
        "1000",
    ]
