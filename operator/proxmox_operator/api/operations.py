"""Where a ProxmoxVM runs, how it is kept available, and when it may be restarted."""

from typing import Annotated, Literal

from pydantic import Field

from proxmox_operator.api.base import Matches, Rule, Wire
from proxmox_operator.api.scalars import LABEL, NodeName

TimeOfDay = Annotated[
    str,
    Field(max_length=5),
    Matches(
        pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$",
        message="start and end must be times of day from 00:00 to 23:59, such as 02:30",
    ),
]
TimeZone = Annotated[
    str,
    Field(max_length=64),
    Matches(
        pattern="^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$",
        message="timeZone must be a name of the IANA time zone database, such as Europe/Berlin or UTC",
    ),
]
PlacementLabel = Annotated[
    str,
    Field(max_length=317),
    Matches(
        pattern=rf"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?{LABEL}$",
        message="spreadBy and togetherBy must be keys of labels, such as app or example.org/stack",
    ),
]
AffinityGroup = Annotated[
    str,
    Field(max_length=30),
    Matches(
        pattern="^[a-z]([a-z0-9-]*[a-z0-9])?$",
        message="group must be lower-case letters, digits and dashes, at most 30, such as db",
    ),
]
Priority = Annotated[int, Field(ge=0, le=1000)]


class Placement(Wire):
    """Which node the VM is put on, and, with mode Require and nodes, kept on."""

    rules = (
        Rule(
            cel=(
                "(has(self.nodes) && size(self.nodes) > 0) || has(self.spreadBy) || has(self.togetherBy)"
                " || (has(self.moveLocalDisks) && self.moveLocalDisks)"
            ),
            message=(
                "spec.placement is empty: set nodes, spreadBy, togetherBy or moveLocalDisks, or remove placement"
            ),
        ),
        Rule(
            cel="!has(self.spreadBy) || !has(self.togetherBy) || self.spreadBy != self.togetherBy",
            message="spec.placement.spreadBy and togetherBy name the same label: keep one of them",
            field=".togetherBy",
        ),
    )

    nodes: Annotated[tuple[NodeName, ...], Field(max_length=64)] = ()
    """Proxmox nodes such as pve1, at most 64. Default: any."""
    mode: Literal["Prefer", "Require"] = "Prefer"
    """Whether other nodes may be used when these wishes cannot be met (Prefer) or not (Require). With Require, an
    existing VM is moved to a listed node when it is on none. Default: Prefer."""
    spread_by: PlacementLabel | None = None
    """Label of ProxmoxVMs, such as app: those of this namespace with the same value as this one are kept on different
    nodes. Decides about new VMs and moves only. Default: none."""
    together_by: PlacementLabel | None = None
    """Label of ProxmoxVMs, such as stack: those of this namespace with the same value as this one are kept on one
    node. Decides about new VMs and moves only. Default: none."""
    move_local_disks: bool = False
    """Whether disks on storage that only one node has are copied when the VM is moved; otherwise such a VM is not
    moved. Default: false."""


class NodePriority(Wire):
    """Node that the VM may run on, and how much it is preferred."""

    name: NodeName
    """Name of the node such as pve1. Required."""
    priority: Priority = 0
    """Preference over other nodes, 0 to 1000; the highest wins. Default: 0."""


class NodeAffinity(Wire):
    """Nodes that HA runs the VM on."""

    nodes: Annotated[tuple[NodePriority, ...], Field(min_length=1, max_length=64)]
    """Nodes, 1 to 64, with priorities. Required."""
    strict: bool = False
    """Whether HA may run the VM on these nodes only, even when none of them is up. Default: false."""


class ResourceAffinity(Wire):
    """Other ProxmoxVMs of this namespace that HA keeps the VM beside, or away from."""

    group: AffinityGroup
    """Group that the VMs have in common: all of the namespace that name it and are HA-managed. Required."""
    affinity: Literal["Together", "Apart"]
    """Whether HA keeps the group on one node (Together) or each on another (Apart); the same for all of a group.
    Required."""


class HARule(Wire):
    """Rules of Proxmox VE 9's HA manager for this VM."""

    rules = (
        Rule(
            cel="has(self.nodeAffinity) || has(self.resourceAffinity)",
            message="spec.availability.rule is empty: set nodeAffinity or resourceAffinity, or remove rule",
        ),
    )

    node_affinity: NodeAffinity | None = None
    """Nodes that HA runs the VM on. Default: any."""
    resource_affinity: ResourceAffinity | None = None
    """Other VMs that HA keeps the VM beside, or away from. Default: none."""


class Availability(Wire):
    """Whether and how Proxmox's HA manager keeps the VM running."""

    rules = (
        Rule(
            cel="self.ha || !(has(self.maxRestart) || has(self.maxRelocate) || has(self.rule))",
            message="spec.availability: maxRestart, maxRelocate and rule are for HA: set ha to true, or remove them",
            field=".ha",
        ),
    )

    ha: bool
    """Whether the VM is a resource of the HA manager: power then goes through it. Needs Sys.Console on /. False takes
    it out again. Required."""
    max_restart: Annotated[int, Field(ge=0, le=10)] | None = None
    """How often HA starts the VM again on the same node when that fails, 0 to 10. Default: 1."""
    max_relocate: Annotated[int, Field(ge=0, le=10)] | None = None
    """How often HA tries another node after that, 0 to 10. Default: 1."""
    rule: HARule | None = None
    """Rules of Proxmox VE 9's HA manager; Proxmox VE 8 has groups instead, which are not managed. Default: none."""


class MaintenanceWindow(Wire):
    """Time of the week in which the VM may be restarted."""

    rules = (
        Rule(
            cel="self.start != self.end",
            message="spec.updates.window.start and end are equal: set 00:00 and 23:59 for the whole day",
            field=".end",
        ),
    )

    days: Annotated[
        tuple[Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"], ...],
        Field(max_length=7),
    ] = ()
    """Days on which the window opens, at most 7. Default: every day."""
    start: TimeOfDay
    """Time of day at which the window opens, such as 02:00. Required."""
    end: TimeOfDay
    """Time of day at which the window closes, such as 04:30; before start it is that of the next day. Required."""
    time_zone: TimeZone = "UTC"
    """IANA time zone of start and end, such as Europe/Berlin. Default: UTC."""


class Updates(Wire):
    """When a change that needs a cold boot may restart the running VM."""

    rules = (
        Rule(
            cel="!has(self.window) || (has(self.restart) && self.restart == 'Automatic')",
            message="spec.updates.window is for restart Automatic: set restart to Automatic, or remove window",
            field=".window",
        ),
    )

    restart: Literal["Never", "Automatic"] = "Never"
    """Whether changes wait for the next cold boot, whoever makes it, and RestartRequired lists them (Never), or the VM
    is shut down and started again for them (Automatic). Default: Never."""
    window: MaintenanceWindow | None = None
    """Time of the week in which an automatic restart may begin. Default: at any time."""
