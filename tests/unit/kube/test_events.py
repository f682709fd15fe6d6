"""Events inform, and can neither flood the API server nor stop a pass."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from proxmox_operator.errors import Unreachable
from proxmox_operator.kube.client import Kube
from proxmox_operator.kube.events import EventRecorder
from unit.kube.memory_api import MemoryApi

VM = {
    "apiVersion": "proxmox-operator.io/v1alpha1",
    "kind": "ProxmoxVM",
    "metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "resourceVersion": "5"},
}
CLUSTER = {
    "apiVersion": "proxmox-operator.io/v1alpha1",
    "kind": "ProxmoxCluster",
    "metadata": {"name": "lab", "uid": "u-2"},
}


class Scene:
    def __init__(self) -> None:
        self.api = MemoryApi()
        self.results: Counter[str] = Counter()
        self.now = 0.0
        self.recorder = EventRecorder(
            Kube(self.api),
            instance="pod-1",
            clock=lambda: self.now,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.now),
            observe=lambda result: self.results.update([result]),
            recount=0.05,  # the background task looks as often in real time; counts go by the clock above
            burst=5,
            refill=30,
            capacity=50,
            drain=0.2,
        )
        self.running = asyncio.create_task(self.recorder.run())

    @property
    def events(self) -> list[dict]:
        return self.api.all("events")

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        self.recorder.stop()
        await asyncio.wait_for(self.running, 5)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    await made.stop()


async def test_an_event_says_what_happened_to_which_object(scene: Scene):
    scene.recorder.warning(VM, "StorageFull", "storage 'ceph' has 1 GiB left", action="Create")
    await scene.until(lambda: scene.results["posted"] == 1)
    [event] = scene.events
    assert event["metadata"]["namespace"] == "shop"
    assert event["regarding"] == {
        "apiVersion": "proxmox-operator.io/v1alpha1",
        "kind": "ProxmoxVM",
        "name": "web",
        "namespace": "shop",
        "uid": "u-1",
    }
    assert (event["type"], event["reason"], event["action"]) == ("Warning", "StorageFull", "Create")
    assert event["note"] == "storage 'ceph' has 1 GiB left"
    assert event["eventTime"] == "2026-01-01T00:00:00.000000Z"
    assert (event["reportingController"], event["reportingInstance"]) == ("proxmox-operator", "pod-1")


async def test_an_event_about_a_cluster_scoped_object_is_kept_in_the_namespace_default(scene: Scene):
    scene.recorder.normal(CLUSTER, "Reachable", "3 of 3 endpoints answer")
    await scene.until(lambda: bool(scene.events))
    assert scene.events[0]["metadata"]["namespace"] == "default"


async def test_what_is_said_again_is_counted_in_the_one_event(scene: Scene):
    for _ in range(40):
        scene.recorder.warning(VM, "Locked", "config is locked (backup)")
        scene.now += 1
    await scene.until(lambda: bool(scene.events) and scene.events[0].get("series", {}).get("count") == 40)
    assert len(scene.events) == 1
    assert scene.events[0]["series"]["lastObservedTime"] == "2026-01-01T00:00:39.000000Z"
    assert scene.results["counted"] == 39


async def test_counts_are_written_rarely(scene: Scene):
    scene.recorder.normal(VM, "Started", "started")
    await scene.until(lambda: len(scene.api.calls) == 1)
    for _ in range(10):
        scene.recorder.normal(VM, "Started", "started")
        await asyncio.sleep(0.01)
    assert len(scene.api.calls) == 1  # the clock stands still: no count is due
    scene.now += 0.06
    await scene.until(lambda: len(scene.api.calls) == 2)
    assert scene.events[0]["series"]["count"] == 11


async def test_what_is_said_while_its_event_is_being_posted_is_counted_too(scene: Scene):
    scene.api.gate.clear()
    scene.recorder.normal(VM, "Started", "started")
    await asyncio.sleep(0.02)
    scene.recorder.normal(VM, "Started", "started")
    scene.api.gate.set()
    await scene.until(lambda: bool(scene.events))
    scene.now += 0.06
    await scene.until(lambda: scene.events[0].get("series", {}).get("count") == 2)


async def test_after_the_window_the_same_is_news_again(scene: Scene):
    scene.recorder.normal(VM, "Started", "started")
    await scene.until(lambda: len(scene.events) == 1)
    scene.now += 601
    scene.recorder.normal(VM, "Started", "started")
    await scene.until(lambda: len(scene.events) == 2)


async def test_one_object_cannot_flood_and_does_not_silence_others(scene: Scene):
    for number in range(100):
        scene.recorder.warning(VM, "Flapping", f"number {number}")
    scene.recorder.normal(CLUSTER, "Reachable", "yes")
    await scene.until(lambda: len(scene.events) == 6)
    assert scene.results["limited"] == 95
    scene.now += 30
    scene.recorder.warning(VM, "Flapping", "one more is allowed")
    await scene.until(lambda: len(scene.events) == 7)


async def test_a_warning_is_not_lost_behind_what_is_only_told(scene: Scene):
    for number in range(100):
        scene.recorder.normal(VM, "StepDone", f"step {number}")
    scene.recorder.warning(VM, "Failed", "the last one")
    await scene.until(lambda: len(scene.events) == 6)
    assert scene.events[-1]["reason"] == "Failed"


async def test_an_api_server_that_is_away_costs_the_events_and_nothing_else(scene: Scene):
    scene.api.fail = Unreachable("refused")
    scene.recorder.normal(VM, "Started", "started")
    await scene.until(lambda: scene.results["failed"] == 1)
    scene.api.fail = None
    scene.recorder.normal(VM, "Stopped", "stopped")
    await scene.until(lambda: len(scene.events) == 1)
    assert scene.events[0]["reason"] == "Stopped"


async def test_memory_is_bounded_while_nothing_can_be_posted(scene: Scene):
    scene.api.gate.clear()
    for number in range(200):
        scene.recorder.normal(
            {**VM, "metadata": {"name": f"vm-{number}", "uid": f"u{number}"}}, "Started", "x"
        )
    assert scene.results["dropped"] == 150
    assert len(scene.recorder._series) == 50
    scene.api.gate.set()
    await scene.until(lambda: len(scene.events) == 50)


async def test_a_long_message_is_shortened_to_what_kubernetes_takes(scene: Scene):
    scene.recorder.normal(VM, "Started", "ä" * 2000)
    await scene.until(lambda: bool(scene.events))
    note = scene.events[0]["note"]
    assert len(note.encode()) <= 1024
    assert note.endswith("ä...")


async def test_a_long_name_still_makes_a_valid_event_name(scene: Scene):
    name = "a" * 235 + "." + "b" * 17
    scene.recorder.normal({**VM, "metadata": {"name": name, "namespace": "shop", "uid": "u"}}, "Started", "x")
    await scene.until(lambda: bool(scene.events))
    assert len(scene.events[0]["metadata"]["name"]) <= 253
    assert ".." not in scene.events[0]["metadata"]["name"]


async def test_stop_posts_what_is_left_but_does_not_wait_for_ever():
    scene = Scene()
    scene.recorder.normal(VM, "Stopping", "the operator ends")
    scene.recorder.normal(VM, "Stopping", "the operator ends")
    await scene.stop()
    assert scene.events[0]["series"]["count"] == 2

    stuck = Scene()
    stuck.api.gate.clear()
    stuck.recorder.normal(VM, "Stopping", "the operator ends")
    stuck.recorder.stop()
    await asyncio.wait_for(stuck.running, 2)
    assert stuck.events == []
