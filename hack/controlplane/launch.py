"""Starts and stops a control plane, or stands for one that exists (KUBECONFIG); a test sees no difference.

Everything listens on loopback only. The data lives as long as the object and is never synced to disk.
"""

import base64
import http.client
import ipaddress
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from controlplane.build import ControlPlaneError, locate
from controlplane.flags import apiserver_flags, audit_flags, controller_manager_flags, etcd_flags

GUARD = Path(__file__).resolve().parent / "guard.py"
READY_SECONDS = 60.0
POLL_SECONDS = 0.05
PORT_TRIES = 3
AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
"""
ALLOW_REMOTE = "PROXMOX_OPERATOR_ALLOW_REMOTE_CLUSTER"


class Cluster:
    """A Kubernetes cluster and what tests and the demo need of it. Use as a context manager."""

    kubeconfig: Path
    url: str
    admin_token: str | None
    ca_file: Path | None
    no_proxy = "127.0.0.1,localhost,::1"

    def __init__(self, *servers: str) -> None:
        self._binaries = locate(*servers, "kubectl")
        self._scratch = Path(tempfile.mkdtemp(prefix="proxmox-operator-cluster-"))
        self._data = self._scratch / "data"
        self._data.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)

    def kubectl(
        self, *args: str, input: str | None = None, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl against this cluster. With `check`, a failure is a ControlPlaneError with its words."""
        environment = os.environ | {
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self._data / "kubectl"),  # not the person's own: ports are used again
            "NO_PROXY": self.no_proxy,
        }
        done = subprocess.run(
            [str(self._binaries["kubectl"]), *args],
            input=input,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and done.returncode != 0:
            raise ControlPlaneError(f"kubectl {' '.join(args[:4])}: {done.stderr.strip()}")
        return done

    def install_crds(self, folder: Path) -> None:
        """Apply every `*.yaml` of the folder and wait until the API server serves them; none is fine."""
        if not any(folder.glob("*.yaml")):
            return
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(folder), check=True)
        self.kubectl("wait", "--for=condition=Established", "--timeout=30s", "-f", str(folder), check=True)

    def create_namespace(self, name: str) -> None:
        self.kubectl("create", "namespace", name, check=True)

    def log_in_as(self, namespace: str, account: str) -> Path:
        """A kubeconfig of a ServiceAccount, whose token lasts a day."""
        token = self.kubectl("create", "token", account, "-n", namespace, "--duration=24h", check=True).stdout
        config = json.loads(self.kubeconfig.read_text())
        config["users"][0]["user"] = {"token": token.strip()}
        return private(self._data / f"kubeconfig-{namespace}-{account}", json.dumps(config))

    def delete_namespace(self, name: str) -> None:
        """Start the deletion; it ends only where a controller manager runs and no finalizer is in the way."""
        self.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found", check=True)


class ControlPlane(Cluster):
    """etcd and kube-apiserver (and a light controller manager) of our own, run by `start()` or `with`."""

    admin_token: str
    ca_file: Path

    def __init__(
        self, *, with_controller_manager: bool = False, audited: bool = False, log_dir: Path | None = None
    ) -> None:
        """Without `log_dir`, logs are removed on exit, unless an exception ends the `with` block.

        With `audited`, :meth:`audit` tells what was asked of the API server.
        """
        manager = ["kube-controller-manager"] if with_controller_manager else []
        super().__init__("etcd", "kube-apiserver", *manager)
        self.log_dir = log_dir or self._scratch / "logs"
        self._audited = audited
        self._guard: subprocess.Popen[str] | None = None
        self.pids: dict[str, int] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(keep_logs=kind is not None and not issubclass(kind, KeyboardInterrupt | SystemExit))

    def start(self) -> None:
        """Return once the API server is ready. Raises ControlPlaneError with the place of the logs."""
        try:
            for attempt in range(1, PORT_TRIES + 1):
                for folder in (self._data, self.log_dir):
                    shutil.rmtree(folder, ignore_errors=True)
                self._data.mkdir(mode=0o700)
                self.log_dir.mkdir(parents=True)
                self._start_guard()
                if self._try_to_start(last=attempt == PORT_TRIES):
                    return
                self._stop_processes()
        except BaseException:
            self._end(keep_logs=True)
            raise

    def stop(self) -> None:
        self._end(keep_logs=False)

    def exited(self) -> dict[str, int]:
        """Exit statuses of the programs that have ended by themselves."""
        return dict(self._ask_guard({"status": True})["exited"])

    def audit(self, user: str) -> list[dict[str, Any]]:
        """The requests of a user that were answered, as audit.k8s.io/v1 Events; only where it is `audited`."""
        lines = (self._data / "audit.log").read_text().splitlines()
        events: list[dict[str, Any]] = [json.loads(line) for line in lines]
        return [event for event in events if event["user"].get("username") == user]

    def _end(self, *, keep_logs: bool) -> None:
        self._stop_processes()
        if keep_logs and self.log_dir.exists():
            print(f"[controlplane] logs kept in {self.log_dir}", file=sys.stderr, flush=True)
            if self.log_dir.is_relative_to(self._scratch):
                return  # the guard has removed the data beside them
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _try_to_start(self, *, last: bool) -> bool:
        """False where another process took one of the ports between our look and the bind."""
        client, peer, secure = free_ports(3)
        self.url = f"https://127.0.0.1:{secure}"
        self.ca_file = self._data / "certs" / "apiserver.crt"
        self.admin_token = secrets.token_urlsafe(24)
        tokens = private(self._data / "tokens.csv", f'{self.admin_token},admin,admin,"system:masters"\n')
        key = private(self._data / "service-account.key", signing_key())
        self._spawn("etcd", etcd_flags(self._data / "etcd", client, peer))
        flags = apiserver_flags(self._data / "certs", tokens, key, client, secure)
        if self._audited:
            policy = private(self._data / "audit-policy.yaml", AUDIT_POLICY)
            flags += audit_flags(policy, self._data / "audit.log")
        self._spawn("kube-apiserver", flags)
        if problem := self._wait_until_ready():
            if not last and "address already in use" in problem:
                return False
            raise ControlPlaneError(f"the control plane did not start: {problem} (logs: {self.log_dir})")
        self.kubeconfig = self.kubeconfig_of("admin", self.admin_token)
        if "kube-controller-manager" in self._binaries:
            self._spawn("kube-controller-manager", controller_manager_flags(self._data, self.kubeconfig))
        return True

    def _wait_until_ready(self) -> str | None:
        """What went wrong, or None. `default` and `kube-system` appear shortly after /readyz is ok."""
        wanted = ["/readyz", "/api/v1/namespaces/default", "/api/v1/namespaces/kube-system"]
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            for name, code in self.exited().items():
                return f"{name} ended with {code}: {self._last_words(name)}"
            while wanted and self._get_status(wanted[0]) == http.HTTPStatus.OK:
                wanted.pop(0)
            if not wanted:
                return None
            time.sleep(POLL_SECONDS)
        return f"no answer to {wanted[0]} in {READY_SECONDS:.0f} s"

    def _get_status(self, path: str) -> int | None:
        try:
            connection = http.client.HTTPSConnection(
                urlsplit(self.url).netloc,
                timeout=5,
                context=ssl.create_default_context(cafile=str(self.ca_file)),
            )
            try:
                connection.request("GET", path, headers={"Authorization": f"Bearer {self.admin_token}"})
                return connection.getresponse().status
            finally:
                connection.close()
        except (
            OSError,
            http.client.HTTPException,
        ):  # not listening yet; the certificate is written by the server
            return None

    def kubeconfig_of(self, user: str, token: str) -> Path:
        """A kubeconfig with a token that this API server knows."""
        authority = base64.b64encode(self.ca_file.read_bytes()).decode()
        text = json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {
                        "name": "local",
                        "cluster": {"server": self.url, "certificate-authority-data": authority},
                    }
                ],
                "users": [{"name": user, "user": {"token": token}}],
                "contexts": [{"name": "local", "context": {"cluster": "local", "user": user}}],
                "current-context": "local",
            },
            indent=1,
        )
        return private(self._data / f"kubeconfig-{user}", text)

    def _start_guard(self) -> None:
        # A session of its own: Ctrl-C in a terminal reaches the launcher alone, which then ends the rest.
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), str(self._data)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _spawn(self, name: str, flags: list[str]) -> None:
        self.run(name, [str(self._binaries[name]), *flags])

    def run(self, name: str, argv: list[str]) -> None:
        """Start a program that ends with this control plane at the latest, and logs beside it."""
        reply = self._ask_guard({"start": name, "argv": argv, "log": str(self.log_dir / f"{name}.log")})
        if "error" in reply:
            raise ControlPlaneError(f"{argv[0]} does not run: {reply['error']}")
        self.pids[name] = reply["pid"]

    def _ask_guard(self, request: dict[str, object]) -> Any:
        if self._guard is None or self._guard.stdin is None or self._guard.stdout is None:
            raise ControlPlaneError(
                "the control plane is not running: call start(), or use it in a `with` block"
            )
        self._guard.stdin.write(json.dumps(request) + "\n")
        self._guard.stdin.flush()
        return json.loads(self._guard.stdout.readline())

    def _stop_processes(self) -> None:
        guard, self._guard = self._guard, None
        self.pids = {}
        if guard is not None:
            guard.communicate()  # closes its stdin, which is the word to stop; it returns when all are dead

    def _last_words(self, name: str) -> str:
        lines = (self.log_dir / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class ExternalCluster(Cluster):
    """A cluster that exists (kind, or any that KUBECONFIG names): nothing of it is started or stopped."""

    def __init__(self, kubeconfig: str) -> None:
        """`kubeconfig` as in the variable KUBECONFIG. Refused unless allowed: one on another machine.

        Raises ControlPlaneError: no such file, no current context, or a remote server.
        """
        super().__init__()
        try:
            self.kubeconfig = Path(kubeconfig)
            flat = self.kubectl(
                "config", "view", "--raw", "--flatten", "--minify", "-o", "json", check=True
            ).stdout
            self.kubeconfig = private(self._data / "kubeconfig", flat)
            config = json.loads(flat)
            cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
            self.url = cluster["server"]
            self.admin_token = user.get("token")
            self.ca_file = None
            if authority := cluster.get("certificate-authority-data"):
                self.ca_file = self._data / "ca.crt"
                self.ca_file.write_bytes(base64.b64decode(authority))
            if not _is_local(self.url) and os.environ.get(ALLOW_REMOTE) != "1":
                raise ControlPlaneError(
                    f"KUBECONFIG names {self.url}, which is not on this machine, and tests create and delete "
                    f"there: unset KUBECONFIG, or set {ALLOW_REMOTE}=1 if you mean it"
                )
        except BaseException:
            self.stop()
            raise


def open_cluster(*, with_controller_manager: bool = False, log_dir: Path | None = None) -> Cluster:
    """The cluster KUBECONFIG names, else a control plane of our own; to be used in a `with` block."""
    if kubeconfig := os.environ.get("KUBECONFIG"):
        return ExternalCluster(kubeconfig)
    return ControlPlane(with_controller_manager=with_controller_manager, log_dir=log_dir)


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def private(path: Path, text: str) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def signing_key() -> str:
    """An ECDSA key for service-account tokens, PEM."""
    from cryptography.hazmat.primitives.asymmetric import (
        ec,
    )  # 50 ms that a mere look for binaries need not spend
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
