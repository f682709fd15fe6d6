"""Traces arrive at a real receiver of OTLP, hold no secret, and disturb nobody when it is away."""

import asyncio
import logging
import subprocess
import sys
import time
from collections import Counter
from contextvars import copy_context

import pytest

from harness.otlp import collector
from proxmox_operator.engine.queue import Key
from proxmox_operator.engine.settings import Settings
from proxmox_operator.engine.tracing import FLUSH_SECONDS, QUEUE, tracing

KEY = Key("ProxmoxVM", "shop", "web")


@pytest.fixture
def counted():
    return Counter()


@pytest.fixture
def count(counted):
    return lambda result, spans: counted.update({result: spans})


async def test_a_pass_is_a_trace_and_each_call_in_it_a_span(count, counted):
    with collector() as kept:
        traces = tracing(kept.url, 1.0, count)
        with traces.reconcile(KEY, 3) as ended:
            traces.call(
                "POST clone", {"proxmox.upid": "UPID:x", "http.response.status_code": 200}, 0.25, ok=True
            )
            traces.call("replace proxmoxvms", {"result": "Conflict"}, 0.01, ok=False)
            ended("waiting")
        await traces.close()
    [(root, [replaced, cloned])] = [
        (root, sorted(calls, key=lambda span: span.name, reverse=True))
        for root, calls in kept.traces("reconcile ProxmoxVM")
    ]
    assert root.attributes == {
        "k8s.object.kind": "ProxmoxVM",
        "k8s.namespace.name": "shop",
        "k8s.object.name": "web",
        "k8s.object.generation": 3,
        "reconcile.result": "waiting",
    }
    assert cloned.attributes == {"proxmox.upid": "UPID:x", "http.response.status_code": 200}
    assert (cloned.ended - cloned.started) / 1e9 == pytest.approx(0.25)
    assert (root.failed, cloned.failed, replaced.failed) == (False, False, True)
    assert kept.resources[0]["service.name"] == "proxmox-operator"
    assert kept.paths == ["/v1/traces"]
    assert counted == {"delivered": 3}


async def test_a_call_made_in_a_thread_belongs_to_the_pass_that_asked_for_it(count):
    with collector() as kept:
        traces = tracing(kept.url, 1.0, count)

        def work() -> None:
            traces.call("GET pending", {}, 0.0, ok=True)

        with traces.reconcile(KEY, 1) as ended:
            await asyncio.get_running_loop().run_in_executor(None, copy_context().run, work)
            ended("done")
        await traces.close()
    [(_, calls)] = kept.traces("reconcile ProxmoxVM")
    assert [call.name for call in calls] == ["GET pending"]


async def test_what_belongs_to_no_pass_is_in_no_trace_also_what_a_pass_has_started_and_left_behind(count):
    with collector() as kept:
        traces = tracing(kept.url, 1.0, count)
        over = asyncio.Event()

        async def poll() -> None:
            await over.wait()
            traces.call("GET cluster/resources", {}, 0.0, ok=True)

        traces.call("GET version", {}, 0.0, ok=True)
        with traces.reconcile(KEY, 1) as ended:
            polling = asyncio.create_task(poll())
            ended("done")
        over.set()
        await polling
        await traces.close()
    assert [span.name for span in kept.spans] == ["reconcile ProxmoxVM"]


async def test_passes_at_the_same_time_are_traces_of_their_own(count):
    with collector() as kept:
        traces = tracing(kept.url, 1.0, count)

        async def one(number: int) -> None:
            with traces.reconcile(Key("ProxmoxVM", "shop", str(number)), 1) as ended:
                await asyncio.sleep(0.01)
                traces.call(f"call {number}", {}, 0.0, ok=True)
                ended("done")

        with traces.reconcile(KEY, 1):
            await asyncio.gather(*(one(number) for number in range(5)))
        await traces.close()
    found = {root.attributes["k8s.object.name"]: calls for root, calls in kept.traces("reconcile ProxmoxVM")}
    assert {name: [call.name for call in calls] for name, calls in found.items()} == {
        **{str(number): [f"call {number}"] for number in range(5)},
        "web": [],
    }


async def test_a_bug_marks_its_trace_and_what_was_raised_is_not_sent(count):
    with collector() as kept:
        traces = tracing(kept.url, 1.0, count)
        with pytest.raises(RuntimeError), traces.reconcile(KEY, 1):
            raise RuntimeError("password=hunter2")
        await traces.close()
    [(root, [])] = kept.traces("reconcile ProxmoxVM")
    assert root.failed
    assert root.attributes["reconcile.result"] == "bug"
    assert b"hunter2" not in b"".join(kept.bodies)
    assert not root.raw.events


async def test_a_ratio_leaves_passes_out_with_all_their_calls(count):
    with collector() as kept:
        traces = tracing(kept.url, 0.5, count)
        for _ in range(200):
            with traces.reconcile(KEY, 1) as ended:
                traces.call("GET pending", {}, 0.0, ok=True)
                ended("done")
        await traces.close()
    complete = [calls for _, calls in kept.traces("reconcile ProxmoxVM")]
    assert 50 < len(complete) < 150
    assert {len(calls) for calls in complete} == {1}
    assert len(kept.spans) == 2 * len(complete)


async def test_a_collector_that_refuses_costs_spans_and_one_line_in_the_log(count, counted, caplog):
    caplog.set_level(logging.INFO)
    with collector() as kept:
        kept.status = 400
        traces = tracing(kept.url, 1.0, count)
        for _ in range(3 * 512):
            with traces.reconcile(KEY, 1) as ended:
                ended("done")
        await traces.close()
    assert counted == {"dropped": 3 * 512}
    [line] = [record.getMessage() for record in caplog.records]
    assert "the collector of traces takes none" in line
    assert kept.url in line


async def test_a_collector_that_hangs_delays_neither_a_pass_nor_the_end_by_much(count):
    with collector(hang=True) as kept:
        traces = tracing(kept.url, 1.0, count)
        began = time.process_time()
        for _ in range(QUEUE + 500):
            with traces.reconcile(KEY, 1) as ended:
                ended("done")
        assert time.process_time() - began < 5
        began = time.monotonic()
        await traces.close()
        assert time.monotonic() - began < FLUSH_SECONDS + 2


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [("", "/v1/traces"), ("/", "/v1/traces"), ("/otlp/v1/traces", "/otlp/v1/traces")],
)
async def test_an_address_without_a_path_gets_the_default_one(count, endpoint: str, path: str):
    with collector() as kept:
        traces = tracing(kept.url + endpoint, 1.0, count)
        with traces.reconcile(KEY, 1) as ended:
            ended("done")
        await traces.close()
    assert kept.paths == [path]


def test_without_an_endpoint_opentelemetry_is_not_imported():
    program = (
        "import sys, proxmox_operator.handlers\n"
        "from proxmox_operator.engine.tracing import tracing\n"
        "tracing(None, 1.0, print)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "endpoint", ["collector:4318", "ftp://collector", "http://user:secret@collector:4318"]
)
def test_an_endpoint_that_cannot_be_right_is_refused_at_the_start(endpoint: str, capsys):
    with pytest.raises(SystemExit):
        Settings.from_args(["--tracing-endpoint", endpoint])
    told = capsys.readouterr().err
    assert "--tracing-endpoint" in told
    assert "collector" in told
    assert "secret" not in told


def test_an_endpoint_and_a_ratio_are_settings():
    assert (
        Settings(tracing_endpoint="https://collector:4318/v1/traces", tracing_ratio=0.1).tracing_ratio == 0.1
    )
