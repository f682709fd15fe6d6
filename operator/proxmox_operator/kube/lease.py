"""The Lease object that the election is held over. Not here: the rules of the election."""

from collections.abc import Mapping
from typing import Any

from proxmox_operator import errors
from proxmox_operator.kube.client import Kube
from proxmox_operator.kube.errors import NotFound
from proxmox_operator.kube.resources import LEASES

Raw = Mapping[str, Any]


class KubeLease:
    """One Lease by namespace and name."""

    def __init__(self, kube: Kube, *, namespace: str, name: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name

    async def get(self) -> Raw | None:
        """The Lease, or None where there is none yet."""
        try:
            return await self._kube.get(LEASES, self._name, namespace=self._namespace)
        except NotFound:
            return None

    async def create(self, spec: Raw) -> Raw:
        """Raises `AlreadyExists` where another process was faster."""
        body = self._body({"name": self._name, "namespace": self._namespace}, spec)
        return await self._kube.create(LEASES, body, namespace=self._namespace)

    async def update(self, known: Raw, spec: Raw) -> Raw:
        """Replace exactly the version `known`; raises `Outdated` where there is a newer one, or none any more."""
        try:
            return await self._kube.replace(LEASES, self._body(known["metadata"], spec))
        except NotFound as gone:
            raise errors.Outdated(gone.message) from None

    def _body(self, metadata: Raw, spec: Raw) -> dict[str, Any]:
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": dict(metadata),
            "spec": dict(spec),
        }
