"""Which volumes are the recorded ones after a VM has moved, when local ones have taken other names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.planning.vmconfig import followed
from proxmox_operator.planning.vmconfig.following import UNTOLD
from unit.planning.make import a_vm, made


def a_moved_vm(*attached: tuple[str, str, str], detached: tuple[tuple[str, str], ...] = ()):
    """A VM whose status records these disks (name, slot, volume), and these detached ones (name, volume)."""
    return a_vm(
        status=made(
            disks=[{"name": n, "slot": s, "volume": v, "size": "1Gi"} for n, s, v in attached],
            detachedDisks=[{"name": n, "volume": v} for n, v in detached],
        )
    )


BEFORE = {
    "scsi0": "local:disk-0,size=8G",
    "scsi1": "local:disk-1,serial=data,size=2G",
    "unused0": "local:disk-2",
    "unused1": "ceph:disk-0",
    "net0": "virtio,bridge=vmbr0",
}
SHIFTED = {
    "scsi0": "local:disk-1,size=8G",
    "scsi1": "local:disk-2,serial=data,size=2G",
    "unused0": "local:disk-3",
    "unused1": "ceph:disk-0",
}
VM = a_moved_vm(
    ("data", "scsi1", "local:disk-1"), detached=(("old", "local:disk-2"), ("older", "ceph:disk-0"))
)


def volumes(found):
    return {disk.name: disk.volume for disk in (*found.disks, *found.detached)}


def test_names_that_shift_are_followed_by_their_keys():
    found = followed(VM, SHIFTED, before=BEFORE, shared={"ceph"})
    assert volumes(found) == {"data": "local:disk-2", "old": "local:disk-3", "older": "ceph:disk-0"}


def test_without_the_old_config_serials_and_shared_storage_tell_and_the_rest_is_left_alone():
    found = followed(VM, SHIFTED, before=None, shared={"ceph"})
    assert volumes(found) == {"data": "local:disk-2", "old": UNTOLD, "older": "ceph:disk-0"}


@pytest.mark.parametrize(
    ("disk", "config", "volume"),
    [
        (("data", "scsi1", "local:disk-1"), {"scsi1": "local:disk-9"}, UNTOLD),
        (("data", "scsi1", "local:disk-1"), {"scsi1": "local:disk-9,serial=logs"}, UNTOLD),
        (("data", "scsi1", "local:disk-1"), {"scsi2": "local:disk-1,serial=data"}, UNTOLD),
        (("scsi1", "scsi1", "local:disk-1"), {"scsi1": "local:disk-9"}, "local:disk-9"),
        (("data", "", "ceph:disk-1"), {"scsi1": "ceph:disk-2"}, UNTOLD),
        (("data", "scsi1", "ceph:disk-1"), {"scsi5": "ceph:disk-1"}, "ceph:disk-1"),
    ],
    ids=["no serial", "another's serial", "another slot", "called after its slot", "gone", "shared"],
)
def test_what_nobody_can_tell_is_not_guessed(disk, config, volume):
    assert volumes(followed(a_moved_vm(disk), config, before=None, shared={"ceph"})) == {disk[0]: volume}


SLOTS = ("scsi0", "scsi1", "scsi2", "unused0", "unused1")


@settings(deadline=None)
@given(st.permutations(range(len(SLOTS))), st.sets(st.sampled_from(SLOTS)), st.booleans())
def test_however_names_are_shuffled_no_record_ever_names_another_disk(order, ours, seen):
    before = {slot: f"local:disk-{number}" for number, slot in enumerate(SLOTS)}
    after = {slot: f"local:disk-{order[number]}" for number, slot in enumerate(SLOTS)}
    names = {slot: f"d{number}" for number, slot in enumerate(SLOTS) if slot in ours}
    for slot, name in names.items():
        if slot.startswith("scsi"):
            before[slot] += f",serial={name}"
            after[slot] += f",serial={name}"
    vm = a_moved_vm(
        *((name, slot, before[slot].split(",")[0]) for slot, name in names.items() if "scsi" in slot),
        detached=tuple((name, before[slot]) for slot, name in names.items() if "unused" in slot),
    )
    found = volumes(followed(vm, after, before=before if seen else None, shared=()))
    for slot, name in names.items():
        assert found[name] in (after[slot].split(",")[0], UNTOLD)
        assert found[name] or not (seen or "scsi" in slot)
