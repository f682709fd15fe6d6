"""What one process remembers of a VM between passes, so that it does not ask again.

Everything here can be lost at any moment: it saves calls, it never decides who owns what.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from proxmox_operator.api import ProxmoxVM, SeedStatus, Task
from proxmox_operator.errors import Waiting
from proxmox_operator.planning.diskfacts import NOTHING_SEEN, DiskFacts
from proxmox_operator.planning.firstboot import FirstBoot
from proxmox_operator.planning.harules import RefusedRule
from proxmox_operator.planning.lifecycle import Power
from proxmox_operator.planning.moving import Wish
from proxmox_operator.proxmox.resources import Guest
from proxmox_operator.proxmox.tasks import TaskResult, TaskTracker
from proxmox_operator.proxmox.vm import VMConfig

LAG = 20.0
"""Seconds until the inventory must show the end of a task (pvestatd 10 s, cache 2 s, our poll 5 s)."""

HA_LAG = 30.0
"""Seconds until the HA manager must have taken up what it was asked (its round is 10 s, and one may be missed)."""

REFUSED_FOR = 60.0
"""Seconds for which a rule that Proxmox has refused is not tried again."""

_BRINGS_ABOUT: dict[str, Power] = {"Starting": "Running", "Stopping": "Stopped"}


@dataclass(kw_only=True)
class Work:
    """A Proxmox task of ours; ``result`` is None while it runs. ``watcher`` will wake the object at its end. ``done``
    and ``warnings``: the Events (reason, message) that are told once it has succeeded.

    Of a growing disk: the slot and bytes, and the config that it leaves, where that is known but for its digest.
    Of a seed: what is on record once it has succeeded, and the digest of what was uploaded.
    Of a move: the ``target`` where this process has chosen it, and how far its log was read, and tells that it is.
    """

    action: str
    upid: str
    result: TaskResult | None = None
    watcher: TaskTracker | None = None
    sets_password: bool = False
    grows: tuple[str, int] | None = None
    leaves: VMConfig | None = None
    seed: SeedStatus | None = None
    seed_digest: str | None = None
    done: tuple[tuple[str, str], ...] = ()
    warnings: tuple[tuple[str, str], ...] = ()
    target: str | None = None
    lines_read: int = 0
    progress: str | None = None


@dataclass(frozen=True, kw_only=True)
class FailedMove:
    """A move to a node that has failed: what of, and when it is tried again; each failure doubles ``delay``."""

    message: str
    again_at: float
    delay: float


@dataclass(kw_only=True)
class BootQuestion:
    """What cloud-init in the guest was asked: the process that answers (``pid``) and how often it was found running,
    the answer last ``found``, how often it was asked, and when it is asked again (None: not at all; infinity: only
    where a pass is made for another reason). ``silent_for``: seconds that its agent is left alone. ``plain``: its
    answers are not JSON."""

    pid: int | None = None
    looks: int = 0
    found: FirstBoot | None = None
    tries: int = 0
    ask_at: float | None = None
    silent_for: float | None = None
    plain: bool = False


@dataclass(kw_only=True)
class Memory:
    """About one object (by UID). Times are of the monotonic clock, in seconds.

    ``unsent``: the VMID was reserved in this process and nothing has been sent for it, so it needs no proof of absence.
    ``ended`` are the UPIDs whose end was taken up. ``power`` is what an ended task of ours has just brought about; it
    stands until the inventory, which lags, must have noticed. ``guest`` is the inventory entry of the last pass that
    read the config. ``agent_at``: when the guest agent answered last, ``agent_again``: seconds from the last
    attempt to the next. ``settled_under`` are the grants of the last
    settled pass, and ``same_rules`` whether they are those of this one. ``written`` holds status fields that a config
    write has earned. ``first_start``: this process made the VM and is about to start it, so nobody else can have
    stopped it. ``asked_of_ha`` is the power that the HA manager was asked for and when, ``rule_refused`` a rule of HA
    that Proxmox has refused and when. ``left``: volumes that a destroy has left behind. ``stop_failed``: why the
    shutdown of a restart has just failed. ``restart_at``: when changes that wait for a restart are to be looked at
    again. ``seen`` was read together with the config, for its disks. ``grown`` (slot, bytes): disks that Proxmox has
    said are that large.
    ``ask_at``: when to ask a guest again that holds on to a disk. ``seen_at``: when the config was read that the last
    pass ended with (Unix seconds).
    """

    config: VMConfig | None = None
    config_at: float = 0.0
    reread_at: float = 0.0
    seen_at: float | None = None
    work: Work | None = None
    ended: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    unsent: bool = False
    first_start: bool = False
    power: Power | None = None
    power_at: float = 0.0
    guest: Guest | None = None
    status_at: float = 0.0
    stop_failed: str | None = None
    restart_at: float | None = None
    agent_tries: int = 0
    agent_again: float = 0.0
    agent_at: float | None = None
    addresses: tuple[str, ...] | None = None
    settled_generation: int | None = None
    settled_under: tuple[object, ...] | None = None
    same_rules: bool = True
    written: dict[str, object] = field(default_factory=dict)
    asked_of_ha: tuple[Power, float] | None = None
    rule_refused: tuple[RefusedRule, float] | None = None
    seen: DiskFacts = NOTHING_SEEN
    grown: frozenset[tuple[str, int]] = frozenset()
    ask_at: float | None = None
    left: tuple[str, ...] = ()
    seen_on: tuple[str, Mapping[str, str]] | None = None
    seen_before: tuple[str, Mapping[str, str]] | None = None
    """Node and config as last read, and the same as last read on another node."""
    moved: bool = False
    """A move of ours has ended, so the inventory is old."""
    move_asked_of_ha: float | None = None
    """When the HA manager was last asked to move it."""
    seed_sent: str | None = None
    """Digest of the seed that this process has uploaded, while it is on its storage."""
    seed_kept: bool = False
    """The seed could not be removed, which was told."""
    seed_failures: int = 0
    """How often in a row removing it has failed of what may pass."""
    boot: BootQuestion = field(default_factory=BootQuestion)
    wish: Wish | None = None
    failed_moves: dict[str, FailedMove] = field(default_factory=dict)
    """Of the present ``wish``, by target; the empty target stands for any."""
    copy_awaited: tuple[str, str | None] | None = None
    """VMTemplate of which a copy is waited for, and the node it is to be on (None: any), as of the last pass."""

    def begin_anew(self) -> None:
        """Another VM is going to be made for the object."""
        self.written.clear()
        self.seed_sent, self.seed_kept, self.seed_failures = None, False, 0
        self.boot = BootQuestion()

    def forget_config(self) -> None:
        """After every write: what was read is old."""
        self.config = None

    @contextmanager
    def sending(self, *, power_only: bool = False) -> Iterator[None]:
        """Around a call that changes something: nothing that was read or proven before is believed afterwards.

        Waiting is raised before anything is sent (no allocation slot is free), so then everything stays as it was.
        ``power_only``: once the call is answered the config is still what was read; a digest that a boot has outdated
        makes Proxmox refuse the next write, which is then a re-read.
        """
        before = (self.config, self.unsent, self.first_start, self.power)
        self.config, self.unsent, self.first_start, self.power = None, False, False, None
        try:
            yield
        except Waiting:
            self.config, self.unsent, self.first_start, self.power = before
            raise
        if power_only:
            self.config = before[0]

    def resume(self, recorded: Task) -> None:
        """Take up a task that an earlier process has recorded, unless its end was taken up already."""
        if self.work is None and recorded.upid is not None and recorded.upid not in self.ended:
            self.work = Work(action=recorded.action, upid=recorded.upid)

    def seed_of(self, vm: ProxmoxVM) -> SeedStatus | None:
        """The seed as it is on record, or will be with the next write."""
        written = self.written.get("seed")
        return written if isinstance(written, SeedStatus) else vm.status.seed

    def know_power(self, power: Power | None, now: float) -> None:
        """The power state as we have just brought it about, or found it."""
        self.power, self.power_at = power, now

    def believed_power(self, guest: Guest | None, now: float) -> Power | None:
        """What we brought about, until the inventory has shown it once or must have noticed; then its word counts."""
        if self.power is not None:
            caught_up = guest is not None and guest.status == self.power.lower()
            if caught_up or now - self.power_at >= LAG:
                self.power = None
        return self.power

    def power_asked_of_ha(self, now: float) -> Power | None:
        """What the HA manager was asked for, as long as it may not have taken it up."""
        return self.asked_of_ha[0] if self.asked_of_ha and now - self.asked_of_ha[1] < HA_LAG else None

    def rule_not_to_try(self, now: float) -> RefusedRule | None:
        """A rule that Proxmox has refused, until it is time to try again."""
        return (
            self.rule_refused[0] if self.rule_refused and now - self.rule_refused[1] < REFUSED_FOR else None
        )

    def end_work(self) -> Work | None:
        """Take up the end of a task: it is not watched again, and a config that it may have changed is old."""
        work, self.work = self.work, None
        if work is not None:
            self.ended.append(work.upid)
            boot_applies = self.config is not None and bool(self.config.pending)
            if work.action not in _BRINGS_ABOUT or boot_applies:
                self.forget_config()
        return work

    def succeeded(self, action: str, now: float) -> None:
        """What a task that has just ended brought about."""
        self.know_power(_BRINGS_ABOUT.get(action), now)
        if action == "Starting":
            self.addresses, self.agent_at, self.agent_tries = None, None, 0
            self.boot = BootQuestion()
