"""Just enough of an API server in memory; the real one is used in tests/integration."""

import asyncio
import copy
from typing import Any

from proxmox_operator.kube.client import Call
from proxmox_operator.kube.errors import AlreadyExists, Conflict, NotFound


class MemoryApi:
    """A transport. `fail` is raised by every call while set, `gate` holds calls back while cleared."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.objects: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.version = 0
        self.fail: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    def put(self, plural: str, raw: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        metadata = raw["metadata"]
        metadata.setdefault("uid", f"uid-{self.version}")
        metadata["resourceVersion"] = str(self.version)
        self.objects[plural, metadata.get("namespace", ""), metadata["name"]] = raw
        return copy.deepcopy(raw)

    def all(self, plural: str) -> list[dict[str, Any]]:
        return [raw for (kind, _, _), raw in self.objects.items() if kind == plural]

    async def send(self, call: Call) -> dict[str, Any]:
        await self.gate.wait()
        self.calls.append(call)
        if self.fail is not None:
            raise self.fail
        name = call.name or ((call.body or {}).get("metadata") or {}).get("name", "")
        place = (call.resource.plural, call.namespace, name)
        known = self.objects.get(place)
        if call.verb == "create":
            if known is not None:
                raise AlreadyExists(str(call))
            return self.put(call.resource.plural, copy.deepcopy(dict(call.body or {})))
        if known is None:
            raise NotFound(str(call))
        if call.verb == "get":
            return copy.deepcopy(known)
        body = copy.deepcopy(dict(call.body or {}))
        if call.verb == "delete":
            return self.objects.pop(place)
        wanted = body.get("metadata", {}).get("resourceVersion", known["metadata"]["resourceVersion"])
        if wanted != known["metadata"]["resourceVersion"]:
            raise Conflict(str(call))
        changed = body if call.verb == "replace" else merge(known, body)
        if call.subresource:
            changed = known | {call.subresource: body[call.subresource]}
        elif "deletionTimestamp" in changed["metadata"] and not changed["metadata"].get("finalizers"):
            return changed | {"metadata": self.objects.pop(place)["metadata"] | {"finalizers": []}}
        return self.put(call.resource.plural, changed)


def merge(known: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(known) if isinstance(known, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result
