"""A virtual machine of the simulator: its config file, what QEMU runs of it, and the guest inside."""

import hashlib
import json
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from fakepve.model import FakeVm

STUB_DESCRIPTION = " qmclone temporary file"


@dataclass
class Step:
    """A step of a build that a guest has begun: when it ends (monotonic), how, and what it has said."""

    ends: float
    code: int = 0
    output: str = ""
    reboots: bool = False
    seals: bool = False


@dataclass
class Guest:
    """What the disk image holds and how the operating system in it behaves. A clone gets a copy.

    Times are real seconds. `addresses` overrides what the agent reports, per MAC (upper case).
    """

    agent: bool = True
    boot_seconds: float = 0.0
    shutdown_seconds: float = 0.0
    acpi: bool = True
    hung: bool = False
    os_id: str = "debian"
    os_name: str = "Debian GNU/Linux 12 (bookworm)"
    addresses: dict[str, list[str]] | None = None
    refuses_unplug: bool = False
    # slot -> (mount point, type) of what is mounted from that disk, besides the system on the boot disk
    mounts: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    # mount points whose disk was pulled out while mounted
    torn: list[str] = field(default_factory=list)
    # what `cloud-init status` says, as its JSON; None: the guest has no cloud-init
    cloud_init: dict[str, Any] | None = field(default_factory=lambda: {"status": "done", "errors": []})
    old_cloud_init: bool = False
    blocks_exec: bool = False
    executed: int = 0
    # results of guest-exec that nobody has asked for yet, by process ID
    processes: dict[int, dict[str, Any]] = field(default_factory=dict)
    # the steps of a build that have begun since it booted, by number (in /run); those that ever ran on this disk; and
    # whether it was made ready for cloning since it last booted; whether a step has it reboot once it is
    steps: dict[int, Step] = field(default_factory=dict)
    ran: list[int] = field(default_factory=list)
    sealed: bool = False
    restarts: bool = False

    def boot(self) -> None:
        """What was in memory is gone, and the disk is that of one machine again."""
        self.steps.clear()
        self.sealed = self.restarts = False

    def mount(self, slot: str, mountpoint: str, kind: str = "ext4") -> None:
        """A file system of a disk is mounted; the agent's get-fsinfo shows it while QEMU has the disk."""
        self.mounts.setdefault(slot, []).append((mountpoint, kind))

    def unmount(self, slot: str) -> None:
        """Nothing of the disk is mounted any more."""
        self.mounts.pop(slot, None)

    def lose(self, slot: str) -> None:
        """The disk is gone, whether or not it was in use."""
        self.torn += [mountpoint for mountpoint, _ in self.mounts.pop(slot, [])]

    def hang(self) -> None:
        """The agent and ACPI do not answer any more."""
        self.hung = True

    def resume(self) -> None:
        """Undo hang()."""
        self.hung = False

    def copy(self) -> "Guest":
        """The guest of a clone: the same image, not hung, with its own disks."""
        return replace(
            self, hung=False, mounts={}, torn=[], executed=0, processes={}, steps={}, ran=[*self.ran]
        )


class SimVm(FakeVm):  # type: ignore[misc]
    """A VM. `config` is the config file's main section, `pending` its [PENDING] section (None: delete).

    name, lock and template are the config's keys; FakeVm's attributes of these names are views of them.
    """

    def __init__(self, vmid: int, node: str, config: dict[str, Any], guest: Guest | None = None) -> None:
        self.config: dict[str, Any] = {}
        super().__init__(vmid, None, node=node)
        self.started_at: float | None = None
        self.config = dict(config)
        self.vmid: int = vmid
        self.node: str = node
        self.pending: dict[str, Any] = {}
        self.pending_force: set[str] = set()
        self.guest_os: Guest = guest or Guest()
        # The config QEMU was started with, kept up to date by hotplug; None when not running.
        self.qemu: dict[str, Any] | None = None
        self.booted = 0.0
        self.pid = 0
        # The generated cloud-init files: user, network, instance_id; what the guest saw at its last boot.
        self.seed: dict[str, str] | None = None
        # The cloud-init keys as they were when the files were generated.
        self.seed_config: dict[str, Any] = {}
        self.hotplug_errors: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The name shown: `VM <id>` for a config without one."""
        return str(self.config.get("name") or f"VM {self.vmid}")

    @name.setter
    def name(self, value: str | None) -> None:
        if value:
            self.config["name"] = value

    @property
    def lock(self) -> str | None:
        """The config's lock: clone, backup, migrate ..."""
        return self.config.get("lock")

    @lock.setter
    def lock(self, value: str | None) -> None:
        if value:
            self.config["lock"] = value
        else:
            self.config.pop("lock", None)

    @property
    def template(self) -> bool:
        """True for a template."""
        return str(self.config.get("template", 0)) == "1"

    @template.setter
    def template(self, value: bool) -> None:
        if value:
            self.config["template"] = 1
        else:
            self.config.pop("template", None)

    @property
    def running(self) -> bool:
        """True while a QEMU process exists."""
        return bool(self.status == "running")

    def digest(self) -> str:
        """SHA-1 of the whole config file, pending section and snapshots included."""
        blob = json.dumps([self.config, self.pending, self.snapshots], sort_keys=True, default=str)
        return hashlib.sha1(blob.encode(), usedforsecurity=False).hexdigest()

    def merged(self) -> dict[str, Any]:
        """The config with pending changes applied, as `GET config` shows it without current=1."""
        out = dict(self.config)
        for key, value in self.pending.items():
            if value is None:
                out.pop(key, None)
            else:
                out[key] = value
        return out

    def power_on(self, pid: int) -> None:
        """QEMU runs with the config as it is now."""
        self.guest_os.boot()
        self.qemu = dict(self.config)
        self.status = self.qmpstatus = "running"
        self.started_at = time.time()
        self.booted = time.monotonic()
        self.pid = pid

    def power_off(self) -> None:
        """QEMU is gone."""
        self.qemu = None
        self.status = self.qmpstatus = "stopped"
        self.started_at = None
        self.pid = 0

    def frozen(self) -> "SimVm":
        """An independent copy: what a node that lost the cluster still knows."""
        twin = SimVm(self.vmid, self.node, self.config, self.guest_os)
        twin.pending = dict(self.pending)
        twin.snapshots = dict(self.snapshots)
        twin.status, twin.qmpstatus, twin.started_at = self.status, self.qmpstatus, self.started_at
        twin.qemu = dict(self.qemu) if self.qemu is not None else None
        return twin


def fresh_identity(config: dict[str, Any]) -> None:
    """Give a new VM what create_vm mints: smbios1 uuid, vmgenid, meta."""
    config.setdefault("smbios1", f"uuid={uuid.uuid4()}")
    if str(config.get("vmgenid", "1")) == "1":
        config["vmgenid"] = str(uuid.uuid4())
    config.setdefault("meta", f"creation-qemu=10.1.2,ctime={int(time.time())}")
