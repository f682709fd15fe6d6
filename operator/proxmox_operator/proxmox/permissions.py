"""Preflight: which privileges a feature needs on which path, and which of them the credentials lack.

Privileges per call are from the ``permissions`` of the API handlers (qemu-server, pve-manager). PVE 9 has
no VM.Monitor: the guest agent has privileges of its own. ``GET /access/permissions`` tells one's own
privileges and needs none.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from .client import PveClient


class Feature(StrEnum):
    """What needs privileges; the value is how a message names it."""

    OBSERVE = "reading VMs and nodes"
    CREATE = "cloning and deleting VMs"
    CONFIGURE = "configuring VMs"
    POWER = "starting and stopping VMs"
    AGENT = "asking the guest agent"
    HA = "high availability"
    MOVE = "moving VMs"
    SEED = "user data of cloud-init"
    EXEC = "asking cloud-init how far it is"
    BUILD = "building templates"
    IMAGES = "downloading images of templates"
    CLEANUP = "deleting images and user data that are no longer needed"
    DEVICES = "devices of the hosts"
    STARTUP = "the order of starts with the node"


OPTIONAL = frozenset({Feature.HA, Feature.MOVE, Feature.SEED, Feature.EXEC})
"""Features that only VMs need whose spec asks for them: said there, and not asked of every cluster."""

_TOLD_LATER = frozenset({Feature.BUILD, Feature.IMAGES, Feature.CLEANUP, Feature.DEVICES, Feature.STARTUP})
"""Features whose privileges the VMTemplate asks for itself that needs them, or that a refusal of Proxmox names."""

CLONE = "VM.Clone"
"""The privilege that is needed of each template that is cloned."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where the operator works: a pool or all VMs, and the storages and bridges (``zone/bridge``) it may
    use.
    """

    pool: str | None = None
    storages: Collection[str] = ()
    bridges: Collection[str] = ()
    templates: Collection[int] = ()
    features: Collection[Feature] = tuple(
        feature for feature in Feature if feature not in OPTIONAL | _TOLD_LATER
    )

    @property
    def vms(self) -> str:
        """The path on which VM privileges are needed."""
        return f"/pool/{self.pool}" if self.pool else "/vms"


@dataclass(frozen=True, slots=True)
class MissingPrivilege:
    """A privilege that is missing; ``privilege`` may name alternatives (``A or B``)."""

    path: str
    privilege: str
    needed_for: str

    def __str__(self) -> str:
        return f"{self.privilege} on {self.path} (for {self.needed_for})"


Permissions = Mapping[str, Mapping[str, Any]]
Need = tuple[str, tuple[str, ...], Feature]


def needs(scope: Scope, major: int) -> Iterable[Need]:
    """(path, any one of these privileges, feature) for Proxmox VE ``major``."""
    features = set(scope.features)
    if Feature.OBSERVE in features:
        yield "/", ("Sys.Audit",), Feature.OBSERVE
        yield "/nodes", ("Sys.Audit",), Feature.OBSERVE
        yield scope.vms, ("VM.Audit",), Feature.OBSERVE
        for storage in scope.storages:
            yield f"/storage/{storage}", ("Datastore.Audit",), Feature.OBSERVE
    if Feature.CREATE in features:
        for template in scope.templates:
            yield f"/vms/{template}", (CLONE,), Feature.CREATE
        yield scope.vms, ("VM.Allocate",), Feature.CREATE
        for storage in scope.storages:
            yield f"/storage/{storage}", ("Datastore.AllocateSpace",), Feature.CREATE
        for bridge in scope.bridges:
            yield f"/sdn/zones/{bridge}", ("SDN.Use",), Feature.CREATE
    if Feature.CONFIGURE in features:
        for kind in ("CPU", "Memory", "Disk", "Network", "Options", "HWType", "Cloudinit", "CDROM"):
            yield scope.vms, (f"VM.Config.{kind}",), Feature.CONFIGURE
    if Feature.POWER in features:
        yield scope.vms, ("VM.PowerMgmt",), Feature.POWER
    if Feature.AGENT in features:
        privileges = ("VM.Monitor",) if major < 9 else ("VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted")
        yield scope.vms, privileges, Feature.AGENT
    if Feature.HA in features:
        yield "/", ("Sys.Console",), Feature.HA
    if Feature.MOVE in features:
        yield scope.vms, ("VM.Migrate",), Feature.MOVE
    if Feature.SEED in features:
        for storage in scope.storages:
            yield f"/storage/{storage}", ("Datastore.AllocateTemplate",), Feature.SEED
    if Feature.EXEC in features:
        yield scope.vms, ("VM.Monitor" if major < 9 else "VM.GuestAgent.Unrestricted",), Feature.EXEC
    if Feature.BUILD in features:
        for kind in ("PowerMgmt", "Config.CDROM", "Config.Options"):
            yield scope.vms, (f"VM.{kind}",), Feature.BUILD
        yield scope.vms, ("VM.Monitor" if major < 9 else "VM.GuestAgent.Unrestricted",), Feature.BUILD
        for storage in scope.storages:
            yield f"/storage/{storage}", ("Datastore.AllocateTemplate",), Feature.BUILD
        if scope.bridges:
            yield scope.vms, ("VM.Config.Network",), Feature.BUILD
    if Feature.IMAGES in features:
        yield "/nodes", ("Sys.AccessNetwork",), Feature.IMAGES
        for storage in scope.storages:
            yield f"/storage/{storage}", ("Datastore.AllocateTemplate",), Feature.IMAGES
    if Feature.CLEANUP in features:
        for storage in scope.storages:
            yield f"/storage/{storage}", ("Datastore.Allocate",), Feature.CLEANUP
    if Feature.DEVICES in features:
        yield "/mapping", ("Mapping.Use",), Feature.DEVICES
    if Feature.STARTUP in features:
        yield "/", ("Sys.Modify",), Feature.STARTUP


def missing(granted: Permissions, scope: Scope, major: int) -> list[MissingPrivilege]:
    """What ``granted`` (the answer of ``GET /access/permissions``) lacks, in the order of ``needs``, each
    once.
    """
    found: dict[MissingPrivilege, None] = {}
    for path, privileges, feature in needs(scope, major):
        held = effective(granted, path)
        if not held.intersection(privileges):
            found[MissingPrivilege(path, " or ".join(privileges), feature.value)] = None
    return list(found)


def effective(granted: Permissions, path: str) -> frozenset[str]:
    """Privileges on ``path``: of the path itself, else of the nearest ancestor, where they propagate.

    Proxmox lists the effective privileges of the top-level paths, of all paths that have an ACL and of all
    members of pools, and leaves out those with none: a path below them that says NoAccess is not seen here,
    and found out by its 403.
    """
    if path in granted:
        return frozenset(granted[path])
    parts = path.rstrip("/").split("/")
    for length in range(len(parts) - 1, 0, -1):
        ancestor = "/".join(parts[:length]) or "/"
        if ancestor in granted:
            return frozenset(name for name, propagates in granted[ancestor].items() if int(propagates or 0))
    return frozenset()


def lacking(
    granted: Permissions, major: int, *, pool: str | None, storages: Collection[str] = ()
) -> dict[Feature, str]:
    """The optional features that the credentials are not enough for, with the remedy as a sentence.

    ``storages``: those that get user data.
    """
    scopes = {
        feature: Scope(pool=pool, storages=storages, features=(feature,)) for feature in sorted(OPTIONAL)
    }
    remedies = {feature: remedy(granted, scope, major) for feature, scope in scopes.items()}
    return {feature: text for feature, text in remedies.items() if text is not None}


def remedy(granted: Permissions, scope: Scope, major: int) -> str | None:
    """What to grant for the features of ``scope``, as a sentence; None where nothing is missing."""
    lack = missing(granted, scope, major)
    return f"grant {' and '.join(map(str, lack))} to the credentials" if lack else None


async def permissions(client: PveClient) -> Permissions:
    """``GET /access/permissions``: one's own privileges by path."""
    granted: Permissions = await client.get("access/permissions")
    return granted
