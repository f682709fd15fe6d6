"""Adding, moving, detaching and destroying disks is stopped at each of its calls."""

from collections.abc import Callable

import pytest

from crash.disks import ChangeDisks
from crash.points import Mode
from crash.scenario import play_all
from crash.stage import Stage


@pytest.mark.timeout(480)
@pytest.mark.parametrize("mode", list(Mode))
def test_no_disk_is_lost_made_twice_or_left_behind_wherever_the_operator_dies(
    mode: Mode, new_stage: Callable[[], Stage], record_property: Callable[[str, object], None]
) -> None:
    with ChangeDisks(new_stage) as scenario:
        record_property("summary", play_all(scenario, mode))
