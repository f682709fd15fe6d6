"""The disks of a VM that is on another node than before: which of its volumes are the recorded ones.

A migration keeps slots and ``unusedN`` keys, and shared volumes keep their names; a copy on local storage takes the
next free name there. So ``vm-10000-disk-1`` of the new node may be what was ``vm-10000-disk-0`` on the old one, and a
record that is not renamed together would name other data.
"""

import re
from collections.abc import Collection, Mapping

from proxmox_operator.api import DetachedDisk, ProxmoxVM
from proxmox_operator.planning import disks
from proxmox_operator.planning.vmconfig.records import DiskRecords

_HOLDS_A_VOLUME = re.compile(r"^(scsi|virtio|sata|ide|unused)\d+$")

UNTOLD = ""
"""Volume of a disk of which nobody can tell any more which one it is: nothing is done to it."""


def followed(
    vm: ProxmoxVM,
    config: Mapping[str, str],
    *,
    before: Mapping[str, str] | None,
    shared: Collection[str],
) -> DiskRecords:
    """The records under the names that their volumes have now.

    ``before`` is the config as it was last seen on the other node, where this process has seen it. ``shared`` are
    storages that all nodes have in common.
    """
    names = _renamed(before, config) if before is not None else {}
    present = {drive.volume for drive in disks.drives(config).values()} | {*disks.unused(config).values()}

    def known(volume: str) -> str | None:
        if volume in names:
            return names[volume]
        return volume if volume.partition(":")[0] in shared and volume in present else None

    attached = []
    for disk in vm.status.disks:
        volume = known(disk.volume) or _in_its_slot(disk.name, disk.slot, config)
        attached.append(disk.model_copy(update={"volume": volume or UNTOLD}))
    detached = [
        DetachedDisk(name=disk.name, volume=known(disk.volume) or UNTOLD) for disk in vm.status.detached_disks
    ]
    return DiskRecords(tuple(attached), tuple(detached))


def _renamed(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """New names by old ones, of the volumes that are under the same key."""
    keys = (key for key in before if _HOLDS_A_VOLUME.match(key) and key in after)
    return {disks.Drive.parse(before[key]).volume: disks.Drive.parse(after[key]).volume for key in keys}


def _in_its_slot(name: str, slot: str, config: Mapping[str, str]) -> str | None:
    """The volume in the slot that the disk was in, where its serial number, or its being called so, says it is it."""
    drive = disks.drives(config).get(slot)
    if drive is None or name not in (slot, drive.options.get("serial")):
        return None
    return drive.volume
