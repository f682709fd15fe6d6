"""A VMTemplate's making and deletion are stopped at each of their calls."""

from collections.abc import Callable

import pytest

from controlplane import Cluster
from crash.points import Mode
from crash.scenario import play_all
from crash.templates import MakeAndDelete, TemplateStage
from crash.witness import Witness


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_template_is_made_once_and_nothing_is_left_of_it_wherever_the_operator_dies(
    mode: Mode, control_plane: Cluster, kube: Witness, record_property: Callable[[str, object], None]
) -> None:
    with MakeAndDelete(lambda: TemplateStage(control_plane, kube, "test-template")) as scenario:
        record_property("summary", play_all(scenario, mode))
