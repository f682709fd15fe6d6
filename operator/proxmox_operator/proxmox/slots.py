"""How many allocations may be under way on a storage at once: a slot is held until the *task* ends, not the
call.

Nothing waits here. Who finds no slot free gets Waiting, and is woken when one is, first come first served.
Slots live in memory: the limit begins anew with the session, and tasks that a former one started do not count.
"""

from collections.abc import Callable

from proxmox_operator import errors

from .audit import Actor

Wake = Callable[[Actor], None]


class AllocationSlots:
    """``limit`` slots per storage. ``wake`` is called with the actor that waited longest when one becomes
    free.
    """

    def __init__(self, limit: int, wake: Wake = lambda actor: None) -> None:
        self._limit = limit
        self._wake = wake
        self._held: dict[str, int] = {}
        self._waiting: dict[str, dict[tuple[str, str, str], Actor]] = {}

    def take(self, storage: str, actor: Actor | None) -> None:
        """Take a slot or raise Waiting (reason StorageBusy); every take needs one ``release``."""
        if self.held(storage) >= self._limit:
            if actor is not None:
                self._waiting.setdefault(storage, {}).setdefault(_key(actor), actor)
            raise errors.Waiting(
                f"storage {storage}: {self._limit} allocations are under way, the most at once "
                "(ProxmoxCluster spec.limits.allocationsPerStorage); goes on when one ends",
                reason="StorageBusy",
                after=5.0 if actor is not None else 1.0,
            )
        self._held[storage] = self.held(storage) + 1
        if actor is not None:
            self._waiting.get(storage, {}).pop(_key(actor), None)

    def release(self, storage: str) -> None:
        """The allocation has ended, or never began."""
        self._held[storage] = max(0, self.held(storage) - 1)
        waiting = self._waiting.get(storage)
        if waiting and self._held[storage] < self._limit:
            self._wake(waiting.pop(next(iter(waiting))))

    def held(self, storage: str) -> int:
        """Allocations under way on the storage."""
        return self._held.get(storage, 0)


def _key(actor: Actor) -> tuple[str, str, str]:
    return actor.kind, actor.namespace, actor.name
