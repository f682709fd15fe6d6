"""What one process remembers of a VM between passes, so that it does not ask again.

Everything here can be lost at any moment: it saves calls, it never decides who owns what.
"""

from dataclasses import dataclass, field

from proxmox_operator.api import Task
from proxmox_operator.planning.lifecycle import Power
from proxmox_operator.proxmox.inventory import Guest
from proxmox_operator.proxmox.tasks import TaskResult
from proxmox_operator.proxmox.vm import VMConfig

_BRINGS_ABOUT: dict[str, Power] = {"Starting": "Running", "Stopping": "Stopped"}


@dataclass(kw_only=True)
class Work:
    """A Proxmox task of ours; ``result`` is None while it runs. ``watched``: the tracker will wake the object."""

    action: str
    upid: str
    result: TaskResult | None = None
    watched: bool = False


@dataclass(kw_only=True)
class Memory:
    """About one object (by UID). Times are of the monotonic clock, in seconds.

    ``unsent``: the VMID was reserved in this process and nothing has been sent for it, so it needs no proof of
    absence. ``ended`` is the last UPID whose end was taken up. ``power`` is what an ended task of ours has just brought
    about; it stands until the inventory, which lags, must have noticed. ``guest`` is the inventory entry of the last
    pass that read the config. ``written`` holds status fields that a config write has earned.
    """

    config: VMConfig | None = None
    config_at: float = 0.0
    reread_at: float = 0.0
    work: Work | None = None
    ended: str | None = None
    unsent: bool = False
    power: Power | None = None
    power_at: float = 0.0
    guest: Guest | None = None
    status_at: float = 0.0
    pending_unread: bool = False
    pending: tuple[str, ...] = ()
    agent_tries: int = 0
    addresses: tuple[str, ...] | None = None
    settled_generation: int | None = None
    written: dict[str, object] = field(default_factory=dict)

    def forget_config(self) -> None:
        """After every write: what was read is old."""
        self.config = None

    def resume(self, recorded: Task) -> None:
        """Take up a task that an earlier process has recorded, unless its end was taken up already."""
        if self.work is None and recorded.upid is not None and recorded.upid != self.ended:
            self.work = Work(action=recorded.action, upid=recorded.upid)

    def succeeded(self, action: str, now: float) -> None:
        """What a task that has just ended brought about."""
        self.power, self.power_at = _BRINGS_ABOUT.get(action), now
        if action == "Starting":
            self.addresses, self.agent_tries = None, 0
