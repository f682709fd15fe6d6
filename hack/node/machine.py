"""What a node does to the machine beside running processes, and how that is undone.

Everything has a name that is ours: a folder for state, two bridges, our sockets. Undoing needs nothing but that, so
that the next run can do it for one that was killed. Who starts and stops the processes is `launch`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

import builtonce

STATE = builtonce.cache_dir("node") / "state"
SOCKET = STATE / "containerd.sock"
BEFORE = STATE / "before.json"
ADDRESS = "10.99.0.1"
"""Of the node, on a bridge without ports: nothing of it listens where others could reach it."""
NODE_BRIDGE, POD_BRIDGE = "pvo-node", "pvo-pods0"
TASKS = "containerd/state/io.containerd.runtime.v2.task/k8s.io"
CONTAINER_LINKS = Path("/var/log/containers")
LEASED = Path("/var/lib/cni/results")
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
COMMON = [
    CONTAINER_LINKS,
    LEASED,
    LEASED.parent,
    DEVICE_PLUGINS,
    DEVICE_PLUGINS.parent,
    Path("/run/containerd/s"),
]
COMMON += [Path("/run/containerd")]
"""Folders that the programs make wherever they run; innermost first."""
NETWORK = "pvo-pods"
END_SECONDS = 10.0
SYSCTLS = [
    "kernel.keys.root_maxbytes",
    "kernel.keys.root_maxkeys",
    "kernel.panic",
    "kernel.panic_on_oops",
    "net.ipv4.ip_forward",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
]


@contextmanager
def alone() -> Iterator[None]:
    """The one node of this machine."""
    STATE.parent.mkdir(parents=True, exist_ok=True)
    say = "[node] another process has this machine's node; waiting for it"
    with builtonce.locked(STATE.parent / ".lock", lambda: print(say, file=sys.stderr, flush=True)):
        yield


def prepare() -> None:
    """Remember what is going to be changed, and give the node its address."""
    STATE.mkdir(mode=0o711)
    settings = {name: sysctl(name).read_text().strip() for name in SYSCTLS if sysctl(name).exists()}
    made = [str(folder) for folder in COMMON if not folder.exists()]
    unfinished = BEFORE.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"settings": settings, "made": made}))
    unfinished.replace(BEFORE)
    _run("ip", "link", "add", NODE_BRIDGE, "type", "bridge")
    _run("ip", "address", "add", f"{ADDRESS}/32", "dev", NODE_BRIDGE)
    _run("ip", "link", "set", NODE_BRIDGE, "up")


def pod_groups() -> Iterator[Path]:
    """The control groups of a kubelet's pods, ours or another one's."""
    for root in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
        if (root / "kubepods").is_dir():
            yield root / "kubepods"


def undo() -> None:
    """Everything, whatever of it there is. kubelet and containerd have ended."""
    if not STATE.exists():
        return
    _end_containers()
    for _ in range(3):  # a mount can hide another one
        for mounted in sorted(_mounts(), reverse=True):
            _run("umount", "--lazy", mounted, check=False)
    for bridge in (NODE_BRIDGE, POD_BRIDGE):
        _run("ip", "link", "delete", bridge, check=False)
    for family in ("ip", "ip6"):
        _run("nft", "delete", "table", family, "kube-proxy", check=False)
    for group in pod_groups():
        for folder, _, _ in os.walk(group, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)
    for link in CONTAINER_LINKS.glob("*"):
        if link.is_symlink() and Path(os.readlink(link)).is_relative_to(STATE):
            link.unlink()
    for lease in LEASED.glob(f"{NETWORK}-*-eth0"):
        lease.unlink()
        lease.with_name(lease.name.replace(NETWORK, "cni-loopback").replace("-eth0", "-lo")).unlink(
            missing_ok=True
        )
    (DEVICE_PLUGINS / "kubelet.sock").unlink(missing_ok=True)
    if BEFORE.exists():  # else nothing was begun
        before = json.loads(BEFORE.read_text())
        for name, value in before["settings"].items():
            sysctl(name).write_text(value)
        for folder in before["made"]:
            with suppress(OSError):  # it is not there, or somebody else uses it now
                os.rmdir(folder)
    if left := list(_mounts()):
        raise RuntimeError(f"still mounted, and so not removed: {', '.join(left)}")
    shutil.rmtree(STATE)


def shims() -> list[psutil.Process]:
    """The parents of containers, which outlive containerd by design."""
    found = [(process, process.info["cmdline"] or [""]) for process in psutil.process_iter(["cmdline"])]
    return [process for process, argv in found if "containerd-shim" in argv[0] and str(SOCKET) in argv]


def _end_containers() -> None:
    sockets = [path.read_text().removeprefix("unix://") for path in (STATE / TASKS).glob("*/address")]
    parents = shims()
    for shim in parents:
        with suppress(psutil.NoSuchProcess):
            _kill(shim.children())
    _kill(parents)
    for socket in sockets:
        Path(socket).unlink(missing_ok=True)


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=END_SECONDS)


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        place = line.split()[1]
        if Path(place).is_relative_to(STATE):
            yield place


def sysctl(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def _run(*argv: str, check: bool = True) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
