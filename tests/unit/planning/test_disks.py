"""Drives are read as Proxmox writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxmox_operator.api import DiskStatus
from proxmox_operator.planning import disks

RECORDED = DiskStatus(name="data", slot="scsi1", volume="ceph:vm-10000-disk-1", size="5Gi")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8G", 8 << 30),
        ("2252M", 2252 << 20),
        ("528K", 528 << 10),
        ("1T", 1 << 40),
        ("1.5G", 3 << 29),
        ("4194304", 4 << 20),
        ("", 0),
        ("8Gi", 0),
        ("-1G", 0),
        ("none", 0),
    ],
)
def test_sizes(text, size):
    assert disks.parse_size(text) == size


def test_a_drive_with_another_size_is_else_the_same():
    before = "local-lvm:vm-10000-disk-0,discard=on,iothread=1,size=2252M"
    after = disks.Drive.parse(disks.with_size(before, 10 << 30))
    assert after.size == 10 << 30
    assert after.volume == "local-lvm:vm-10000-disk-0"
    assert {key: after.options[key] for key in ("discard", "iothread")} == {"discard": "on", "iothread": "1"}


def test_a_drive_without_a_size_is_given_one():
    assert disks.Drive.parse(disks.with_size("ceph:vm-10000-disk-0", 5)).size == 5


@given(st.text())
def test_any_value_can_be_read_as_a_drive(text):
    drive = disks.Drive.parse(text)
    assert drive.size >= 0


def test_the_parts_of_a_linked_clones_drive():
    drive = disks.Drive.parse("local-lvm:base-9000-disk-0/vm-10000-disk-0,iothread=1,size=8G")
    assert drive.volume == "local-lvm:base-9000-disk-0/vm-10000-disk-0"
    assert drive.storage == "local-lvm"
    assert drive.size == 8 << 30


@pytest.mark.parametrize(
    ("config", "slot"),
    [
        pytest.param(
            {"boot": "order=scsi1;net0", "scsi0": "a:1", "scsi1": "a:2"},
            "scsi1",
            id="the first disk in order",
        ),
        pytest.param({"boot": "order=net0;scsi0", "scsi0": "a:1"}, "scsi0", id="after the network"),
        pytest.param(
            {"boot": "order=ide2;virtio0", "ide2": "local:iso/x.iso,media=cdrom", "virtio0": "a:1"},
            "virtio0",
            id="a CD-ROM is no boot disk",
        ),
        pytest.param(
            {"boot": "order=scsi5", "scsi0": "a:1"}, "scsi0", id="the order names one that is not there"
        ),
        pytest.param(
            {"boot": "cdn", "bootdisk": "sata0", "sata0": "a:1", "ide0": "a:2"}, "sata0", id="the old way"
        ),
        pytest.param({"virtio0": "a:1"}, "virtio0", id="no order at all"),
        pytest.param({"boot": "order=net0"}, None, id="no disk"),
    ],
)
def test_the_disk_a_vm_boots_from(config, slot):
    assert disks.boot_slot(config) == slot


@pytest.mark.parametrize(
    ("config", "known", "slot"),
    [
        pytest.param({"scsi2": "ceph:vm-10000-disk-7,serial=data"}, None, "scsi2", id="by its serial"),
        pytest.param({"scsi3": "ceph:vm-10000-disk-1"}, RECORDED, "scsi3", id="by its recorded volume"),
        pytest.param(
            {"scsi2": "ceph:vm-10000-disk-9,serial=data", "scsi3": "ceph:vm-10000-disk-1,serial=data"},
            RECORDED,
            "scsi3",
            id="the recorded volume counts more than a serial that somebody else set",
        ),
        pytest.param(
            {"scsi2": "local:vm-10000-disk-9,serial=data"}, RECORDED, "scsi2", id="moved to another storage"
        ),
        pytest.param(
            {"scsi0": "ceph:vm-10000-disk-1", "scsi1": "ceph:vm-10000-disk-2,serial=data"},
            RECORDED,
            "scsi1",
            id="a serial counts more than a name that another disk has got",
        ),
        pytest.param(
            {"scsi1": "ceph:vm-10000-disk-1,serial=logs"},
            RECORDED,
            None,
            id="nor does another's serial mislead",
        ),
        pytest.param({"unused0": "ceph:vm-10000-disk-1"}, RECORDED, None, id="detached is not attached"),
        pytest.param({"scsi1": "ceph:vm-10000-disk-2,serial=logs"}, None, None, id="another disk"),
        pytest.param({"ide2": "none,media=cdrom,serial=data"}, None, None, id="a CD-ROM is no disk"),
    ],
)
def test_where_a_disk_is(config, known, slot):
    assert disks.slot_of("data", config, known) == slot


def test_new_disks_take_the_first_free_slot_and_leave_the_boot_disks_alone():
    assert disks.free_slot({"scsi1", "scsi2", "virtio3"}) == "scsi3"
    assert disks.free_slot({f"scsi{number}" for number in range(1, 31)}) is None


def test_detached_volumes_are_named():
    config = {"unused1": "b:2", "unused0": "a:1", "scsi0": "c:3", "unusual": "x"}
    assert disks.unused(config) == {"unused0": "a:1", "unused1": "b:2"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"ssd": "1"}, {"ssd": "on"}),
        ({"backup": "1"}, {}),
        ({"cache": "none", "discard": "ignore"}, {}),
        ({"iothread": "0", "size": "8G"}, {"size": "9G"}),
    ],
)
def test_equal_settings_compare_equal(one, other):
    assert disks.canonical(one) == disks.canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"backup": "0"}, {}),
        ({"discard": "on"}, {}),
        ({"cache": "writeback"}, {}),
        ({"ssd": "1"}, {"ssd": "0"}),
    ],
)
def test_unequal_settings_do_not(one, other):
    assert disks.canonical(one) != disks.canonical(other)


def test_a_cloud_init_drive_is_known_by_its_volume():
    assert disks.has_cloud_init_drive({"ide2": "local-lvm:vm-10000-cloudinit,media=cdrom"})
    assert not disks.has_cloud_init_drive({"ide2": "local:iso/debian.iso,media=cdrom"})
