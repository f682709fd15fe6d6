"""Where the control plane's binaries come from: KUBEBUILDER_ASSETS, a cache, PATH (kubectl only), a Go build.

The versions are those of `go.mod` beside this file, which pins tools only. Only Go modules are downloaded.
"""

import os
import re
import shutil
from pathlib import Path

import builtonce
from gobuild import GoBuildError, Module, Program

MODULE = Path(__file__).resolve().parent


class ControlPlaneError(Exception):
    """The control plane cannot be had or does not start; the text is one line that says what to do."""


def version() -> str:
    """The Kubernetes version pinned in go.mod, such as `v1.36.3`."""
    found = re.search(r"^\s*(?:require )?k8s\.io/kubernetes (v\S+)", (MODULE / "go.mod").read_text(), re.M)
    if found is None:
        raise ControlPlaneError(f"{MODULE.name}/go.mod does not require k8s.io/kubernetes")
    return found[1]


def cache_dir() -> Path:
    return builtonce.cache_dir(version())


def locate(*names: str) -> dict[str, Path]:
    """Paths of the named binaries; those that are nowhere are built (minutes, once).

    Raises ControlPlaneError where one is missing and cannot be built.
    """
    found = {name: path for name in names if (path := _existing(name)) is not None}
    missing = [name for name in names if name not in found]
    if not missing:
        return found
    module = _module()
    if shutil.which("go") is None:
        raise ControlPlaneError(
            f"{', '.join(missing)} not found: install Go {module.go_version()} or newer (they are then built, once), "
            "or set KUBEBUILDER_ASSETS to a folder that has them, or KUBECONFIG to a cluster's "
            "(`make kind` makes one)"
        )
    try:
        return found | module.build(missing)
    except GoBuildError as error:
        raise ControlPlaneError(str(error)) from None


def _existing(name: str) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    for folder in ([Path(assets)] if assets else []) + [cache_dir()]:
        if os.access(folder / name, os.X_OK):
            return folder / name
    if name == "kubectl" and (on_path := shutil.which("kubectl")):
        return Path(on_path)
    return None


def _module() -> Module:
    release = version()
    major, minor = release.removeprefix("v").split(".")[:2]
    stamp = "k8s.io/component-base/version.git"
    linker = f"-X {stamp}Version={release} -X {stamp}Major={major} -X {stamp}Minor={minor}"
    programs = {
        "etcd": Program("go.etcd.io/etcd/server/v3", 40),
        "kube-apiserver": Program("k8s.io/kubernetes/cmd/kube-apiserver", 170, linker),
        "kube-controller-manager": Program("k8s.io/kubernetes/cmd/kube-controller-manager", 50, linker),
        "kubectl": Program("k8s.io/kubernetes/cmd/kubectl", 20, linker),
        "kubelet": Program("k8s.io/kubernetes/cmd/kubelet", 60, linker),
        "kube-proxy": Program("k8s.io/kubernetes/cmd/kube-proxy", 20, linker),
        "kube-scheduler": Program("k8s.io/kubernetes/cmd/kube-scheduler", 30, linker),
    }
    return Module("controlplane", MODULE, cache_dir(), programs)
