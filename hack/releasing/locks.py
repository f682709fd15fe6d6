"""Whether a lock file is what its declared requirements lead to, and under which licences what is in it stands.

Asks no index: the metadata is that of the packages in .venv, which are installed from the lock. Not here: whether newer
versions exist, or advisories about these (``releasing.audit``).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import NamedTuple

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ENTRY = re.compile(r"^([a-zA-Z0-9._-]+)==([^\s;\\]+)(?: *; *([^\\\n]+?))? *\\?$", re.M)
_AGPL = re.compile(r"AGPL|Affero", re.I)


class Package(NamedTuple):
    """What a lock, or an installed package's metadata, says about a package."""

    version: str
    requires: tuple[str, ...] = ()
    licences: tuple[str, ...] = ()


def installed(name: str) -> Package | None:
    """The metadata of an installed package."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    return Package(found.version, tuple(found.requires or ()), tuple(_licences(found)))


def _licences(found: Distribution) -> Iterator[str]:
    for field in ("License-Expression", "License", "Classifier"):
        yield from (
            text for text in found.metadata.get_all(field) or () if field != "Classifier" or "License" in text
        )


Look = Callable[[str], Package | None]


def here(lock: str) -> dict[str, str]:
    """Names and versions of what a lock installs on this platform."""
    return {
        canonicalize_name(name): version
        for name, version, marker in _ENTRY.findall(lock)
        if not marker or Marker(marker).evaluate()
    }


def stale(declared: Iterable[str], lock: str, look: Look = installed) -> Iterator[str]:
    """Why the lock is not what ``declared`` leads to; nothing where it is."""
    versions = here(lock)
    for name, version in versions.items():
        found = look(name)
        if found is None or found.version != version:
            yield f"{name}=={version} is locked, and {found.version if found else 'not'} installed: make bootstrap"
    todo = [("pyproject.toml", Requirement(text)) for text in declared]
    met: set[tuple[str, frozenset[str]]] = set()
    while todo:
        by, wanted = todo.pop()
        name, extras = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if name not in versions:
            yield f"{by} needs {wanted}, which is not locked"
        elif not wanted.specifier.contains(versions[name], prereleases=True):
            yield f"{by} needs {wanted}, and {versions[name]} is locked"
        if (name, extras) not in met:
            met.add((name, extras))
            package = look(name)
            todo += [(name, need) for need in _needs(package, extras)] if package else []
    for name in sorted(versions.keys() - {name for name, _ in met}):
        yield f"{name} is locked, and nothing needs it"


def _needs(package: Package, extras: Iterable[str]) -> Iterator[Requirement]:
    for text in package.requires:
        need = Requirement(text)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield need


def agpl(lock: str, look: Look = installed) -> Iterator[str]:
    """The locked packages under the AGPL, which must reach neither wheel nor image."""
    for name in here(lock):
        found = look(name)
        if found is not None and _AGPL.search(" ".join(found.licences)):
            yield f"{name} is under the AGPL"
