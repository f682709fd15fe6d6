"""A creation with user data is stopped at each of its calls, and so is a deletion before it was read."""

from collections.abc import Callable

import pytest

from crash.points import Mode
from crash.scenario import Scenario, play_all
from crash.seeding import Seed, SeedNeverRead
from crash.stage import Stage


@pytest.fixture(autouse=True)
def impatient_with_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SOON", "MAX_DELAY", "MAX_SILENCE"):
        monkeypatch.setattr(f"proxmox_operator.controllers.vm.firstboot.{name}", 0.1)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("scenario", [Seed, SeedNeverRead])
def test_no_user_data_is_missing_at_the_first_boot_or_left_behind_wherever_the_operator_dies(
    scenario: type[Scenario],
    mode: Mode,
    new_stage: Callable[[], Stage],
    record_property: Callable[[str, object], None],
) -> None:
    record_property("summary", play_all(scenario(new_stage), mode))
