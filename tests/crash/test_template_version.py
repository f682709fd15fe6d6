"""The replacement of a VMTemplate's version by another one is stopped at each of its calls."""

from collections.abc import Callable

import pytest

from controlplane import Cluster
from crash.points import Mode
from crash.scenario import play_all
from crash.templates import Replace, TemplateStage
from crash.witness import Witness


@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", list(Mode))
def test_a_version_is_made_once_and_the_one_before_goes_wherever_the_operator_dies(
    mode: Mode, control_plane: Cluster, kube: Witness, record_property: Callable[[str, object], None]
) -> None:
    with Replace(lambda: TemplateStage(control_plane, kube, "test-template-version")) as scenario:
        record_property("summary", play_all(scenario, mode))
