"""What Proxmox tells about a migration, read: the precondition of both versions, progress, and why it failed."""

import pytest

from proxmox_operator.planning.moving import LocalDisk, Precondition
from proxmox_operator.proxmox.migration import cause, parse_precondition, progress


def test_the_precondition_is_read_whole():
    found = parse_precondition(
        {
            "running": 1,
            "allowed_nodes": ["pve3"],
            "not_allowed_nodes": {
                "pve2": {"unavailable_storages": ["fast", "slow"], "unavailable-resources": ["hostpci0"]},
                "pve4": {"blocking-ha-resources": [{"sid": "vm:101", "cause": "resource-affinity"}]},
                "pve5": {"something-new": [1]},
            },
            "local_disks": [
                {"volid": "fast:vm-100-disk-0", "cdrom": 0, "size": 4096, "drivename": "scsi0", "is_attached": 1},
                {"volid": "fast:vm-100-cloudinit", "cdrom": 1, "is_cloudinit": 1, "drivename": "ide2"},
                {"volid": "local:iso/x.iso", "cdrom": 1, "referenced_in_snapshot": {"b": 1, "a": 1}},
            ],
            "local_resources": ["hostpci0", "usb0"],
            "mapped-resource-info": {"hostpci0": {"name": "gpu", "live-migration": 1}, "usb1": {"name": "key"}},
        }
    )  # fmt: skip
    assert found == Precondition(
        running=True,
        refused={
            "pve2": "storage fast, slow is not available there; device hostpci0 has no mapping there",
            "pve4": "HA keeps it away from vm:101 (resource affinity)",
            "pve5": "Proxmox does not allow this node",
        },
        disks=(
            LocalDisk(volume="fast:vm-100-disk-0", slot="scsi0", size=4096),
            LocalDisk(volume="fast:vm-100-cloudinit", slot="ide2", size=0, cdrom=True, generated=True),
            LocalDisk(volume="local:iso/x.iso", slot=None, size=0, cdrom=True, snapshots=("a", "b")),
        ),
        devices=("hostpci0", "usb0"),
        mapped={"hostpci0": True, "usb1": False},
    )


def test_what_proxmox_ve_8_leaves_out_for_a_running_vm_stands_in_nobodys_way():
    assert parse_precondition({"running": 1, "local_disks": [], "local_resources": []}) == Precondition(
        running=True
    )


STAMP = "2026-11-25 22:00:00 "


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], None),
        (["starting migration of VM 100 to node 'pve2'"], None),
        (["mirror-scsi0: transferred 1.5 GiB of 4.0 GiB (37.50%) in 12s"], "disk scsi0: 30 %"),
        (["drive-scsi1: transferred 4096 bytes of 4096 bytes (100.00%) in 1s"], "disk scsi1: 100 %"),
        ([f"{STAMP}migration active, transferred 1.0 GiB of 4.0 GiB VM-state, 113.2 MiB/s"], "memory: 20 %"),
        ([f"{STAMP}migration active, transferred 512.0 MiB of 2.0 GiB VM-state, 9 MiB/s", "x"], "memory: 20 %"),
        ([f"{STAMP}migration active, transferred 9G of 2G VM-state, 9 MiB/s"], "memory: 100 %"),
        (["migration active, transferred 1 B of 0 B VM-state"], None),
        (["mirror-scsi0: transferred 1G of 4G (25.00%)", "mirror-scsi0: transferred 2G of 4G (50.00%)"],
         "disk scsi0: 50 %"),
    ],
)  # fmt: skip
def test_progress_goes_in_steps_of_ten(lines, told):
    assert progress(lines) == told


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            [f"{STAMP}can't migrate local disk 'local:iso/x.iso': local cdrom image",
             f"{STAMP}ERROR: Problem found while scanning volumes - can't migrate VM - check log",
             f"{STAMP}aborting phase 1 - cleanup resources",
             f"{STAMP}ERROR: migration aborted (duration 00:00:00): Problem found", "TASK ERROR: migration aborted"],
            "can't migrate local disk 'local:iso/x.iso': local cdrom image; Problem found while scanning volumes - "
            "can't migrate VM - check log",
        ),
        (
            [f"{STAMP}[pve2] bridge 'vmbr0' does not exist",
             f"{STAMP}ERROR: online migrate failure - remote command failed with exit code 255",
             f"{STAMP}ERROR: migration finished with problems (duration 00:00:05)"],
            "[pve2] bridge 'vmbr0' does not exist; online migrate failure - remote command failed with exit code 255",
        ),
        ([f"{STAMP}starting", "TASK ERROR: unexpected status"], "TASK ERROR: unexpected status"),
        ([], "its log cannot be read"),
    ],
    ids=["before anything was copied", "half-way", "cut short", "no log"],
)  # fmt: skip
def test_the_cause_is_found_among_the_lines_before_the_last(lines, told):
    assert cause(lines) == told
