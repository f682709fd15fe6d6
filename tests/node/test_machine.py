"""A node leaves the machine as it was, even if whoever ran it was killed. Before all others: one node at a time."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil

from harness.waiting import until
from node import machine

HACK = Path(__file__).resolve().parents[2] / "hack"
LAUNCHER = textwrap.dedent("""
    import time
    from node import Node
    from node.pause import NAME
    with Node() as node:
        node.kubectl("run", "held", f"--image={NAME}", check=True)
        node.kubectl("wait", "--for=condition=Ready", "pod/held", "--timeout=60s", check=True)
        print("running", flush=True)
        time.sleep(120)
""")


def seen() -> dict[str, object]:
    """What a node changes, as it is now."""
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return {
        "settings": {name: machine.sysctl(name).read_text() for name in machine.SYSCTLS},
        "links": sorted(os.listdir("/sys/class/net")),
        "tables": sorted(tables.splitlines()),
        "mounts": sorted(line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()),
        "groups": sorted(map(str, machine.pod_groups())),
        "folders": [folder for folder in machine.COMMON if folder.exists()],
        "files": [sorted(folder.rglob("*")) for folder in machine.COMMON],
        "shims": machine.shims(),
        "state": machine.STATE.exists(),
    }


def test_what_a_killed_node_leaves_behind_is_undone_by_the_next_one() -> None:
    with machine.alone():
        machine.undo()
        before = seen()
    environment = os.environ | {"PYTHONPATH": str(HACK)}
    argv = [sys.executable, "-c", LAUNCHER]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == "running\n"
        launcher.send_signal(signal.SIGKILL)
    wait_for_the_guard()
    assert machine.shims(), "no container outlived the node, so this test shows nothing"
    with machine.alone():
        machine.undo()
        assert seen() == before


def wait_for_the_guard() -> None:
    """It ends the programs of the node, all but the shims, once it has seen that their launcher is gone."""
    shims = {process.pid for process in machine.shims()}

    def ended() -> bool:
        argvs = [p.info["cmdline"] or [] for p in psutil.process_iter(["cmdline"]) if p.pid not in shims]
        return not any(str(machine.STATE) in part for argv in argvs for part in argv)

    until(ended, "the guard has ended the programs of the node", seconds=10)
