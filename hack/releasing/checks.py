"""The questions that are asked of a checkout before it is released. Each answers with its objections.

Not here: the tests, which CI runs.
"""

import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from releasing import changelog, locks
from releasing.compatibility import breaks

_VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.M)
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(alpha|beta|rc)\.(0|[1-9]\d*))?")
CHART = Path("charts") / "proxmox-operator" / "Chart.yaml"
SHIPPED = frozenset({"README.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"})
"""What an sdist holds beside operator/proxmox_operator."""


def git(root: Path, *arguments: str, check: bool = True) -> str:
    """The output of a git command. Raises CalledProcessError, unless told not to check."""
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=check).stdout


def version(root: Path) -> str:
    """The version; this is the one place that has it."""
    text = (root / "operator" / "proxmox_operator" / "__init__.py").read_text(encoding="utf-8")
    [found] = _VERSION.findall(text)
    return str(found)


def consistent(root: Path) -> Iterator[str]:
    """The chart and the changelog are those of the version, which is not released yet."""
    wanted = version(root)
    if not _SEMVER.fullmatch(wanted):
        yield f"__version__ {wanted} must look like 1.2.3 or 1.2.3-rc.1, as Helm wants it"
    chart = yaml.safe_load((root / CHART).read_text(encoding="utf-8"))
    for field in ("version", "appVersion"):
        if str(chart[field]) != wanted:
            yield f"{field} of {CHART} is {chart[field]}, and the version {wanted}: make chart"
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if not changelog.section(text, wanted):
        yield f"CHANGELOG.md has no section `## [{wanted}] - YEAR-MONTH-DAY` with what changed"
    if changelog.unreleased(text) != "":
        yield "CHANGELOG.md must have a section `## [Unreleased]` with nothing in it: that goes to the version"
    tag = git(root, "rev-parse", "--verify", "--quiet", f"v{wanted}^{{commit}}", check=False)
    if tag and tag != git(root, "rev-parse", "HEAD"):
        yield f"v{wanted} is another commit already: raise __version__"


def clean(root: Path) -> Iterator[str]:
    """All is committed."""
    for line in git(root, "status", "--porcelain").splitlines():
        yield f"not committed: {line[3:]}"


def stale(generated: Iterable[tuple[Path, str]], command: str) -> Iterator[str]:
    """Files that are not as they would be made now."""
    for path, text in generated:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield f"{path.name} is stale: {command}"


def built(root: Path) -> Iterator[str]:
    """Wheel and sdist can be built, are of the version, and hold our package and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            yield f"python -m build fails: {(done.stdout + done.stderr).strip()[-500:]}"
            return
        [wheel], [sdist] = Path(folder).glob("*.whl"), Path(folder).glob("*.tar.gz")
        with zipfile.ZipFile(wheel) as file:
            yield from strangers(wheel.name, file.namelist(), "")
        with tarfile.open(sdist) as archive:
            yield from strangers(sdist.name, archive.getnames(), "operator")
        normal = re.sub(r"-(a|b|rc)\w*\.", r"\1", version(root))
        yield from (
            f"{name} is not {normal}" for name in (wheel.name, sdist.name) if f"-{normal}" not in name
        )


def strangers(archive: str, names: Iterable[str], under: str) -> Iterator[str]:
    """What is in a wheel (``under`` nothing) or an sdist, and should not be."""
    for name in names:
        parts = PurePosixPath(name).parts
        if under:
            parts = parts[1:]
            if parts in ((), (under,)) or (len(parts) == 1 and parts[0] in SHIPPED):
                continue
            parts = parts[1:] if parts[0] == under else ("?",)
        if parts[0] != "proxmox_operator" and not parts[0].endswith(".dist-info"):
            yield f"{archive} holds {name}"


def locked(root: Path) -> Iterator[str]:
    """The lock files are what pyproject.toml leads to, and nothing under the AGPL is shipped."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    runtime = project["project"]["dependencies"]
    wanted = {"runtime": runtime, "dev": [*runtime, *project["dependency-groups"]["dev"]]}
    for name, declared in wanted.items():
        lock = (root / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        yield from (f"requirements/{name}.txt: {told}" for told in locks.stale(declared, lock))
        if name == "runtime":
            yield from (f"requirements/{name}.txt: {told}" for told in locks.agpl(lock))


def last_release(root: Path) -> str | None:
    """The tag of the release before this one, of those that HEAD contains."""
    tags = git(
        root,
        "-c",
        "versionsort.suffix=-",
        "tag",
        "--merged",
        "HEAD",
        "--list",
        "v[0-9]*",
        "--sort=-v:refname",
    ).split()
    return next((tag for tag in tags if tag != f"v{version(root)}"), None)


def compatible(root: Path) -> Iterator[str]:
    """Objects of the last release fit the CRDs; what breaks some is named in the changelog of the version."""
    tag = last_release(root)
    if tag is None:
        return
    names = git(root, "ls-tree", "--name-only", tag, "crds/").split()
    old = [yaml.safe_load(git(root, "show", f"{tag}:{name}")) for name in names]
    new: list[Any] = [
        yaml.safe_load(path.read_text(encoding="utf-8")) for path in (root / "crds").glob("*.yaml")
    ]
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    told = changelog.section(text, version(root)) or ""
    for each in breaks(old, new):
        if f"`{each.where}`" not in told:
            yield f"since {tag}: {each}. If it must be, say in CHANGELOG.md what to do, and name `{each.where}`"
