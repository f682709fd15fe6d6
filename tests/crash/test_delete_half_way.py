"""The deletion of a VM in the making is stopped at each of its calls."""

from collections.abc import Callable

import pytest

from crash.leaving import DeleteHalfWay
from crash.points import Mode
from crash.scenario import play_all
from crash.stage import Stage


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_vm_in_the_making_is_deleted_without_a_trace_wherever_the_operator_dies(
    mode: Mode, new_stage: Callable[[], Stage], record_property: Callable[[str, object], None]
) -> None:
    record_property("summary", play_all(DeleteHalfWay(new_stage), mode))
