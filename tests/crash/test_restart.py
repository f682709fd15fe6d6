"""Restarts for changes that wait for a cold boot are stopped at each of their calls."""

from collections.abc import Callable

import pytest

from crash.changing import Restart
from crash.points import Mode
from crash.scenario import play_all
from crash.stage import Stage


@pytest.mark.timeout(480)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_vm_is_restarted_once_for_each_change_wherever_the_operator_dies(
    mode: Mode, new_stage: Callable[[], Stage], record_property: Callable[[str, object], None]
) -> None:
    with Restart(new_stage) as scenario:
        record_property("summary", play_all(scenario, mode))
