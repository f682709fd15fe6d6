"""Helm, helm-docs and promtool as Go programs of pinned versions: each module beside this file is one folder."""

import hashlib
from pathlib import Path

import builtonce
from gobuild import GoBuildError, Module, Program

FOLDER = Path(__file__).resolve().parent
PROGRAMS = {
    "helm": {
        "helm": Program("helm.sh/helm/v3/cmd/helm", 120),
        "helm-docs": Program("github.com/norwoodj/helm-docs/cmd/helm-docs", 10),
    },
    "promtool": {"promtool": Program("github.com/prometheus/prometheus/cmd/promtool", 380)},
}


def locate(name: str) -> Path:
    """The path of a program, which is built where it has not been yet. Raises GoBuildError."""
    module = next(module for module, programs in PROGRAMS.items() if name in programs)
    folder = FOLDER / module
    pins = hashlib.sha256((folder / "go.mod").read_bytes() + (folder / "go.sum").read_bytes())
    cache = builtonce.cache_dir(f"{module}-{pins.hexdigest()[:12]}")
    return Module("gotools", folder, cache, PROGRAMS[module]).build([name])[name]


__all__ = ["GoBuildError", "locate"]
