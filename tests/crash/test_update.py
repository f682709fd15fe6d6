"""Changes that take effect at once are stopped at each of their calls."""

from collections.abc import Callable

import pytest

from crash.changing import Update
from crash.points import Mode
from crash.scenario import play_all
from crash.stage import Stage


@pytest.mark.timeout(480)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_running_vm_is_changed_wherever_the_operator_dies(
    mode: Mode, new_stage: Callable[[], Stage], record_property: Callable[[str, object], None]
) -> None:
    with Update(new_stage) as scenario:
        record_property("summary", play_all(scenario, mode))
