"""Worker tasks: lists, filters, logs, exit statuses."""

import time

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError

ONE = "/nodes/pve1/qemu/100"


def test_a_task_runs_for_its_share_of_the_task_seconds(api: Api, sim: PveSim) -> None:
    sim.add_template()
    sim.server.task_seconds = 0.6
    started = time.monotonic()
    upid = api.clone(9000, 100, full=1)
    assert api.status(upid)["status"] == "running"
    assert "exitstatus" not in api.status(upid)
    assert api.ended(upid) == "OK"
    assert time.monotonic() - started >= 0.6


def test_with_zero_task_seconds_a_task_has_ended_when_its_upid_is_answered(sim: PveSim, api: Api) -> None:
    sim.add_template()
    upid = api.clone(9000, 100, full=1)
    assert api.status(upid)["status"] == "stopped"


def test_the_status_of_a_token_task_splits_user_and_token(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    upid = api.post(f"{ONE}/status/start")
    status = api.status(upid)
    assert (status["user"], status["tokenid"]) == ("operator@pve", "operator")
    assert (status["node"], status["type"], status["id"]) == ("pve1", "qmstart", "100")
    assert upid.endswith(":operator@pve!operator:")


def test_source_active_lists_running_tasks_only_and_archive_finished_ones(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.add_vm(101)
    done = api.post("/nodes/pve1/qemu/101/status/start")
    with sim.hold("start:qemu") as hold:
        running = api.post(f"{ONE}/status/start")
        assert hold.reached.wait(5)
        tasks = "/nodes/pve1/tasks"
        assert [(t["upid"], t["status"]) for t in api.get(tasks, source="active")] == [(running, "RUNNING")]
        assert [t["upid"] for t in api.get(tasks)] == [done]
        assert [t["upid"] for t in api.get(tasks, source="all")] == [running, done]
        assert [t["upid"] for t in api.get(tasks, source="all", vmid=101)] == [done]
        assert api.get(tasks, source="all", typefilter="qmclone") == []
        assert len(api.get(tasks, source="all", limit=1)) == 1
        assert api.get(tasks, source="all", since=int(time.time()) + 60) == []


def test_cluster_tasks_holds_the_running_and_25_finished_of_each_node(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.add_vm(101, node="pve2")
    for _ in range(30):
        api.post(f"{ONE}/config", onboot=1)
    with sim.hold("start:qemu") as hold:
        running = api.post("/nodes/pve2/qemu/101/status/start")
        assert hold.reached.wait(5)
        tasks = api.get("/cluster/tasks")
        assert len(tasks) == 26
        [item] = [task for task in tasks if task["upid"] == running]
        assert "endtime" not in item
        assert {task["status"] for task in tasks if task["upid"] != running} == {"OK"}


def test_a_token_without_sys_audit_sees_no_task_in_the_cluster_list_but_its_own_on_the_node(
    sim: PveSim, api: Api
) -> None:
    sim.add_vm(100)
    sim.start(100)
    upid = api.post(f"{ONE}/status/stop")
    sim.revoke(sim.token_id, "/", ["Sys.Audit"])
    assert api.get("/cluster/tasks") == []
    assert [task["upid"] for task in api.get("/nodes/pve1/tasks")] == [upid]


def test_a_task_of_somebody_else_needs_sys_audit(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.start(100)
    [task] = sim.tasks("qmstart")
    sim.revoke(sim.token_id, "/", ["Sys.Audit"])
    with pytest.raises(ApiError, match=r"403 Permission check failed \(/nodes/pve1, Sys.Audit\)"):
        api.status(task.upid)


def test_an_unknown_upid_is_a_parameter_error(api: Api) -> None:
    upid = "UPID:pve1:00000001:00000001:00000001:qmstart:100:root@pam:"
    with pytest.raises(ApiError) as refused:
        api.get(f"/nodes/pve1/tasks/{upid}/status")
    assert refused.value.errors == {"upid": "no such task"}


def test_the_log_is_paged(sim: PveSim, api: Api) -> None:
    sim.add_template()
    upid = api.clone(9000, 100, full=1)
    lines = api.get(f"/nodes/pve1/tasks/{upid}/log", start=1, limit=2)
    assert [line["n"] for line in lines] == [2, 3]


def test_upids_are_unique_and_in_order(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    upids = [api.post(f"{ONE}/config", onboot=number % 2) for number in range(5)]
    pids = [int(upid.split(":")[2], 16) for upid in upids]
    assert pids == sorted(set(pids))
