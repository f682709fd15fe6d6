"""A process can be stopped before it could begin, and a watch is called dead only for what it never tells."""

import asyncio
from typing import Any

import pytest

from proxmox_operator.controllers import manager as module
from proxmox_operator.controllers.context import CLUSTER_KIND, VM_KIND
from proxmox_operator.controllers.manager import Manager
from proxmox_operator.controllers.outcome import Outcome, outcome_of
from proxmox_operator.engine.queue import Key
from proxmox_operator.engine.settings import Settings
from proxmox_operator.errors import NeedsHuman, OperatorError, SecretNotFound
from proxmox_operator.kube.client import Call
from proxmox_operator.kube.errors import Forbidden


class Api:
    """An API server with one list of ProxmoxVMs; ``denied``: the ClusterRole is missing."""

    def __init__(self) -> None:
        self.denied = False
        self.vms: list[dict[str, Any]] = []
        self.version = 10
        self.calls: list[Call] = []

    async def send(self, call: Call) -> dict[str, Any]:
        self.calls.append(call)
        if self.denied:
            raise Forbidden(f"{call}: proxmoxclusters is forbidden")
        items = self.vms if call.resource.kind == VM_KIND else []
        return {"metadata": {"resourceVersion": str(self.version)}, "items": items}


def vm(version: int) -> dict[str, Any]:
    metadata = {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": str(version)}
    return {"kind": VM_KIND, "metadata": metadata}


def manager_over(api: Api) -> Manager:
    settings = Settings(
        namespace="ops",
        cluster_id="test",
        leader_election=False,
        health_address="127.0.0.1",
        health_port=0,
        resync=0.05,
    )
    return Manager(settings, api)


async def test_a_process_that_may_not_read_anything_ends_when_it_is_told_to():
    api = Api()
    api.denied = True
    manager = manager_over(api)
    running = asyncio.create_task(manager.run())
    async with asyncio.timeout(5):
        while not api.calls:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
        manager.stop()
        await asyncio.wait_for(running, 1)


async def resync_once(manager: Manager, api: Api, monkeypatch: pytest.MonkeyPatch, tell: Any) -> bool:
    """Whether one resync, during whose grace ``tell`` is called, finds that the watch is alive."""
    monkeypatch.setattr(module, "WATCH_LAG", 0.2)
    beats: list[str] = []
    monkeypatch.setattr(manager.health, "beat", beats.append)
    before = len(api.calls)
    resync = asyncio.create_task(manager._resync())
    async with asyncio.timeout(5):
        while len(api.calls) < before + 2:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
        tell()
        await asyncio.sleep(0.2)
    resync.cancel()
    await asyncio.gather(resync, return_exceptions=True)
    return bool(beats)


@pytest.mark.parametrize(
    ("before", "listed", "told", "alive"),
    [
        ([], [vm(5)], None, False),
        ([], [vm(5)], ("ADDED", vm(5)), True),
        ([vm(4)], [vm(5)], ("MODIFIED", vm(4)), False),
        ([vm(4)], [vm(5)], ("MODIFIED", vm(6)), True),
        ([vm(4)], [], None, False),
        ([vm(4)], [], ("MODIFIED", vm(4)), False),
        ([vm(4)], [], ("DELETED", vm(7)), True),
        ([vm(4)], [vm(4)], None, True),
    ],
)
async def test_the_watch_has_missed_only_what_it_does_not_tell_soon_after_a_list(
    before: list[Any], listed: list[Any], told: Any, alive: bool, monkeypatch: pytest.MonkeyPatch
):
    api = Api()
    api.vms = listed
    manager = manager_over(api)
    for raw in before:
        manager.observe(VM_KIND, "ADDED", raw)
    tell = (lambda: manager.observe(VM_KIND, *told)) if told else (lambda: None)
    assert await resync_once(manager, api, monkeypatch, tell) is alive
    assert manager.store.listed(CLUSTER_KIND)


async def delays_after(errors: list[OperatorError], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds until the next look after each pass that ends so."""
    manager, delays = manager_over(Api()), list[float]()
    monkeypatch.setattr(manager.queue, "add", lambda key, *, after=0.0: delays.append(after))
    ending = iter(errors)

    async def fail(key: Key) -> Outcome:
        return outcome_of(next(ending))

    manager._reconcilers[VM_KIND] = fail
    for _ in errors:
        await manager._handle(Key(VM_KIND, "shop", "web"))
    return delays


async def test_a_secret_that_is_not_there_is_looked_for_soon_and_then_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
):
    absent = SecretNotFound("there is none")
    delays = await delays_after([absent] * 6, monkeypatch)
    for delay, middle in zip(delays, (5, 10, 20, 40, 60, 60), strict=True):
        assert middle * 0.75 <= delay <= middle * 1.25
    *_, other, again = await delays_after([absent, absent, NeedsHuman("another"), absent], monkeypatch)
    assert other == 60
    assert again < 7
