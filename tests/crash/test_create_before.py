"""The operator dies before a call of a creation is sent."""

from collections.abc import Callable

import pytest

from crash.creating import Create
from crash.points import Mode
from crash.scenario import play_all
from crash.stage import Stage


@pytest.mark.timeout(300)
def test_a_vm_is_created_once_wherever_the_operator_dies_before_a_call(new_stage: Callable[[], Stage]) -> None:
    print(play_all(Create(new_stage), Mode.BEFORE))
