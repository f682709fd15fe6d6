"""Tells once what needs a person, of whatever kind the object is: by a Warning Event and a line of the log.

It goes by the statuses that are written. An attempt in between, which shows progress and fails of the same thing, is no
news; what was mended and breaks again is. A new leader repeats nothing that the status shows already.
"""

import logging
from collections.abc import Mapping
from typing import Any

from proxmox_operator.api import raw_condition
from proxmox_operator.kube.client import Raw
from proxmox_operator.kube.events import EventRecorder
from proxmox_operator.planning.report import asks_anew

logger = logging.getLogger(__name__)


class Teller:
    """Remembers what was told of each object, by UID and reason, until it is well or gone."""

    def __init__(self, events: EventRecorder) -> None:
        self._events = events
        self._told: dict[str, dict[str, Mapping[str, Any]]] = {}

    def written(self, before: Raw, after: Raw) -> None:
        """A status was written; these are the object before and after."""
        uid, now = after["metadata"]["uid"], raw_condition(after, "Stalled")
        if now.get("status") != "True":
            if raw_condition(after, "Reconciling").get("status") != "True":
                self._told.pop(uid, None)
            return
        told = self._told.setdefault(uid, {})
        was = told.get(now["reason"]) or raw_condition(before, "Stalled")
        told[now["reason"]] = now
        if asks_anew(was, now):
            logger.warning("%s: %s", now["reason"], now["message"])
            self._events.warning(after, now["reason"], now["message"])

    def gone(self, raw: Raw) -> None:
        """The object is no more."""
        self._told.pop(raw["metadata"]["uid"], None)
