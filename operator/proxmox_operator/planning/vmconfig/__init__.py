"""What a VM's config should say, and what must be written to get there.

Pure: from the spec, the status and the config as Proxmox returned it, to a :class:`ConfigDiff`. Values are
compared parsed and canonical, because Proxmox hands property strings back re-ordered and completed. Only keys
that the spec lists are compared; an unset block is unmanaged. Source of the keys:
``POST /nodes/{node}/qemu/{vmid}/config``.
"""

from collections.abc import Mapping

from proxmox_operator.planning.vmconfig.changes import ConfigDiff, Grow, Problem, Put, Remove, Wanted
from proxmox_operator.planning.vmconfig.cloudinit import PASSWORD_KEY, cloud_init, password_reference
from proxmox_operator.planning.vmconfig.drives import boot_disk, listed_disks, recorded_disks
from proxmox_operator.planning.vmconfig.general import firmware, general, hardware, own_tags
from proxmox_operator.planning.vmconfig.networks import networks, recorded_networks

__all__ = [
    "PASSWORD_KEY",
    "ConfigDiff",
    "Grow",
    "Problem",
    "Put",
    "Remove",
    "Wanted",
    "diff",
    "own_tags",
    "password_reference",
    "recorded_disks",
    "recorded_networks",
]


def diff(wanted: Wanted, config: Mapping[str, str]) -> ConfigDiff:
    """Compare the config (values as Proxmox returns them, pending ones merged) with what is wanted."""
    changes = [
        change
        for area in (general, hardware, firmware, boot_disk, listed_disks, networks, cloud_init)
        for change in area(wanted, config)
    ]
    return ConfigDiff(
        puts=tuple(change for change in changes if isinstance(change, Put)),
        removes=tuple(change for change in changes if isinstance(change, Remove)),
        grows=tuple(change for change in changes if isinstance(change, Grow)),
        problems=tuple(change for change in changes if isinstance(change, Problem)),
    )
