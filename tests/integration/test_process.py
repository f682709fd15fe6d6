"""The real process: `proxmox-operator run` with its own watch and a real Lease, killed, doubled and sent away.

Only one thing is not as in production: a write is taken to last two seconds at most instead of 45, so that a Lease of a
few seconds outlasts it. The crash points of an operator in this process are in `tests/crash`.
"""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane import Cluster
from harness.operator import NAMESPACE
from harness.world import World
from proxmox_operator.kube.resources import LEASES

CALL_TIMEOUT = 2.0
LAUNCH = f"""
import sys
import proxmox_operator.engine.settings as settings
import proxmox_operator.proxmox.client as client
from proxmox_operator.cli import main

client.CALL_TIMEOUT = settings.LONGEST_WRITE = {CALL_TIMEOUT}
sys.exit(main(sys.argv[1:]))
"""
DATA_DISK: dict[str, Any] = {"disks": [{"name": "data", "size": "2Gi"}]}


class Process:
    """One `proxmox-operator run`; its log is a file."""

    def __init__(self, world: World, log: Path, *, lease: float) -> None:
        self._log = log
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self._port = listener.getsockname()[1]
        options = {
            "kubeconfig": world.control_plane.kubeconfig,
            "namespace": NAMESPACE,
            "watch-namespaces": world.namespace,
            "cluster-id": "test",
            "lease-name": world.cluster,
            "lease-duration": lease,
            "lease-renew": 1.5,
            "lease-poll": 0.2,
            "lease-timeout": 1.2,
            "takeover-delay": CALL_TIMEOUT,
            "health-address": "127.0.0.1",
            "health-port": self._port,
        }
        flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        with log.open("w") as stderr:
            self.popen = subprocess.Popen([sys.executable, "-c", LAUNCH, "run", *flags], stderr=stderr)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def records(self) -> list[dict[str, Any]]:
        """The log, one JSON object per line."""
        return [json.loads(line) for line in self.log.splitlines()]

    def writes(self) -> list[dict[str, Any]]:
        """The audit records: what this process has changed in Proxmox."""
        return [record for record in self.records() if record.get("logger", "").endswith("audit")]

    def is_ready(self) -> bool:
        """What a kubelet would ask: it leads, or stands by."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait(10)


Launch = Callable[[], Process]


@pytest.fixture
def world(control_plane: Cluster) -> Iterator[World]:
    """A world without an operator: the tests start processes."""
    with World(control_plane, sim={"task_seconds": 0.2}) as world:
        world.operator.stop()
        world.operator = None
        world.sim.add_vm(500, description="somebody else's", running=True)
        yield world


@pytest.fixture
def launch(world: World, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Launch]:
    """Starts processes, which end with the test; the Lease lasts as long as the test's parameter says."""
    started: list[Process] = []

    def launch() -> Process:
        process = Process(world, tmp_path / f"operator-{len(started)}.log", lease=request.param)
        started.append(process)
        return process

    yield launch
    for process in started:
        process.kill()
    world.kube.delete(LEASES, world.cluster, NAMESPACE)


def holder(world: World) -> str:
    lease = world.kube.get(LEASES, world.cluster, NAMESPACE) or {}
    return lease.get("spec", {}).get("holderIdentity") or ""


def clones(world: World) -> int:
    return len(world.sim.recorder.matching("POST", r"/clone$"))


@pytest.mark.parametrize("launch", [5.0], indirect=True)
def test_a_process_killed_in_the_middle_of_a_creation_is_followed_by_one_that_finishes_it(
    world: World, launch: Launch
):
    before = world.sim.world()
    first = launch()
    with world.sim.hold("clone:copying") as hold:
        name = world.make("killed", **DATA_DISK)
        assert hold.reached.wait(30), f"no clone was begun: {first.log}"
        first.popen.send_signal(signal.SIGKILL)
        assert first.popen.wait(10) == -signal.SIGKILL
        launch()
    vmid = world.wait_ready(name, timeout=40)
    assert world.changes_besides(before, vmid) == []
    assert len(world.sim.world().vmids) == len(before.vmids) + 1
    assert (clones(world), world.leaks()) == (1, [])


@pytest.mark.parametrize("launch", [30.0], indirect=True)
def test_of_two_processes_started_at_once_only_one_works(world: World, launch: Launch):
    before = world.sim.world()
    both = [launch(), launch()]
    name = world.make("twice", **DATA_DISK)
    vmid = world.wait_ready(name, timeout=30)
    assert world.changes_besides(before, vmid) == []
    assert (clones(world), world.leaks()) == (1, [])
    world.wait_until(
        lambda: all(process.is_ready() for process in both), "one leads, the other stands by", timeout=20
    )
    wrote = [len(process.writes()) for process in both]
    assert min(wrote) == 0
    assert max(wrote) == len(world.writes())


@pytest.mark.parametrize("launch", [30.0], indirect=True)
def test_a_process_told_to_end_hands_over_at_once_and_its_log_is_json_without_the_token(
    world: World, launch: Launch
):
    first = launch()
    before = world.make("before")
    world.wait_ready(before, timeout=30)
    leader, second = holder(world), launch()
    world.wait_until(second.is_ready, "the other one stands by", timeout=20)
    started = time.monotonic()
    first.popen.send_signal(signal.SIGTERM)
    assert first.popen.wait(15) == 0
    world.wait_until(lambda: holder(world) not in ("", leader), "the other one leads", timeout=10)
    after = world.make("after")
    world.wait_ready(after, timeout=15)
    assert time.monotonic() - started < 25, "it waited for the Lease to run out"
    assert clones(world) == 2
    for process in (first, second):
        assert all({"level", "message"} <= record.keys() for record in process.records())
        assert world.sim.token_secret not in process.log
        assert len(process.writes()) > 0
