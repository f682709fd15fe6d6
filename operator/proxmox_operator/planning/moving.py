"""Moving an existing VM to another node: only where that was asked for, and only where nothing stands in the way.

Asked for by ``spec.placement`` under Require, when its nodes no longer hold the VM, or once by the annotation move-to.
A VM that HA or a person has moved is followed: the wish of an annotation that was fulfilled once is over. Everything
that would make Proxmox refuse, or fail half-way, is looked for before, and named with its remedy. Facts: migration's
precondition in qemu-server (``PVE::API2::Qemu``, ``PVE::QemuMigrate``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.api.names import MOVE_TO
from proxmox_operator.planning import disks
from proxmox_operator.planning.placement import (
    Needs,
    Node,
    Refusal,
    Terms,
    best,
    grouped,
    needs_of_config,
    refusal,
    unknown_nodes,
)
from proxmox_operator.planning.seed import is_seed


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Nodes of which one is to hold the VM, and who says so."""

    nodes: tuple[str, ...]
    cause: str


@dataclass(frozen=True, kw_only=True)
class LocalDisk:
    """A volume that only the VM's node has; ``slot`` is None for one that no drive names.

    ``generated``: Proxmox writes it anew (cloud-init). ``snapshots`` refer to it. ``size`` in bytes.
    """

    volume: str
    slot: str | None
    size: int
    cdrom: bool = False
    generated: bool = False
    snapshots: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.slot} ({self.volume})" if self.slot else self.volume


@dataclass(frozen=True, kw_only=True)
class Precondition:
    """What Proxmox says about moving the VM; ``refused`` by node, ``devices`` of the node that the VM holds.

    ``mapped``: those of them that are resource mappings, and whether they can move while the VM runs.
    """

    running: bool
    refused: Mapping[str, str] = field(default_factory=dict)
    disks: tuple[LocalDisk, ...] = ()
    devices: tuple[str, ...] = ()
    mapped: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Going:
    """The VM is moved to ``target``, live when it runs; ``local_disks``: with disks that only its node has."""

    target: str
    live: bool
    local_disks: bool
    cause: str
    needs: Needs


@dataclass(frozen=True, kw_only=True)
class Staying:
    """A VM that is to move, and why it does not. ``waits``: it will by itself, another look after that many seconds."""

    reason: str
    message: str
    waits: float | None = None


def requested(vm: ProxmoxVM) -> str | None:
    """The node that the annotation names; None without it."""
    return (vm.metadata.annotations.get(MOVE_TO) or "").strip() or None


def fulfilled(vm: ProxmoxVM, node: str) -> str | None:
    """``status.movedTo`` of a VM that is on ``node``: the annotation's value once it was fulfilled."""
    asked = requested(vm)
    return asked if asked is None or asked == node else vm.status.moved_to


def wish_of(vm: ProxmoxVM, node: str) -> Wish | None:
    """Where the VM, which is on ``node``, is to be instead; None where nobody has said so."""
    placement, asked = vm.spec.placement, requested(vm)
    required = placement.nodes if placement is not None and placement.mode == "Require" else ()
    misplaced = bool(required) and node not in required
    if asked not in (None, node, vm.status.moved_to) and not (misplaced and asked not in required):
        return Wish(nodes=(str(asked),), cause=f"annotation {MOVE_TO}")
    return Wish(nodes=required, cause="spec.placement.nodes") if misplaced else None


def decide(
    vm: ProxmoxVM,
    wish: Wish,
    config: Mapping[str, str],
    check: Precondition,
    nodes: Sequence[Node],
    terms: Terms,
    *,
    home: str,
    failed: Mapping[str, Refusal],
) -> Going | Staying:
    """Where the VM goes, or why it stays. ``failed`` are nodes that a move has failed to of late."""
    moves_disks = terms.placement is not None and terms.placement.move_local_disks
    copied = [disk for disk in check.disks if not disk.cdrom]
    space: Counter[str] = Counter()
    for disk in copied:
        space[disk.volume.partition(":")[0]] += disk.size
    runs = check.running or vm.spec.wanted_power == "Running"
    needs = needs_of_config(config, runs=runs, space=space)
    refusals: dict[str, Refusal] = {}
    fitting: list[Node] = []
    for name in wish.nodes:
        node = next((node for node in nodes if node.name == name), None)
        why = _unknown(name, terms, nodes) if node is None else refusal(node, needs, terms)
        if why is None and name in check.refused:
            why = Refusal(reason="Refused", message=check.refused[name])
        why = why or failed.get(name)
        if why is not None:
            refusals[name] = why
        elif node is not None:
            fitting.append(node)
    obstacles = _obstacles(check, moves_disks=moves_disks)
    if fitting and not obstacles:
        return Going(
            target=best(fitting, terms, home={home}).name,
            live=check.running,
            local_disks=moves_disks and bool(copied),
            cause=wish.cause,
            needs=needs,
        )
    if not fitting:
        obstacles.append(grouped({name: why.message for name, why in refusals.items()}))
    has_failed = not fitting and any(why.reason == "MoveFailed" for why in refusals.values())
    return Staying(
        reason="MoveFailed" if has_failed else "MoveRefused",
        message=f"VM {vm.status.vmid} stays on {home} ({wish.cause}): {'; '.join(obstacles)}",
    )


def _unknown(name: str, terms: Terms, nodes: Sequence[Node]) -> Refusal:
    message = "there is no node of this name: correct the annotation"
    return unknown_nodes(terms, nodes).get(name) or Refusal(reason="NodeNotFound", message=message)


def _obstacles(check: Precondition, *, moves_disks: bool) -> list[str]:
    """What keeps the VM from going anywhere, each with its remedy."""
    found: list[str] = []
    for disk in check.disks:
        if disk.cdrom and is_seed(disk.volume):
            found.append(
                f"{disk} holds the user data of the first boot, on storage that only this node has: wait until the "
                "guest agent tells that cloud-init is done, or eject it; another seedStorage, which is shared, spares "
                "new VMs that" + _referred(disk)
            )
        elif disk.cdrom and not disk.generated:
            found.append(
                f"{disk} is a CD-ROM on storage that only this node has: eject it, or put the image on shared storage"
                + _referred(disk)
            )
        elif disk.snapshots and check.running and not disk.generated:
            found.append(
                f"snapshot {', '.join(disk.snapshots)} holds {disk}, a disk that only this node has: delete the "
                "snapshot, or stop the VM to have it moved"
            )
        elif not moves_disks and not disk.generated:
            found.append(
                f"{disk} is on storage that only this node has: set spec.placement.moveLocalDisks to true to have it "
                "copied, or move it to shared storage first"
            )
    for device in check.devices:
        if device not in check.mapped:
            found.append(f"{device} is a device of this node: remove it, or use a resource mapping")
        elif check.running and not check.mapped[device]:
            found.append(f"{device} cannot be moved while the VM runs: stop the VM, or remove the device")
    return found


def _referred(disk: LocalDisk) -> str:
    return f" (snapshot {', '.join(disk.snapshots)} refers to it)" if disk.snapshots else ""


def cloud_init_may_run_again(config: Mapping[str, str]) -> bool:
    """Whether cloud-init's instance changes with the node: without a name server it gets the node's (traps: 18)."""
    return disks.has_cloud_init_drive(config) and "nameserver" not in config
