"""Asks a real API server what it thinks of a manifest, mostly without storing anything."""

import copy
from pathlib import Path
from typing import Any

import kubernetes.client
import kubernetes.config
import yaml
from kubernetes.client.exceptions import ApiException

from admission.constraints import Cause, Json
from proxmox_operator.api.names import GROUP, VERSION

PLURALS = {"ProxmoxVM": "proxmoxvms", "ProxmoxCluster": "proxmoxclusters"}
FOLDER = Path(__file__).resolve().parent


class Server:
    """The API server behind a kubeconfig; namespaced objects go to ``namespace``."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._client = kubernetes.config.new_client_from_config(config_file=str(kubeconfig))
        self._namespace = namespace

    def close(self) -> None:
        self._client.close()

    def ask(self, manifest: Json, *, group: str = GROUP, version: str = VERSION) -> tuple[Cause, ...]:
        """Why the API server would refuse to create this object; nothing when it would not."""
        return self._write("POST", self._path(manifest, group, version), manifest, group, version, dry=True)

    def ask_update(
        self, manifest: Json, *, group: str = GROUP, version: str = VERSION, status: bool = False
    ) -> tuple[Cause, ...]:
        """The same for replacing the stored object, or its status."""
        path = self._path(manifest, group, version) + f"/{manifest['metadata']['name']}"
        return self._write(
            "PUT", path + ("/status" if status else ""), manifest, group, version, dry=True
        )

    def store(self, manifest: Json, *, group: str = GROUP, version: str = VERSION) -> None:
        """Create the object for real, with its status."""
        path = self._path(manifest, group, version)
        assert self._write("POST", path, manifest, group, version, dry=False) == ()
        if "status" in manifest:
            path += f"/{manifest['metadata']['name']}/status"
            assert self._write("PUT", path, manifest, group, version, dry=False) == ()

    def delete(self, manifest: Json, *, group: str = GROUP, version: str = VERSION) -> None:
        self.send("DELETE", self._path(manifest, group, version) + f"/{manifest['metadata']['name']}")

    def send(self, method: str, path: str, body: Json | None = None, **query: str) -> Any:
        """Any call; raises ``ApiException``."""
        return self._client.call_api(
            path,
            method,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
            body=body,
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
        )

    def _write(
        self, method: str, path: str, manifest: Json, group: str, version: str, *, dry: bool
    ) -> tuple[Cause, ...]:
        body = copy.deepcopy(manifest) | {"apiVersion": f"{group}/{version}"}
        if method == "PUT":
            name = path.removesuffix("/status")
            body["metadata"]["resourceVersion"] = self.send("GET", name)["metadata"]["resourceVersion"]
        query = {"fieldManager": "test-admission", "fieldValidation": "Ignore"}
        try:
            self.send(method, path, body, **query, **({"dryRun": "All"} if dry else {}))
        except ApiException as error:
            assert error.status == 422, f"{method} {path}: {error.status} {error.body}"
            details = yaml.safe_load(error.body)["details"]
            return tuple(
                Cause(cause["reason"], cause["field"], cause["message"]) for cause in details["causes"]
            )
        return ()

    def _path(self, manifest: Json, group: str, version: str) -> str:
        namespaced = manifest["kind"] == "ProxmoxVM"
        where = f"/namespaces/{self._namespace}" if namespaced else ""
        return f"/apis/{group}/{version}{where}/{PLURALS[manifest['kind']]}"


def manifests(folder: str) -> dict[str, list[Json]]:
    """The documents of each file; where there are several, the last one is an update of the one before."""
    return {
        path.stem: list(yaml.safe_load_all(path.read_text())) for path in sorted((FOLDER / folder).glob("*.yaml"))
    }


def expected_refusal(name: str) -> tuple[str, str]:
    """Field and part of the message, from the first line of a wrong manifest."""
    first = (FOLDER / "bad" / f"{name}.yaml").read_text().partition("\n")[0]
    field, _, fragment = first.removeprefix("# refused: ").partition(": ")
    return field, fragment
