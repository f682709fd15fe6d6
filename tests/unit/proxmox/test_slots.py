"""Allocation slots: never more than the limit, first come first served."""

import pytest

from proxmox_operator.errors import Waiting
from proxmox_operator.proxmox.audit import Actor
from proxmox_operator.proxmox.slots import AllocationSlots, Usage

WEB, DB, MAIL = (Actor("ProxmoxVM", "shop", name) for name in ("web", "db", "mail"))


def test_a_third_allocation_waits_and_says_for_what():
    slots = AllocationSlots(2)
    slots.take("ceph", WEB)
    slots.take("ceph", DB)
    with pytest.raises(Waiting, match="allocationsPerStorage") as caught:
        slots.take("ceph", MAIL)
    assert caught.value.reason == "StorageBusy"
    slots.take("lvm", MAIL)
    assert (slots.held("ceph"), slots.held("lvm")) == (2, 1)


def test_the_one_that_waited_longest_is_woken_when_a_slot_is_free():
    woken: list[Actor] = []
    slots = AllocationSlots(1, woken.append)
    slots.take("ceph", WEB)
    for actor in (DB, MAIL, DB):
        with pytest.raises(Waiting):
            slots.take("ceph", actor)
    slots.release("ceph")
    assert woken == [DB]
    slots.take("ceph", DB)
    slots.release("ceph")
    assert woken == [DB, MAIL]
    slots.take("ceph", MAIL)
    slots.release("ceph")
    assert woken == [DB, MAIL]


def test_who_got_a_slot_after_all_is_not_woken_for_it_again():
    woken: list[Actor] = []
    slots = AllocationSlots(1, woken.append)
    slots.take("ceph", WEB)
    with pytest.raises(Waiting):
        slots.take("ceph", DB)
    slots.release("ceph")
    slots.take("ceph", DB)
    slots.release("ceph")
    assert woken == [DB]


def test_the_busiest_storage_and_all_who_wait_are_told():
    slots = AllocationSlots(2)
    assert slots.usage() == Usage(limit=2, used=0, waiting=0)
    for actor in (WEB, DB):
        slots.take("ceph", actor)
    slots.take("lvm", WEB)
    with pytest.raises(Waiting):
        slots.take("ceph", MAIL)
    assert slots.usage() == Usage(limit=2, used=2, waiting=1)
    for storage in ("ceph", "ceph", "lvm"):
        slots.release(storage)
    assert slots.usage() == Usage(limit=2, used=0, waiting=0)
