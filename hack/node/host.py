"""Whether this machine can be a node, and the Debian packages that it takes."""

import os
import subprocess
import sys
from pathlib import Path

from debian import NotHereError, ensure
from node import machine

WHAT = "nodes"
PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "ip": "iproute2",
    "nft": "nftables",
    "sysctl": "procps",
    "umount": "mount",
    "git": "git",
    "redis-check-rdb": "redis-tools",
}
"""The last two are for Argo CD."""
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = {"cpu", "memory", "pids"}
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_CHROOT": 18, "CAP_SYS_ADMIN": 21}


def make_fit() -> None:
    """Install what is missing.

    :raises NotHereError: this machine cannot be a node; the text says why.
    :raises HostError: a package cannot be installed.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NotHereError("a node is run by root on Linux: run `make test-node` there, as root")
    lacking = [name for name, bit in CAPABILITIES.items() if not _capabilities() >> bit & 1]
    if lacking:
        raise NotHereError(
            f"a node needs {', '.join(lacking)}: this container or machine does not give it to root"
        )
    ensure(PROGRAMS, WHAT)
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        raise NotHereError("a node needs the overlay file system: load its kernel module (modprobe overlay)")
    if lacking := sorted(CONTROLLERS - _controllers()):
        raise NotHereError(
            f"a node needs the cgroup controllers {', '.join(lacking)}: mount {CGROUPS} with them"
        )
    if not os.access(CGROUPS, os.W_OK):
        raise NotHereError(f"a node needs to write to {CGROUPS}, which is mounted read-only")
    with machine.alone():
        machine.undo()  # what a killed run has left behind
        if any(machine.pod_groups()):
            raise NotHereError(
                "a kubelet runs on this machine already: a second one would take its pods for its own"
            )
        for probe in (
            ["ip", "link", "add", machine.NODE_BRIDGE, "type", "bridge"],
            ["ip", "link", "delete", machine.NODE_BRIDGE],
            ["nft", "list", "tables"],
        ):
            done = subprocess.run(probe, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise NotHereError(f"a node needs `{' '.join(probe)}`, which fails: {done.stderr.strip()}")


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _controllers() -> set[str]:
    """Of cgroup v2, or the folders of v1."""
    unified = CGROUPS / "cgroup.controllers"
    return set(unified.read_text().split() if unified.exists() else os.listdir(CGROUPS))
