"""What is known of our objects in Kubernetes: the watch's word and the answers to our own writes.

Whatever comes last in time wins, not whatever arrives last: an answer that overtakes a watch event is kept, a
late event changes nothing, and a deleted object never comes back. So a pass reads its own writes. Not a cache
of anything that is not ours, and never a reason to write without a resourceVersion.
"""

import sys
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from proxmox_operator.engine.queue import Key

Raw = Mapping[str, Any]

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_TOMBSTONES = 10_000


class ObjectStore:
    """The newest known version of every object of the kinds we watch. For one event loop; not thread-safe.

    What `get` and `list` return is shared: it must not be changed.
    """

    def __init__(self) -> None:
        self._objects: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._listed: set[str] = set()

    def apply(self, kind: str, raw: Raw) -> bool:
        """Take in a version of an object; False where it is not newer than what is known, or was deleted."""
        metadata = raw["metadata"]
        if metadata.get("uid") in self._gone:
            return False
        objects = self._objects.setdefault(kind, {})
        place = (metadata.get("namespace") or "", metadata["name"])
        known = objects.get(place)
        if known is not None and not _is_newer(metadata, known["metadata"]):
            return False
        objects[place] = _slim(raw)
        return True

    def remove(self, kind: str, raw: Raw) -> None:
        """The object was deleted: it never comes back. A newer one of the same name stays."""
        metadata = raw["metadata"]
        uid = metadata.get("uid")
        self._bury(uid)
        objects = self._objects.get(kind, {})
        place = (metadata.get("namespace") or "", metadata["name"])
        known = objects.get(place)
        if known is not None and known["metadata"].get("uid") == uid:
            del objects[place]

    def replace(self, kind: str, items: Iterable[Raw], *, resource_version: str) -> dict[Key, int]:
        """Take in a complete list, read at `resource_version`; returns what changed or went, with the version
        that the watch is still to tell (for what went: that of its end is at least one more than the last).

        A watch can miss a deletion while it is reconnecting; a list cannot.
        """
        changed: dict[Key, int] = {}
        seen = set()
        for raw in items:
            metadata = raw["metadata"]
            seen.add(metadata.get("uid"))
            if self.apply(kind, raw):
                changed[Key(kind, metadata.get("namespace") or "", metadata["name"])] = _version(metadata)
        taken_at = int(resource_version)
        for (namespace, name), known in list(self._objects.get(kind, {}).items()):
            if known["metadata"].get("uid") not in seen and _version(known["metadata"]) <= taken_at:
                self.remove(kind, known)
                changed[Key(kind, namespace, name)] = _version(known["metadata"]) + 1
        self._listed.add(kind)
        return changed

    def get(self, key: Key) -> Raw | None:
        """The newest known version; None proves absence only where the kind is `listed`."""
        return self._objects.get(key.kind, {}).get((key.namespace, key.name))

    def list(self, kind: str) -> list[Raw]:
        """All known objects of a kind."""
        return [*self._objects.get(kind, {}).values()]

    def listed(self, kind: str) -> bool:
        """Whether an object that is not here is really absent."""
        return kind in self._listed

    def _bury(self, uid: str | None) -> None:
        if uid is not None:
            self._gone[uid] = None
            while len(self._gone) > _TOMBSTONES:
                self._gone.popitem(last=False)


def _version(metadata: Raw) -> int:
    return int(metadata["resourceVersion"])


def _is_newer(metadata: Raw, known: Raw) -> bool:
    return _version(metadata) > _version(known)


def _slim(raw: Raw) -> dict[str, Any]:
    """A copy without what nobody here reads; field names are shared between objects, to save memory."""
    metadata = {name: value for name, value in raw["metadata"].items() if name != "managedFields"}
    annotations = metadata.get("annotations") or {}
    if _LAST_APPLIED in annotations:
        metadata["annotations"] = {name: text for name, text in annotations.items() if name != _LAST_APPLIED}
    slim: dict[str, Any] = _share_names({**raw, "metadata": metadata})
    return slim


def _share_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {sys.intern(name): _share_names(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_share_names(item) for item in value]
    return value
