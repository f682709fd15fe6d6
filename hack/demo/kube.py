"""A small Kubernetes client for looking and for applying fast; what a person would type goes through kubectl.

Not the operator's own client: what is shown about the operator should not depend on it.
"""

import base64
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from controlplane import Cluster
from demo.processes import StageError

GROUP = "/apis/proxmox-operator.io/v1alpha1"
CLUSTERS = f"{GROUP}/proxmoxclusters"
TEMPLATES = f"{GROUP}/vmtemplates"
ALL_VMS = f"{GROUP}/proxmoxvms"
Object = dict[str, Any]


def vms(namespace: str) -> str:
    """The path of the ProxmoxVMs of a namespace."""
    return f"{GROUP}/namespaces/{namespace}/proxmoxvms"


class Kube:
    """Calls by path, over kept connections. Use as a context manager, from up to `connections` threads."""

    def __init__(self, cluster: Cluster, *, connections: int = 10) -> None:
        flat = cluster.kubectl("config", "view", "--raw", "--flatten", "--minify", "-o", "json", check=True)
        config = json.loads(flat.stdout)
        server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._files = tempfile.TemporaryDirectory(prefix="proxmox-operator-demo-")
        self._base = server["server"].rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=connections))
        if authority := server.get("certificate-authority-data"):
            self._session.verify = self._file("ca.crt", authority)
        if token := user.get("token"):
            self._session.headers["Authorization"] = f"Bearer {token}"
        elif "client-certificate-data" in user:
            certificate = self._file("client.crt", user["client-certificate-data"])
            self._session.cert = (certificate, self._file("client.key", user["client-key-data"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()
        self._files.cleanup()

    def get(self, path: str) -> Object | None:
        """One object, or a list; None where there is no such thing."""
        return self._send("GET", path, missing=(404,))

    def items(self, path: str) -> list[Object]:
        """All objects of a list."""
        items: list[Object] = (self.get(path) or {}).get("items", [])
        return items

    def apply(self, path: str, body: Object) -> None:
        """Server-side apply of one object whose collection is at `path`."""
        self._send(
            "PATCH",
            f"{path}/{body['metadata']['name']}?fieldManager=demo&force=true",
            data=json.dumps(body),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    def delete(self, path: str) -> None:
        """Start the deletion of one object, or of a whole collection."""
        self._send("DELETE", path, missing=(404,))

    def watch(self, path: str, resource_version: str, *, seconds: int) -> Iterator[Object]:
        """Events of a collection since `resource_version`, until it has been quiet or `seconds` have passed."""
        query = f"watch=true&resourceVersion={resource_version}&timeoutSeconds={seconds}"
        with self._session.get(
            f"{self._base}{path}?{query}", stream=True, timeout=(5, seconds + 5)
        ) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines(chunk_size=None):
                yield json.loads(line)

    def _send(
        self, method: str, path: str, *, missing: tuple[int, ...] = (), **arguments: Any
    ) -> Object | None:
        answer = self._session.request(method, self._base + path, timeout=30, **arguments)
        if answer.status_code in missing:
            return None
        if answer.status_code >= 400:
            raise StageError(f"{method} {path}: {answer.json().get('message', answer.text)}")
        found: Object = answer.json()
        return found

    def _file(self, name: str, data: str) -> str:
        path = Path(self._files.name) / name
        path.touch(mode=0o600)
        path.write_bytes(base64.b64decode(data))
        return str(path)


def condition(raw: Object, kind: str) -> Object:
    """A condition of an object, empty before its first."""
    conditions: list[Object] = (raw.get("status") or {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == kind), {})


def ready(raw: Object) -> Object:
    """The condition Ready of an object, empty before its first."""
    return condition(raw, "Ready")


def is_ready(raw: Object) -> bool:
    """Ready, and for the spec as it now is."""
    found = ready(raw)
    return found.get("status") == "True" and found.get("observedGeneration") == raw["metadata"]["generation"]
