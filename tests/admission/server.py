"""Asks a real API server what it thinks of a manifest, mostly without storing anything."""

import copy
import http
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast

import kubernetes.config
import yaml
from kubernetes.client import ApiClient

from admission.constraints import Cause, Json
from harness.waiting import until
from proxmox_operator.api.names import GROUP, VERSION

FOLDER = Path(__file__).resolve().parent
PLURALS = {"ProxmoxVM": "proxmoxvms", "ProxmoxCluster": "proxmoxclusters", "VMTemplate": "vmtemplates"}
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NOTE = "some validation rules were not checked because the object was invalid"
"""Added by the API server to other causes; not a cause itself."""


class Server:
    """The API server behind a kubeconfig, and the place where it is asked about our kinds.

    Namespaced objects go to ``namespace``; the others get its name as a suffix, so that nobody else has them.
    """

    def __init__(
        self, client: ApiClient, namespace: str, *, group: str = GROUP, version: str = VERSION
    ) -> None:
        self._client = client
        self.namespace = namespace
        self._group = group
        self._version = version

    @classmethod
    def connect(cls, kubeconfig: Path, namespace: str) -> Self:
        client: Callable[..., ApiClient] = kubernetes.config.new_client_from_config
        return cls(client(config_file=str(kubeconfig)), namespace)

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]

    def variant(self, group: str, version: str) -> "Server":
        """The same server, asked about kinds of the same names in another group and version."""
        return Server(self._client, self.namespace, group=group, version=version)

    def ask(self, manifest: Json) -> tuple[Cause, ...]:
        """Why the API server would refuse to create this object; nothing when it would not."""
        return _causes(*self._post(manifest, dryRun="All"))

    def ask_all(self, documents: list[Json]) -> tuple[Cause, ...]:
        """Why the last document would be refused, as an update of the one before it, if any."""
        if len(documents) == 1:
            return self.ask(documents[0])
        before, after = documents
        self.store(before)
        try:
            return _causes(*self._put(after, "", dryRun="All"))
        finally:
            self.delete(before)

    def ask_status(self, manifest: Json, status: Json) -> tuple[Cause, ...]:
        """Why the API server would refuse this status of the object."""
        self.store(manifest)
        try:
            return _causes(*self._put(manifest | {"status": status}, "/status", dryRun="All"))
        finally:
            self.delete(manifest)

    def dry_create(self, manifest: Json) -> Json:
        """The object as it would be stored."""
        return _accepted(*self._post(manifest, dryRun="All"))

    def dry_status(self, manifest: Json, status: Json) -> Json:
        """The stored object as it would be with this status."""
        return _accepted(*self._put(manifest | {"status": status}, "/status", dryRun="All"))

    def store(self, manifest: Json) -> str:
        """Create the object for real, with its status; returns the name it got."""
        stored = _accepted(*self._post(manifest))
        if "status" in manifest:
            _accepted(*self._put(manifest, "/status"))
        return cast(str, stored["metadata"]["name"])

    def delete(self, manifest: Json) -> None:
        _accepted(*self.send("DELETE", self._path(manifest)))

    def install(self, crd: Json, schemas: dict[str, Json]) -> None:
        """Serve the CRD's kind in this group, in a version for each of the schemas; the first is stored."""
        body = copy.deepcopy(crd)
        names = body["spec"]["names"]
        body["metadata"]["name"] = f"{names['plural']}.{self._group}"
        body["spec"]["group"] = self._group
        body["spec"]["names"] = {"kind": names["kind"], "plural": names["plural"]}
        body["spec"]["versions"] = [
            {
                "name": name,
                "served": True,
                "storage": number == 0,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
            }
            for number, (name, schema) in enumerate(schemas.items())
        ]
        _accepted(*self.send("POST", CRD_PATH, body))
        paths = [f"/apis/{self._group}/{name}/{names['plural']}" for name in schemas]
        until(
            lambda: all(self.send("GET", path)[0] == http.HTTPStatus.OK for path in paths),
            f"{names['plural']}.{self._group} is served",
            seconds=60,
        )

    def uninstall(self, kind: str) -> None:
        _accepted(*self.send("DELETE", f"{CRD_PATH}/{PLURALS[kind]}.{self._group}"))

    def send(self, method: str, path: str, body: Json | None = None, **query: str) -> tuple[int, Any]:
        """Any call: the status and what was answered."""
        answer = self._client.call_api(
            *self._client.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
            ),
            _request_timeout=30,
        )
        text = answer.read()  # type: ignore[no-untyped-call]
        return answer.status, json.loads(text) if text.startswith(b"{") else text

    def _post(self, manifest: Json, **query: str) -> tuple[int, Any]:
        return self.send("POST", self._path(manifest).rpartition("/")[0], self._own(manifest), **query)

    def _put(self, manifest: Json, subresource: str, **query: str) -> tuple[int, Any]:
        stored = _accepted(*self.send("GET", self._path(manifest)))
        body = self._own(manifest)
        body["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
        return self.send("PUT", self._path(manifest) + subresource, body, **query)

    def _own(self, manifest: Json) -> Json:
        body = copy.deepcopy(manifest) | {"apiVersion": f"{self._group}/{self._version}"}
        if body["kind"] != "ProxmoxVM":
            body["metadata"]["name"] += f"-{self.namespace}"
        return body

    def _path(self, manifest: Json) -> str:
        own = self._own(manifest)
        where = f"/namespaces/{self.namespace}" if own["kind"] == "ProxmoxVM" else ""
        return f"/apis/{own['apiVersion']}{where}/{PLURALS[own['kind']]}/{own['metadata']['name']}"


def _causes(status: int, answer: Any) -> tuple[Cause, ...]:
    if status != http.HTTPStatus.UNPROCESSABLE_ENTITY:
        _accepted(status, answer)
        return ()
    causes = (
        Cause(cause["reason"], cause["field"], cause["message"]) for cause in answer["details"]["causes"]
    )
    return tuple(cause for cause in causes if NOTE not in cause.message)


def _accepted(status: int, answer: Any) -> Json:
    assert status in (http.HTTPStatus.OK, http.HTTPStatus.CREATED), answer
    return cast(Json, answer)


def manifests(folder: str) -> dict[str, list[Json]]:
    """The documents of each file; where there are two, the second is an update of the first."""
    return {
        path.stem: list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        for path in sorted((FOLDER / folder).glob("*.yaml"))
    }


def expected_refusal(name: str) -> tuple[str, str]:
    """Field and part of the message, from the first line of a wrong manifest."""
    first = (FOLDER / "bad" / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    field, _, fragment = first.removeprefix("# refused: ").partition(": ")
    return field, fragment
