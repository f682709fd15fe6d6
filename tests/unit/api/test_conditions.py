"""Conditions: what changes when, and what stays."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from proxmox_operator.api import Condition, find_condition, set_condition

NOON = datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
READY = set_condition((), "Ready", True, "Running", "all is well", generation=3, now=NOON)


def test_a_new_condition_is_appended_with_the_time_in_whole_seconds_and_utc():
    elsewhere = NOON.astimezone(timezone(timedelta(hours=2)))
    both = set_condition(READY, "Synced", None, "Unknown", "not seen yet", generation=3, now=elsewhere)
    assert [condition.type for condition in both] == ["Ready", "Synced"]
    assert both[1].model_dump(mode="json") == {
        "type": "Synced",
        "status": "Unknown",
        "observedGeneration": 3,
        "lastTransitionTime": "2026-11-23T12:00:00Z",
        "reason": "Unknown",
        "message": "not seen yet",
    }


@pytest.mark.parametrize(("state", "shown"), [(True, "True"), (False, "False"), (None, "Unknown")])
def test_a_state_is_true_false_or_unknown(state: bool | None, shown: str):
    assert set_condition((), "Ready", state, "R", "", generation=1, now=NOON)[0].status == shown


def test_the_time_stays_while_the_status_does_although_the_rest_changes():
    (changed,) = set_condition(READY, "Ready", True, "Stopped", "as wanted", generation=4, now=LATER)
    assert changed.last_transition_time == READY[0].last_transition_time
    assert (changed.reason, changed.message, changed.observed_generation) == ("Stopped", "as wanted", 4)


def test_the_time_moves_when_the_status_does():
    (changed,) = set_condition(READY, "Ready", False, "Stopped", "", generation=3, now=LATER)
    assert changed.last_transition_time == LATER.replace(microsecond=0)


def test_a_condition_set_to_what_it_is_is_the_same():
    assert set_condition(READY, "Ready", True, "Running", "all is well", generation=3, now=LATER) == READY


def test_a_changed_condition_keeps_its_place():
    both = set_condition(READY, "Synced", True, "InSync", "", generation=3, now=NOON)
    changed = set_condition(both, "Ready", False, "Gone", "", generation=3, now=LATER)
    assert [condition.type for condition in changed] == ["Ready", "Synced"]
    assert changed[1] is both[1]


def test_a_condition_is_found_by_its_type_and_absence_is_none():
    assert find_condition(READY, "Ready") == READY[0]
    assert find_condition(READY, "Synced") is None


def test_a_condition_reads_back_as_it_was_written():
    assert Condition.model_validate(READY[0].model_dump(mode="json")) == READY[0]
