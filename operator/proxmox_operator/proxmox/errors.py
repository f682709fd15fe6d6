"""Proxmox's error texts, sorted by what happens next: one table for HTTP answers and task exit statuses.

The texts are Proxmox's own (qemu-server, pve-common, pve-storage, pve-guest-common, pve-cluster; PVE 8 and
9). Every message says what was found and what to do. Nothing here retries: the class says who does.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from proxmox_operator import errors

MAX_TEXT = 300
"""Characters of Proxmox's own text that a message may carry."""


NODE_NOT_FOUND = "NodeNotFound"


class NotHere(errors.Transient):
    """No such guest on that node: gone, moved, or never there. Unknown until proven absent."""

    default_reason = "VMNotFound"


class Taken(errors.Transient):
    """The VMID exists already. Never success: look whether it is ours before anything else."""

    default_reason = "VMIDTaken"


class Locked(errors.Contended):
    """The guest's config holds a lock; ``lock`` is its name (backup, clone, migrate ...)."""

    def __init__(self, message: str, *, reason: str | None = None, lock: str = "") -> None:
        super().__init__(message, reason=reason)
        self.lock = lock


class StillRunning(errors.Transient):
    """Refused because the guest runs."""

    default_reason = "VMRunning"


class AlreadyRunning(errors.Transient):
    """Asked to start what runs already: fine after a re-read."""

    default_reason = "AlreadyRunning"


class NotRunning(errors.Transient):
    """Asked something of a guest that does not run."""

    default_reason = "VMNotRunning"


class AgentUnavailable(errors.Transient):
    """The guest agent does not answer; an attempt ``after`` seconds from now may, and none is made before. ``asked``:
    this was an attempt, and no refusal to make one."""

    default_reason = "AgentUnavailable"
    after = 10.0
    asked = True


class AgentRefused(errors.NeedsHuman):
    """The guest agent answers, and will not or cannot run the command."""

    default_reason = "AgentRefused"


class LostProcess(errors.Transient):
    """The agent knows no such process: its result was told before, and the answer may have been lost."""

    default_reason = "ProcessLost"


class NoSuchTask(errors.Transient):
    """The task's log is gone: its outcome is Unknown."""

    default_reason = "TaskNotFound"


class NotQuorate(errors.Transient):
    """The answering node has no quorum: nothing can be written, and what it knows may be old."""

    default_reason = "NotQuorate"


class OutcomeUnknown(errors.Transient):
    """A task's worker died (killed, node rebooted): what it did must be read from the cluster."""

    default_reason = "TaskOutcomeUnknown"


@dataclass(frozen=True, slots=True)
class Rule:
    """``pattern`` is searched in the whole text; ``build`` makes the error of the match and what is shown."""

    pattern: re.Pattern[str]
    build: Callable[[re.Match[str], str], errors.OperatorError]


def _rule(pattern: str, kind: type[errors.OperatorError], reason: str, remedy: str) -> Rule:
    return Rule(
        re.compile(pattern, re.IGNORECASE),
        lambda match, text: kind(f"{clip(text)}: {remedy}", reason=reason),
    )


def _locked(match: re.Match[str], text: str) -> errors.OperatorError:
    lock = match["lock"]
    what = {"backup": "backup", "migrate": "migration", "clone": "clone", "snapshot": "snapshot"}.get(lock)
    return Locked(
        f"{clip(text)}: waits for {f'the {what} to end' if what else 'the lock to go'}; if no task is "
        "running for "
        "this VM the lock is stale, and an administrator clears it on the node with `qm unlock <vmid>`",
        reason="Locked",
        lock=lock,
    )


def _damaged(_: re.Match[str], __: str) -> errors.OperatorError:
    """Proxmox's text names the checksums; by that of a file with a secret in it, guesses can be tried out."""
    return errors.NeedsHuman(
        "what arrived on the storage has another checksum: correct spec.image.checksum, or name a URL in "
        "spec.image.url whose content does not change",
        reason="ChecksumMismatch",
    )


RULES: tuple[Rule, ...] = (
    # Existence. The same text comes for a guest that lives on another node.
    _rule(
        r"Configuration file 'nodes/[^']+/(?:qemu-server|lxc)/\d+\.conf' does not exist"
        r"|unable to find configuration file for (?:VM|CT) \d+",
        NotHere,
        "VMNotFound",
        "it may be gone or on another node, looks for it",
    ),
    _rule(
        r"(?:VM|CT) \d+ already exists|config file already exists"
        r"|rename\) atomic file '[^']+/(?:qemu-server|lxc)/\d+\.conf' failed: File exists",
        Taken,
        "VMIDTaken",
        "looks whose VM holds this id",
    ),
    # Locks and races.
    Rule(re.compile(r"(?:VM|CT) is locked \((?P<lock>[\w-]+)\)"), _locked),
    _rule(
        r"can't (?:lock|a[c]?quire lock)|got lock (?:request )?timeout|cfs-lock '[^']+' error"
        r"|error acquiring lock",
        errors.Contended,
        "LockTimeout",
        "another task holds the lock for a moment, tries again",
    ),
    _rule(
        r"checksum mismatch \(file change by other user\?\)|detected modified configuration",
        errors.Outdated,
        "Outdated",
        "the configuration changed since it was read, reads it again",
    ),
    Rule(re.compile(r"checksum mismatch: got"), _damaged),
    # The cluster.
    _rule(
        r"no quorum|not quorate|cluster not ready|pve cluster filesystem not online",
        NotQuorate,
        "NotQuorate",
        "bring enough nodes of the Proxmox cluster back (`pvecm status`)",
    ),
    _rule(
        r"no such cluster node|hostname lookup '[^']*' failed",
        errors.NeedsHuman,
        NODE_NOT_FOUND,
        "name a node of the cluster, as `pvecm nodes` lists them",
    ),
    # Refusals that protect something.
    _rule(
        r"protection mode enabled",
        errors.NeedsHuman,
        "Protected",
        "the VM's protection flag is set; clear it (spec.protection: false, or in Proxmox) to go on",
    ),
    _rule(
        r"used in HA resources and purge parameter not set",
        errors.NeedsHuman,
        "ManagedByHA",
        "remove it from HA first (`ha-manager remove vm:<vmid>`)",
    ),
    # HA.
    _rule(
        r"resource ID '[^']+' already defined|HA rule '[^']+' (?:already defined|does not exist)"
        r"|no such resource '|cannot delete service '[^']+', not HA managed",
        errors.Outdated,
        "Outdated",
        "the configuration of HA changed since it was read, reads it again",
    ),
    _rule(
        r"in error state, must be disabled",
        errors.Transient,
        "HAError",
        "its error state is looked at again",
    ),
    _rule(
        r"ha groups have not been migrated yet",
        errors.Waiting,
        "RulesNotSupported",
        "Proxmox makes rules of the groups once all nodes are upgraded and online",
    ),
    _rule(
        r"Rule '[^']+' is invalid|cannot use (?:unmanaged resource|non-existent node)",
        errors.Rejected,
        "RuleRefused",
        "change spec.availability.rule, or the rules that it contradicts (Datacenter > HA)",
    ),
    _rule(r"(?:VM|CT) \d+ is running", StillRunning, "VMRunning", "it must be stopped first"),
    _rule(r"(?:VM|CT) (?:\d+ )?already running", AlreadyRunning, "AlreadyRunning", "reads its state again"),
    _rule(
        r"write to temporary file failed",
        errors.NeedsHuman,
        "StorageFull",
        "free space in /var/tmp of the node that took the upload, one of spec.endpoints of the ProxmoxCluster",
    ),
    _rule(
        r"No space left on device",
        errors.NeedsHuman,
        "StorageFull",
        "free space on the storage, or name another one",
    ),
    _rule(
        r"^download failed",
        errors.NeedsHuman,
        "DownloadFailed",
        "check spec.image.url, and that the nodes reach it",
    ),
    _rule(
        r"failed to verify file|not a QEMU image format|Image is not in \S+ format",
        errors.NeedsHuman,
        "ImageInvalid",
        "spec.image must be a disk image of the format that its name or spec.image.format says, not compressed",
    ),
    _rule(
        r"base volume '[^']+' is still in use",
        errors.NeedsHuman,
        "BaseInUse",
        "delete its linked clones first",
    ),
    _rule(
        r"if it's a template",
        errors.NeedsHuman,
        "IsTemplate",
        "the VM was converted to a template, which cannot run: restore or re-create it",
    ),
    _rule(r"VM is paused", errors.NeedsHuman, "VMPaused", "resume it in Proxmox (`qm resume <vmid>`)"),
    _rule(
        r"start failed|QEMU exited with code",
        errors.Transient,
        "StartFailed",
        "retried; the task's log in Proxmox tells why",
    ),
    # The guest and its agent.
    _rule(
        r"No QEMU guest agent configured",
        errors.NeedsHuman,
        "AgentNotConfigured",
        "set spec.agent: true; it takes effect at the next cold boot",
    ),
    _rule(
        r"command guest-exec has been disabled",
        AgentRefused,
        "ExecNotAllowed",
        "allow guest-exec in the guest: take it off the agent's block list, on RHEL and its kin in "
        "/etc/sysconfig/qemu-ga, and restart qemu-guest-agent",
    ),
    _rule(
        r"Failed to execute child process",
        AgentRefused,
        "CommandNotFound",
        "the guest does not have that command",
    ),
    _rule(r"Invalid parameter 'pid'", LostProcess, "ProcessLost", "it is run again"),
    _rule(
        r"QEMU guest agent is not running|qga command '[^']+' failed|qmp command 'guest-[^']+' failed"
        r"|^Agent error",
        AgentUnavailable,
        "AgentUnavailable",
        "is qemu-guest-agent installed and running in the guest?",
    ),
    _rule(r"(?:VM|CT) (?:\d+ )?(?:is )?not running", NotRunning, "VMNotRunning", "reads its state again"),
    _rule(
        r"quit/powerdown failed",
        errors.NeedsHuman,
        "ShutdownTimeout",
        "the guest did not shut down in time: shut it down yourself, or set spec.shutdown.force to true",
    ),
    _rule(
        r"hotplug problem|error (?:un)?plugging|hot-?unplug",
        errors.Transient,
        "HotplugFailed",
        "the value stays pending until the VM is stopped and started",
    ),
    _rule(
        r"KVM virtualisation configured, but not available",
        errors.NeedsHuman,
        "KVMUnavailable",
        "enable virtualisation (VT-x, AMD-V) in the node's firmware",
    ),
    # Storage and network.
    _rule(
        r"volume '?[^' ]+'? does not exist|no such (?:logical )?volume(?! group)|Failed to find logical volume",
        errors.NeedsHuman,
        "VolumeNotFound",
        "a disk that the configuration names is missing on its storage: restore it, or detach it there",
    ),
    _rule(
        r"unable to activate storage|storage '[^']+' is not (?:online|activated)|no such volume group"
        r"|no such thin pool|can't activate (?:storage|LV)|got timeout.*(?:zfs|rbd|lvs)",
        errors.Transient,
        "StorageUnavailable",
        "waits for the storage to come back",
    ),
    _rule(
        r"storage '[^']*' does not exist|no such storage",
        errors.NeedsHuman,
        "StorageNotFound",
        "name a storage of the cluster (`pvesm status` lists them)",
    ),
    _rule(
        r"storage '[^']+' is not available on node|storage '[^']+' is disabled"
        r"|storage '[^']+' does not support|content type '[^']+' is not available on storage",
        errors.NeedsHuman,
        "StorageNotUsable",
        "enable it on that node with the content type that is needed (images for disks, import for images, iso for "
        "seeds), or name another storage",
    ),
    _rule(
        r"not enough free space|insufficient free (?:extents|space)|out of space|quota exceeded"
        r"|free space in thin pool \S+ reached threshold",
        errors.NeedsHuman,
        "StorageFull",
        "free space on the storage, or name another one",
    ),
    _rule(
        r"bridge '[^']+' (?:does not exist|is not active)|no such bridge",
        errors.NeedsHuman,
        "BridgeNotFound",
        "name a bridge that exists on the VM's node",
    ),
    _rule(
        r"clone feature is not supported|can't clone VM to node|can't clone to non-shared"
        r"|not allowed for linked clones",
        errors.NeedsHuman,
        "CloneNotSupported",
        "set full to true in spec.source.clone or templateRef, or use a template on storage that all nodes share",
    ),
    _rule(
        r"move a disk with snapshots and delete the source|volume is still in use \(snapshot\?\)"
        r"|disk used by a snapshot",
        errors.NeedsHuman,
        "SnapshotsPrevent",
        "delete the snapshots that refer to the disk",
    ),
    _rule(
        r"can't move to the same storage with same format|disk '[a-z]+\d+' does not exist",
        errors.Outdated,
        "Outdated",
        "the disk was moved or removed since the configuration was read, reads it again",
    ),
    _rule(
        r"snapshot '[^']*' does not exist",
        errors.NeedsHuman,
        "SnapshotNotFound",
        "name a snapshot that the template has",
    ),
    _rule(
        r"pool '[^']+' does not exist",
        errors.NeedsHuman,
        "PoolNotFound",
        "create the pool in Proxmox, or change spec.pool of the ProxmoxCluster",
    ),
    _rule(
        r"shrinking disks is not supported",
        errors.NeedsHuman,
        "ShrinkRefused",
        "disks only grow: give at least the size it has",
    ),
    _rule(
        r"SSH public key validation error",
        errors.Rejected,
        "InvalidSSHKey",
        "spec.cloudInit.sshKeys holds a key that ssh-keygen does not accept; paste the whole line of the .pub file",
    ),
    _rule(
        r"Too many unused volumes",
        errors.NeedsHuman,
        "TooManyDetachedDisks",
        "delete detached disks (unusedN) of the VM in Proxmox",
    ),
    # Migration. The reason stands in the task's log only (migration.py).
    _rule(
        r"^migration (?:aborted|problems)",
        errors.NeedsHuman,
        "MoveFailed",
        "the VM is where it was; the task's log in Proxmox tells why",
    ),
    _rule(
        r"can't migrate running VM without --online",
        errors.Outdated,
        "Outdated",
        "it was started meanwhile, reads its state again",
    ),
    _rule(
        r"target is local node",
        errors.Outdated,
        "Outdated",
        "it is there already, reads where it is again",
    ),
    # Tasks.
    _rule(r"no such task", NoSuchTask, "TaskNotFound", "its effect is read from the VM instead"),
    _rule(
        r"^unexpected status|unable to (?:read|get) (?:last line|tail)|interrupted by signal"
        r"|received interrupt",
        OutcomeUnknown,
        "TaskOutcomeUnknown",
        "the task was cut short, looks at what it left",
    ),
    # For good.
    _rule(
        r"only root can |Only root may use this option|only root@pam|user != root@pam",
        errors.Rejected,
        "RootOnly",
        "only root@pam itself may do this, no token can: leave it out, or have it in the template",
    ),
    _rule(
        r"Method '[^']+' not implemented",
        errors.Rejected,
        "NotImplemented",
        "this version of Proxmox VE does not have that call",
    ),
)

UNANSWERED = frozenset({502, 503, 504, 595, 596, 597, 598, 599})
"""pveproxy's (AnyEvent's) 59x for a node it forwards to, and what proxies before it say."""

NEVER_SENT = frozenset({503, 595})

_PRIVILEGE = re.compile(r"Permission check failed \((?P<path>/[^,)]*), ?(?P<privileges>[^)]+)\)")


def clip(text: str) -> str:
    """The first line with content, at most MAX_TEXT characters, without trailing punctuation."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no message")
    line = line.rstrip(" .:")
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def classify_response(
    status: int,
    message: str,
    fields: Mapping[str, str] | None = None,
    *,
    where: str = "",
    mutating: bool = False,
) -> errors.OperatorError:
    """The error for an HTTP answer of Proxmox; ``where`` (method and path) is added to what a person reads.

    595 means that nothing reached the node; after 596 and up something may have: a write's answer is lost.
    """
    fields = fields or {}
    at = f" ({where})" if where else ""
    details = "; ".join(f"{name}: {clip(text)}" for name, text in fields.items())
    if status == 401:
        return errors.Unauthorized(
            f"Proxmox refused the credentials ({clip(message)}): correct the credentials Secret; the user or token "
            "must exist, be enabled and not have expired"
        )
    if status == 403 or _PRIVILEGE.search(message):  # a worker's refusal comes as a 500
        return _forbidden(message, at)
    if status in UNANSWERED:
        text = f"the node asked could not be reached through the endpoint{at}: {status} {clip(message)}"
        if mutating and status not in NEVER_SENT:
            return errors.AnswerLost(f"{text}; looks first whether it happened")
        return errors.Unreachable(f"{text}; retried", reason="NodeUnavailable")
    shown = details or message
    found = _match("\n".join((message, *fields.values())), shown)
    if found is not None:
        return found
    if status == 400:
        return errors.Rejected(
            f"Proxmox refused the parameters{at}: {clip(shown)}", reason="InvalidParameter"
        )
    if status in (310, 404, 405, 501):
        return errors.Rejected(
            f"the endpoint does not know the call{at}: {clip(message)}; is it Proxmox VE 8 or 9?",
            reason="NotImplemented",
        )
    return errors.Transient(f"Proxmox answered {status}{at}: {clip(shown)}; retried", reason="ProxmoxError")


def classify_task(exitstatus: str) -> errors.OperatorError | None:
    """The error for a task's exit status; None for ``OK`` and ``WARNINGS: n``, the whole of the success
    test.
    """
    if exitstatus == "OK" or re.fullmatch(r"WARNINGS: \d+", exitstatus):
        return None
    if _PRIVILEGE.search(exitstatus):
        return _forbidden(exitstatus, "")
    return _match(exitstatus, exitstatus) or errors.Transient(
        f"the Proxmox task failed: {clip(exitstatus)}; retried", reason="TaskFailed"
    )


def _match(text: str, shown: str) -> errors.OperatorError | None:
    for rule in RULES:
        match = rule.pattern.search(text)
        if match is not None:
            return rule.build(match, shown)
    return None


def _forbidden(message: str, at: str) -> errors.OperatorError:
    text = clip(message)
    known = _match(text, text)
    if known is not None:
        return known
    match = _PRIVILEGE.search(message)
    if match is None:
        return errors.Forbidden(
            f"Proxmox denies permission{at}: {text}; grant the token a role that allows it"
        )
    path, privileges = match["path"], match["privileges"].replace("|", " or ")
    return errors.Forbidden(
        f"the credentials lack {privileges} on {path}{at}: grant it by adding it to the role they have there, "
        f"`pveum role modify <role> --append 1 --privs {privileges.partition(' or ')[0]}`; a new ACL entry on {path} "
        "would replace all that is inherited there",
        path=path,
    )
