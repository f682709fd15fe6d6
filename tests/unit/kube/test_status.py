"""A status is written if it changes, over the version that was read, and known before the watch tells."""

import asyncio
import copy

import pytest

from proxmox_operator.engine.queue import Key
from proxmox_operator.engine.store import ObjectStore
from proxmox_operator.errors import Outdated
from proxmox_operator.kube.client import Kube, Raw
from proxmox_operator.kube.status import StatusWriter
from unit.kube.memory_api import MemoryApi

WEB = Key("ProxmoxVM", "shop", "web")
OURS = "proxmox-operator.io/finalizer"


class Scene:
    def __init__(self) -> None:
        self.api = MemoryApi()
        self.store = ObjectStore()
        self.told: list[tuple[Raw, Raw]] = []
        written = lambda *both: self.told.append(both)  # noqa: E731
        self.writer = StatusWriter(Kube(self.api), self.store, written=written)
        self.raw = self.api.put(
            "proxmoxvms",
            {
                "apiVersion": "proxmox-operator.io/v1alpha1",
                "kind": "ProxmoxVM",
                "metadata": {"name": "web", "namespace": "shop", "finalizers": ["other/one"]},
                "status": {"vmid": 100, "conditions": [{"type": "Ready", "status": "True"}]},
            },
        )
        self.store.apply("ProxmoxVM", self.raw)

    @property
    def known(self) -> Raw:
        known = self.store.get(WEB)
        assert known is not None
        return known


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_an_unchanged_status_costs_no_call(scene: Scene):
    same = copy.deepcopy(scene.raw["status"]) | {"node": None, "task": None}
    assert await scene.writer.write(scene.raw, same) is scene.raw
    assert scene.api.calls == []
    assert scene.told == []


async def test_a_written_status_is_read_back_at_once(scene: Scene):
    answer = await scene.writer.write(scene.raw, {"vmid": 100, "node": "pve1", "task": {"upid": None}})
    assert scene.known["status"] == {"vmid": 100, "node": "pve1", "task": {}}
    assert scene.known["metadata"]["resourceVersion"] == answer["metadata"]["resourceVersion"]
    assert scene.told == [(scene.raw, answer)]
    [call] = scene.api.calls
    assert (call.verb, call.subresource) == ("replace", "status")
    await scene.writer.write(answer, {"vmid": 100})
    assert scene.known["status"] == {"vmid": 100}


async def test_a_pass_over_old_facts_overwrites_nothing(scene: Scene):
    await scene.writer.write(scene.raw, {"vmid": 100, "node": "pve1"})
    for attempt in (
        scene.writer.write(scene.raw, {"vmid": 666}),
        scene.writer.add_finalizer(scene.raw),
    ):
        with pytest.raises(Outdated):
            await attempt
    assert len(scene.told) == 1
    assert scene.known["status"] == {"vmid": 100, "node": "pve1"}
    assert scene.known["metadata"]["finalizers"] == ["other/one"]


async def test_our_finalizer_comes_and_goes_and_that_of_others_stays(scene: Scene):
    with_ours = await scene.writer.add_finalizer(scene.raw)
    assert scene.known["metadata"]["finalizers"] == ["other/one", OURS]
    assert await scene.writer.add_finalizer(with_ours) is with_ours
    without = await scene.writer.drop_finalizer(with_ours)
    assert scene.known["metadata"]["finalizers"] == ["other/one"]
    assert await scene.writer.drop_finalizer(without) is without
    assert len(scene.api.calls) == 2


async def test_with_its_last_finalizer_an_object_that_is_deleted_is_gone_at_once_and_for_good(scene: Scene):
    going = {**scene.raw["metadata"], "finalizers": [OURS], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    earlier, raw = scene.raw, scene.api.put("proxmoxvms", scene.raw | {"metadata": going})
    scene.store.apply("ProxmoxVM", raw)
    await scene.writer.drop_finalizer(raw)
    assert scene.store.get(WEB) is None
    for late in (earlier, raw):
        assert not scene.store.apply("ProxmoxVM", late)
    assert scene.store.get(WEB) is None


async def test_an_object_made_anew_stays_when_the_earlier_one_is_let_go(scene: Scene):
    going = {**scene.raw["metadata"], "finalizers": [OURS], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    raw = scene.api.put("proxmoxvms", scene.raw | {"metadata": going})
    scene.store.apply("ProxmoxVM", raw)
    scene.api.gate.clear()
    letting_go = asyncio.create_task(scene.writer.drop_finalizer(raw))
    await asyncio.sleep(0)
    anew = {**going, "uid": "another", "finalizers": [], "resourceVersion": "1000"}
    scene.store.apply("ProxmoxVM", raw | {"metadata": anew})
    scene.api.gate.set()
    await letting_go
    assert scene.known["metadata"]["uid"] == "another"


async def test_an_object_that_others_hold_stays_until_they_let_it_go(scene: Scene):
    going = {
        **scene.raw["metadata"],
        "finalizers": [OURS, "other/one"],
        "deletionTimestamp": "2026-01-01T00:00:00Z",
    }
    await scene.writer.drop_finalizer(scene.api.put("proxmoxvms", scene.raw | {"metadata": going}))
    assert scene.known["metadata"]["finalizers"] == ["other/one"]
