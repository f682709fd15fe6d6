"""One leader at a time, by a Lease, and a fence that keeps a former leader from writing.

A Lease alone cannot stop a process that was frozen and wakes up believing it leads: every write asks the
`Fence` first, by this process's own clock, whether the lease lasts longer than the write can take. Not here:
what leading means, and the Lease's place in Kubernetes.
"""

import asyncio
import logging
import socket
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from proxmox_operator import errors

logger = logging.getLogger(__name__)

_CANNOT = "cannot take part in the election: %s"

Raw = Mapping[str, Any]


class Lease(Protocol):
    """One Lease object (coordination.k8s.io/v1), read and written as it is on the wire.

    `create` and `update` raise `errors.Outdated` where somebody was faster, by name or resourceVersion; all
    raise `errors.OperatorError` for the rest, within the time-out the elector counts on.
    """

    async def get(self) -> Raw | None: ...
    async def create(self, spec: Raw) -> Raw: ...
    async def update(self, known: Raw, spec: Raw) -> Raw: ...


class Fence:
    """Says whether a write may begin. Thread-safe; by the monotonic clock of this process only."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._writing = 0

    @classmethod
    def always(cls) -> "Fence":
        """A fence that is always open, for a process that has no rival."""
        fence = cls()
        fence._until = float("inf")
        return fence

    def remaining(self) -> float:
        """Seconds for which nobody else can lead; zero or less where we do not."""
        return self._until - self._clock()

    def require(self, seconds: float) -> None:
        """Return only if a write that takes at most `seconds` ends before anybody else can lead.

        Raises LeadershipLost where we do not lead (any more), and a Transient where the lease is only too
        short at the moment, because its renewal is late: nothing was sent, and the next pass tries again or
        the process ends.
        """
        remaining = self.remaining()
        if remaining <= 0:
            raise errors.LeadershipLost("the Lease is not held by this process")
        if remaining < seconds:
            raise errors.Transient(
                f"the Lease ends before a write of up to {seconds:.0f} s might: waiting for a renewal",
                reason="LeaseTooShort",
            )

    @contextmanager
    def writing(self, seconds: float) -> Iterator[None]:
        """`require`, and hold back the hand-over to another process until the write has ended."""
        with self._lock:
            self.require(seconds)
            self._writing += 1
        try:
            yield
        finally:
            with self._lock:
                self._writing -= 1

    @property
    def in_flight(self) -> int:
        """Writes that have begun under `writing` and not ended."""
        return self._writing

    def extend(self, until: float) -> None:
        """The lease is ours until this time of our clock. For the elector only."""
        with self._lock:
            self._until = until

    def close(self) -> None:
        """No write may begin from now on. For the elector only."""
        self.extend(float("-inf"))


class LeaderElector:
    """Runs `lead` while, and only while, this process holds the Lease."""

    def __init__(
        self,
        lease: Lease,
        *,
        identity: str,
        duration: float = 60.0,
        renew: float = 10.0,
        poll: float = 2.0,
        call_timeout: float = 4.0,
        takeover_delay: float = 45.0,
        drain: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """All times in seconds.

        `identity` is unique to the process. `takeover_delay` is the longest a write of a vanished leader may
        still be on its way; `drain` is what `lead` gets to end when it is cancelled. `now` only fills in the
        fields that people read: whether a Lease has expired is decided by how long it was not seen to change.
        """
        self._lease = lease
        self._identity = identity
        self._duration = duration
        self._renew = renew
        self._poll = poll
        self._call_timeout = call_timeout
        self._takeover_delay = takeover_delay
        self._drain = drain
        self._clock = clock
        self._now = now
        self.fence = Fence(clock=clock)
        self._known: Raw | None = None
        self._seen_at = 0.0
        self._held_until = float("-inf")
        self._held_back = False
        self._last_complaint = ""
        self._waiting_for = ""
        self._answered_at = float("-inf")

    def in_touch(self) -> bool:
        """Whether the Lease was read or written lately: without the right to that, nobody takes over."""
        return self._clock() - self._answered_at < self._duration

    @property
    def leading(self) -> bool:
        """Whether this process holds the Lease, be it that its first write is still held back."""
        return self._held_until > self._clock()

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Wait for the Lease, run `lead`, and hand the Lease over when it returns or this is cancelled.

        Raises LeadershipLost when the Lease was lost, after cancelling `lead`, and whatever `lead` raises.
        Only where `lead` ended in order and no write is on its way is the Lease given back; else it has to
        expire.
        """
        await self._acquire()
        renewing = asyncio.create_task(self._renew_until_lost(), name="lease-renewal")
        leading = asyncio.create_task(self._lead(lead), name="leading")
        in_order = False
        try:
            await asyncio.wait({renewing, leading}, return_when=asyncio.FIRST_COMPLETED)
            if renewing.done():
                self.fence.close()
                await renewing
            await leading
            in_order = True
        except asyncio.CancelledError:
            in_order = await self._end(leading)
            raise
        finally:
            await self._end(leading)
            await self._end(renewing)
            self.fence.close()
            if in_order and self.leading and not self._held_back:
                await self._release()
            self._held_until = float("-inf")

    async def _lead(self, lead: Callable[[], Awaitable[None]]) -> None:
        if self._held_back:
            logger.warning(
                "the last leader vanished: waiting %.0f s, the longest that a write of it may be on its way",
                self._takeover_delay,
            )
            await asyncio.sleep(self._takeover_delay)
            self._held_back = False
            self.fence.extend(self._held_until)
        await lead()

    async def _end(self, task: asyncio.Task[None]) -> bool:
        """Cancel a task and wait for its end, not for ever; False where it failed or did not end."""
        task.cancel()
        await asyncio.wait({task}, timeout=self._drain)
        return task.done() and (task.cancelled() or task.exception() is None)

    async def _acquire(self) -> None:
        while True:
            try:
                if await self._try_to_acquire():
                    logger.info("leading as %s", self._identity)
                    return
            except errors.Outdated:
                logger.debug("somebody else was faster; looking again")
            except (errors.OperatorError, TimeoutError) as error:
                why = str(error) or "no answer"
                logger.log(logging.DEBUG if why == self._last_complaint else logging.WARNING, _CANNOT, why)
                self._last_complaint = why
            await asyncio.sleep(self._poll)

    async def _try_to_acquire(self) -> bool:
        sent_at = self._clock()
        raw = await self._within(self._lease.get())
        last = raw if raw is not None else self._known
        spec = self._remember(last) if last is not None else {}
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity):
            lasts = max(float(spec.get("leaseDurationSeconds") or 0), self._duration)
            if self._clock() - self._seen_at < lasts:
                if holder != self._waiting_for:
                    logger.info(
                        "waiting for the Lease, which %s holds; one that vanished keeps it %.0f s",
                        holder,
                        lasts,
                    )
                    self._waiting_for = holder
                return False
        if raw is None:
            # One that we have seen was deleted: whoever held it may not know yet.
            self._held_back = self._known is not None
            self._remember(await self._within(self._lease.create(self._spec({}))))
            self._hold(sent_at)
            return True
        if holder != self._identity:  # else: an earlier attempt whose answer was lost
            self._held_back = holder != ""
        await self._write_ours(raw)
        return True

    async def _renew_until_lost(self) -> None:
        """Keep the Lease; raises LeadershipLost as soon as it is somebody else's or may be."""
        delay = self._renew
        while True:
            await asyncio.sleep(max(min(delay, self._held_until - self._clock()), 0.0))
            if not self.leading:
                raise errors.LeadershipLost("the Lease could not be renewed in time")
            try:
                await self._renew_once()
                delay = self._renew
            except (errors.OperatorError, TimeoutError) as error:
                delay = self._poll
                left = self._held_until - self._clock()
                logger.warning("the Lease was not renewed, %.0f s left: %s", left, str(error) or "no answer")

    async def _renew_once(self) -> None:
        assert self._known is not None  # noqa: S101 - acquired
        try:
            await self._write_ours(self._known)
        except errors.Outdated:
            # An earlier renewal whose answer was lost, or somebody else: look.
            raw = await self._within(self._lease.get())
            holder = self._remember(raw).get("holderIdentity") if raw is not None else None
            if raw is None or holder != self._identity:
                self._held_until = float("-inf")
                raise errors.LeadershipLost(f"the Lease is held by {holder or 'nobody'} now") from None
            await self._write_ours(raw)

    async def _write_ours(self, known: Raw) -> None:
        sent_at = self._clock()
        self._remember(await self._within(self._lease.update(known, self._spec(known["spec"]))))
        self._hold(sent_at)

    def _hold(self, sent_at: float) -> None:
        """Counted from before the call was sent: everybody else counts from after it arrived."""
        self._held_until = sent_at + self._duration
        if not self._held_back:
            self.fence.extend(self._held_until)

    async def _release(self) -> None:
        """Let another process lead at once. Where that fails, it leads when the Lease expires."""
        deadline = self._clock() + self._drain
        while self.fence.in_flight and self._clock() < deadline:  # noqa: ASYNC110 - they end in threads
            await asyncio.sleep(0.05)
        if self.fence.in_flight or self._known is None:
            logger.warning("a write is still on its way: the Lease is not given back, it expires")
            return
        try:
            await self._give_back(self._known)
        except (errors.OperatorError, TimeoutError) as error:
            logger.warning("the Lease is not given back, it expires: %s", str(error) or "no answer")
        else:
            logger.info("the Lease is given back")

    async def _give_back(self, known: Raw) -> None:
        try:
            await self._within(self._lease.update(known, {**known["spec"], "holderIdentity": ""}))
        except errors.Outdated:
            # The renewal that was cancelled may have arrived before: no other one of ours can.
            raw = await self._within(self._lease.get())
            if raw is None or raw["spec"].get("holderIdentity") != self._identity:
                return
            await self._within(self._lease.update(raw, {**raw["spec"], "holderIdentity": ""}))

    async def _within[T](self, call: Awaitable[T]) -> T:
        async with asyncio.timeout(self._call_timeout):
            answer = await call
        self._answered_at = self._clock()
        return answer

    def _remember(self, raw: Raw) -> Raw:
        if (
            self._known is None
            or self._known["metadata"]["resourceVersion"] != raw["metadata"]["resourceVersion"]
        ):
            self._seen_at = self._clock()
        self._known = raw
        spec: Raw = raw.get("spec") or {}
        return spec

    def _spec(self, before: Raw) -> dict[str, Any]:
        now = _micro_time(self._now())
        spec = {
            **before,
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "renewTime": now,
        }
        if before.get("holderIdentity") != self._identity:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(before.get("leaseTransitions") or 0) + (1 if before else 0)
        return spec


def process_identity() -> str:
    """A holder's name that starts with the pod's and that no other process has, not even after a restart."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


class NoElection:
    """Leads at once and always: for tests and for a single process that has no rival."""

    def __init__(self) -> None:
        self.fence = Fence.always()
        self.leading = True

    def in_touch(self) -> bool:
        """There is no Lease to be out of touch with."""
        return True

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """Run `lead`."""
        await lead()


def _micro_time(moment: datetime) -> str:
    """As Kubernetes' MicroTime wants it: RFC 3339 with six digits."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
