"""A person's hands on the Kubernetes API in tests: apply, edit, look.

Not the operator's client: that one is under test.
"""

import json
from pathlib import Path
from typing import Any

from kubernetes import config

from proxmox_operator.kube.resources import EVENTS, Resource

Raw = dict[str, Any]


class Refused(Exception):
    """The API server said no; ``status`` is the HTTP status, ``message`` its words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class KubeApi:
    """Plain calls with an administrator's rights. Use as a context manager. ``manager`` owns the fields it applies."""

    manager = "person"

    def __init__(self, kubeconfig: Path) -> None:
        self._client = config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]

    def __enter__(self) -> "KubeApi":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, resource: Resource, name: str, namespace: str = "") -> Raw | None:
        """The object as it is now, or None."""
        try:
            return self._call("GET", path(resource, name, namespace))
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def listed(self, resource: Resource, namespace: str = "") -> list[Raw]:
        """All objects of a kind, in one namespace or in all."""
        items: list[Raw] = self._call("GET", path(resource, "", namespace))["items"]
        return items

    def apply(self, resource: Resource, manifest: Raw) -> Raw:
        """Server-side apply, so that a field left out of a later apply is removed, as with kubectl.

        Raises Refused with the message a person would get.
        """
        return self._apply(resource, manifest, {"fieldManager": self.manager, "force": "true"})

    def would_apply(self, resource: Resource, manifest: Raw, *, manager: str) -> Raw:
        """The object as it would be, were this applied by ``manager``, who takes no field from anybody.

        Raises Refused, for a conflict too. Argo CD's server-side diff compares this answer with the object.
        """
        return self._apply(resource, manifest, {"fieldManager": manager, "dryRun": "All"})

    def _apply(self, resource: Resource, manifest: Raw, query: dict[str, str]) -> Raw:
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **manifest}
        metadata = body["metadata"]
        where = path(resource, metadata["name"], metadata.get("namespace", ""))
        return self._call("PATCH", where, body, query, kind="application/apply-patch+yaml")

    def create(self, resource: Resource, manifest: Raw) -> Raw:
        body = {"apiVersion": resource.api_version, "kind": resource.kind, **manifest}
        return self._call("POST", path(resource, "", body["metadata"].get("namespace", "")), body)

    def merge(
        self, resource: Resource, name: str, patch: Raw, *, namespace: str = "", subresource: str = ""
    ) -> Raw:
        """A JSON merge patch: None removes a field."""
        where = path(resource, name, namespace) + (f"/{subresource}" if subresource else "")
        return self._call("PATCH", where, patch, kind="application/merge-patch+json")

    def replace(self, resource: Resource, manifest: Raw, *, subresource: str = "") -> Raw:
        metadata = manifest["metadata"]
        where = path(resource, metadata["name"], metadata.get("namespace", ""))
        return self._call("PUT", where + (f"/{subresource}" if subresource else ""), manifest)

    def delete(self, resource: Resource, name: str, namespace: str = "") -> None:
        """Start the deletion; what is gone already is fine."""
        try:
            self._call("DELETE", path(resource, name, namespace))
        except Refused as error:
            if error.status != 404:
                raise

    def events(self, namespace: str, name: str) -> list[Raw]:
        """What `kubectl describe` would list for an object, in no order."""
        return [raw for raw in self.listed(EVENTS, namespace) if raw.get("regarding", {}).get("name") == name]

    def _call(
        self,
        method: str,
        where: str,
        body: Raw | None = None,
        query: dict[str, str] | None = None,
        kind: str = "",
    ) -> Raw:
        headers = {"Accept": "application/json", "Content-Type": kind or "application/json"}
        arguments = self._client.param_serialize(
            method=method,
            resource_path=where,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = self._client.call_api(*arguments)
        answer.read()
        found: Raw = json.loads(answer.data or b"{}")
        if answer.status >= 400:
            raise Refused(answer.status, str(found.get("message", answer.status)))
        return found


def path(resource: Resource, name: str = "", namespace: str = "") -> str:
    """Where the API server serves an object, or with no name its kind."""
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    scope = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{scope}/{resource.plural}" + (f"/{name}" if name else "")
