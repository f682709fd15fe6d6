"""How far the first boot has come, as cloud-init in the guest tells, and what of it a VM's Ready waits for."""

from dataclasses import dataclass
from typing import Literal

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.planning.seed import has_user_data


@dataclass(frozen=True, kw_only=True)
class FirstBoot:
    """What was found out. Unknown: cloud-init could not be asked, ``message`` says why. ``after``: seconds until it is
    asked again."""

    state: Literal["Done", "Running", "Failed", "Unknown"]
    reason: str
    message: str
    after: float = 10.0

    @property
    def holds(self) -> bool | None:
        """The status of the condition CloudInit."""
        return {"Done": True, "Running": False, "Failed": False, "Unknown": None}[self.state]


DONE = FirstBoot(state="Done", reason="Done", message="cloud-init has finished the first boot")
NOT_RUNNING = FirstBoot(
    state="Unknown",
    reason="NotRunning",
    message="cloud-init is asked through the guest agent while the VM runs",
)


def matters(vm: ProxmoxVM) -> bool:
    """Whether anybody waits for the first boot: Ready does, or there is a seed."""
    return vm.spec.readiness.cloud_init or has_user_data(vm) or vm.status.seed is not None
