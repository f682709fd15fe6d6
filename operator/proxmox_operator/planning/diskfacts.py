"""What is read besides the config, where a disk is to be attached, detached, moved or destroyed.

Most of these facts cost a call, so they are read only where :func:`planning.vmconfig.questions` asks for it. ``None``
means not known, and nothing is done on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from proxmox_operator.planning.guestfs import Filesystem

Question = Literal["guest", "snapshots"]


@dataclass(frozen=True, kw_only=True)
class Room:
    """A storage as the VM's node sees it; ``free`` in bytes, None where Proxmox does not tell."""

    content: frozenset[str]
    free: int | None
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class DiskFacts:
    """``node`` is where the VM is. ``current`` is the config without what waits for a cold boot, which comes with the
    config itself. ``stopped``: the VM was seen to be off just now. ``silence``: why the guest agent told no
    ``filesystems``. ``snapshots`` are configs by name, ``storages`` those that are available on the VM's node.
    ``grown`` (slot, bytes) are disks that Proxmox has said are that large.
    """

    node: str | None = None
    current: Mapping[str, str] | None = None
    stopped: bool = False
    filesystems: tuple[Filesystem, ...] | None = None
    silence: str = "the guest agent was not asked"
    snapshots: Mapping[str, Mapping[str, str]] | None = None
    storages: Mapping[str, Room] | None = None
    grown: frozenset[tuple[str, int]] = frozenset()


NOTHING_SEEN = DiskFacts()
