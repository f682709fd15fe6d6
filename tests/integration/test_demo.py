"""`make demo` as a newcomer meets it: a program that runs to its end, says so, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from harness.waiting import until

ROOT = Path(__file__).resolve().parents[2]
PROMISED_SECONDS = 90

pytestmark = pytest.mark.timeout(200)


@contextmanager
def demo(tmp_path: Path, *options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The demo as a process; its temporary files go to `tmp_path`. Ended by its id where a test leaves it running."""
    process = subprocess.Popen(
        [sys.executable, "-m", "demo", *options],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "hack"), "TMPDIR": str(tmp_path)} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


def await_gone(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that still run after `seconds`."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return list(alive)


def command_line(process: psutil.Process) -> str:
    """Empty for a process that has ended meanwhile, whether or not its parent has noticed."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def await_children(process: subprocess.Popen[str], *names: str) -> list[psutil.Process]:
    """All descendants, once there is one of each of these names."""

    def children() -> list[psutil.Process] | None:
        found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
        lines = [command_line(child) for child in found]
        if all(any(name in line for line in lines) for name in names):
            return found
        assert process.poll() is None, f"the demo ended: {process.communicate()[0]}"
        return None

    return until(children, f"there is a child process for each of {names}", seconds=60)


def test_the_demo_shows_all_of_its_acts_in_time_and_leaves_nothing_behind(tmp_path: Path) -> None:
    started = time.monotonic()
    with demo(tmp_path) as process:
        children = await_children(process, "pvesim", "proxmox-operator")
        shown, _ = process.communicate(timeout=PROMISED_SECONDS + 60)
        seconds = time.monotonic() - started

    assert process.returncode == 0, shown
    assert seconds < PROMISED_SECONDS, shown
    for promised in (
        "All Ready",
        "(`from-template`) runs on",
        "debian-13 True Ready 3/3",
        "is running again",
        "PowerDriftCorrected",
        "RestartRequired: True",
        "restarted once, when asked",
        "and ran all the way",
        "only its description was changed",
        "secureBoot needs UEFI",
        "AccessDenied",
        "and its disks are gone",
        "calls to Proxmox",
    ):
        assert promised in " ".join(shown.split()), shown
    assert "Traceback" not in shown
    assert await_gone(children, 10) == []
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_is_interrupted_stops_everything_it_started(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        children = await_children(process, "pvesim", "proxmox-operator")
        process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=60)

    assert process.returncode == 130, shown
    assert "Traceback" not in shown
    assert await_gone(children, 10) == []
    assert list(tmp_path.iterdir()) == []


def test_a_demo_that_is_killed_takes_everything_it_started_with_it(tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        children = await_children(process, "pvesim", "proxmox-operator")
        process.kill()
        process.wait(timeout=10)

        assert await_gone(children, 30) == []


def test_a_demo_that_fails_says_what_was_expected_and_where_the_logs_are(tmp_path: Path) -> None:
    with demo(tmp_path, PROXMOX_OPERATOR_WORKERS="none") as process:
        shown, _ = process.communicate(timeout=60)

    assert process.returncode == 1, shown
    assert "the operator ended with 2" in shown
    assert "$PROXMOX_OPERATOR_WORKERS" in shown
    assert "Traceback" not in shown
    [logs] = [line.partition("logs: ")[2] for line in shown.splitlines() if "logs: " in line]
    assert (Path(logs) / "operator.log").exists()
    assert (Path(logs) / "controlplane").is_dir()
