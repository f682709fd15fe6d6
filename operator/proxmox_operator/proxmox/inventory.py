"""What exists in the cluster, as one poll of ``GET /cluster/resources`` tells it; everybody reads this
snapshot.

It proves presence, never absence: guests that the token may not see are missing, and status lags by up to
17 s (pvestatd 10 s, cache 2 s, our interval 5 s). Whether a guest is gone is asked in vm.py. A sudden drop
in what is visible freezes writes until it is explained: a lost privilege looks exactly like a deletion.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from proxmox_operator import errors

from .resources import Inventory, changed_guests, changed_nodes, has_more_room, parse_resources

logger = logging.getLogger(__name__)

MAX_INTERVAL = 30.0
"""Seconds between polls while they fail."""

POKED_INTERVAL = 1.0
"""Seconds between polls while others keep asking for one."""

LEAVING = 600.0
"""Seconds for which a guest that we destroy may vanish without surprise."""

OnChange = Callable[[set[int], set[str]], None]
Look = Callable[[], Awaitable[list[dict[str, Any]]]]
IsFree = Callable[[int], Awaitable[bool]]


class DropGuard:
    """Freezes writes when many guests vanish between two polls, until that is explained.

    A guest is explained when it is visible again, or when Proxmox says that its VMID is free: that needs no
    privilege, so a lost one cannot be the cause. Writes go on when so few are left unexplained that they
    would not have frozen them. Guests that we destroy ourselves (``expected``) do not count.
    """

    QUESTIONS = 20
    """How many ids are asked about after each poll."""

    def __init__(self, is_free: IsFree) -> None:
        self._is_free = is_free
        self._missing: set[int] = set()
        self._vanished = 0
        self._visible_before = 0

    @property
    def reason(self) -> str | None:
        """Why writes are frozen, as a sentence with the remedy; None when they are not."""
        if not self._missing:
            return None
        return (
            f"{self._vanished} of {self._visible_before} guests vanished at once from what the "
            "credentials may see, "
            "though Proxmox still knows ids of them: nothing is written. Grant VM.Audit on them again (`pveum"
            " user token "
            "permissions`); if they are meant to be hidden, restart the operator"
        )

    def saw(self, before: Inventory, after: Inventory, *, expected: Collection[int] = ()) -> bool:
        """Compare two snapshots; True while something is unexplained."""
        gone = before.guests.keys() - after.guests.keys() - set(expected)
        if is_sudden(len(before.guests), len(gone)):
            self._missing |= gone
            self._vanished = max(self._vanished, len(self._missing))
            self._visible_before = max(self._visible_before, len(before.guests))
        self._missing -= after.guests.keys()
        self._settle()
        return bool(self._missing)

    async def explain(self) -> None:
        """Ask of some missing ids whether they are free."""
        for vmid in sorted(self._missing)[: self.QUESTIONS]:
            if not await self._is_free(vmid):
                break
            self._missing.discard(vmid)
        self._settle()

    def go_on_from(self, earlier: "DropGuard") -> None:
        """What an earlier session could not explain is unexplained still."""
        self._missing = set(earlier._missing)
        self._vanished, self._visible_before = earlier._vanished, earlier._visible_before

    def _settle(self) -> None:
        if not is_sudden(self._visible_before, len(self._missing)):
            self._missing.clear()
            self._vanished = 0
            self._visible_before = 0


def is_sudden(visible: int, gone: int) -> bool:
    """Whether so many going at once needs an explanation: all of at least two, or five and more than half."""
    return (gone >= 2 and gone == visible) or (gone >= 5 and 2 * gone > visible)


class InventoryPoller:
    """Polls, compares, tells. ``current`` is None until the first answer, ``error`` after a good one.

    ``on_turn`` is called when polls begin to fail, when they succeed again, and when writes become frozen or free;
    ``on_room`` when there is more room than before for what could not be placed.
    """

    def __init__(
        self,
        look: Look,
        is_free: IsFree,
        on_change: OnChange,
        on_turn: Callable[[], None] = lambda: None,
        on_room: Callable[[], None] = lambda: None,
        *,
        interval: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look = look
        self._on_change = on_change
        self._on_turn = on_turn
        self._on_room = on_room
        self._interval = interval
        self._clock = clock
        self._guard = DropGuard(is_free)
        self._polling = asyncio.Lock()
        self._poke = asyncio.Event()
        self._leaving: dict[int, float] = {}
        self._earlier: Inventory | None = None
        self.current: Inventory | None = None
        self.error: errors.OperatorError | None = None
        self.failures = 0

    @property
    def age(self) -> float:
        """Seconds since the current snapshot was asked for; infinite before the first."""
        return self._clock() - self.current.taken_at if self.current else float("inf")

    @property
    def frozen_reason(self) -> str | None:
        """Why no write may be sent to this cluster, or None."""
        return self._guard.reason

    def go_on_from(self, earlier: "InventoryPoller") -> None:
        """Compare with what an earlier session of this cluster saw: guests may be hidden from new credentials, too."""
        self._earlier = earlier.current or earlier._earlier
        self._leaving = dict(earlier._leaving)
        self._guard.go_on_from(earlier._guard)

    def expect_gone(self, vmid: int) -> None:
        """We are destroying this guest: that it vanishes within the next minutes is no surprise."""
        self._leaving[vmid] = self._clock() + LEAVING

    def poke(self) -> None:
        """Poll now instead of at the next interval (a task of ours ended)."""
        self._poke.set()

    async def run(self) -> None:
        """Poll until cancelled. Failures stretch the interval up to MAX_INTERVAL; pokes shorten it down to
        POKED_INTERVAL, and never below five times what a poll takes.
        """
        while True:
            self._poke.clear()
            started = self._clock()
            await self.poll()
            took = self._clock() - started
            regular = min(self._interval * 2 ** min(self.failures, 10), max(MAX_INTERVAL, self._interval))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poke.wait(), regular)
            soonest = started + max(POKED_INTERVAL, 5 * took)
            await asyncio.sleep(max(0.0, min(soonest, started + regular) - self._clock()))

    async def poll(self) -> Inventory | None:
        """One poll; None when it failed, which ``error`` explains. Who comes while one is under way shares
        the next."""
        asked = self._clock()
        async with self._polling:
            if self.current is not None and self.current.taken_at > asked:
                return self.current
            started, frozen = self._clock(), self.frozen_reason
            try:
                after = await self._observe(started)
            except errors.OperatorError as error:
                self._failed(error)
                return None
            except Exception as error:
                logger.exception("inventory: the answer could not be understood")
                self._failed(errors.Transient(f"GET /cluster/resources: {type(error).__name__}; retried"))
                return None
            before, self.current = self.current, after
            turned = self.failures > 0 or frozen != self.frozen_reason
            self.failures, self.error = 0, None
        if turned:
            self._on_turn()
        guests, nodes = changed_guests(before, after), changed_nodes(before, after)
        if guests or nodes:
            self._on_change(guests, nodes)
        if before is not None and has_more_room(before, after, guests):
            self._on_room()
        return after

    async def _observe(self, started: float) -> Inventory:
        items = await self._look()
        before = self.current or self._earlier
        after = parse_resources(items, taken_at=started, generation=before.generation + 1 if before else 1)
        self._leaving = {vmid: until for vmid, until in self._leaving.items() if until > started}
        if before is not None and self._guard.saw(before, after, expected=self._leaving):
            await self._guard.explain()
        self._earlier = None
        return after

    def _failed(self, error: errors.OperatorError) -> None:
        if self.failures == 0:
            logger.warning("inventory: %s", error)
        self.failures += 1
        self.error = error
        if self.failures == 1:
            self._on_turn()
