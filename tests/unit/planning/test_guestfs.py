"""Whether a guest has let go of a disk: only what is proven counts."""

import pytest

from proxmox_operator.planning.guestfs import Filesystem, GuestDisk, in_use

ROOT_9 = GuestDisk(serial="0QEMU_QEMU_HARDDISK_drive-scsi0", bus="scsi", target=0, unit=0)
DATA_9 = GuestDisk(serial="0QEMU_QEMU_HARDDISK_drive-scsi1", bus="scsi", target=0, unit=1)
DATA_8 = GuestDisk(serial="0QEMU_QEMU_HARDDISK_data", bus="scsi", target=0, unit=1)
LOGS_8 = GuestDisk(serial="0QEMU_QEMU_HARDDISK_logs", bus="scsi", target=0, unit=2)


def mounted(*disks, at="/srv", device="sdb1", type="ext4"):
    return Filesystem(mountpoint=at, device=device, type=type, disks=disks)


ROOT = mounted(ROOT_9, at="/", device="sda1")


@pytest.mark.parametrize(
    "filesystems",
    [
        pytest.param([ROOT], id="only the root disk is mounted"),
        pytest.param([ROOT, mounted(LOGS_8)], id="and another one"),
        pytest.param([ROOT, mounted(device="loop3", type="squashfs")], id="an image on a mounted filesystem"),
        pytest.param(
            [ROOT, mounted(GuestDisk(bus="sata", target=0, unit=1))], id="the same number on another bus"
        ),
        pytest.param(
            [mounted(GuestDisk(serial="boot", bus="virtio"), at="/")], id="told by its serial number"
        ),
    ],
)
def test_it_has_let_go_where_everything_mounted_is_on_other_disks(filesystems):
    assert in_use(filesystems, slot="scsi1", serial="data") is None


@pytest.mark.parametrize(
    ("filesystem", "slot"),
    [
        pytest.param(mounted(DATA_9), "scsi1", id="by the slot, as of Proxmox VE 9"),
        pytest.param(mounted(DATA_8), "scsi1", id="by the serial number, before"),
        pytest.param(mounted(DATA_8), "scsi7", id="by the serial number alone"),
        pytest.param(
            mounted(GuestDisk(serial="other", bus="scsi", target=0, unit=1)), "scsi1", id="by the unit"
        ),
        pytest.param(mounted(GuestDisk(bus="scsi", target=1, unit=0)), "scsi1", id="by the target"),
        pytest.param(
            mounted(GuestDisk(bus="scsi", target=1, unit=0)), "scsi8", id="on the second controller of seven"
        ),
        pytest.param(mounted(GuestDisk(serial="data", bus="virtio")), "virtio1", id="on another bus"),
        pytest.param(mounted(LOGS_8, DATA_8, device="dm-0"), "scsi1", id="as a part of a volume group"),
    ],
)
def test_it_is_mounted(filesystem, slot):
    assert in_use([ROOT, filesystem], slot=slot, serial="data") == "mounted in the guest at /srv"


@pytest.mark.parametrize(
    "filesystems",
    [
        pytest.param([], id="no filesystem at all is no answer"),
        pytest.param([ROOT, mounted()], id="one on no disk that the agent knows"),
        pytest.param([ROOT, mounted(GuestDisk())], id="one on a disk without any mark"),
        pytest.param([ROOT, mounted(GuestDisk(bus="scsi"))], id="one on a disk without an address"),
        pytest.param([ROOT, mounted(GuestDisk(bus="unknown", target=0, unit=7))], id="one on an unknown bus"),
        pytest.param(
            [ROOT, mounted(GuestDisk(serial="35000c500deadbeef", bus="scsi"))],
            id="one on a disk that is told by its wwn alone",
        ),
        pytest.param([ROOT, mounted(ROOT_9, type="btrfs")], id="one that may span disks"),
    ],
)
def test_what_cannot_be_told_counts_as_in_use(filesystems):
    assert in_use(filesystems, slot="scsi1", serial="data") is not None


def test_the_address_of_the_first_disk_may_be_that_of_the_eighth():
    """On LSI controllers; only a serial number tells them apart."""
    nameless = mounted(GuestDisk(bus="scsi", target=0, unit=0), at="/")
    assert in_use([nameless], slot="scsi7", serial="data") is not None
    assert in_use([ROOT], slot="scsi7", serial="data") is None
