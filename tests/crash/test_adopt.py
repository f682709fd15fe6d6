"""An adoption, a release, and an adoption that is given up are stopped at each of their calls."""

from collections.abc import Callable

import pytest

from crash.adopting import Adopt, GiveUp, Release
from crash.points import Mode
from crash.scenario import play_all
from crash.stage import Stage


@pytest.mark.timeout(480)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_vm_has_one_owner_and_is_else_unchanged_wherever_the_operator_dies(
    mode: Mode, new_stage: Callable[[], Stage], record_property: Callable[[str, object], None]
) -> None:
    with Adopt(new_stage) as scenario:
        record_property("summary", play_all(scenario, mode))


@pytest.mark.timeout(480)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_vm_is_let_go_as_it_was_wherever_the_operator_dies(
    mode: Mode, new_stage: Callable[[], Stage], record_property: Callable[[str, object], None]
) -> None:
    with Release(new_stage) as scenario:
        record_property("summary", play_all(scenario, mode))


@pytest.mark.timeout(480)
@pytest.mark.parametrize("mode", list(Mode))
def test_no_mark_is_left_of_an_object_that_was_deleted_meanwhile_wherever_the_operator_dies(
    mode: Mode, new_stage: Callable[[], Stage], record_property: Callable[[str, object], None]
) -> None:
    with GiveUp(new_stage) as scenario:
        record_property("summary", play_all(scenario, mode))
