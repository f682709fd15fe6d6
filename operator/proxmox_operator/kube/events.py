"""Kubernetes Events: what `kubectl describe` shows a person about an object.

Recording never waits and never fails: an Event that cannot be posted is dropped. What must not get lost is a
condition. The same thing said again within the window is counted (events.k8s.io/v1 ``series``), not repeated.
"""

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from proxmox_operator import errors
from proxmox_operator.api.names import FIELD_MANAGER
from proxmox_operator.kube.client import Kube, Raw
from proxmox_operator.kube.resources import EVENTS

logger = logging.getLogger(__name__)

_NOTE_BYTES = 1024
_NAME_LENGTH = 236
_PARALLEL = 4

type _Said = tuple[str, str, str, str]


@dataclass
class _Series:
    """One Event: what was said, how often, and how much of that Kubernetes knows."""

    namespace: str
    name: str
    body: dict[str, Any]
    last: float
    last_time: datetime
    count: int = 1
    posted: int = 0
    sent_at: float = 0.0


@dataclass
class _Allowance:
    tokens: float
    at: float


class EventRecorder:
    """Collects Events and posts them from `run`. For one event loop; not thread-safe."""

    def __init__(
        self,
        kube: Kube,
        *,
        instance: str,
        window: float = 600.0,
        recount: float = 60.0,
        burst: int = 15,
        refill: float = 30.0,
        capacity: int = 5000,
        drain: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        observe: Callable[[str], None] = lambda result: None,
    ) -> None:
        """All times in seconds.

        `instance` names this process. What is said again within `window` is counted, and the count written
        every `recount` at most. An object may say `burst` different things at once and one more every
        `refill`, and as many warnings. At most `capacity` Events are kept in memory. `stop` leaves `drain` to
        post the rest. `observe` is told what became of each Event (`Metrics.event`).
        """
        self._kube = kube
        self._instance = instance[:128]
        self._window = window
        self._recount = recount
        self._burst = burst
        self._refill = refill
        self._capacity = capacity
        self._drain = drain
        self._clock = clock
        self._now = now
        self._observe = observe
        self._series: OrderedDict[_Said, _Series] = OrderedDict()
        self._unsent: OrderedDict[_Said, None] = OrderedDict()
        self._allowances: dict[tuple[str, str], _Allowance] = {}
        self._wake = asyncio.Event()
        self._stopping = False

    def normal(self, raw: Raw, reason: str, message: str, *, action: str = "Reconcile") -> None:
        """Something happened as it should."""
        self._record(raw, "Normal", reason, message, action)

    def warning(self, raw: Raw, reason: str, message: str, *, action: str = "Reconcile") -> None:
        """Something a person may have to look at."""
        self._record(raw, "Warning", reason, message, action)

    async def run(self) -> None:
        """Post until `stop` and, for a bounded time, what is left then."""
        while not self._stopping:
            try:
                async with asyncio.timeout(self._recount):
                    await self._wake.wait()
            except TimeoutError:
                logger.debug("nothing new; looking for counts to write")
            self._wake.clear()
            await self._flush(everything=False)
        try:
            async with asyncio.timeout(self._drain):
                await self._flush(everything=True)
        except TimeoutError:
            logger.info("%d Events were not posted before the end", len(self._unsent))

    def stop(self) -> None:
        """Have `run` post what is left and return."""
        self._stopping = True
        self._wake.set()

    def _record(
        self, raw: Raw, type: Literal["Normal", "Warning"], reason: str, message: str, action: str
    ) -> None:
        note = _shorten(message)
        now = self._clock()
        said = (raw["metadata"].get("uid", ""), type, reason, note)
        series = self._series.get(said)
        if series is not None and now - series.last < self._window:
            series.count += 1
            series.last, series.last_time = now, self._now()
            self._series.move_to_end(said)
            self._unsent[said] = None
            self._observe("counted")
            return
        if not self._allowed(said[:2], now):
            self._observe("limited")
            return
        self._forget_old(now)
        if len(self._series) >= self._capacity:
            self._observe("dropped")
            return
        self._series[said] = self._begin(raw, type, reason, note, action)
        self._unsent[said] = None
        self._wake.set()

    def _begin(
        self, raw: Raw, type: Literal["Normal", "Warning"], reason: str, note: str, action: str
    ) -> _Series:
        metadata = raw["metadata"]
        namespace = (
            metadata.get("namespace") or "default"
        )  # where Kubernetes keeps Events of cluster-scoped objects
        name = f"{metadata['name'][:_NAME_LENGTH].rstrip('.-')}.{secrets.token_hex(8)}"
        moment = self._now()
        regarding = {"apiVersion": raw["apiVersion"], "kind": raw["kind"]} | {
            field: metadata[field] for field in ("name", "namespace", "uid") if metadata.get(field)
        }
        body = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"name": name, "namespace": namespace},
            "eventTime": _micro_time(moment),
            "type": type,
            "reason": reason[:128],
            "action": action[:128],
            "note": note,
            "regarding": regarding,
            "reportingController": FIELD_MANAGER,
            "reportingInstance": self._instance,
        }
        return _Series(namespace, name, body, last=self._clock(), last_time=moment)

    def _allowed(self, whose: tuple[str, str], now: float) -> bool:
        """Whether the object may say one more of this type: a warning is not lost behind what is only told."""
        if len(self._allowances) > self._capacity:
            full = self._burst * self._refill
            self._allowances = {
                other: kept for other, kept in self._allowances.items() if now - kept.at < full
            }
        allowance = self._allowances.setdefault(whose, _Allowance(float(self._burst), now))
        allowance.tokens = min(allowance.tokens + (now - allowance.at) / self._refill, float(self._burst))
        allowance.at = now
        if allowance.tokens < 1:
            return False
        allowance.tokens -= 1
        return True

    def _forget_old(self, now: float) -> None:
        while self._series:
            said, series = next(iter(self._series.items()))
            if now - series.last < self._window or said in self._unsent:
                return
            del self._series[said]

    async def _flush(self, *, everything: bool) -> None:
        now = self._clock()
        due = [
            said
            for said in self._unsent
            if everything
            or not self._series[said].posted
            or now - self._series[said].sent_at >= self._recount
        ]
        for start in range(0, len(due), _PARALLEL):
            batch = due[start : start + _PARALLEL]
            await asyncio.gather(*(self._send(self._series[said]) for said in batch))
            for said in batch:
                series = self._series[said]
                if series.count == series.posted:
                    del self._unsent[said]

    async def _send(self, series: _Series) -> None:
        """Post the Event, or its new count. Where that fails it is not tried again."""
        count, first = series.count, not series.posted
        series.posted, series.sent_at = count, self._clock()
        repeated = {"series": {"count": count, "lastObservedTime": _micro_time(series.last_time)}}
        try:
            if first:
                body = series.body | (repeated if count > 1 else {})
                await self._kube.create(EVENTS, body, namespace=series.namespace)
            else:
                await self._kube.patch(EVENTS, series.name, repeated, namespace=series.namespace)
        except errors.OperatorError as error:
            logger.debug("an Event was not posted: %s", error)
            self._observe("failed")
        else:
            self._observe("posted")


def _shorten(message: str) -> str:
    """Kubernetes takes at most 1,024 bytes."""
    encoded = message.encode()
    if len(encoded) <= _NOTE_BYTES:
        return message
    return encoded[: _NOTE_BYTES - 3].decode(errors="ignore") + "..."


def _micro_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
