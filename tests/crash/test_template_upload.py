"""The making of a VMTemplate whose image the operator uploads is stopped at each of its calls that has an effect.

Long scenarios: before a call all is as it is after the one before it, whose answer is lost.
"""

from collections.abc import Callable

import pytest

from controlplane import Cluster
from crash.points import Mode
from crash.scenario import play_all
from crash.templates import MakeAndDelete, TemplateStage
from crash.witness import Witness


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", [Mode.LOST, Mode.LATE])
def test_a_template_of_an_uploaded_image_is_made_once_and_nothing_is_left_wherever_the_operator_dies(
    mode: Mode, control_plane: Cluster, kube: Witness, record_property: Callable[[str, object], None]
) -> None:
    def stage() -> TemplateStage:
        return TemplateStage(control_plane, kube, "test-template-upload", via="Operator")

    with MakeAndDelete(stage) as scenario:
        record_property("summary", play_all(scenario, mode))
