"""Builds the operator's image from the Dockerfile into build/, or finds it there where nothing has changed since."""

import hashlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import builtonce
from image import base
from image.engine import Engine, say
from proxmox_operator import __version__

ROOT = Path(__file__).resolve().parents[2]
ARCHIVE = ROOT / "build" / "image.tar"
NAME = "localhost/proxmox-operator"
"""Without the tag, which is the version. It is never pushed under this name."""
LABELS = ("REVISION", "SOURCE")


def image() -> Path:
    """The archive of an image of the present sources.

    The environment variable BASE names another base than the Dockerfile's; REVISION and SOURCE are for the labels.

    :raises NotHereError: this machine cannot build images.
    :raises HostError: building it failed.
    """
    wanted, stamp = _digest(), ARCHIVE.with_suffix(".inputs")
    ARCHIVE.parent.mkdir(exist_ok=True)
    with builtonce.locked(
        ARCHIVE.with_suffix(".lock"), partial(say, "another process builds it; waiting for it")
    ):
        if not (ARCHIVE.exists() and stamp.exists() and stamp.read_text() == wanted):
            _build(stamp)
            stamp.write_text(wanted)
    return ARCHIVE


def _build(stamp: Path) -> None:
    started = time.monotonic()
    with Engine() as engine:
        stamp.unlink(missing_ok=True)  # from here on the archive is of no sources in particular
        below = os.environ.get("BASE") or _default_base(engine)
        say(f"building, about a minute, on {below}")
        arguments = {"BASE": below, "VERSION": __version__}
        arguments |= {"REVISION": _revision()} | {
            name: os.environ[name] for name in LABELS if name in os.environ
        }
        engine.build(ROOT, name=f"{NAME}:{__version__}", archive=ARCHIVE, arguments=arguments)
    say(f"built in {time.monotonic() - started:.0f} s, {ARCHIVE.stat().st_size / 1e6:.0f} MB packed")


def _default_base(engine: Engine) -> str:
    found = re.search(r"^ARG BASE=(\S+)$", (ROOT / "Dockerfile").read_text(), re.M)
    if found is None:
        raise ValueError("the Dockerfile has no default for BASE")
    if engine.has(found[1]):
        return found[1]
    say("the base of the Dockerfile cannot be pulled; its place takes one of our own")
    return base.debian_base(engine)


def _revision() -> str:
    argv = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _digest() -> str:
    """Of all that the image is made from."""
    digest = hashlib.sha256(repr([os.environ.get(name) for name in ("BASE", *LABELS)]).encode())
    for path in sorted(_inputs()):
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _inputs() -> Iterator[Path]:
    """The files that a build sees, as .dockerignore lets nothing else in, and what the base is made from."""
    yield from (ROOT / "Dockerfile", ROOT / ".dockerignore", Path(base.__file__))
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            place = ROOT / line[1:]
            found = place.rglob("*") if place.is_dir() else [place]
            yield from (path for path in found if path.is_file() and "__pycache__" not in path.parts)
