"""The short story with a guest that really boots: one manifest becomes a VM that a person can log into.

The long one (acts.py, life.py) stays with VMs that have nothing in them: ten guests under emulation take too long.
"""

import subprocess
import sys
import time
from pathlib import Path
from signal import pause
from typing import Any, NoReturn

from demo import acts
from demo.kube import is_ready
from demo.looking import NAMESPACE, await_that, look, vmid_of
from demo.screen import Screen
from demo.stage import Stage

SIMULATOR = (*acts.SIMULATOR, "--templates=pve1:9000:local-lvm", "--guests=qemu", "--time-scale=1")
READY_SECONDS = 120.0
# Under emulation, on a machine that has other things to do.
LOGIN_SECONDS = 900.0
NAME, USER = "web", "ops"


def manifest(public_key: str) -> dict[str, Any]:
    """The VM: a clone of the template, with a user, a key and an address."""
    return {
        "apiVersion": "proxmox-operator.io/v1alpha1",
        "kind": "ProxmoxVM",
        "metadata": {"name": NAME},
        "spec": {
            "source": {"clone": {"vmid": 9000}},
            "cpu": {"cores": 2},
            "memory": {"size": "1Gi"},
            "networks": [
                {
                    "name": "net0",
                    "bridge": "vmbr0",
                    "ipv4": {"address": "10.20.0.5/24", "gateway": "10.20.0.1"},
                }
            ],
            "cloudInit": {"user": USER, "sshKeys": [public_key]},
        },
    }


def play(stage: Stage, screen: Screen) -> None:
    """Make the VM, wait until one can log in, and say how.

    :raises StageError: it did not come about.
    """
    acts.clusters(stage, screen)
    screen.act(
        "A manifest becomes a machine that boots",
        "Cloned from a template that holds a Debian, configured by Proxmox's cloud-init, and run by QEMU here.",
    )
    key = _key(stage.logs)
    stage.kubectl_apply([manifest(key.with_suffix(".pub").read_text().strip())], namespace=NAMESPACE)
    screen.watch(
        lambda: look(stage), lambda seen: all(map(is_ready, seen)) and bool(seen), seconds=READY_SECONDS
    )
    door = stage.simulator.guest(vmid_of(stage, NAME))
    port = next(iter(door["ssh_ports"].values()))
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    command = f"ssh {options} -i {key} -p {port} {USER}@127.0.0.1"
    screen.say("The operator is done; the guest boots (a minute under emulation), and then lets its user in:")
    started = time.monotonic()
    await_that(
        stage, lambda: _answers(command), LOGIN_SECONDS, "a login by ssh", lambda: _tail(door["console_log"])
    )
    screen.done(f"Logged in {time.monotonic() - started:.0f} s later. Yours, in another terminal:")
    screen.raw(command)
    screen.raw(
        f"socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:{door['console']}   # serial console; Ctrl-] leaves it"
    )
    screen.raw(f"export KUBECONFIG={stage.cluster.kubeconfig}   # kubectl get pvm -A --watch")
    screen.say("Ctrl-C here stops all of it and forgets everything.")
    sys.stdout.flush()


def stay() -> NoReturn:
    """Until Ctrl-C."""
    while True:
        pause()


def _key(folder: Path) -> Path:
    path = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "demo", "-f", str(path)], check=True)
    return path


def _answers(command: str) -> bool:
    argv = [*command.split(), "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "true"]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 0


def _tail(console: str) -> str:
    return Path(console).read_text(errors="replace")[-1000:]
