"""Helm, helm-docs, kstatus and promtool as Go programs of pinned versions, and the CRDs of the Prometheus Operator.

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
    go = shutil.which("go")
    if go is None:
        raise GoBuildError("the CRDs of the Prometheus Operator come as a Go module: install Go")
    command = [go, "mod", "download", "-json", "github.com/prometheus-operator/prometheus-operator"]
    done = subprocess.run(
        command,
        cwd=FOLDER / "monitoring",
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        raise GoBuildError(f"the CRDs of the Prometheus Operator cannot be had: {done.stdout} {done.stderr}")
    return Path(json.loads(done.stdout)["Dir"]) / "example" / "prometheus-operator-crd"


__all__ = ["GoBuildError", "locate", "monitoring_crds"]
