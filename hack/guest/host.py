"""The programs that building and running a guest needs of this machine, and how they get here.

Debian packages, installed only when something is missing; anything else is for the person to do.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

# program (or file) -> the Debian package that has it
BUILDING = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "sfdisk": "fdisk",
    "grub-mkimage": "grub-common",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
    "/usr/lib/grub/i386-pc/boot.img": "grub-pc-bin",
    "qemu-img": "qemu-utils",
}
RUNNING = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "setpriv": "util-linux",
    "openssl": "openssl",
    "ssh": "openssh-client",
}
SBIN = "/usr/sbin:/sbin"


class GuestImageError(Exception):
    """The guest image cannot be had; the text is one line that says what to do."""


class NotHereError(GuestImageError):
    """Nothing is broken: this machine lacks something that only a person can give it."""


def say(line: str) -> None:
    """Tell the person who waits what is going on."""
    print(f"[guest] {line}", file=sys.stderr, flush=True)


def search_path() -> str:
    """PATH with the folders of system programs, which an ordinary user's lacks on Debian."""
    return f"{os.environ.get('PATH', '')}:{SBIN}"


def missing(programs: Iterable[str]) -> list[str]:
    """Those of the programs (names, or paths of files) that this machine lacks."""
    return [
        name for name in programs if not Path(name).is_file() and not shutil.which(name, path=search_path())
    ]


def ensure(programs: dict[str, str]) -> None:
    """Install the packages of the programs that are missing.

    :raises NotHereError: this is not a Debian machine, or we are not root.
    :raises GuestImageError: apt-get fails.
    """
    packages = sorted({programs[program] for program in missing(programs)})
    if not packages:
        return
    wanted = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NotHereError(f"real guests need {wanted}: as root, apt-get install {wanted}")
    say(f"installing {wanted}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", "-qq", *command],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            raise GuestImageError(
                f"apt-get {command[0]} failed ({lines[-1] if lines else 'no reason given'});"
                f" real guests need {wanted}"
            )
