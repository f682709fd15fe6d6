"""What a VM's config should say, and what must be written to get there.

Pure: from the spec, the status and the config as Proxmox returned it, to a :class:`ConfigDiff`. Values are
compared parsed and canonical, because Proxmox hands property strings back re-ordered and completed. Only keys
that the spec lists are compared; an unset block is unmanaged. Source of the keys:
``POST /nodes/{node}/qemu/{vmid}/config``.
"""

from collections.abc import Mapping
from dataclasses import replace

from proxmox_operator.planning import disks
from proxmox_operator.planning.vmconfig.changes import (
    Change,
    ConfigDiff,
    Grow,
    Held,
    Move,
    Problem,
    Put,
    Remove,
    Wanted,
    result,
)
from proxmox_operator.planning.vmconfig.cloudinit import PASSWORD_KEY, cloud_init, password_reference
from proxmox_operator.planning.vmconfig.detaching import disks_taken_off
from proxmox_operator.planning.vmconfig.devices import pci_devices, usb_devices
from proxmox_operator.planning.vmconfig.drives import boot_disk, listed_disks
from proxmox_operator.planning.vmconfig.effects import effect, reruns_cloud_init
from proxmox_operator.planning.vmconfig.firmware import firmware
from proxmox_operator.planning.vmconfig.following import followed
from proxmox_operator.planning.vmconfig.general import general, own_tags, updates
from proxmox_operator.planning.vmconfig.hardware import machine, memory, peripherals, processor
from proxmox_operator.planning.vmconfig.managed import managed, no_longer_managed
from proxmox_operator.planning.vmconfig.networks import macs, networks, recorded_networks
from proxmox_operator.planning.vmconfig.pending import PendingChange, fingerprint, with_fields
from proxmox_operator.planning.vmconfig.possible import impossible
from proxmox_operator.planning.vmconfig.records import (
    DiskRecords,
    at_stake,
    disk_records,
    questions,
    taken_off,
)
from proxmox_operator.planning.vmconfig.seed import seed_drive

__all__ = [
    "PASSWORD_KEY",
    "ConfigDiff",
    "DiskRecords",
    "Grow",
    "Held",
    "Move",
    "PendingChange",
    "Problem",
    "Put",
    "Remove",
    "Wanted",
    "at_stake",
    "diff",
    "disk_records",
    "fingerprint",
    "followed",
    "macs",
    "managed",
    "no_longer_managed",
    "own_tags",
    "password_reference",
    "questions",
    "recorded_networks",
    "taken_off",
    "with_fields",
]

_AREAS = (
    general,
    updates,
    processor,
    memory,
    machine,
    peripherals,
    firmware,
    pci_devices,
    usb_devices,
    boot_disk,
    listed_disks,
    disks_taken_off,
    networks,
    cloud_init,
    seed_drive,
)


def diff(wanted: Wanted, config: Mapping[str, str]) -> ConfigDiff:
    """Compare the config (values as Proxmox returns them, pending ones merged) with what is wanted."""
    changes = [change for area in _AREAS for change in area(wanted, config)]
    after = result(config, changes)
    changes += impossible(wanted.vm.spec, after)
    seeded = wanted.started and disks.has_cloud_init_drive(after)
    changes = [_judged(change, config, after, wanted, seeded=seeded) for change in changes]
    return ConfigDiff(
        puts=tuple(change for change in changes if isinstance(change, Put)),
        removes=tuple(change for change in changes if isinstance(change, Remove)),
        moves=tuple(change for change in changes if isinstance(change, Move)),
        grows=tuple(change for change in changes if isinstance(change, Grow)),
        held=tuple(change for change in changes if isinstance(change, Held)),
        problems=tuple(change for change in changes if isinstance(change, Problem)),
    )


def _judged(
    change: Change, config: Mapping[str, str], after: Mapping[str, str], wanted: Wanted, *, seeded: bool
) -> Change:
    """The change with its effect on the VM as it runs, and on the guest's cloud-init."""
    if not isinstance(change, Put | Remove):
        return change
    was, new = config.get(change.key), after.get(change.key)
    now = config if wanted.seen.current is None else wanted.seen.current
    return replace(
        change,
        effect=effect(change.key, now.get(change.key), new, now) if wanted.running else None,
        reruns_cloud_init=seeded and reruns_cloud_init(change.key, was, new, after),
    )
