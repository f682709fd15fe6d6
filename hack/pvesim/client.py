"""A plain HTTP client for tests of the simulator and for scripts: no retries, no interpretation."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from .sim import PveSim


class ApiError(Exception):
    """An answer of 400 or above: status, reason phrase, field errors, and the message of the body."""

    def __init__(self, status: int, reason: str, errors: dict[str, str], message: str) -> None:
        super().__init__(f"{status} {reason} {errors or ''}")
        self.status = status
        self.reason = reason
        self.errors = errors
        self.message = message


class Api:
    """Calls to one endpoint. `get("/version")` returns the data; errors raise ApiError."""

    def __init__(
        self, sim: PveSim, directory: Path, *, node: str = "pve1", token: str | None = None, secret: str = ""
    ) -> None:
        ca = directory / f"{sim.server.cluster_name}-{node}.pem"
        ca.write_text(sim.ca_pem)
        self.url = sim.endpoints[node].url
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(ca)
        authorization = f"PVEAPIToken={token or sim.token_id}={secret or sim.token_secret}"
        self.session.headers["Authorization"] = authorization

    def __enter__(self) -> "Api":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()

    def request(self, method: str, path: str, **options: Any) -> Any:
        """One call; the data of the answer."""
        response = self.session.request(method, f"{self.url}/api2/json{path}", timeout=20, **options)
        body = response.json() if response.content else {}
        if response.status_code >= 400:
            errors, message = body.get("errors") or {}, body.get("message") or ""
            raise ApiError(response.status_code, response.reason, errors, message.strip())
        return body["data"]

    def get(self, path: str, **params: Any) -> Any:
        """GET with a query."""
        return self.request("GET", path, params=params)

    def post(self, path: str, **data: Any) -> Any:
        """POST with a form."""
        return self.request("POST", path, data=data)

    def put(self, path: str, **data: Any) -> Any:
        """PUT with a form."""
        return self.request("PUT", path, data=data)

    def delete(self, path: str, **params: Any) -> Any:
        """DELETE with a query."""
        return self.request("DELETE", path, params=params)

    def status(self, upid: str) -> dict[str, Any]:
        """The status of a task."""
        found: dict[str, Any] = self.get(f"/nodes/{upid.split(':')[1]}/tasks/{upid}/status")
        return found

    def ended(self, upid: str, *, seconds: float = 60.0) -> str:
        """The exit status of a task, once it has ended.

        :raises AssertionError: it did not within `seconds`.
        """
        eventually(lambda: self.status(upid)["status"] == "stopped", seconds=seconds)
        return str(self.status(upid)["exitstatus"])

    def log(self, upid: str) -> list[str]:
        """The lines of a task's log."""
        return [line["t"] for line in self.get(f"/nodes/{upid.split(':')[1]}/tasks/{upid}/log", limit=500)]

    def config(self, vmid: int, node: str = "pve1", **params: Any) -> dict[str, Any]:
        """A VM's config."""
        found: dict[str, Any] = self.get(f"/nodes/{node}/qemu/{vmid}/config", **params)
        return found

    def pending(self, vmid: int, node: str = "pve1") -> dict[str, dict[str, Any]]:
        """A VM's pending view by key, without the keys that have no change."""
        listed = self.get(f"/nodes/{node}/qemu/{vmid}/pending")
        return {item["key"]: item for item in listed if "pending" in item or "delete" in item}

    def clone(self, vmid: int, newid: int, node: str = "pve1", **data: Any) -> str:
        """Start a clone; the UPID."""
        upid: str = self.post(f"/nodes/{node}/qemu/{vmid}/clone", newid=newid, **data)
        return upid

    def download(self, url: str, node: str = "pve1", storage: str = "local", **data: Any) -> str:
        """Start a download, as import/debian.qcow2 unless `data` says otherwise; the UPID."""
        data = {"url": url, "content": "import", "filename": "debian.qcow2"} | data
        upid: str = self.post(f"/nodes/{node}/storage/{storage}/download-url", **data)
        return upid

    def set(self, vmid: int, node: str = "pve1", **data: Any) -> None:
        """Change a config synchronously."""
        self.put(f"/nodes/{node}/qemu/{vmid}/config", **data)


def eventually(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Wait until a condition holds.

    :raises AssertionError: it did not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("the condition never held")
        time.sleep(0.005)
