"""Helm, helm-docs, kstatus, promtool and Argo CD as Go programs of pinned versions, and manifests out of Go modules.

Each folder beside this file is a Go module that pins what it is named after.
"""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import builtonce
from gobuild import GoBuildError, Module, Program

FOLDER = Path(__file__).resolve().parent
# What helm's own Makefile stamps: the Kubernetes that `helm template` takes for granted is 1.20 without it.
_HELM = "helm.sh/helm/v3"
_KUBERNETES = ("pkg/chartutil", "pkg/lint/rules")
_STAMPS = [
    f"-X {_HELM}/{package}.k8sVersion{part}" for package in _KUBERNETES for part in ("Major=1", "Minor=36")
]
PROGRAMS = {
    "argocd": {"argocd": Program(".", 240)},
    "helm": {
        "helm": Program(f"{_HELM}/cmd/helm", 120, " ".join(_STAMPS)),
        "helm-docs": Program("github.com/norwoodj/helm-docs/cmd/helm-docs", 10),
    },
    "kstatus": {"kstatus": Program(".", 40)},
    "promtool": {
        "promtool": Program("github.com/prometheus/prometheus/cmd/promtool", 190, tags="remove_all_sd")
    },
}


def locate(name: str) -> Path:
    """The path of a program, which is built where it has not been yet. Raises GoBuildError."""
    module = next(module for module, programs in PROGRAMS.items() if name in programs)
    folder = FOLDER / module
    pins = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(folder.iterdir())))
    pins.update(repr(PROGRAMS[module]).encode())
    cache = builtonce.cache_dir(f"{module}-{pins.hexdigest()[:12]}")
    return Module("gotools", folder, cache, PROGRAMS[module]).build([name])[name]


def monitoring_crds() -> Path:
    """The folder of the Prometheus Operator's CRDs, in Go's module cache. Raises GoBuildError."""
    module = _unpacked("monitoring", "github.com/prometheus-operator/prometheus-operator")
    return module / "example" / "prometheus-operator-crd"


def argocd_manifest() -> Path:
    """All objects of an installation of Argo CD, in Go's module cache. Raises GoBuildError."""
    return _unpacked("argocd", "github.com/argoproj/argo-cd/v3") / "manifests" / "install.yaml"


def _unpacked(folder: str, module: str) -> Path:
    go = shutil.which("go")
    if go is None:
        raise GoBuildError(f"{module} comes as a Go module: install Go")
    done = subprocess.run(
        [go, "mod", "download", "-json", module],
        cwd=FOLDER / folder,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise GoBuildError(f"{module} cannot be had: {done.stdout} {done.stderr}")
    return Path(json.loads(done.stdout)["Dir"])


__all__ = ["GoBuildError", "argocd_manifest", "locate", "monitoring_crds"]
