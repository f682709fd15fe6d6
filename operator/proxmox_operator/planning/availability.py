"""A VM's place in Proxmox's HA manager: what is configured there, what the spec wants, and what differs.

The manager does what its configuration says within some 20 seconds: a *resource* has a requested state (started,
stopped, disabled, ignored), and the manager a state of its own for it (started, request_stop, fence, error ...),
which the inventory shows. Facts: PVE::API2::HA::Resources and PVE::HA::Manager of pve-ha-manager 5.2. Not here: the
rules (``planning.harules``), and when a difference is written (``planning.lifecycle.ha``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from proxmox_operator.api import Availability, ProxmoxVM
from proxmox_operator.planning.disks import Drive
from proxmox_operator.planning.harules import RefusedRule, RuleFacts

DEFAULT_TRIES = 1
"""What Proxmox takes for max_restart and max_relocate where they are left out."""

KEPT_OFF = frozenset({"stopped", "disabled"})
"""Requested states in which the manager switches a VM off that runs."""

_VOLUMES = ("scsi", "virtio", "sata", "ide", "efidisk", "tpmstate")


@dataclass(frozen=True, kw_only=True)
class HAResource:
    """A VM as the HA manager's configuration has it; ``state`` is the one that is requested."""

    state: str = "started"
    max_restart: int = DEFAULT_TRIES
    max_relocate: int = DEFAULT_TRIES
    comment: str = ""


@dataclass(frozen=True, kw_only=True)
class HA:
    """What is known about a VM and the HA manager.

    ``resource``: None where it is not under HA. ``state`` is the manager's own. ``unreadable``: why the configuration
    cannot be read; ``lacking``: which privilege for writing it is missing. ``local`` are the drives that keep the VM
    from being started on another node. ``comment`` is what marks a resource as ours. ``asked``: the power that was
    asked of the manager a moment ago, and that the configuration need not show yet. ``rules``: None where they are of
    no concern; ``refused``: a rule that is not to be tried again yet.
    """

    resource: HAResource | None = None
    state: str | None = None
    unreadable: str | None = None
    lacking: str | None = None
    local: tuple[str, ...] = ()
    comment: str = ""
    asked: str | None = None
    rules: RuleFacts | None = None
    refused: RefusedRule | None = None

    @property
    def governs(self) -> bool:
        """Whether power goes through HA, whoever put the VM under it. Proxmox bypasses HA for an ignored resource."""
        if self.unreadable is not None:
            return self.state not in (None, "ignored")
        return self.resource is not None and self.resource.state != "ignored"

    @property
    def failed(self) -> bool:
        """The manager has given up: it does nothing until the requested state was ``disabled`` for a moment."""
        return self.governs and self.state == "error"

    def is_ours(self, vm: ProxmoxVM) -> bool:
        """Whether the operator put the VM under HA; the comment tells it after a lost status."""
        recorded = vm.status.ha is not None and vm.status.ha.joined
        return self.resource is not None and (recorded or self.resource.comment == self.comment)


def differences(wish: Availability, resource: HAResource, state: str | None) -> dict[str, str | int]:
    """Settings of the resource to write, by Proxmox's names; ``state`` is the one to request, None: as it is."""
    wanted: dict[str, str | int | None] = {
        "state": state,
        "max_restart": DEFAULT_TRIES if wish.max_restart is None else wish.max_restart,
        "max_relocate": DEFAULT_TRIES if wish.max_relocate is None else wish.max_relocate,
    }
    return {
        name: value
        for name, value in wanted.items()
        if value is not None and value != getattr(resource, name)
    }


def sentences(changes: Mapping[str, str | int], resource: HAResource) -> tuple[str, ...]:
    """The differences for a person, old value first."""
    return tuple(f"HA {name}: {getattr(resource, name)} -> {value}" for name, value in changes.items())


def local_drives(config: Mapping[str, str], shared: Mapping[str, bool]) -> tuple[str, ...]:
    """Drives that another node does not have, so that HA could not start the VM there; ``shared`` tells it by storage.

    A storage that cannot be seen is not taken for shared. A cloud-init drive is made anew by each start.
    """
    found = []
    for slot, value in sorted(config.items()):
        drive = Drive.parse(value) if slot.rstrip("0123456789") in _VOLUMES else None
        if drive is None or drive.volume in ("", "none") or "cloudinit" in drive.volume:
            continue
        if drive.volume == "cdrom" or drive.volume.startswith("/"):
            found.append(f"{slot} (a device of the node)")
        elif drive.storage not in shared:
            found.append(f"{slot} on {drive.storage} (cannot be seen: grant Datastore.Audit)")
        elif not shared[drive.storage]:
            found.append(f"{slot} on {drive.storage}")
    return tuple(found)
