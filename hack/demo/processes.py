"""The simulator and the operator as processes of their own: started, asked, and always stopped.

They get no Ctrl-C from the terminal (a session of their own): whoever started them ends them, by process id, and
should that one be killed, `tether` ends them.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TETHER = Path(__file__).resolve().parent / "tether.py"
STOP_SECONDS = 25.0


class StageError(Exception):
    """Something did not come about. The text says what was expected and what was found instead."""


class Child:
    """One process, and the file that holds what it wrote."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str],
        pipe: bool = False,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(TETHER), str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else sink,
                stderr=sink,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def first_line(self, seconds: float) -> str:
        """What it says first; only for one made with ``pipe``. Raises StageError."""
        stream = self._process.stdout
        if stream is None:
            raise StageError(f"{self.name} was started without a pipe")
        if not select.select([stream], [], [], seconds)[0]:
            raise StageError(f"{self.name} said nothing in {seconds:.0f} s")
        line = stream.readline().decode()
        if not line:
            raise StageError(f"{self.name} ended at once: {self.last_words()}")
        return line

    def check(self) -> None:
        """Raises StageError where it has ended."""
        if self._process.poll() is not None:
            raise StageError(f"{self.name} ended with {self._process.returncode}: {self.last_words()}")

    def stop(self) -> None:
        """End it in order, by force when it takes too long."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class Operator(Child):
    """`proxmox-operator run`, with its real watch and its real Lease."""

    def __init__(
        self, kubeconfig: Path, log: Path, *, port: int, namespace: str, command: Sequence[str] = ()
    ) -> None:
        executable = Path(sys.executable).parent / "proxmox-operator"
        self._url = f"http://127.0.0.1:{port}"
        super().__init__(
            "the operator",
            [
                *(command or [str(executable)]),
                "run",
                f"--kubeconfig={kubeconfig}",
                f"--namespace={namespace}",
                "--health-address=127.0.0.1",
                f"--health-port={port}",
            ],
            log,
            environment={name: value for name, value in os.environ.items() if name != "KUBECONFIG"},
        )

    def await_leading(self, seconds: float) -> None:
        """Return once it holds the Lease and has read everything. Raises StageError."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            if self.metric("leader") == 1 and self._get("/readyz") is not None:
                return
            time.sleep(0.05)
        raise StageError(f"the operator did not take the Lease within {seconds:.0f} s")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all series that have these labels; 0 where there is none."""
        return sum(value for found, value in self.series(name) if labels.items() <= found.items())

    def series(self, name: str) -> list[tuple[dict[str, str], float]]:
        """Every series of a metric, named without its prefix, with its labels."""
        text = self._get("/metrics") or ""
        found: list[tuple[dict[str, str], float]] = []
        for line in text.splitlines():
            key, _, value = line.rpartition(" ")
            metric, _, rest = key.partition("{")
            if metric == f"proxmox_operator_{name}":
                pairs = (pair.partition("=") for pair in rest.rstrip("}").split(",") if pair)
                found.append(({label: quoted.strip('"') for label, _, quoted in pairs}, float(value)))
        return found

    def _get(self, path: str) -> str | None:
        try:
            with urllib.request.urlopen(self._url + path, timeout=5) as answer:
                return str(answer.read().decode())
        except (OSError, urllib.error.URLError):
            return None


class Simulator(Child):
    """`python -m pvesim`, and its control door: what people and accidents do behind the operator's back."""

    def __init__(self, log: Path, *options: str) -> None:
        hack = str(Path(__file__).resolve().parents[1])
        super().__init__(
            "the Proxmox simulator",
            [sys.executable, "-m", "pvesim", "--json", "--die-with-parent", *options],
            log,
            environment=os.environ | {"PYTHONPATH": hack},
            pipe=True,
        )
        try:
            facts = json.loads(self.first_line(30))
        except BaseException:
            self.stop()
            raise
        self.urls: list[str] = facts["urls"]
        self.token_id: str = facts["token_id"]
        self.token_secret: str = facts["token_secret"]
        self.control_url: str = facts["control_url"]
        self.ca_file = Path(facts["ca_file"])
        self._seen = 0

    def do(self, action: str, **arguments: Any) -> None:
        """An action of the control door, such as ``stop`` with ``vmid``. Raises StageError."""
        request = urllib.request.Request(
            f"{self.control_url}/do/{action}",
            data=json.dumps(arguments).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            urllib.request.urlopen(request, timeout=60).close()
        except urllib.error.HTTPError as error:
            raise StageError(f"the simulator refused {action}: {error.read().decode()}") from error

    def world(self) -> dict[str, Any]:
        """VMs, volumes and running tasks."""
        answer: dict[str, Any] = self._get("/world")
        return answer

    def vm(self, vmid: int) -> dict[str, Any] | None:
        """One VM of the world, or None."""
        return next((vm for vm in self.world()["vms"] if vm["vmid"] == vmid), None)

    def guest(self, vmid: int) -> dict[str, Any]:
        """The ways into a running real guest: ssh_ports, console, console_log, pid."""
        answer: dict[str, Any] = self._get(f"/guests/{vmid}")
        return answer

    def calls(self) -> list[dict[str, Any]]:
        """The API calls that were received since this was last asked."""
        calls: list[dict[str, Any]] = self._get(f"/requests?since={self._seen}")
        if calls:
            self._seen = calls[-1]["seq"]
        return calls

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.control_url + path, timeout=60) as answer:
            return json.load(answer)
