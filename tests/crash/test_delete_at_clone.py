"""The deletion of a VM that is about to be made is stopped at each of its calls."""

from collections.abc import Callable

import pytest

from crash.leaving import DeleteAtClone
from crash.points import Mode
from crash.scenario import play_all
from crash.stage import Stage


@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_vm_about_to_be_made_is_deleted_without_a_trace_wherever_the_operator_dies(
    mode: Mode, new_stage: Callable[[], Stage], record_property: Callable[[str, object], None]
) -> None:
    record_property("summary", play_all(DeleteAtClone(new_stage), mode))
