"""Running to Stopped to Running is stopped at each of its calls."""

from collections.abc import Callable

import pytest

from crash.living import ChangePower
from crash.points import Mode
from crash.scenario import play_all
from crash.stage import Stage


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_vm_gets_its_power_state_wherever_the_operator_dies(
    mode: Mode, new_stage: Callable[[], Stage], record_property: Callable[[str, object], None]
) -> None:
    with ChangePower(new_stage) as scenario:
        record_property("summary", play_all(scenario, mode))
