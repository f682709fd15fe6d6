"""What builds images here: buildah, which Debian has, and which needs neither a daemon nor a registry.

Everything is built in a store of its own that is removed afterwards; what is kept is an OCI archive, a file. Root is
needed, for the owners of the files in an image. Not here: docker, for which the Dockerfile is enough.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from debian import HostError, NotHereError, ensure, search_path

WHAT = "images"
PROGRAMS = {"buildah": "buildah"}
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
LAST_LINES = 3
PULL_SECONDS = 600


class Engine:
    """buildah with a store in a temporary folder. Use as a context manager."""

    def __init__(self) -> None:
        """:raises NotHereError: it is missing and cannot be installed, or we are not root."""
        if os.geteuid() != 0:
            raise NotHereError("images are built by root: run `make image` as root, or `docker build .`")
        ensure(PROGRAMS, WHAT)
        self._work = tempfile.TemporaryDirectory(prefix="proxmox-operator-image-", dir="/var/tmp")
        store = Path(self._work.name)
        self._buildah = ["buildah", "--root", f"{store / 'root'}", "--runroot", f"{store / 'run'}"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A build that was broken off may have left a container mounted.
        subprocess.run([*self._buildah, "rm", "--all"], capture_output=True, check=False)
        self._work.cleanup()

    def has(self, name: str) -> bool:
        """Whether an image can be pulled."""
        try:
            pulled = subprocess.run(
                [*self._buildah, "pull", "--quiet", name],
                capture_output=True,
                timeout=PULL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        return pulled.returncode == 0

    def build(
        self, folder: Path, *, name: str, archive: Path, arguments: Mapping[str, str] | None = None
    ) -> None:
        """Build the Dockerfile of a folder, with these build arguments, and write the image to an archive."""
        # What this machine trusts is trusted while building: there may be a proxy that it has to trust.
        trust = ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"] if Path(CERTIFICATES).exists() else []
        given = [
            part for key, value in (arguments or {}).items() for part in ("--build-arg", f"{key}={value}")
        ]
        run(*self._buildah, "bud", "--isolation", "chroot", *trust, *given, "--tag", name, str(folder))
        archive.unlink(missing_ok=True)  # else it would be written into
        run(*self._buildah, "push", name, f"oci-archive:{archive}:{name}")


def run(*argv: str) -> None:
    """Run a program. :raises HostError: it fails; with its last words."""
    done = subprocess.run(
        argv,
        env=os.environ | {"PATH": search_path(), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        words = " ".join(done.stdout.strip().splitlines()[-LAST_LINES:])
        raise HostError(f"{argv[0]} failed: {words}")


def say(line: str) -> None:
    """Tell the person who waits what is going on."""
    print(f"[image] {line}", file=sys.stderr, flush=True)
