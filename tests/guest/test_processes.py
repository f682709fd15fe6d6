"""QEMU processes and the files of disks, without waiting for a boot."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

import guest
from pvesim import PveSim
from pvesim.client import Api, ApiError, eventually

ONE = "/nodes/pve1/qemu/100"


def alive(pid: int) -> bool:
    """True while the process runs and is a QEMU; pids are used again."""
    try:
        return b"qemu-system" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def files(sim: PveSim) -> dict[str, dict[str, Any]]:
    """The files of disks, by the names of their volumes, as qemu-img sees them."""
    found = {}
    for path in sim.server.disk_files.folder.glob("vm-*"):
        argv = ["qemu-img", "info", "--output=json", "-U", str(path)]
        shown = subprocess.run(argv, capture_output=True, check=True).stdout
        found[path.name.rpartition(".")[0]] = json.loads(shown)
    return found


@pytest.fixture(scope="module", autouse=True)
def template(sim: PveSim) -> None:
    """Template 9000."""
    sim.add_template()


@pytest.fixture
def clone(sim: PveSim, api: Api) -> Iterator[None]:
    """VM 100, a linked clone, stopped."""
    assert api.ended(api.clone(9000, 100, full=0, name="one")) == "OK"
    yield
    sim.remove_vm(100)


@pytest.mark.usefixtures("clone")
def test_a_linked_clone_rests_on_its_base_and_a_full_one_does_not(sim: PveSim, api: Api) -> None:
    assert api.ended(api.clone(9000, 101, full=1, name="two")) == "OK"
    found = files(sim)
    assert "base-9000-disk-0" not in found["vm-101-disk-0"]["backing-filename"]
    assert "vm-9000-disk-0" in found["vm-100-disk-0"]["backing-filename"]
    assert "vm-9000-disk-0" not in found["vm-101-disk-0"]["backing-filename"]
    assert found["vm-101-disk-0"]["virtual-size"] == 8 * 1024**3
    sim.remove_vm(101)


@pytest.mark.usefixtures("clone")
def test_a_resize_grows_the_file_and_a_destroy_deletes_it(sim: PveSim, api: Api) -> None:
    assert api.ended(api.put(f"{ONE}/resize", disk="scsi0", size="+1G")) == "OK"
    assert files(sim)["vm-100-disk-0"]["virtual-size"] == 9 * 1024**3
    assert api.ended(api.clone(9000, 102, full=0, name="gone")) == "OK"
    assert "vm-102-disk-0" in files(sim)
    assert api.ended(api.delete("/nodes/pve1/qemu/102")) == "OK"
    assert not [name for name in files(sim) if "102" in name]


@pytest.mark.usefixtures("clone")
def test_a_vm_runs_as_long_as_its_process(sim: PveSim, api: Api) -> None:
    assert api.ended(api.post(f"{ONE}/status/start")) == "OK"
    pid = api.get(f"{ONE}/status/current")["pid"]
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: api.get(f"{ONE}/status/current")["status"] == "stopped")
    assert api.ended(api.post(f"{ONE}/status/start")) == "OK"
    pid = sim.door(100).pid
    assert api.ended(api.post(f"{ONE}/status/stop")) == "OK"
    assert not alive(pid)


@pytest.mark.usefixtures("clone")
def test_before_the_guest_has_booted_its_agent_is_not_running(api: Api) -> None:
    assert api.ended(api.post(f"{ONE}/status/start")) == "OK"
    with pytest.raises(ApiError) as refused:
        api.post(f"{ONE}/agent/ping")
    assert (refused.value.status, refused.value.reason) == (500, "QEMU guest agent is not running")


@pytest.mark.usefixtures("clone")
def test_the_disk_of_a_running_guest_is_not_copied(api: Api) -> None:
    assert api.ended(api.post(f"{ONE}/status/start")) == "OK"
    status = api.ended(api.clone(100, 103, full=1, name="copy"))
    assert status == "clone failed: pvesim does not copy the disk of a running guest ('scsi0' of VM 100)"


@pytest.mark.usefixtures("clone")
def test_a_medium_is_changed_while_the_guest_runs(sim: PveSim, api: Api) -> None:
    iso = sim.put_file("local", "pve1", "iso", "tools.iso", b"\0" * 32769 + b"CD001" + b"\0" * 4096)
    api.set(100, ide0="none,media=cdrom")
    assert api.ended(api.post(f"{ONE}/status/start")) == "OK"
    api.set(100, ide0=f"{iso},media=cdrom")
    assert api.pending(100) == {}
    api.set(100, ide0="none,media=cdrom")
    assert api.pending(100) == {}


def test_no_guest_outlives_a_simulator_that_is_killed(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "pvesim",
        "--guests",
        "qemu",
        "--nodes",
        "1",
        "--json",
        "--task-seconds",
        "0",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(guest.__file__).parents[1]), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            door = json.loads(process.stdout.readline())["control_url"]
            made = requests.post(f"{door}/do/add_vm", json={"vmid": 100, "running": True}, timeout=60)
            assert made.json() == {"result": "SimVm"}
            pid = requests.get(f"{door}/guests/100", timeout=60).json()["pid"]
            assert alive(pid)
        finally:
            process.kill()
    eventually(lambda: not alive(pid))
