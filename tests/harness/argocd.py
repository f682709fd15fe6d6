"""A real Argo CD beside an API server: installed from its own manifest, its two working parts as processes.

    git = Git(tmp_path / "infrastructure.git")         # fill git.folder, then git.commit("all of it")
    argo = ArgoCD(cluster, kube, tmp_path)
    argo.start()
    cluster.kubectl("apply", "-n", "argocd", "-f", "root.yaml")     # its repoURL is git.url
    argo.refresh("proxmox")                            # as the webhook of a Git server does
    argo.state("proxmox")                              # State(sync="Synced", health="Healthy")

They are the application controller, logged in as its ServiceAccount, and the repository server, which fetches from Git
and runs Helm; between them is a Redis. Left out is what people look through.
"""

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml

from controlplane import ControlPlane
from controlplane.launch import free_ports
from debian import search_path
from gotools import argocd_manifest, locate
from harness.kubeapi import KubeApi, Raw
from harness.waiting import until
from proxmox_operator.kube.resources import Resource

NAMESPACE = "argocd"
APPLICATIONS = Resource("argoproj.io", "v1alpha1", "applications", "Application")
CONTROLLER, REPO_SERVER = "argocd-application-controller", "argocd-repo-server"
LOOPBACK = "127.0.0.1"
REFRESH = "argocd.argoproj.io/refresh"
START_SECONDS = REFRESH_SECONDS = 30.0
WORKLOADS = {"Deployment", "StatefulSet", "NetworkPolicy"}
DEFAULT_PROJECT = {
    "sourceRepos": ["*"],
    "destinations": [{"namespace": "*", "server": "*"}],
    "clusterResourceWhitelist": [{"group": "*", "kind": "*"}],
}


class State(NamedTuple):
    """What `kubectl get applications` shows; empty before Argo CD has looked at it."""

    sync: str
    health: str


class ArgoCD:
    """It runs from `start()` until its cluster ends."""

    def __init__(self, cluster: ControlPlane, kube: KubeApi, scratch: Path) -> None:
        self._cluster, self._kube = cluster, kube
        self._home = scratch / "argocd"

    def start(self) -> None:
        self._install()
        for folder in ("tls", "ssh", "tmp"):
            (self._home / folder).mkdir(parents=True)
        redis, repository, *metrics = (str(port) for port in free_ports(4))
        server = self._home / "redis-server"
        # One program, which goes by its name. The package that has it under this one keeps it running on the machine.
        found = shutil.which("redis-check-rdb", path=search_path())
        assert found is not None, "make test-node installs redis-tools, which is not here"
        server.symlink_to(found)
        options = ["--port", redis, "--bind", LOOPBACK, "--save", "", "--dir", str(self._home)]
        self._start("redis", int(redis), str(server), *options)
        address = f"{LOOPBACK}:{redis}"
        options = [f"--port={repository}", f"--address={LOOPBACK}", "--disable-tls", f"--redis={address}"]
        options += [f"--metrics-port={metrics[0]}", f"--metrics-address={LOOPBACK}"]
        program = self._argocd()
        self._start(REPO_SERVER, int(repository), *program, REPO_SERVER, *options)
        options = [
            f"--namespace={NAMESPACE}",
            f"--repo-server={LOOPBACK}:{repository}",
            "--repo-server-plaintext",
        ]
        options += [f"--metrics-port={metrics[1]}", f"--redis={address}"]
        self._start(CONTROLLER, int(metrics[1]), *program, CONTROLLER, *options)

    def state(self, name: str) -> State:
        status = self._application(name).get("status") or {}
        return State(status.get("sync", {}).get("status", ""), status.get("health", {}).get("status", ""))

    def prunes(self, name: str) -> bool:
        automated = self._application(name)["spec"]["syncPolicy"]["automated"]
        return bool(automated.get("prune"))  # it is not stored while it is false

    def refresh(self, name: str) -> None:
        """Have an Application compared with the newest commit, and with the cluster, at once; waits until it was."""
        patch = {"metadata": {"annotations": {REFRESH: "hard"}}}
        self._kube.merge(APPLICATIONS, name, patch, namespace=NAMESPACE)

        def looked_at() -> bool:
            return REFRESH not in (self._application(name)["metadata"].get("annotations") or {})

        until(looked_at, f"Argo CD has looked at {name}", seconds=REFRESH_SECONDS)

    def _application(self, name: str) -> Raw:
        return self._kube.get(APPLICATIONS, name, NAMESPACE) or {}

    def _install(self) -> None:
        """The manifest, and what Argo CD's API server adds when it starts for the first time."""
        self._cluster.kubectl("create", "namespace", NAMESPACE, check=True)
        objects = [raw for raw in yaml.safe_load_all(argocd_manifest().read_text()) if raw]
        self._apply(raw for raw in objects if raw["kind"] not in WORKLOADS)
        established = ("--for=condition=Established", "--timeout=30s", "crd", "--all")
        self._cluster.kubectl("wait", *established, check=True)
        project = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "AppProject",
            "metadata": {"name": "default"},
        }
        # Without a key it takes no change of its settings, health checks among them.
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "argocd-secret"}}
        key = {"server.secretkey": secrets.token_urlsafe(24)}
        self._apply([{**project, "spec": DEFAULT_PROJECT}, {**secret, "stringData": key}])

    def _apply(self, objects: Iterable[Raw]) -> None:
        text = yaml.safe_dump_all(objects)
        self._cluster.kubectl("apply", "--server-side", "-n", NAMESPACE, "-f", "-", input=text, check=True)

    def _argocd(self) -> list[str]:
        """The program and what it is to find around it."""
        variables = {
            "HOME": self._home,
            "TMPDIR": self._home / "tmp",
            "PATH": f"{locate('helm').parent}:{os.environ['PATH']}",
            "NO_PROXY": self._cluster.no_proxy,
            "KUBECONFIG": self._cluster.log_in_as(NAMESPACE, CONTROLLER),
            "ARGOCD_FAKE_IN_CLUSTER": "true",
            "ARGOCD_GPG_ENABLED": "false",
            "ARGOCD_TLS_DATA_PATH": self._home / "tls",
            "ARGOCD_SSH_DATA_PATH": self._home / "ssh",
        }
        return ["env", *(f"{name}={value}" for name, value in variables.items()), str(locate("argocd"))]

    def _start(self, name: str, port: int, *argv: str) -> None:
        """Returns once it listens."""
        self._cluster.run(name, list(argv))
        log = self._cluster.log_dir / f"{name}.log"

        def listens() -> bool:
            assert name not in self._cluster.exited(), f"{name} ended: {log}"
            with socket.socket() as client:
                client.settimeout(1)
                return client.connect_ex((LOOPBACK, port)) == 0

        until(listens, f"{name} listens", seconds=START_SECONDS, seen=lambda: str(log))


class Git:
    """A repository with a branch ``main``, and the files of its newest commit in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self._git("init", "-q", "-b", "main")

    @property
    def url(self) -> str:
        return f"file://{self.folder}"

    def commit(self, message: str) -> None:
        """All that is in the folder now."""
        self._git("add", "--all")
        self._git("commit", "-q", "-m", message)

    def _git(self, *argv: str) -> None:
        who = {
            f"GIT_{role}_{what}": "person" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        subprocess.run(["git", *argv], cwd=self.folder, env=os.environ | who | nobody, check=True)
