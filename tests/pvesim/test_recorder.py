"""The harness hooks: recorded calls, lost and late ones, comparable worlds, the control door, the command."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

import pvesim
from pvesim import Answer, Call, DropAfter, DropBefore, Late, PveSim
from pvesim.client import Api, ApiError, eventually
from pvesim.control import ControlDoor

SOURCES = Path(pvesim.__file__).resolve().parent.parent


def test_every_call_is_recorded_in_order_without_secrets(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    api.get("/version")
    api.set(100, cipassword="swordfish", cores=2)
    with pytest.raises(ApiError):
        api.config(101)
    version, change, missing = sim.recorder
    assert (version.method, version.path, version.status, version.mutating) == ("GET", "/version", 200, False)
    assert (change.method, change.status, change.mutating) == ("PUT", 200, True)
    assert change.params == {"cipassword": "***", "cores": "2"}
    assert change.user == sim.token_id
    assert (missing.status, missing.error) == (
        500, "Configuration file 'nodes/pve1/qemu-server/101.conf' does not exist",
    )  # fmt: skip
    assert [call.seq for call in sim.recorder] == [1, 2, 3]
    assert [call.path for call in sim.recorder.mutating] == ["/nodes/pve1/qemu/100/config"]


def test_a_call_dropped_before_is_never_executed(sim: PveSim, api: Api) -> None:
    sim.add_template()
    before = sim.world()
    sim.intercept = lambda call: DropBefore() if call.mutating else None
    with pytest.raises(requests.ConnectionError):
        api.clone(9000, 100)
    assert sim.world() == before
    assert sim.recorder[-1].fate == "request lost"
    api.get("/version")


def test_a_call_dropped_after_is_executed_and_its_answer_lost(sim: PveSim, api: Api) -> None:
    sim.add_template()
    sim.intercept = lambda call: DropAfter() if call.mutating else None
    with pytest.raises(requests.ConnectionError):
        api.clone(9000, 100)
    assert 100 in sim.world().vmids
    assert (sim.recorder[-1].fate, sim.recorder[-1].status) == ("answer lost", 200)
    assert sim.recorder[-1].upid == sim.tasks("qmclone")[0].upid


def test_a_late_call_is_executed_when_it_is_released_and_only_once(sim: PveSim, api: Api) -> None:
    sim.add_template()
    late = Late()
    sim.intercept = lambda call: late if call.mutating else None
    with pytest.raises(requests.ConnectionError):
        api.clone(9000, 100)
    sim.intercept = None
    assert sim.world().vmids == [9000]
    late.release()
    assert sim.world().vmids == [100, 9000]
    sim.remove_vm(100)
    late.release()
    assert sim.world().vmids == [9000]


def test_an_interceptor_can_answer_itself(sim: PveSim, api: Api) -> None:
    def busy(call: Call) -> Answer | None:
        return Answer(599, "Too many redirections") if call.path == "/version" else None

    sim.intercept = busy
    with pytest.raises(ApiError, match="599 Too many redirections"):
        api.get("/version")


def test_two_worlds_are_equal_until_something_changes(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    before = sim.world()
    api.config(100)
    assert sim.world() == before
    api.set(100, cores=2, scsi1="local-lvm:1")
    assert before.diff(sim.world()) == [
        "VM 100 cores: 1 -> 2",
        "VM 100 scsi1: None -> local-lvm:vm-100-disk-1,size=1G",
        "volume local-lvm:vm-100-disk-1 appeared",
    ]


def test_leaks_are_seen(sim: PveSim) -> None:
    sim.add_vm(100, scsi1="local-lvm:1")
    del sim.vm(100).config["scsi1"]
    assert [volume.name for volume in sim.world().unreferenced] == ["vm-100-disk-1"]
    assert sim.world().orphans == []
    sim.call(lambda: sim.server.forget(sim.vm(100)))
    assert len(sim.world().orphans) == 2


def test_fail_answers_a_number_of_calls_with_an_error(sim: PveSim, api: Api) -> None:
    sim.fail("GET", "/version", 595, "No route to host", times=1)
    with pytest.raises(ApiError, match="595"):
        api.get("/version")
    api.get("/version")


def test_calls_from_many_threads_are_all_served(sim: PveSim, tmp_path: Path) -> None:
    sim.add_template()
    results: list[str] = []

    def work(number: int) -> None:
        directory = tmp_path / str(number)
        directory.mkdir()
        with Api(sim, directory, node=f"pve{number % 3 + 1}") as api:
            results.append(api.ended(api.clone(9000, 100 + number)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == ["OK"] * 8
    assert len(sim.world().guests) == 8


def test_the_control_door_drives_scenarios_over_http(sim: PveSim) -> None:
    door = ControlDoor(sim)
    door.open()
    with requests.Session() as http:
        http.trust_env = False
        assert http.post(f"{door.url}/do/add_vm", json={"vmid": 100, "name": "x"}, timeout=5).ok
        world = http.get(f"{door.url}/world", timeout=5).json()
        assert [vm["vmid"] for vm in world["vms"]] == [100]
        assert http.post(f"{door.url}/do/start", json={"vmid": 100}, timeout=5).ok
        assert sim.vm(100).status == "running"
        assert http.post(f"{door.url}/endpoints/pve2/down", timeout=5).ok
        assert not sim.server.listeners["pve2"].listening
        unknown = http.post(f"{door.url}/do/stop_server", timeout=5)
        assert unknown.status_code == 404
        missing = http.post(f"{door.url}/do/start", json={"vmid": 999}, timeout=5)
        assert (missing.status_code, "no VM 999" in missing.json()["error"]) == (400, True)
        assert http.get(f"{door.url}/requests", params={"since": 0}, timeout=5).json() == []
    door.close()


def launch(*arguments: str) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    command = [sys.executable, "-m", "pvesim", "--json", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_the_command_prints_its_addresses_as_one_json_line_and_ends_on_sigterm(tmp_path: Path) -> None:
    process = launch("--nodes", "2", "--vms", "3", "--task-seconds", "0.01", "--storage", "ceph:rbd:100")
    assert process.stdout is not None
    facts = json.loads(process.stdout.readline())
    assert len(facts["urls"]) == 2
    header = {"Authorization": f"PVEAPIToken={facts['token_id']}={facts['token_secret']}"}
    with requests.Session() as http:
        http.trust_env = False
        answer = http.get(
            f"{facts['urls'][1]}/api2/json/cluster/resources",
            headers=header,
            verify=facts["ca_file"],
            timeout=5,
        )
    assert len([item for item in answer.json()["data"] if item["type"] == "qemu"]) == 4
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    process.stdout.close()


def test_the_command_dies_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-m', 'pvesim', '--json', '--die-with-parent']\n"
        "p = subprocess.Popen(command, stdout=subprocess.PIPE)\n"
        "p.stdout.readline()\n"
        "print(p.pid, flush=True)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    parent = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    pid = int(parent.stdout)
    eventually(lambda: not Path(f"/proc/{pid}").exists() or _is_zombie(pid))


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_simulator_called_from_its_own_interceptor_says_so(sim: PveSim, api: Api) -> None:
    seen: list[str] = []

    def nosy(_call: Call) -> None:
        try:
            sim.world()
        except RuntimeError as error:
            seen.append(str(error))

    sim.intercept = nosy
    api.get("/version")
    assert "interceptor" in seen[0]


def test_the_interceptor_also_sees_the_calls_to_a_cut_off_node(sim: PveSim, api: Api) -> None:
    sim.endpoints["pve1"].cut_off()
    sim.intercept = lambda call: Answer(599, "Too many redirections")
    with pytest.raises(ApiError, match="599"):
        api.get("/version")
