"""Moving a VM to another node and back is stopped at each of its calls."""

from collections.abc import Callable

import pytest

from crash.moving import Move
from crash.points import Mode
from crash.scenario import play_all
from crash.stage import Stage


@pytest.mark.timeout(480)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_vm_is_moved_once_and_whole_wherever_the_operator_dies(
    mode: Mode, new_stage: Callable[[], Stage], record_property: Callable[[str, object], None]
) -> None:
    with Move(new_stage) as scenario:
        record_property("summary", play_all(scenario, mode))
