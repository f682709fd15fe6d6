"""Into HA, power through it, and out of it is stopped at each of its calls; so is the deletion of a VM under HA."""

from collections.abc import Callable

import pytest

from crash.availability import DeleteUnderHA, HighAvailability
from crash.points import Mode
from crash.scenario import play_all
from crash.stage import Stage


@pytest.mark.timeout(480)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_vm_joins_and_leaves_ha_and_gets_its_power_through_it_wherever_the_operator_dies(
    mode: Mode, new_stage: Callable[[], Stage], record_property: Callable[[str, object], None]
) -> None:
    with HighAvailability(new_stage) as scenario:
        record_property("summary", play_all(scenario, mode))


@pytest.mark.timeout(480)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_vm_under_ha_is_destroyed_with_nothing_left_wherever_the_operator_dies(
    mode: Mode, new_stage: Callable[[], Stage], record_property: Callable[[str, object], None]
) -> None:
    record_property("summary", play_all(DeleteUnderHA(new_stage), mode))
