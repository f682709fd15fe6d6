"""Where the control plane's binaries come from: KUBEBUILDER_ASSETS, a cache, PATH (kubectl only), a Go build.

The versions are those of `go.mod` beside this file, which pins tools only. Only Go modules are downloaded.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import builtonce

MODULE = Path(__file__).resolve().parent

# Go packages, and roughly how long each takes with a cold cache on two cores (seconds).
PACKAGES = {
    "etcd": ("go.etcd.io/etcd/server/v3", 40),
    "kube-apiserver": ("k8s.io/kubernetes/cmd/kube-apiserver", 170),
    "kube-controller-manager": ("k8s.io/kubernetes/cmd/kube-controller-manager", 50),
    "kubectl": ("k8s.io/kubernetes/cmd/kubectl", 20),
}
PROGRESS_SECONDS = 15


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
    if missing:
        _build(missing)
        found |= {name: cache_dir() / name for name in missing}
    return found


def _existing(name: str) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    for folder in ([Path(assets)] if assets else []) + [cache_dir()]:
        if os.access(folder / name, os.X_OK):
            return folder / name
    if name == "kubectl" and (on_path := shutil.which("kubectl")):
        return Path(on_path)
    return None


def _build(names: Iterable[str]) -> None:
    go = shutil.which("go")
    if go is None:
        raise ControlPlaneError(
            f"{', '.join(names)} not found: install Go {_go_version()} or newer (they are then built, once), "
            "or set KUBEBUILDER_ASSETS to a folder that has them, or KUBECONFIG to a cluster's "
            "(`make kind` makes one)"
        )
    cache = cache_dir()
    cache.mkdir(parents=True, exist_ok=True)
    waiting = partial(_say, "another process builds the control plane; waiting for it")
    with builtonce.locked(cache / ".lock", waiting):
        for leftover in cache.glob(".*.building"):
            leftover.unlink()  # of a build that was killed: whoever makes one holds the lock
        for name in names:
            if not (cache / name).exists():  # someone else may have built it while we waited for the lock
                _build_one(go, name, cache)


def _build_one(go: str, name: str, cache: Path) -> None:
    package, usual = PACKAGES[name]
    release = version()
    major, minor = release.removeprefix("v").split(".")[:2]
    stamp = "k8s.io/component-base/version.git"
    flags = f"-s -w -X {stamp}Version={release} -X {stamp}Major={major} -X {stamp}Minor={minor}"
    unfinished = cache / f".{name}.building"
    command = [go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", flags]
    command += ["-o", str(unfinished), package]
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": ""}
    _say(f"{name}: building, about {usual} s the first time")
    started = time.monotonic()
    with (cache / f"{name}.log").open("w+") as log:
        process = subprocess.Popen(command, cwd=MODULE, env=environment, stdout=log, stderr=log)
        try:
            while True:
                try:
                    status = process.wait(timeout=PROGRESS_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    _say(f"{name}: building, {time.monotonic() - started:.0f} s so far")
        except BaseException:
            process.terminate()
            process.wait()
            raise
        if status != 0:
            log.seek(0)
            raise ControlPlaneError(_why(name, log.read(), Path(log.name)))
    unfinished.replace(cache / name)
    (cache / f"{name}.log").unlink()
    _say(f"{name}: built in {time.monotonic() - started:.0f} s")


def _why(name: str, output: str, log: Path) -> str:
    if "requires go >=" in output:
        return f"{name} cannot be built: this Go is too old, {_go_version()} or newer is needed"
    lines = output.strip().splitlines()
    return f"{name} cannot be built: {lines[-1] if lines else 'go build failed'} (all of it: {log})"


def _go_version() -> str:
    found = re.search(r"^go (\S+)", (MODULE / "go.mod").read_text(), re.M)
    return found[1] if found else "1.26"


def _say(line: str) -> None:
    print(f"[controlplane] {line}", file=sys.stderr, flush=True)
