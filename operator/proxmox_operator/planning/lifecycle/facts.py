"""What the decision rests on: what is known about the VM in Proxmox, and everything beside it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.planning.adoption import Adoptee
from proxmox_operator.planning.availability import HA
from proxmox_operator.planning.firstboot import FirstBoot
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.lifecycle.steps import Due, Wait
from proxmox_operator.planning.moving import Going, Staying
from proxmox_operator.planning.placement import Placed, Unschedulable
from proxmox_operator.planning.seed import Seed
from proxmox_operator.planning.vmconfig import ConfigDiff, PendingChange

Power = Literal["Running", "Stopped", "Paused", "Unknown"]


@dataclass(frozen=True, kw_only=True)
class Absent:
    """Proven: its VMID is free, the cluster is quorate and the right one, and no task is making it."""


@dataclass(frozen=True, kw_only=True)
class Unknown:
    """It may exist or not; ``reason`` and ``message`` say why nobody can tell.

    ``after``: seconds until another look.
    """

    reason: str
    message: str
    after: float = 15.0


@dataclass(frozen=True, kw_only=True)
class Present:
    """It exists. ``diff`` is what its config lacks, ``detached`` are disks to be kept that would go with it."""

    node: str
    power: Power
    lock: str | None
    owner: Owner
    diff: ConfigDiff
    detached: tuple[str, ...] = ()
    protected: bool = False
    hold: str | None = None
    """Why its power must not be touched now (a node shutting down, a backup in stop mode, hibernation)."""
    pending: tuple[PendingChange, ...] = ()
    """What its next cold boot applies; nothing waits while it is off."""
    restart: Due | None = None
    """The restart that is to begin, if nothing stands in its way."""
    obstacle: str | None = None
    """Why it would not start again where it is, as far as that is visible; asked only where ``restart`` is."""
    booted_after: datetime | None = None
    """A moment before which it was certainly not started; None where that is not known."""
    moved: tuple[str, ...] | None = None
    """A recorded move of a disk has ended or not begun, and these volumes are what it left behind; None: none is on
    record."""


Existence = Absent | Unknown | Present


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A VM found by its mark: the status was lost, or the mark has just been written by an adoption.

    ``own``: the mark is of this very cluster and namespace. ``granted``: it may be taken back, being our own
    or by a grant.
    """

    vmid: int
    uuid: str
    own: bool
    granted: bool


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything the decision rests on, gathered in one pass.

    ``denied`` lists violations of the cluster's grants. ``working`` names a Proxmox task or call of ours that has not
    ended. ``settles_at``: before this time a call of ours whose answer was lost may still take effect.
    ``place`` is gathered only while there is a VM to be created, ``adoptees`` (what ``spec.source.adopt`` names) only
    while none has been taken over.
    """

    vm: ProxmoxVM
    now: datetime
    denied: tuple[str, ...] = ()
    existence: Existence | None = None
    working: str | None = None
    settles_at: datetime | None = None
    claimed: Claimed | None = None
    adoptees: tuple[Adoptee, ...] | None = None
    place: Placed | Unschedulable | None = None
    ha: HA | None = None
    """None where neither ``spec.availability`` nor Proxmox has anything to do with HA."""
    move: Going | Staying | None = None
    """None where the VM is where it is to be, or nobody has said where that is."""
    progress: str | None = None
    """How far the task that is ``working`` has come, where it tells."""
    ready_checks: tuple[Wait, ...] = ()
    first_boot: FirstBoot | None = None
    """None where nobody waits for it, or it was not asked."""
    seed: Seed | None = None
    """None where the VM has none and is not to have one."""
    left: tuple[str, ...] = ()
    """Volumes that Proxmox could not free when it destroyed the VM."""
    stop_failed: str | None = None
    """Why the shutdown of a restart has just failed: the guest did not obey in time."""
