"""A look into a guest: commands through the API's agent calls, and ssh logins from the host."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.waiting import until
from pvesim.client import Api, ApiError

# A guest under emulation on a machine that has other things to do; a reboot within one QEMU takes thrice a boot.
BOOT_SECONDS = 1500.0
COMMAND_SECONDS = 600.0
PATIENCE = 300.0
"""Seconds for what takes the operator or a running guest a moment, on a machine that has other things to do."""


@dataclass(frozen=True)
class Done:
    """A command that has ended in the guest."""

    code: int
    out: str
    err: str


class Inside:
    """One VM, seen from inside."""

    def __init__(self, api: Api, vmid: int, node: str = "pve1") -> None:
        self.api = api
        self.vmid = vmid
        self.path = f"/nodes/{node}/qemu/{vmid}"

    def agent(self, method: str, command: str, /, **values: Any) -> Any:
        """An agent call."""
        call = self.api.get if method == "GET" else self.api.post
        return call(f"{self.path}/agent/{command}", **values)

    def answers(self) -> bool:
        """True if the agent answers."""
        try:
            self.agent("POST", "ping")
        except ApiError:
            return False
        return True

    def wait_booted(self) -> None:
        """Wait for the agent."""
        until(self.answers, "the agent answers", seconds=BOOT_SECONDS)

    def wait_first_boot(self) -> None:
        """Wait for the agent, and for cloud-init's last word."""
        self.wait_booted()
        self.read("until [ -e /run/cloud-init/result.json ]; do sleep 1; done")

    def start(self, *command: str, stdin: str = "") -> int:
        """Start a command; its process id in the guest."""
        given = {"input-data": stdin} if stdin else {}
        return int(self.agent("POST", "exec", command=list(command), **given)["pid"])

    def status(self, pid: int) -> dict[str, Any]:
        """One exec-status call."""
        found: dict[str, Any] = self.agent("GET", "exec-status", pid=pid)
        return found

    def run(self, script: str, stdin: str = "") -> Done:
        """Run a shell script to its end."""
        pid = self.start("/bin/sh", "-c", script, stdin=stdin)

        def result() -> dict[str, Any] | None:
            status = self.status(pid)
            return status if status["exited"] else None

        status = until(result, f"{script!r} ends", seconds=COMMAND_SECONDS)
        return Done(int(status["exitcode"]), status.get("out-data", ""), status.get("err-data", ""))

    def read(self, script: str) -> str:
        """What a script prints, which succeeds."""
        done = self.run(script)
        assert done.code == 0, done
        return done.out.strip()

    def has(self, path: str) -> bool:
        """True if a file is there."""
        return self.run(f"test -e {path}").code == 0


def ssh(user: str, port: int, key: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Log in from the host with a key and run a command."""
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    options += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=60", "-o", "IdentitiesOnly=yes", "-F", "none"]
    argv = ["ssh", *options, "-i", str(key), "-p", str(port), f"{user}@127.0.0.1", command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
