"""Uploads of images beside the passes: what ends one, and what counts as one."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import pytest

from proxmox_operator.api.names import PAUSED
from proxmox_operator.controllers.context import Context
from proxmox_operator.controllers.fleet import Coming, Member
from proxmox_operator.controllers.template import uploads
from proxmox_operator.controllers.template.memory import TemplateMemory
from proxmox_operator.controllers.template.observe import UNWATCHED, TemplateObserver
from proxmox_operator.controllers.template.uploads import PRIVILEGE, Upload
from proxmox_operator.engine.queue import Key
from proxmox_operator.errors import AnswerLost
from proxmox_operator.planning.templates import ImageFile
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.proxmox.tasks import UPID, TaskInfo

FILE = ImageFile(
    url="https://images.invalid/a.qcow2",
    storage="images",
    name="a-0000000000000000-uploaded.qcow2",
    algorithm="sha256",
    digest="0" * 64,
    uploaded=True,
)
PLACE = ("pve1", FILE.volume)
KEY = Key("VMTemplate", "", "debian")
TASK = "UPID:pve1:00001234:00ABCDEF:65A00000:imgcopy::operator@pve!t:"


class Bench:
    """One upload of FILE, of 100 bytes, and what it meets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, delay: float = 0.0) -> None:
        monkeypatch.setattr(uploads, "fetch", lambda url, wire: Mock(size=100))
        monkeypatch.setattr(uploads, "permissions", AsyncMock(return_value={}))
        monkeypatch.setattr(uploads, "effective", lambda granted, path: {PRIVILEGE})
        settings = SimpleNamespace(slow_retry=60.0, takeover_delay=delay)
        self.woken: list[str] = []
        self.context = cast(
            Context,
            SimpleNamespace(
                clock=lambda: 0.0, settings=settings, wake_users=lambda name, kind: self.woken.append(name)
            ),
        )
        self.annotations: dict[str, str] = {}
        cluster = SimpleNamespace(metadata=SimpleNamespace(annotations=self.annotations))
        self.member = Member(name="lab", cluster=cast(Any, cluster))
        self.files = SimpleNamespace(
            images=AsyncMock(return_value={}), upload_image=AsyncMock(return_value=TASK)
        )
        self.storage = SimpleNamespace(free=None)
        inventory = SimpleNamespace(current=SimpleNamespace(storages={("images", "pve1"): self.storage}))
        self.session = cast(
            ClusterSession, SimpleNamespace(files=self.files, client=None, inventory=inventory)
        )
        self.memory = TemplateMemory(uid="1")
        self.coming = self.member.downloads[PLACE] = Coming(node="pve1", file=FILE, owners={KEY: self.memory})

    def start(self) -> asyncio.Task[None]:
        Upload(self.context, self.member, self.session, PLACE, self.coming).start(FILE)
        assert self.coming.job is not None
        return self.coming.job

    @property
    def failed(self) -> str | None:
        error = self.memory.failed("pve1", 0.0)
        return error.reason if error is not None else None


async def test_none_begins_in_a_cluster_that_is_paused(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    bench.annotations[PAUSED] = "true"
    await bench.start()
    await asyncio.sleep(0)
    bench.files.upload_image.assert_not_called()
    assert (bench.failed, bench.member.downloads, bench.woken) == (None, {}, ["lab"])


@pytest.mark.parametrize("begun", [False, True], ids=["before its first step", "in the queue"])
async def test_one_that_waits_for_its_turn_is_gone_when_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    bench = Bench(monkeypatch)
    while not bench.member.uploading.locked():
        await bench.member.uploading.acquire()
    job = bench.start()
    if begun:
        await asyncio.sleep(0)
    bench.coming.leave(KEY)
    await asyncio.wait([job])
    await asyncio.sleep(0)
    assert (bench.member.downloads, bench.woken) == ({}, ["lab"])


async def test_one_whose_answer_was_lost_is_on_its_way_until_it_can_have_no_effect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, delay=12.0)
    bench.files.upload_image.side_effect = AnswerLost("no answer")
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert (PLACE in bench.member.downloads, bench.failed) == (True, None)

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "sleep", sleep)
        await bench.start()
    await asyncio.sleep(0)
    assert (slept, bench.failed, bench.member.downloads) == ([12.0], "UploadCut", {})


@pytest.mark.parametrize(
    ("free", "there", "reason"), [(99, 0, "StorageFull"), (99, 40, None), (100, 0, None)]
)
async def test_a_file_that_is_overwritten_counts_as_room(
    monkeypatch: pytest.MonkeyPatch, free: int, there: int, reason: str | None
) -> None:
    bench = Bench(monkeypatch)
    bench.storage.free = free
    bench.files.images.return_value = {FILE.volume: there} if there else {}
    await bench.start()
    assert bench.failed == reason


# What is being copied


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({}, True),
        ({"watched": True}, False),
        ({"user": "root@pam"}, False),
        ({"task": TASK.replace("imgcopy", "vzdump")}, False),
    ],
    ids=["of an earlier process", "a seed of this one", "somebody else's", "another task"],
)
async def test_a_task_that_nobody_knows_may_put_the_image_into_place(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], counts: bool
) -> None:
    bench = Bench(monkeypatch)
    task = TaskInfo(UPID.parse(change.get("task", TASK)), "RUNNING")
    tasks = SimpleNamespace(
        active=AsyncMock(return_value=[task]), watches=lambda upid: change.get("watched", False)
    )
    nodes = {"pve1": SimpleNamespace(name="pve1", online=True)}
    session = SimpleNamespace(
        tasks=tasks,
        user=change.get("user", "operator@pve!t"),
        inventory=SimpleNamespace(current=SimpleNamespace(nodes=nodes, storages={})),
    )
    bench.member.downloads.clear()
    observer = TemplateObserver(bench.context, bench.member, cast(ClusterSession, session), bench.memory)
    assert await observer._is_coming("pve1", FILE.volume) is counts
    assert (bench.memory.again_at == UNWATCHED) is counts
