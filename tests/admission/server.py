"""Asks a real API server what it thinks of a manifest, mostly without storing anything."""

import copy
import http
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import kubernetes.config
import yaml
from kubernetes.client import ApiClient

from admission.constraints import Cause, Json
from proxmox_operator.api.names import GROUP, VERSION

PLURALS = {"ProxmoxVM": "proxmoxvms", "ProxmoxCluster": "proxmoxclusters"}
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NOTE = "some validation rules were not checked because the object was invalid"
"""Added by the API server to other causes; not a cause itself."""
QUERY = {"fieldManager": "test-admission", "fieldValidation": "Ignore"}
FOLDER = Path(__file__).resolve().parent


class Server:
    """The API server behind a kubeconfig; namespaced objects go to ``namespace``."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        connect: Callable[..., ApiClient] = kubernetes.config.new_client_from_config
        self._client = connect(config_file=str(kubeconfig))
        self.namespace = namespace

    def close(self) -> None:
        self._client.close()  # type: ignore[no-untyped-call]

    def ask(self, manifest: Json, *, group: str = GROUP, version: str = VERSION) -> tuple[Cause, ...]:
        """Why the API server would refuse to create this object; nothing when it would not."""
        return self._write("POST", self._path(manifest, group, version), manifest, group, version, dry=True)

    def ask_status(self, manifest: Json, status: Json) -> tuple[Cause, ...]:
        """Why the API server would refuse this status of the object."""
        self.store(manifest)
        try:
            path = self._path(manifest, GROUP, VERSION) + f"/{manifest['metadata']['name']}/status"
            return self._write("PUT", path, manifest | {"status": status}, GROUP, VERSION, dry=True)
        finally:
            self.delete(manifest)

    def ask_update(self, manifest: Json, *, group: str = GROUP, version: str = VERSION) -> tuple[Cause, ...]:
        """Why the API server would refuse to replace the stored object by this one."""
        path = self._path(manifest, group, version) + f"/{manifest['metadata']['name']}"
        return self._write("PUT", path, manifest, group, version, dry=True)

    def dry_create(self, manifest: Json) -> Json:
        """The object as it would be stored."""
        status, answer = self.send(
            "POST", self._path(manifest, GROUP, VERSION), manifest, **QUERY, dryRun="All"
        )
        assert status == http.HTTPStatus.CREATED, answer
        return cast(Json, answer)

    def dry_status(self, manifest: Json, status: Json) -> Json:
        """The stored object as it would be with this status."""
        path = self._path(manifest, GROUP, VERSION) + f"/{manifest['metadata']['name']}"
        stored = self.send("GET", path)[1]
        code, answer = self.send("PUT", f"{path}/status", stored | {"status": status}, **QUERY, dryRun="All")
        assert code == http.HTTPStatus.OK, answer
        return cast(Json, answer)

    def ask_all(
        self, documents: list[Json], *, group: str = GROUP, version: str = VERSION
    ) -> tuple[Cause, ...]:
        """Why the last document would be refused, as an update of the ones before, which are accepted."""
        if len(documents) == 1:
            return self.ask(documents[0], group=group, version=version)
        before, after = documents
        self.store(before, group=group)
        try:
            return self.ask_update(after, group=group, version=version)
        finally:
            self.delete(before, group=group)

    def store(self, manifest: Json, *, group: str = GROUP) -> None:
        """Create the object for real, with its status."""
        path = self._path(manifest, group, VERSION)
        assert self._write("POST", path, manifest, group, VERSION, dry=False) == ()
        if "status" in manifest:
            path += f"/{manifest['metadata']['name']}/status"
            assert self._write("PUT", path, manifest, group, VERSION, dry=False) == ()

    def delete(self, manifest: Json, *, group: str = GROUP) -> None:
        path = self._path(manifest, group, VERSION) + f"/{manifest['metadata']['name']}"
        status, answer = self.send("DELETE", path)
        assert status == http.HTTPStatus.OK, answer

    def install(self, crd: Json, group: str, schemas: dict[str, Json]) -> None:
        """Serve the CRD's kind in another group, in a version for each of the schemas; the first is stored."""
        body = copy.deepcopy(crd)
        plural = body["spec"]["names"]["plural"]
        body["metadata"]["name"] = f"{plural}.{group}"
        body["spec"]["group"] = group
        body["spec"]["names"] = {"kind": body["spec"]["names"]["kind"], "plural": plural}
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
        status, answer = self.send("POST", CRD_PATH, body)
        assert status == http.HTTPStatus.CREATED, answer
        deadline = time.monotonic() + 30
        while any(
            self.send("GET", f"/apis/{group}/{name}/{plural}")[0] != http.HTTPStatus.OK for name in schemas
        ):
            assert time.monotonic() < deadline, f"{plural}.{group} is not served"
            time.sleep(0.1)

    def uninstall(self, kind: str, group: str) -> None:
        status, answer = self.send("DELETE", f"{CRD_PATH}/{PLURALS[kind]}.{group}")
        assert status == http.HTTPStatus.OK, answer

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

    def _write(
        self, method: str, path: str, manifest: Json, group: str, version: str, *, dry: bool
    ) -> tuple[Cause, ...]:
        body = copy.deepcopy(manifest) | {"apiVersion": f"{group}/{version}"}
        if method == "PUT":
            _, stored = self.send("GET", path.removesuffix("/status"))
            body["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"]
        status, answer = self.send(method, path, body, **QUERY, **({"dryRun": "All"} if dry else {}))
        if status == http.HTTPStatus.UNPROCESSABLE_ENTITY:
            causes = (
                Cause(cause["reason"], cause["field"], cause["message"])
                for cause in answer["details"]["causes"]
            )
            return tuple(cause for cause in causes if NOTE not in cause.message)
        assert status in (http.HTTPStatus.OK, http.HTTPStatus.CREATED), f"{method} {path}: {answer}"
        return ()

    def _path(self, manifest: Json, group: str, version: str) -> str:
        namespaced = manifest["kind"] == "ProxmoxVM"
        where = f"/namespaces/{self.namespace}" if namespaced else ""
        return f"/apis/{group}/{version}{where}/{PLURALS[manifest['kind']]}"


def manifests(folder: str) -> dict[str, list[Json]]:
    """The documents of each file; where there are several, the last one is an update of the one before."""
    return {
        path.stem: list(yaml.safe_load_all(path.read_text()))
        for path in sorted((FOLDER / folder).glob("*.yaml"))
    }


def expected_refusal(name: str) -> tuple[str, str]:
    """Field and part of the message, from the first line of a wrong manifest."""
    first = (FOLDER / "bad" / f"{name}.yaml").read_text().partition("\n")[0]
    field, _, fragment = first.removeprefix("# refused: ").partition(": ")
    return field, fragment
