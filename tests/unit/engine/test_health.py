"""/livez fails when something stopped moving and recovers with it; /readyz tells what is missing."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from proxmox_operator.engine.health import Health
from proxmox_operator.engine.metrics import Metrics
from proxmox_operator.errors import NeedsHuman
from proxmox_operator.proxmox.session import Figures

FIGURES = Figures(inventory_age=4.5, frozen=False, endpoints={}, silent_nodes=0, tasks=0, limits={})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Served:
    def __init__(
        self, clock: Clock, health: Health, metrics: Metrics, session: aiohttp.ClientSession
    ) -> None:
        self.clock, self.health, self.metrics, self.session = clock, health, metrics, session

    async def get(self, path: str) -> tuple[int, str]:
        async with self.session.get(f"http://127.0.0.1:{self.health.port}{path}") as response:
            return response.status, await response.text()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    clock, metrics = Clock(), Metrics()
    health = await Health(metrics, clock=clock, loop_interval=0.01).start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        yield Served(clock, health, metrics, session)
    await health.stop()


async def test_a_watch_that_fell_silent_fails_livez_until_it_is_heard_again(served: Served):
    served.health.expect("watch ProxmoxVM", max_age=300)
    assert await served.get("/livez") == (200, "ok\n")
    served.clock.now += 301
    served.health.beat("event loop")
    assert 'heartbeat_age_seconds{part="watch ProxmoxVM"} 301' in (await served.get("/metrics"))[1]
    status, text = await served.get("/livez")
    assert status == 503
    assert text == "watch ProxmoxVM: no sign of life for 301 s, at most 300 s are expected\n"
    served.health.beat("watch ProxmoxVM")
    assert await served.get("/livez") == (200, "ok\n")


async def test_the_loop_has_a_heartbeat_of_its_own_and_shows_how_late_it_is(served: Served):
    served.clock.now += 31
    assert [text.split(":")[0] for text in served.health.stalled()] == ["event loop"]
    for _ in range(500):
        if not served.health.stalled():
            break
        await asyncio.sleep(0.01)
    assert "proxmox_operator_loop_lag_seconds 30" in served.metrics.render().decode()
    assert (await served.get("/livez"))[0] == 200


async def test_ready_is_everything_that_is_asked_for_and_names_what_is_missing(served: Served):
    listed = False
    served.health.ready_when("watched objects are listed", lambda: listed)
    served.health.ready_when("settings are read", lambda: True)
    assert await served.get("/readyz") == (503, "watched objects are listed: not yet\n")
    listed = True
    assert await served.get("/readyz") == (200, "ok\n")


async def test_metrics_are_served_in_the_format_of_prometheus(served: Served):
    served.metrics.reconciled("ProxmoxVM", "done", 0.2)
    served.metrics.kube_call("replace", "proxmoxvms.proxmox-operator.io", "ok", 0.01)
    served.metrics.kube_call("replace", "proxmoxvms.proxmox-operator.io", "Conflict", 0.01)
    served.metrics.kube_call("get", "secrets", "ok", 0.01)
    served.metrics.pve_call("lab", "POST", "clone", "ok", 0.3)
    served.metrics.task_ended("lab", "qmclone", "ok", 12)
    served.metrics.drifted("ProxmoxVM", "corrected")
    served.metrics.event("posted")
    served.metrics.watch_cluster("lab", lambda: FIGURES)
    status, text = await served.get("/metrics")
    assert status == 200
    for line in (
        'proxmox_operator_reconcile_seconds_count{kind="ProxmoxVM",result="done"} 1.0',
        'proxmox_operator_kube_writes_total{resource="proxmoxvms.proxmox-operator.io",verb="replace"} 1.0',
        "proxmox_operator_proxmox_call_seconds_sum"
        '{call_class="clone",cluster="lab",method="POST",result="ok"} 0.3',
        'proxmox_operator_proxmox_task_seconds_count{cluster="lab",outcome="ok",type="qmclone"} 1.0',
        'proxmox_operator_drift_total{handled="corrected",kind="ProxmoxVM"} 1.0',
        'proxmox_operator_events_total{result="posted"} 1.0',
        'proxmox_operator_inventory_age_seconds{cluster="lab"} 4.5',
        "proxmox_operator_leader 0.0",
    ):
        assert line in text.splitlines()
    assert 'kube_writes_total{resource="secrets"' not in text
    served.metrics.forget_cluster("lab")
    assert "inventory_age_seconds{" not in served.metrics.render().decode()


async def test_a_taken_port_is_an_error_at_the_start(served: Served):
    with pytest.raises(NeedsHuman, match="Address already in use: name others with --health-address"):
        await Health(Metrics()).start("127.0.0.1", served.health.port)
