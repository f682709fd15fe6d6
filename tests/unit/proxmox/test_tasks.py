"""Tasks are watched with few calls until they end, and found again when the answer that named them was
lost.
"""

import asyncio
import time
from typing import Any

import pytest

from proxmox_operator import errors
from proxmox_operator.proxmox.client import Limits
from proxmox_operator.proxmox.errors import NoSuchTask, OutcomeUnknown
from proxmox_operator.proxmox.tasks import UPID, Outcome, TaskTracker, mask
from proxmox_operator.proxmox.transport import Refused
from pvesim import DropAfter, PveSim

from .fakes import MockTransport, client_over, until


def upid_of(number, *, node="pve1", kind="qmstart", about="100"):
    return f"UPID:{node}:{number:08X}:00001B5F:6B04B2F5:{kind}:{about}:operator@pve!operator:"


class Node:
    """Tasks of one node, as the API tells them."""

    def __init__(self, *upids):
        self.running = set(upids)
        self.ended = {}
        self.logs = {}
        answers = {"GET /nodes/pve1/tasks": self._list}
        self.transport = MockTransport(answers)
        self.transport.answers |= {
            f"GET /nodes/pve1/tasks/{upid}/{what}": getattr(self, f"_{what}")
            for upid in upids
            for what in ("status", "log")
        }

    def end(self, upid, exitstatus="OK", log=()):
        self.running.discard(upid)
        self.ended[upid] = exitstatus
        self.logs[upid] = list(log)

    def _list(self, request):
        assert request.params["source"] == "active"
        return [{"upid": upid, "status": "RUNNING"} for upid in self.running]

    def _status(self, request):
        upid = request.path[3]
        if upid in self.running:
            return {"status": "running"}
        status = self.ended[upid]
        if status is None:
            raise Refused(400, "Parameter verification failed.", {"upid": "no such task"})
        return {"status": "stopped", "exitstatus": status} if status else {"status": "stopped"}

    def _log(self, request):
        lines = self.logs[request.path[3]]
        start = request.params["start"]
        return [
            {"n": n, "t": text}
            for n, text in enumerate(lines[start : start + request.params["limit"]], start + 1)
        ]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("proxmox_operator.proxmox.tasks.FASTEST", 0.005)
    monkeypatch.setattr("proxmox_operator.proxmox.tasks.SLOWEST", 0.02)


async def watch(node, upid, end):
    """Watch a task that ends as told; its result."""
    with client_over(node.transport) as client:
        tracker = TaskTracker(client)
        done = asyncio.get_running_loop().create_future()
        tracker.watch(upid, done.set_result)
        await asyncio.sleep(0.02)
        assert not done.done()
        end()
        result = await asyncio.wait_for(done, 5)
        await tracker.close()
        return result


@pytest.mark.parametrize(
    ("exitstatus", "outcome", "error"),
    [
        ("OK", Outcome.OK, type(None)),
        ("WARNINGS: 2", Outcome.WARNINGS, type(None)),
        ("VM 100 already running", Outcome.FAILED, errors.Transient),
        ("clone failed: No space left on device", Outcome.FAILED, errors.NeedsHuman),
        ("unexpected status", Outcome.UNKNOWN, OutcomeUnknown),
        ("", Outcome.UNKNOWN, OutcomeUnknown),
        (None, Outcome.UNKNOWN, NoSuchTask),
    ],
)
async def test_how_a_task_ended_is_told_once_it_has(quick, exitstatus, outcome, error):
    upid = upid_of(1)
    node = Node(upid)
    result = await watch(node, upid, lambda: node.end(upid, exitstatus, ["one", "two"]))
    assert (result.upid, result.outcome) == (upid, outcome)
    assert isinstance(result.error, error)


async def test_the_end_of_a_long_log_comes_with_a_failure_cut_and_without_secrets(quick):
    upid = upid_of(1)
    node = Node(upid)
    log = [f"transferred {n} MiB" for n in range(1200)] + [
        "password: hunter2",
        "x" * 1000,
        "TASK ERROR: clone failed",
    ]
    result = await watch(node, upid, lambda: node.end(upid, "clone failed", log))
    assert len(result.log_tail) == 20
    assert result.log_tail[-1] == "TASK ERROR: clone failed"
    assert result.log_tail[-3] == "password: ***"
    assert len(result.log_tail[-2]) == 300


@pytest.mark.parametrize(
    "text", ["cipassword=hunter2", "Password: hunter2", "token 'hunter2'", "secret=hunter2,x"]
)
def test_what_is_named_like_a_secret_is_masked(text):
    assert "hunter2" not in mask(text)


async def test_many_tasks_on_a_node_cost_one_list_per_look(quick):
    upids = [upid_of(number) for number in range(50)]
    node = Node(*upids)
    told: list[Any] = []
    with client_over(node.transport) as client:
        tracker = TaskTracker(client)
        for upid in upids:
            tracker.watch(upid, told.append)
        await until(lambda: node.transport.asked("GET /nodes/pve1/tasks") >= 3)
        statuses = sum(call.path[-1] == "status" and call.path[0] == "nodes" for call in node.transport.calls)
        assert statuses == 0
        node.end(upids[7])
        await until(lambda: told)
        assert [result.upid for result in told] == [upids[7]]
        for upid in upids:
            node.end(upid)
        await until(lambda: len(told) == 50)
        assert (
            sum(call.path[-1] == "status" and call.path[0] == "nodes" for call in node.transport.calls) == 50
        )
        await tracker.close()


async def test_new_tasks_arriving_without_pause_do_not_keep_old_ones_from_being_looked_at(quick):
    upids = [upid_of(number) for number in range(400)]
    node = Node(*upids)
    told: list[Any] = []
    with client_over(node.transport) as client:
        tracker = TaskTracker(client)
        tracker.watch(upids[0], told.append)
        node.end(upids[0])
        for upid in upids[1:]:
            tracker.watch(upid, told.append)
            await asyncio.sleep(0.001)
            if told:
                break
        assert told
        await tracker.close()


async def test_watching_a_task_again_does_not_make_the_node_be_asked_more_often(monkeypatch):
    monkeypatch.setattr("proxmox_operator.proxmox.tasks.FASTEST", 0.02)
    monkeypatch.setattr("proxmox_operator.proxmox.tasks.SLOWEST", 10.0)
    upid = upid_of(1)
    node = Node(upid)
    with client_over(node.transport) as client:
        tracker = TaskTracker(client)
        for _ in range(60):
            tracker.watch(upid, lambda result: None)
            await asyncio.sleep(0.005)
        await tracker.close()
    assert node.transport.asked(f"GET /nodes/pve1/tasks/{upid}/status") <= 5


async def test_an_unreachable_node_delays_the_news_and_loses_none(quick):
    upid = upid_of(1)
    node = Node(upid)
    told: list[Any] = []
    with client_over(node.transport, limits=Limits()) as client:
        tracker = TaskTracker(client)
        tracker.watch(upid, told.append)
        status = node.transport.answers.pop(f"GET /nodes/pve1/tasks/{upid}/status")
        node.transport.answers[f"GET /nodes/pve1/tasks/{upid}/status"] = Refused(595, "No route to host")
        await until(lambda: node.transport.asked(f"GET /nodes/pve1/tasks/{upid}/status") >= 2)
        assert told == []
        node.end(upid)
        node.transport.answers[f"GET /nodes/pve1/tasks/{upid}/status"] = status
        await until(lambda: told)
        await tracker.close()


async def test_a_node_that_left_the_cluster_leaves_its_tasks_unknown(quick):
    upid = upid_of(1)
    node = Node(upid)
    gone = Refused(500, "no such cluster node 'pve1'")
    result = await watch(
        node, upid, lambda: node.transport.answers.update({f"GET /nodes/pve1/tasks/{upid}/status": gone})
    )
    assert result.outcome is Outcome.UNKNOWN


async def test_a_task_that_we_may_not_see_has_an_unknown_outcome_and_is_not_watched_for_ever(quick):
    upid = upid_of(1)
    node = Node(upid)
    denied = Refused(403, "Permission check failed (/nodes/pve1, Sys.Audit)")
    result = await watch(
        node, upid, lambda: node.transport.answers.update({f"GET /nodes/pve1/tasks/{upid}/status": denied})
    )
    assert result.outcome is Outcome.UNKNOWN
    assert isinstance(result.error, OutcomeUnknown)
    assert "Sys.Audit on /nodes/pve1" in result.error.message


async def test_a_lost_clone_is_found_among_many_and_no_log_is_read_twice():
    upids = [upid_of(number, kind="qmclone", about="9000") for number in range(60)]
    lists = []

    def tell(request):
        lists.append(request.params)
        running = [{"upid": upids[59]}]
        return running + [{"upid": upid, "status": "OK", "endtime": 1} for upid in upids[:59]]

    transport = MockTransport({"GET /nodes/pve1/tasks": tell})
    for number, upid in enumerate(upids):
        text = f"creating a clone of VM 9000 with ID {100 + number}" if number < 59 else "waiting"
        transport.answers[f"GET /nodes/pve1/tasks/{upid}/log"] = [{"n": 1, "t": text}]
    with client_over(transport) as client:
        tracker = TaskTracker(client)
        for _ in range(3):
            found = await tracker.find_clone(9000, 158, node="pve1", since=0)
            assert found.upid.text == upids[58]
    reads = [transport.asked(f"GET /nodes/pve1/tasks/{upid}/log") for upid in upids]
    assert max(reads[:59]) == 1
    assert reads[59] == 3, "one that runs and has not said it yet is asked again"
    assert {params["limit"] for params in lists} == {500}


async def test_a_callback_that_fails_does_not_hurt_the_others(quick):
    upid = upid_of(1)
    node = Node(upid)

    def broken(result):
        raise RuntimeError

    with client_over(node.transport) as client:
        told: list[Any] = []
        tracker = TaskTracker(client)
        tracker.watch(upid, broken)
        tracker.watch(upid, told.append)
        node.end(upid)
        await until(lambda: told)
        await tracker.close()


def test_a_task_id_is_read_and_nonsense_refused():
    upid = UPID.parse(upid_of(1, kind="qmclone", about="9000"))
    assert (upid.node, upid.type, upid.id, upid.user, upid.started) == (
        "pve1",
        "qmclone",
        "9000",
        "operator@pve!operator",
        0x6B04B2F5,
    )
    for text in ("", "OK", "UPID:pve1", upid.text + "x", upid.text.replace("6B04B2F5", "soon")):
        with pytest.raises(ValueError, match=r"task id|invalid literal"):
            UPID.parse(text)


# Against the simulator


async def clone_without_answer(sim, session, newid):
    sim.intercept = lambda call: (
        DropAfter() if call.method == "POST" and call.path.endswith("/clone") else None
    )
    with pytest.raises(errors.AnswerLost):
        await session.vms.clone("pve1", 9000, newid, name="web", description="")
    sim.intercept = None


async def test_a_clone_whose_answer_was_lost_is_found_by_its_new_id(open_session):
    with PveSim(nodes=3, task_seconds=0.3) as sim:
        sim.add_template()
        session = open_session(sim)
        since = time.time()
        await clone_without_answer(sim, session, 100)
        await clone_without_answer(sim, session, 101)
        found = {
            vmid: await session.tasks.find_clone(9000, vmid, node="pve1", since=since) for vmid in (100, 101)
        }
        assert found[100].upid != found[101].upid
        done = asyncio.get_running_loop().create_future()
        session.tasks.watch(found[101].upid.text, done.set_result)
        assert (await asyncio.wait_for(done, 10)).outcome is Outcome.OK
        assert sim.world().vm(101).name == "web"


async def test_a_clone_to_another_id_and_an_old_one_are_not_taken_for_it(sim, open_session):
    session = open_session(sim)
    await session.vms.clone("pve1", 9000, 100, name="web", description="")
    assert await session.tasks.find_clone(9000, 102, node="pve1", since=time.time()) is None
    assert await session.tasks.find_clone(9000, 100, node="pve2", since=time.time()) is None
    assert await session.tasks.find_clone(9000, 100, node="pve1", since=time.time() + 3600) is None


async def test_a_killed_worker_has_an_unknown_outcome(open_session):
    with PveSim(nodes=1, task_seconds=30) as sim:
        sim.add_template()
        session = open_session(sim)
        upid = await session.vms.clone("pve1", 9000, 100, name="web", description="")
        assert await session.tasks.result(upid) is None
        await asyncio.to_thread(sim.kill_tasks, "qmclone")
        result = await session.tasks.result(upid)
        assert result.outcome is Outcome.UNKNOWN


async def test_live_tasks_of_a_vm_are_seen_and_ended_ones_are_not(open_session):
    with PveSim(nodes=2, task_seconds=0.5) as sim:
        sim.add_vm(100, node="pve2")
        session = open_session(sim)
        upid = await session.vms.start("pve2", 100)
        assert [task.upid.text for task in await session.tasks.running_for(100)] == [upid]
        assert [task.upid.text for task in await session.tasks.active("pve2")] == [upid]
        assert await session.tasks.running_for(101) == []
        done = asyncio.get_running_loop().create_future()
        session.tasks.watch(upid, done.set_result)
        await asyncio.wait_for(done, 10)
        assert await session.tasks.running_for(100) == []


async def test_the_latest_tasks_of_a_vm_are_told_with_who_started_them_the_newest_first(open_session):
    with PveSim(nodes=1) as sim:
        sim.add_vm(100, running=True)
        sim.add_vm(101, running=True)
        session = open_session(sim)
        await session.vms.stop("pve1", 100)
        sim.edit_config(100, by="alice@pve", cores=4)
        sim.start(100)
        sim.stop(101)
        latest = await session.tasks.latest("pve1", 100, limit=2)
        assert [(task.type, task.user) for task in latest] == [
            ("qmstart", "root@pam"),
            ("qmconfig", "alice@pve"),
        ]
        assert (await session.tasks.latest("pve1", 100, limit=9))[-1].user == session.user == sim.token_id
