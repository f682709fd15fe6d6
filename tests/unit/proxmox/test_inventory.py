"""The inventory tells presence, changes, and when what it shows cannot be believed."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxmox_operator import errors
from proxmox_operator.proxmox.inventory import DropGuard, InventoryPoller, is_sudden
from proxmox_operator.proxmox.resources import (
    changed_guests,
    changed_nodes,
    has_more_room,
    parse_resources,
)

from .fakes import FakeClock, until


def vm(vmid, **fields):
    return {"type": "qemu", "id": f"qemu/{vmid}", "vmid": vmid, "node": "pve1", "status": "running", **fields}


def snapshot(*items):
    return parse_resources(items, taken_at=0.0, generation=1)


def fleet(*vmids):
    return [vm(vmid) for vmid in vmids]


def test_every_kind_of_item_is_read():
    found = snapshot(
        vm(100, name="web", tags="b;a", lock="backup", pool="k8s", hastate="started", template=0, mem=7),
        {"type": "lxc", "vmid": "200", "node": "pve2", "status": "stopped", "template": 1},
        {"type": "node", "node": "pve1", "status": "online", "maxcpu": 8, "maxmem": 100, "mem": 40},
        {"type": "node", "node": "pve2", "status": "offline"},
        {"type": "storage", "storage": "lvm", "node": "pve1", "status": "available", "shared": 0,
         "plugintype": "lvmthin", "content": "images,rootdir", "maxdisk": 100, "disk": 30},
        {"type": "sdn", "sdn": "localnetwork", "node": "pve1"},
        {"type": "qemu", "id": "qemu/broken"},
    )  # fmt: skip
    web, box = found.guests[100], found.guests[200]
    assert (web.name, web.tags, web.lock, web.pool, web.hastate) == (
        "web",
        ("a", "b"),
        "backup",
        "k8s",
        "started",
    )
    assert (box.type, box.template, box.status) == ("lxc", True, "stopped")
    assert (found.nodes["pve1"].mem, found.nodes["pve2"].online) == (40, False)
    [storage] = found.storages.values()
    assert (storage.node, storage.type, storage.content) == (
        "pve1",
        "lvmthin",
        frozenset({"images", "rootdir"}),
    )
    assert set(found.guests) == {100, 200}


def test_an_unknown_status_is_no_data_and_never_stopped():
    found = snapshot(vm(100, status="unknown"))
    assert found.guests[100].status is None
    assert found.guests[100].name is None


def test_appearing_vanishing_and_changing_guests_are_told_and_mere_load_is_not():
    load = {"mem": 5, "cpu": 0.1, "disk": 1, "netin": 1, "netout": 1, "diskread": 1, "diskwrite": 1}
    before = snapshot(vm(1), vm(2), vm(3), vm(4, uptime=1, **load))
    more = {key: value * 2 for key, value in load.items()}
    after = snapshot(vm(1, status="stopped"), vm(2, node="pve2"), vm(4, uptime=9, **more), vm(5))
    assert changed_guests(before, after) == {1, 2, 3, 5}
    assert changed_guests(None, after) == {1, 2, 4, 5}


@pytest.mark.parametrize(
    "fact",
    [{"name": "db"}, {"tags": "b"}, {"lock": "backup"}, {"maxcpu": 4}, {"maxmem": 2 << 30}, {"uptime": 3}],
)
def test_a_fact_of_the_config_that_changes_is_told_and_so_is_a_boot_between_two_polls(fact):
    usual = {"name": "web", "tags": "a", "maxcpu": 2, "maxmem": 1 << 30, "uptime": 600}
    before = snapshot(vm(1, **usual))
    assert changed_guests(before, snapshot(vm(1, **(usual | fact)))) == {1}
    for uptime in (605, 590):  # time has passed, or another endpoint has answered, which is a little behind
        assert changed_guests(before, snapshot(vm(1, **(usual | {"uptime": uptime})))) == set()


def test_a_node_that_goes_offline_or_grows_is_told_and_its_load_is_not():
    def node(**fields):
        return {"type": "node", "node": "pve1", "status": "online", "maxmem": 10, "mem": 1, **fields}

    assert changed_nodes(snapshot(node()), snapshot(node(mem=9))) == set()
    assert changed_nodes(snapshot(node()), snapshot(node(status="offline"))) == {"pve1"}
    assert changed_nodes(snapshot(node()), snapshot(node(maxmem=20))) == {"pve1"}
    assert changed_nodes(snapshot(node(hastate="online")), snapshot(node(hastate="maintenance"))) == {"pve1"}


NODE = {"type": "node", "node": "pve1", "status": "online", "maxmem": 64, "mem": 1}
STORAGE = {"type": "storage", "storage": "lvm", "node": "pve1", "status": "available", "content": "images",
           "maxdisk": 1000, "disk": 500}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "more"),
    [
        pytest.param([], [], False, id="nothing has changed"),
        pytest.param([], [{**NODE, "node": "pve2"}], True, id="a node came"),
        pytest.param([{**NODE, "status": "offline"}], [NODE], True, id="a node is back"),
        pytest.param([NODE], [{**NODE, "status": "offline"}], False, id="a node went"),
        pytest.param([{**NODE, "hastate": "maintenance"}], [NODE], True, id="a node is out of maintenance"),
        pytest.param([NODE], [{**NODE, "hastate": "maintenance"}], False, id="a node is in maintenance"),
        pytest.param([NODE], [{**NODE, "maxmem": 128}], True, id="a node has more memory"),
        pytest.param([NODE], [{**NODE, "mem": 0}], False, id="its load says little"),
        pytest.param([vm(1, maxmem=8)], [], True, id="a guest is gone"),
        pytest.param([vm(1, maxmem=8)], [vm(1, maxmem=8, status="stopped")], True, id="a guest has stopped"),
        pytest.param([vm(1, maxmem=8)], [vm(1, maxmem=8, node="pve2")], True, id="a guest has moved"),
        pytest.param([vm(1, maxmem=8)], [vm(1, maxmem=4)], True, id="a guest has become smaller"),
        pytest.param([vm(1, maxmem=8)], [vm(1, maxmem=8, lock="backup")], False, id="a guest is backed up"),
        pytest.param([vm(1, status="stopped")], [vm(1)], False, id="a guest was started"),
        pytest.param([vm(1, status="stopped")], [], False, id="a stopped guest is gone"),
        pytest.param([], [STORAGE], True, id="a storage came"),
        pytest.param([{**STORAGE, "status": "unknown"}], [STORAGE], True, id="a storage is back"),
        pytest.param([STORAGE], [{**STORAGE, "content": "images,iso"}], True, id="a storage takes more"),
        pytest.param([STORAGE], [{**STORAGE, "disk": 480}], True, id="a storage was emptied"),
        pytest.param([STORAGE], [{**STORAGE, "disk": 495}], False, id="a storage breathes"),
    ],
)
def test_room_for_what_had_no_place(before, after, more):
    old, new = snapshot(*before), snapshot(*after)
    assert has_more_room(old, new, changed_guests(old, new)) is more


def test_what_running_guests_are_given_is_summed_by_node_and_templates_never_count():
    found = snapshot(
        vm(1, maxmem=8, maxcpu=2),
        {**vm(2, maxmem=4, maxcpu=1), "type": "lxc"},
        vm(3, maxmem=16, maxcpu=4, status="unknown"),
        vm(4, maxmem=32, status="stopped"),
        vm(5, maxmem=64, template=1),
        vm(6, maxmem=2, maxcpu=8, node="pve2"),
    )
    assert {node: (given.memory, given.cpus) for node, given in found.given.items()} == {
        "pve1": (28, 7),
        "pve2": (2, 8),
    }
    assert [guest.vmid for guest in found.idle] == [4]


class Proxmox:
    """What a poller asks: the guests that may be seen, and those that exist."""

    def __init__(self, *vmids):
        self.visible = set(vmids)
        self.existing = set(vmids)
        self.failure = None
        self.polls = 0
        self.questions = []

    async def look(self):
        self.polls += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return fleet(*sorted(self.visible))

    async def is_free(self, vmid):
        self.questions.append(vmid)
        return vmid not in self.existing


def poller_of(proxmox, on_change=lambda vmids, nodes: None, **options):
    return InventoryPoller(proxmox.look, proxmox.is_free, on_change, **options)


async def test_a_token_that_loses_sight_of_everything_freezes_writes_until_it_sees_again():
    proxmox = Proxmox(1, 2, 3)
    poller = poller_of(proxmox)
    await poller.poll()
    proxmox.visible.clear()
    for _ in range(3):
        await poller.poll()
        assert "VM.Audit" in poller.frozen_reason
        assert "3 of 3" in poller.frozen_reason
    proxmox.visible |= {1, 2, 3}
    await poller.poll()
    assert poller.frozen_reason is None


async def test_guests_that_are_really_gone_do_not_freeze():
    proxmox = Proxmox(*range(1, 11))
    poller = poller_of(proxmox)
    await poller.poll()
    proxmox.visible = proxmox.existing = {9, 10}
    await poller.poll()
    assert poller.frozen_reason is None
    assert sorted(proxmox.questions) == list(range(1, 9))


async def test_more_than_one_round_of_questions_explains_a_large_drop():
    proxmox = Proxmox(*range(1, 101))
    poller = poller_of(proxmox)
    await poller.poll()
    proxmox.visible = proxmox.existing = {100}
    frozen = []
    for _ in range(6):
        await poller.poll()
        frozen.append(poller.frozen_reason is not None)
    assert frozen[0]
    assert not frozen[-1]
    assert len(proxmox.questions) <= 6 * DropGuard.QUESTIONS


async def test_a_loss_hidden_among_deletions_stays_frozen():
    """Twenty were deleted, and at the same time the token lost sight of forty others."""
    proxmox = Proxmox(*range(1, 71))
    poller = poller_of(proxmox)
    await poller.poll()
    proxmox.visible -= set(range(1, 61))
    proxmox.existing -= set(range(1, 21))
    told = set()
    for _ in range(10):
        await poller.poll()
        told.add(poller.frozen_reason)
    [reason] = told
    assert "60 of 70" in reason


async def test_our_own_deletions_are_no_surprise():
    proxmox = Proxmox(1, 2, 3)
    poller = poller_of(proxmox)
    await poller.poll()
    for vmid in (1, 2, 3):
        poller.expect_gone(vmid)
    proxmox.visible.clear()
    await poller.poll()
    assert poller.frozen_reason is None
    assert proxmox.questions == []


async def test_a_deletion_that_never_came_is_forgotten_after_ten_minutes():
    clock, proxmox = FakeClock(), Proxmox(1, 2, 3)
    poller = poller_of(proxmox, clock=clock)
    for vmid in (1, 2, 3):
        poller.expect_gone(vmid)
    await poller.poll()
    clock.pass_seconds(601)
    await poller.poll()
    proxmox.visible.clear()
    await poller.poll()
    assert poller.frozen_reason is not None


async def test_questions_that_cannot_be_asked_explain_nothing():
    proxmox = Proxmox(1, 2, 3)

    async def unreachable(vmid):
        raise errors.Unreachable("no")

    poller = InventoryPoller(proxmox.look, unreachable, lambda vmids, nodes: None)
    await poller.poll()
    proxmox.visible.clear()
    assert await poller.poll() is None
    assert poller.frozen_reason is not None
    assert set(poller.current.guests) == {1, 2, 3}


async def test_new_credentials_that_see_less_freeze_writes_as_lost_rights_do():
    proxmox = Proxmox(1, 2, 3)
    first, second, third = (poller_of(proxmox) for _ in range(3))
    await first.poll()
    proxmox.visible.clear()
    second.go_on_from(first)
    assert second.current is None
    await second.poll()
    assert "3 of 3" in second.frozen_reason
    third.go_on_from(second)
    await third.poll()
    assert "3 of 3" in third.frozen_reason
    proxmox.visible |= {1, 2, 3}
    await third.poll()
    assert third.frozen_reason is None


async def test_new_credentials_that_see_the_same_change_nothing():
    proxmox = Proxmox(1, 2, 3)
    first, second = poller_of(proxmox), poller_of(proxmox)
    await first.poll()
    second.go_on_from(first)
    await second.poll()
    assert second.frozen_reason is None
    assert set(second.current.guests) == {1, 2, 3}


@pytest.mark.parametrize(
    ("visible", "gone", "sudden"),
    [
        (1, 1, False),
        (2, 2, True),
        (4, 4, True),
        (8, 4, False),
        (9, 5, True),
        (10, 5, False),
        (100, 50, False),
        (100, 51, True),
    ],
)
def test_what_counts_as_sudden(visible, gone, sudden):
    assert is_sudden(visible, gone) is sudden


@given(st.sets(st.integers(100, 130)), st.sets(st.integers(100, 130)), st.sets(st.integers(100, 130)))
async def test_writes_never_go_on_while_a_freezing_number_exists_unseen(before, visible, existing):
    visible &= before
    existing = (existing & before) | visible
    proxmox = Proxmox(*before)
    poller = poller_of(proxmox)
    await poller.poll()
    proxmox.visible, proxmox.existing = visible, existing
    for _ in range(4):
        await poller.poll()
    hidden = existing - visible
    gone = before - visible
    if poller.frozen_reason is None:
        assert not (is_sudden(len(before), len(gone)) and is_sudden(len(before), len(hidden)))
    else:
        assert hidden


# Polling


async def test_a_failed_poll_keeps_the_last_snapshot_and_says_why():
    clock, proxmox = FakeClock(), Proxmox(1)
    poller = poller_of(proxmox, clock=clock)
    assert poller.age == float("inf")
    await poller.poll()
    clock.pass_seconds(5)
    proxmox.failure = errors.Unreachable("nobody answers")
    assert await poller.poll() is None
    assert poller.age == 5
    assert poller.error is proxmox.failure
    assert set(poller.current.guests) == {1}
    proxmox.failure = None
    await poller.poll()
    assert poller.error is None
    assert poller.age == 0


async def test_an_answer_that_makes_no_sense_is_a_failure_and_not_the_end_of_polling():
    async def nonsense():
        return [{"type": "qemu", "vmid": "many", "node": "pve1"}]

    poller = InventoryPoller(nonsense, Proxmox().is_free, lambda vmids, nodes: None)
    assert await poller.poll() is None
    assert isinstance(poller.error, errors.Transient)


async def test_changes_are_told_once():
    told = []
    proxmox = Proxmox(1, 2)
    poller = poller_of(proxmox, lambda vmids, nodes: told.append((vmids, nodes)))
    await poller.poll()
    await poller.poll()
    proxmox.visible.add(3)
    await poller.poll()
    assert told == [({1, 2}, set()), ({3}, set())]


async def test_two_who_poll_at_once_cost_no_more_than_two_polls():
    proxmox = Proxmox(1)
    poller = poller_of(proxmox)
    await asyncio.gather(*(poller.poll() for _ in range(10)))
    assert proxmox.polls <= 2


async def test_a_poke_polls_early_and_many_pokes_not_much_more_often(monkeypatch):
    monkeypatch.setattr("proxmox_operator.proxmox.inventory.POKED_INTERVAL", 0.05)
    proxmox = Proxmox(1)
    poller = poller_of(proxmox, interval=30.0)
    running = asyncio.create_task(poller.run())
    try:
        await until(lambda: proxmox.polls == 1)
        for _ in range(20):
            poller.poke()
            await asyncio.sleep(0.005)
        await until(lambda: proxmox.polls >= 2)
        assert proxmox.polls <= 5
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_failures_stretch_the_interval(monkeypatch):
    waits = []

    async def wait_for(awaitable, timeout):
        awaitable.close()
        waits.append(timeout)
        if len(waits) == 6:
            raise asyncio.CancelledError
        raise TimeoutError

    proxmox = Proxmox(1)
    proxmox.failure = errors.Unreachable("no")
    clock = FakeClock()
    poller = poller_of(proxmox, interval=5.0, clock=clock)
    monkeypatch.setattr(asyncio, "wait_for", wait_for)
    monkeypatch.setattr("proxmox_operator.proxmox.inventory.POKED_INTERVAL", 0.0)
    with pytest.raises(asyncio.CancelledError):
        await poller.run()
    assert waits == [10.0, 20.0, 30.0, 30.0, 30.0, 30.0]
