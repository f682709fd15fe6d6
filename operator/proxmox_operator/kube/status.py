"""Writes what a pass found out: the status subresource, and our finalizer.

One writer, always with the version that the pass has read, so a pass that worked on old facts cannot
overwrite newer ones. Not here: what a status says.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from proxmox_operator.api.names import FINALIZER
from proxmox_operator.kube.client import Kube, Raw
from proxmox_operator.kube.resources import OWN_KINDS, Resource


class Store(Protocol):
    """Takes the answer of a write, so that the next pass knows it before the watch has told it."""

    def apply(self, kind: str, raw: Raw) -> bool: ...
    def remove(self, kind: str, raw: Raw) -> None: ...


class StatusWriter:
    """All writes to our own objects. Raises `errors.Outdated` where `raw` is no longer the newest version."""

    def __init__(
        self,
        kube: Kube,
        store: Store,
        *,
        resources: Mapping[str, Resource] = MappingProxyType(OWN_KINDS),
        written: Callable[[Raw, Raw], None] = lambda before, after: None,
    ) -> None:
        """`written` is told the object before and after each write of a status."""
        self._kube = kube
        self._written = written
        self._store = store
        self._resources = resources

    async def write(self, raw: Raw, status: Raw) -> Raw:
        """Make `status` the object's whole status, only if that changes something; returns the newest
        version.

        Fields that are None are the same as absent ones.
        """
        wanted = without_none(status)
        if wanted == without_none(raw.get("status") or {}):
            return raw
        known = raw["metadata"]
        metadata = {
            field: known[field] for field in ("name", "namespace", "uid", "resourceVersion") if field in known
        }
        resource = self._resources[raw["kind"]]
        body = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": metadata,
            "status": wanted,
        }
        answer = self._keep(await self._kube.replace(resource, body, subresource="status"))
        self._written(raw, answer)
        return answer

    async def add_finalizer(self, raw: Raw) -> Raw:
        """Have Kubernetes keep the object until `drop_finalizer`; returns the newest version."""
        finalizers = raw["metadata"].get("finalizers") or []
        return raw if FINALIZER in finalizers else await self._set_finalizers(raw, [*finalizers, FINALIZER])

    async def drop_finalizer(self, raw: Raw) -> Raw:
        """Let Kubernetes delete the object, which is gone with the last finalizer; those of others stay."""
        finalizers = raw["metadata"].get("finalizers") or []
        others = [name for name in finalizers if name != FINALIZER]
        return raw if others == finalizers else await self._set_finalizers(raw, others)

    async def _set_finalizers(self, raw: Raw, finalizers: list[str]) -> Raw:
        resource = self._resources[raw["kind"]]
        return self._keep(await self._kube.patch_metadata(resource, raw, {"finalizers": finalizers}))

    def _keep(self, answer: Raw) -> Raw:
        metadata = answer["metadata"]
        # That it is gone shows in nothing else: the version is the one from before.
        is_gone = "deletionTimestamp" in metadata and not metadata.get("finalizers")
        (self._store.remove if is_gone else self._store.apply)(answer["kind"], answer)
        return answer


def without_none(value: Any) -> Any:
    """The value with every None left out of its mappings, however deep."""
    if isinstance(value, Mapping):
        return {name: without_none(item) for name, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_none(item) for item in value]
    return value
