"""Starts and stops a node: the control plane on the node's address, then containerd, kubelet and kube-proxy."""

import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from controlplane import ControlPlane, ControlPlaneError
from controlplane.build import locate
from controlplane.flags import etcd_flags
from controlplane.launch import free_ports, private, signing_key
from debian import search_path
from node import machine
from node.machine import ADDRESS, SOCKET
from node.pause import NAME, pause_image
from node.pki import Authority
from node.settings import (
    API_SERVICE,
    NODE,
    apiserver_flags,
    containerd_flags,
    kubelet_flags,
    manager_flags,
    proxy_flags,
    scheduler_flags,
)

BUILT = ["kube-scheduler", "kubelet", "kube-proxy"]
INSTALLED = ["containerd", "ctr"]
USERS = {
    "admin": ["system:masters"],
    "system:kube-controller-manager": [],
    "system:kube-scheduler": [],
    "system:kube-proxy": [],
    f"system:node:{NODE}": ["system:nodes"],
}
"""And their groups."""
WAIT_SECONDS = 60.0
POLL_SECONDS = 0.2


def locate_programs() -> dict[str, Path]:
    """All of them; those of Go are built where they are nowhere. Raises ControlPlaneError."""
    found = {name: shutil.which(name, path=search_path()) for name in INSTALLED}
    return locate("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", *BUILT) | {
        name: Path(path) for name, path in found.items() if path
    }


class Node(ControlPlane):
    """A cluster of one node. Use as a context manager; `host.make_fit` has been called."""

    no_proxy = f"{ControlPlane.no_proxy},{ADDRESS}"

    def __init__(self, *, log_dir: Path | None = None) -> None:
        super().__init__(with_controller_manager=True, log_dir=log_dir)
        self._binaries = locate_programs()
        self._undoing = ExitStack()

    def start(self) -> None:
        """Return once the node is Ready. Raises ControlPlaneError with the place of the logs."""
        self._undoing.enter_context(machine.alone())
        self._undoing.callback(machine.undo)
        try:
            machine.undo()  # what a killed run has left behind
            machine.prepare()
        except BaseException:
            self._undoing.close()
            raise
        super().start()

    def load(self, archive: Path) -> None:
        """Give the node an image, under the name that its archive has."""
        self._changed("images", "import", str(archive))

    def tag(self, image: str, name: str) -> None:
        """Give an image another name."""
        self._changed("images", "tag", image, name)

    def _changed(self, *argv: str) -> None:
        done = self._ctr(*argv)
        if done.returncode != 0:
            raise ControlPlaneError(f"ctr {' '.join(argv)}: {done.stderr.strip()}")

    def _try_to_start(self, *, last: bool) -> bool:
        client, peer, secure = free_ports(3)
        authority = Authority(self._data)
        hosts = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        authority.server("apiserver", [ADDRESS, "127.0.0.1", API_SERVICE], hosts)
        authority.client("kubelet-client", "system:masters")
        self.url, self.ca_file = f"https://{ADDRESS}:{secure}", authority.file
        tokens = {user: secrets.token_urlsafe(24) for user in USERS}
        self.admin_token = tokens["admin"]
        lines = [",".join([token, user, user, *USERS[user]]) + "\n" for user, token in tokens.items()]
        private(self._data / "tokens.csv", "".join(lines))
        private(self._data / "service-account.key", signing_key())
        self._spawn("etcd", etcd_flags(self._data / "etcd", client, peer))
        self._spawn("kube-apiserver", apiserver_flags(self._data, client, secure))
        if problem := self._wait_until_ready():
            if not last and "address already in use" in problem:
                return False
            raise ControlPlaneError(f"the control plane did not start: {problem} (logs: {self.log_dir})")
        logins = {
            name: self.kubeconfig_of(name, token)
            for name, token in ((user.split(":")[-1], token) for user, token in tokens.items())
        }
        self.kubeconfig = logins["admin"]
        self._join(logins)
        return True

    def _join(self, logins: dict[str, Path]) -> None:
        self._spawn("containerd", containerd_flags(NAME))
        manager = manager_flags(self._data, logins["kube-controller-manager"])
        self._spawn("kube-controller-manager", manager)
        self._spawn("kube-scheduler", scheduler_flags(logins["kube-scheduler"]))
        self._wait("containerd", lambda: self._ctr("version").returncode == 0)
        self.load(pause_image())
        self._spawn("kubelet", kubelet_flags(self._data, logins[NODE]))
        self._spawn("kube-proxy", proxy_flags(self._data, logins["kube-proxy"], *free_ports(2)))
        ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        self._wait("kubelet", lambda: self.kubectl("get", "node", NODE, "-o", ready).stdout == "True")
        account = ["get", "serviceaccount", "default", "-n", "default"]
        self._wait("kube-controller-manager", lambda: self.kubectl(*account).returncode == 0)

    def _wait(self, name: str, predicate: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not predicate():
            ended = self.exited()
            if ended or time.monotonic() > deadline:
                who = next(iter(ended), name)
                raise ControlPlaneError(
                    f"{who} {'ended' if ended else 'is not ready'}: {self._last_words(who)} (logs: {self.log_dir})"
                )
            time.sleep(POLL_SECONDS)

    def _ctr(self, *argv: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._binaries["ctr"]), "--address", str(SOCKET), "--namespace", "k8s.io", *argv]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _end(self, *, keep_logs: bool) -> None:
        # The kubelet first: it would start again what ends. They have something to save, unlike the others.
        for name in ("kubelet", "kube-proxy", "containerd"):
            if name in self.pids:
                self._ask_guard({"end": name})
        super()._end(keep_logs=keep_logs)
        self._undoing.close()
