"""What one process remembers of a VMTemplate between passes. All of it can be lost at any moment."""

from dataclasses import dataclass, field
from math import inf

from proxmox_operator.errors import NeedsHuman, OperatorError
from proxmox_operator.planning.templates import Look
from proxmox_operator.proxmox.tasks import TaskResult, TaskTracker

AGAIN = 10.0
"""Seconds until what may pass by itself is tried again."""

IN_USE_FOR = 600.0
"""Seconds until Proxmox is asked again to destroy a copy that linked clones needed."""

LONGEST = 3600.0
"""Seconds up to which the time between two attempts at the same thing is doubled."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What an attempt failed of, and until when it is not repeated (monotonic clock): ``delay`` seconds after that."""

    error: OperatorError
    until: float
    delay: float


@dataclass(kw_only=True)
class Talk:
    """What is being said with the guest of a build about one step: the process that was asked, whose answer is awaited,
    what it said last, and when it is to be asked again (monotonic clock)."""

    step: int
    pid: int | None = None
    look: Look | None = None
    ask_at: float = 0.0
    delay: float = 0.0


@dataclass(kw_only=True)
class TemplateMemory:
    """About one object (by UID), at one generation: another spec is tried at once.

    ``results`` are ended tasks by UPID, None while one is being watched. ``unsent``: VMIDs that were reserved in this
    process and nothing was sent for; ``answered``: those whose last call has had its effect, or never will.
    ``doubted``: those that were found to be otherwise than the inventory says, so they are read. ``failures`` by VMID,
    or by node of a download. ``in_use`` by VMID. ``searched``: copies of a lost status were looked for. ``builds``,
    ``talks`` and ``seedless`` by VMID: builds that failed, what guests say, and copies whose task deletes the seed.
    ``again_at``: when the first of the failures that the present facts rest on may be repeated.
    """

    uid: str
    generation: int = 0
    results: dict[str, TaskResult | None] = field(default_factory=dict)
    unsent: set[int] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)
    doubted: set[int] = field(default_factory=set)
    failures: dict[int | str, Failure] = field(default_factory=dict)
    in_use: dict[int, Failure] = field(default_factory=dict)
    builds: dict[int, Failure] = field(default_factory=dict)
    talks: dict[int, Talk] = field(default_factory=dict)
    seedless: set[int] = field(default_factory=set)
    searched: bool = False
    again_at: float = inf
    tracker: TaskTracker | None = None

    def follow(self, tracker: TaskTracker) -> None:
        """Tasks are watched by this tracker from now on; another one, of a renewed connection, tells nothing more."""
        if self.tracker is not tracker:
            self.tracker = tracker
            self.results = {upid: result for upid, result in self.results.items() if result is not None}

    def fail(self, what: int | str, error: OperatorError, *, now: float, slow: float) -> None:
        """Remember a failure: a person's part is repeated slowly, and everything less and less often."""
        self.failures[what] = _after(
            self.failures.get(what), error, now, slow if isinstance(error, NeedsHuman) else AGAIN
        )

    def keep(self, vmid: int, error: OperatorError, *, now: float) -> None:
        """Remember that a copy could not be destroyed, as it is needed."""
        self.in_use[vmid] = _after(self.in_use.get(vmid), error, now, IN_USE_FOR)

    def fail_build(self, vmid: int, error: OperatorError, *, now: float, slow: float) -> None:
        """Remember that a build failed, which a call that succeeds does not undo."""
        self.builds[vmid] = _after(self.builds.get(vmid), error, now, slow)

    def build_failed(self, vmid: int, now: float) -> OperatorError | None:
        """What the last build failed of, as long as there is not to be another."""
        return self._held(self.builds.get(vmid), now)

    def talk(self, vmid: int, step: int) -> Talk:
        """What is being said about this step; nothing yet, where it was another one."""
        known = self.talks.get(vmid)
        if known is None or known.step != step:
            known = self.talks[vmid] = Talk(step=step)
        return known

    def look(self, vmid: int, step: int, now: float) -> tuple[Look | None, bool]:
        """What the guest said last of the step, and whether it is to be asked now."""
        talk = self.talk(vmid, step)
        if talk.ask_at > now:
            self.again_at = min(self.again_at, talk.ask_at)
        return talk.look, talk.ask_at <= now

    def forget(self, vmid: int) -> None:
        """Of a copy that is no longer on record nothing is remembered."""
        for known in (self.in_use, self.failures, self.builds, self.talks):
            known.pop(vmid, None)
        for vmids in (self.doubted, self.seedless):
            vmids.discard(vmid)

    def failed(self, what: int | str, now: float) -> OperatorError | None:
        """What the last attempt failed of, as long as it is not to be repeated."""
        return self._held(self.failures.get(what), now)

    def needed(self, vmid: int, now: float) -> str | None:
        """Why a copy stays that is no longer wanted, as long as Proxmox is not to be asked again."""
        error = self._held(self.in_use.get(vmid), now)
        return error.message if error is not None else None

    def _held(self, failure: Failure | None, now: float) -> OperatorError | None:
        if failure is None or failure.until <= now:
            return None
        self.again_at = min(self.again_at, failure.until)
        return failure.error

    def at(self, generation: int) -> "TemplateMemory":
        """The same, for this generation of the object."""
        if self.generation != generation:
            self.generation = generation
            self.failures.clear()
            self.in_use.clear()
            self.builds.clear()
        return self


def _after(before: Failure | None, error: OperatorError, now: float, first: float) -> Failure:
    delay = first if before is None else max(first, min(2 * before.delay, LONGEST))
    return Failure(error=error, until=now + delay, delay=delay)
