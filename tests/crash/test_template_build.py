"""A VMTemplate's build and deletion are stopped at each of their calls that has an effect.

Long scenarios: before a call all is as it is after the one before it, whose answer is lost.
"""

from collections.abc import Callable

import pytest

from controlplane import Cluster
from crash.points import Mode
from crash.scenario import play_all
from crash.templates import BuildAndDelete, BuiltStage
from crash.witness import Witness


@pytest.fixture(autouse=True)
def impatient_with_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOON", "MAX_DELAY"):
        monkeypatch.setattr(f"proxmox_operator.controllers.template.build.{name}", 0.05)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mode", [Mode.LOST, Mode.LATE])
def test_each_step_runs_once_and_nothing_unsealed_is_converted_wherever_the_operator_dies(
    mode: Mode, control_plane: Cluster, kube: Witness, record_property: Callable[[str, object], None]
) -> None:
    with BuildAndDelete(lambda: BuiltStage(control_plane, kube, "test-build")) as scenario:
        record_property("summary", play_all(scenario, mode))
