"""The programs that development needs of this machine, and how they get here.

Debian packages, installed only when something is missing; anything else is for the person to do. Not here: which
programs (`guest`, `image` and `node` say that), and what is built (`builtonce`).
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

SBIN = "/usr/sbin:/sbin"
NOT_HERE = 3
"""Exit status of a program that finds the machine unfit: `make test` leaves its tests out, and says so."""


class HostError(Exception):
    """Something that this machine is to give cannot be had; the text is one line that says what to do."""


class NotHereError(HostError):
    """Nothing is broken: this machine lacks something that only a person can give it."""


def report(name: str, error: HostError, *, ci_may_lack_it: bool = False) -> int:
    """Say what is wrong; returns the exit status. In CI (the environment variable CI) nothing else may be left out."""
    print(f"{name}: {error}", file=sys.stderr)
    left_out = isinstance(error, NotHereError) and (ci_may_lack_it or not os.environ.get("CI"))
    return NOT_HERE if left_out else 1


def search_path() -> str:
    """PATH with the folders of system programs, which an ordinary user's lacks on Debian."""
    return f"{os.environ.get('PATH', '')}:{SBIN}"


def missing(programs: Iterable[str]) -> list[str]:
    """Those of the programs (names, or paths of files) that this machine lacks."""
    return [
        name for name in programs if not Path(name).is_file() and not shutil.which(name, path=search_path())
    ]


def ensure(programs: Mapping[str, str], what: str) -> None:
    """Install the packages of the programs that are missing; ``what`` needs them, in the plural.

    :raises NotHereError: this is not a Debian machine, or we are not root.
    :raises HostError: apt-get fails.
    """
    packages = sorted({programs[program] for program in missing(programs)})
    if not packages:
        return
    wanted = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NotHereError(f"{what} need {wanted}: as root, apt-get install {wanted}")
    print(f"[debian] installing {wanted}", file=sys.stderr, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            raise HostError(
                f"apt-get {command[0]} failed ({lines[-1] if lines else 'no reason given'}); {what} need {wanted}"
            )
