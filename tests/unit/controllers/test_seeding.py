"""What becomes of a seed that cannot be removed: tried again a few times, then left and told."""

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import pytest

from proxmox_operator.api import SeedStatus
from proxmox_operator.controllers.context import Context
from proxmox_operator.controllers.vm.memory import Memory, Work
from proxmox_operator.controllers.vm.observe import Observer
from proxmox_operator.controllers.vm.seeding import MOST_FAILURES, SeedReader, SeedWriter
from proxmox_operator.errors import Forbidden, NeedsHuman, Transient, Waiting
from proxmox_operator.planning.lifecycle import Absent
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.proxmox.vm import VMConfig
from unit.planning.make import NOW, a_vm, facts, later, made, present

SEED = {
    "volume": "local:iso/pvm-seed-10000-6a1c9c53.iso",
    "node": "pve1",
    "phase": "Uploaded",
    "since": NOW.isoformat(),
    "madeFrom": "x",
}
VM = a_vm(status=made(seed=SEED), deleting=True)


def writer(memory: Memory, tell: Mock, **files: Any) -> SeedWriter:
    async def working(action: str, upid: str, _: object) -> None:
        memory.work = Work(action=action, upid=upid)

    inventory = SimpleNamespace(current=None)
    return SeedWriter(
        cast(Context, SimpleNamespace(now=lambda: NOW)),
        cast(ClusterSession, SimpleNamespace(files=SimpleNamespace(**files), inventory=inventory)),
        memory,
        cast(SeedReader, None),
        record=AsyncMock(),
        working=cast(Any, working),
        tell=tell,
    )


def test_what_may_pass_is_tried_again_a_few_times_and_then_left() -> None:
    memory, tell = Memory(), Mock()
    seeds = writer(memory, tell)
    for _ in range(MOST_FAILURES - 1):
        with pytest.raises(Transient):
            seeds.drop_failed(VM, Transient("unlink failed"))
        assert not memory.seed_kept
    seeds.drop_failed(VM, Transient("unlink failed"))
    assert memory.seed_kept
    _, reason, message = tell.call_args.args
    assert reason == "SeedLeft"
    assert "(unlink failed)" in message
    assert f"on node pve1 with `pvesm free {SEED['volume']}`" in message


def test_what_only_a_person_can_mend_is_left_at_once_and_a_slot_is_waited_for() -> None:
    memory, tell = Memory(seed_failures=1), Mock()
    with pytest.raises(Waiting):
        writer(memory, tell).drop_failed(VM, Waiting("no slot"))
    writer(memory, tell).drop_failed(VM, NeedsHuman("no"))
    assert memory.seed_kept


async def test_one_that_may_be_neither_deleted_nor_overwritten_is_left_and_is_not_called_emptied() -> None:
    memory, tell = Memory(), Mock()
    refused = AsyncMock(side_effect=Forbidden("grant it"))
    await writer(memory, tell, delete=refused, upload_iso=refused).drop(facts(VM, existence=Absent()))
    assert memory.seed_kept
    assert [call.args[1] for call in tell.call_args_list] == ["SeedLeft"]


async def test_that_it_is_emptied_is_told_when_it_is() -> None:
    memory, tell = Memory(), Mock()
    refused, sent = AsyncMock(side_effect=Forbidden("grant it")), AsyncMock(return_value="UPID")
    await writer(memory, tell, delete=refused, upload_iso=sent).drop(facts(VM, existence=Absent()))
    tell.assert_not_called()
    assert memory.work is not None
    assert [reason for reason, _ in memory.work.warnings] == ["SeedEmptied"]
    assert isinstance(memory.work.seed, SeedStatus)
    assert memory.work.seed.phase == "Emptied"


@pytest.mark.parametrize("power", ["Running", "Paused", "Unknown"])
async def test_nothing_is_made_for_a_guest_that_may_be_reading(power: str) -> None:
    vm = a_vm(cloudInit={"userDataSecretRef": {"name": "gone"}}, status=made(started=False, seed=SEED))
    memory = Memory(config=VMConfig({}, "digest"))
    nothing = cast(Any, None)
    reader = SeedReader(nothing, nothing, nothing, nothing, memory)
    found = await reader.seed(vm, present(power=power))
    assert found is not None
    assert found.record == vm.status.seed
    assert found.wanted is None


def test_an_upload_on_its_way_does_not_hide_a_later_call_that_may_still_come() -> None:
    seed = {**SEED, "phase": "Uploading"}
    task = {"action": "Destroying", "node": "pve1", "since": later(60).isoformat()}
    settings = SimpleNamespace(takeover_delay=30.0)
    nothing = cast(Any, None)
    observer = Observer(
        cast(Any, SimpleNamespace(settings=settings)), nothing, nothing, nothing, nothing, Memory()
    )
    assert observer._settles_at(a_vm(status=made(seed=seed))) == later(30)
    assert observer._settles_at(a_vm(status=made(seed=seed, task=task))) == later(90)
