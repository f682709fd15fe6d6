"""Calls to the Kubernetes API: one seam (`Transport`) that every call passes, and `Kube`, which names the
calls.

Not here: sockets, TLS and credentials (`transport.py`, `login.py`), and watching (kopf).
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from proxmox_operator import errors
from proxmox_operator.api.names import FIELD_MANAGER
from proxmox_operator.kube.errors import NotFound
from proxmox_operator.kube.resources import API_GROUPS, Resource, api_of

Verb = Literal["get", "list", "create", "patch", "replace", "delete"]
Raw = Mapping[str, Any]
Observe = Callable[[str, str, str, float], None]

PAGE = 500


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call to the API server. A ``patch`` is a JSON merge patch (RFC 7386)."""

    verb: Verb
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    body: Raw | None = field(default=None, repr=False)
    params: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """An empty name would turn one object's call into one on all of them."""
        if not self.name and self.verb not in ("list", "create"):
            raise ValueError(f"{self.verb} {self.resource.label}: a name is needed")
        if self.resource.namespaced and not self.namespace and self.verb != "list":
            raise ValueError(f"{self.verb} {self.resource.label} {self.name}: a namespace is needed")

    @property
    def writes(self) -> bool:
        """Whether the call can change something."""
        return self.verb not in ("get", "list")

    def __str__(self) -> str:
        place = "/".join(part for part in (self.namespace, self.name, self.subresource) if part)
        return f"{self.verb} {self.resource.label} {place}".rstrip()


class Transport(Protocol):
    """Sends one call and returns the API server's answer, or raises an error of `kube.errors` or `errors`."""

    async def send(self, call: Call) -> dict[str, Any]: ...


class Listing(NamedTuple):
    """A complete list and the resourceVersion it was read at."""

    items: list[dict[str, Any]]
    resource_version: str


class Kube:
    """Typed calls over a transport.

    All raise `errors.Unreachable` where nothing answered, `errors.AnswerLost` for a write that may have
    happened, and the classes of `kube.errors`. Nothing is repeated here: the caller's next pass looks first.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        field_manager: str = FIELD_MANAGER,
        observe: Observe | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`observe` is told verb, resource, result and seconds of each call (`Metrics.kube_call`)."""
        self._transport = transport
        self._manager = {"fieldManager": field_manager}
        self._observe = observe
        self._clock = clock

    async def get(self, resource: Resource, name: str, *, namespace: str = "") -> dict[str, Any]:
        """One object. Raises `NotFound`."""
        return await self._send(Call(verb="get", resource=resource, namespace=namespace, name=name))

    async def list(self, resource: Resource, *, namespace: str = "") -> Listing:
        """All objects, of one namespace if given, read in pages. Raises `Conflict` if a page expired."""
        items: list[dict[str, Any]] = []
        params = {"limit": str(PAGE)}
        while True:
            page = await self._send(Call(verb="list", resource=resource, namespace=namespace, params=params))
            for item in page.get("items") or ():
                items.append({"apiVersion": resource.api_version, "kind": resource.kind} | item)
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return Listing(items, metadata["resourceVersion"])
            params = params | {"continue": metadata["continue"]}

    async def served(self, group: str, version: str) -> set[str]:
        """The kinds of a group, as plurals, that discovery tells of: what watches goes by it, and it lags behind."""
        groups = await self._send(Call(verb="list", resource=API_GROUPS))
        if group not in {each["name"] for each in groups["groups"]}:
            return set()
        try:
            found = await self._send(Call(verb="list", resource=api_of(group, version)))
        except NotFound:
            return set()
        return {each["name"] for each in found["resources"]}

    async def create(self, resource: Resource, body: Raw, *, namespace: str = "") -> dict[str, Any]:
        """Raises `AlreadyExists`, and `NamespaceTerminating` where the namespace is being deleted."""
        return await self._send(
            Call(verb="create", resource=resource, namespace=namespace, body=body, params=self._manager)
        )

    async def replace(self, resource: Resource, body: Raw, *, subresource: str = "") -> dict[str, Any]:
        """Write the whole object, or a subresource. Raises `Conflict` where its resourceVersion is old."""
        metadata = body["metadata"]
        call = Call(
            verb="replace",
            resource=resource,
            namespace=metadata.get("namespace", ""),
            name=metadata["name"],
            subresource=subresource,
            body=body,
            params=self._manager,
        )
        return await self._send(call)

    async def patch(self, resource: Resource, name: str, body: Raw, *, namespace: str = "") -> dict[str, Any]:
        """Merge `body` into the object. Raises `Conflict` where it holds a resourceVersion that is old."""
        call = Call(
            verb="patch", resource=resource, namespace=namespace, name=name, body=body, params=self._manager
        )
        return await self._send(call)

    async def patch_metadata(self, resource: Resource, raw: Raw, metadata: Raw) -> dict[str, Any]:
        """Merge `metadata` into exactly the version `raw`; raises `Conflict` where there is a newer one."""
        known = raw["metadata"]
        precondition = {"uid": known["uid"], "resourceVersion": known["resourceVersion"]}
        return await self.patch(
            resource,
            known["name"],
            {"metadata": {**metadata, **precondition}},
            namespace=known.get("namespace", ""),
        )

    async def delete(self, resource: Resource, name: str, *, uid: str, namespace: str = "") -> None:
        """Ask for the deletion of exactly the object with this uid; one that is gone already is fine."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        call = Call(verb="delete", resource=resource, namespace=namespace, name=name, body=body)
        with suppress(NotFound):
            await self._send(call)

    async def _send(self, call: Call) -> dict[str, Any]:
        started = self._clock()
        result = "ok"
        try:
            return await self._transport.send(call)
        except errors.OperatorError as error:
            result = type(error).__name__
            raise
        except BaseException:
            result = "cancelled"
            raise
        finally:
            if self._observe is not None:
                self._observe(call.verb, call.resource.label, result, self._clock() - started)
