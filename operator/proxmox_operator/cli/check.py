"""``proxmox-operator check``: whether a ProxmoxCluster would work, asked of Proxmox VE itself before it is applied.

Given are manifests, as for ``kubectl apply -f``. Neither Kubernetes nor an installed operator is needed, and nothing is
written. Secrets come from a Secret among the manifests or from the environment, never from the command line.
"""

import asyncio
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from proxmox_operator.api import InvalidObject, ProxmoxCluster, Resource, VMTemplate
from proxmox_operator.cli.manifests import TOKEN_ID, TOKEN_SECRET, Raw, documents_of, secret_of
from proxmox_operator.cli.parsing import parser
from proxmox_operator.controllers.connecting import credentials_of, identity_of, limits_of, scope_of, tls_of
from proxmox_operator.engine.settings import Settings
from proxmox_operator.errors import NeedsHuman, OperatorError, Unreachable
from proxmox_operator.kube.secrets import SecretData
from proxmox_operator.proxmox.cluster import ClusterInfo, probe
from proxmox_operator.proxmox.credentials import Credentials, TokenCredentials
from proxmox_operator.proxmox.permissions import (
    CLONE,
    Feature,
    MissingPrivilege,
    Permissions,
    Scope,
    effective,
    missing,
    permissions,
)
from proxmox_operator.proxmox.resources import Inventory
from proxmox_operator.proxmox.session import ClusterSession

DESCRIPTION = f"""\
Ask Proxmox VE whether a ProxmoxCluster would work: endpoints, trust,
credentials, privileges, storages and bridges. Needs no Kubernetes and writes
nothing. The credentials are those of the Secret that the ProxmoxCluster names,
where it is among the manifests, else those of the variables {TOKEN_ID}
and {TOKEN_SECRET}. With VMTemplates among the manifests, the
storages of their images are asked about, too. The operator reads credentials
in its own namespace only, which is --namespace.
"""
EXIT_CODES = """\
exit codes: 0 all that is needed is there, 1 something is missing, 2 wrong
usage. What is only `optional` is no failure.
"""

ROLES = """\
ROLE is a role of your own that `pveum acl list` shows for the credentials on that path, or on one above it. A token has
no more than its user has: grant it to both. The scripts in manifests/proxmox make roles that are enough."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at. ``ok`` is None for something that only VMs need whose spec asks for it."""

    ok: bool | None
    text: str
    lacks: tuple[MissingPrivilege, ...] = ()

    def __str__(self) -> str:
        return f"  {'ok      ' if self.ok else 'optional' if self.ok is None else 'FAILED  '}  {self.text}"


@dataclass(kw_only=True)
class Findings:
    """About one cluster; ``granted`` are the privileges that the credentials have."""

    findings: list[Finding] = field(default_factory=list)
    granted: Permissions = field(default_factory=dict)


def check(arguments: list[str]) -> int:
    """The command; returns the exit code."""
    options = parser("check", DESCRIPTION, epilog=EXIT_CODES)
    options.add_argument("manifests", nargs="+", metavar="FILE", help="YAML files; - is the standard input.")
    Settings.add_flags(options, ("namespace",))
    given = options.parse_args(arguments)
    namespace = Settings.of(options, given).namespace
    try:
        documents = list(documents_of(given.manifests))
        clusters = _parsed(ProxmoxCluster, documents)
        if not clusters:
            raise NeedsHuman("there is no ProxmoxCluster in these files")
        templates = _parsed(VMTemplate, documents)
        secrets = [secret_of(cluster, documents, namespace) for cluster in clusters]
        # All of them before Proxmox is asked about the first: what is still to be filled in is told at once.
        logins = [_usable(cluster, secret) for cluster, secret in zip(clusters, secrets, strict=True)]
        done = [
            _check(cluster, login, _image_storages(cluster, templates), _misplaced(secret, namespace))
            for cluster, login, secret in zip(clusters, logins, secrets, strict=True)
        ]
    except NeedsHuman as error:
        print(f"{options.prog}: {error.message}", file=sys.stderr)
        return 2
    return 0 if all(done) else 1


def _parsed[R: Resource](kind: type[R], documents: Iterable[Raw]) -> list[R]:
    """The objects of a kind. Raises NeedsHuman, which names the object and the field, or one that does not exist."""
    found, mistakes = [], []
    for raw in documents:
        if raw.get("kind") != kind.kind:
            continue
        metadata = raw.get("metadata")
        what = f"{kind.kind} {metadata.get('name')}" if isinstance(metadata, Mapping) else kind.kind
        try:
            found.append(kind.parse(raw))
        except InvalidObject as error:
            mistakes.append(f"{what}: {error.message}")
        mistakes += [f"{what}: {field}: there is no such field" for field in kind.unknown_fields(raw)]
    if mistakes:
        raise NeedsHuman("; ".join(mistakes))
    return found


def _check(
    cluster: ProxmoxCluster, credentials: Credentials, images: Sequence[str], before: Iterable[Finding]
) -> bool:
    """Print what is found, after what was found ``before``; whether all that is needed is there."""
    who = credentials.token_id if isinstance(credentials, TokenCredentials) else credentials.username
    print(f"ProxmoxCluster {cluster.metadata.name}, as {who}")
    found = asyncio.run(examine(cluster, credentials, images))
    findings = [*before, *found.findings]
    for finding in findings:
        print(finding)
    for title, ok in (("To grant what is needed", False), ("Only where it is wanted", None)):
        lacks = [each for finding in findings if finding.ok is ok for each in finding.lacks]
        if lacks:
            print(f"\n{title}, on a Proxmox node:")
            print("\n".join(f"  {remedy}" for remedy in _remedies(lacks, found.granted)))
    if any(finding.lacks for finding in findings):
        print(f"\n{ROLES}")
    return all(finding.ok is not False for finding in findings)


async def examine(cluster: ProxmoxCluster, credentials: Credentials, images: Sequence[str] = ()) -> Findings:
    """All findings about a cluster. ``images``: storages that images of VMTemplates go to. Raises NeedsHuman
    for settings that cannot be right; what Proxmox refuses, or does not answer, is a finding."""
    try:
        session = ClusterSession(
            cluster.metadata.name,
            cluster.spec.endpoints,
            credentials,
            tls=tls_of(cluster),
            limits=limits_of(cluster),
            expected=identity_of(cluster),
        )
    except ValueError as error:
        raise NeedsHuman(f"ProxmoxCluster {cluster.metadata.name}: {error}") from None
    about = Findings()
    try:
        health = await session.client.check_endpoints()
        about.findings += [Finding(not each.error, each.told()) for each in health]
        if all(each.error for each in health):
            return about  # each has said what is the matter with it
        info, about.granted = await probe(session.client), await permissions(session.client)
        about.findings.append(_of_cluster(info))
        about.findings += _of_privileges(cluster, images, about.granted, info.major)
        inventory = await session.inventory.poll()
        if inventory is None:
            raise session.inventory.error or Unreachable("the inventory could not be read")
        about.findings.append(_of_templates(cluster, about.granted, inventory))
        about.findings += [
            *_of_storages(cluster, inventory, images),
            *await _of_bridge(cluster, inventory, session),
        ]
    except OperatorError as error:
        about.findings.append(Finding(False, error.message))
    finally:
        await session.close()
    return about


def _image_storages(cluster: ProxmoxCluster, templates: Iterable[VMTemplate]) -> list[str]:
    """The storages that images of these VMTemplates are downloaded to, of those that are for this cluster."""
    here = [
        each.spec.image
        for each in templates
        if each.spec.cluster_ref is None or each.spec.cluster_ref.name == cluster.metadata.name
    ]
    return sorted({image.storage for image in here if image is not None and image.storage is not None})


def _remedies(lacks: Iterable[MissingPrivilege], granted: Permissions) -> tuple[str, ...]:
    """What grants the privileges, for each path.

    Roles are extended where there is one: an entry of its own for a path would take the place of what is inherited
    there (``pveum`` user management, "Inheritance").
    """
    by_path: dict[str, dict[str, None]] = {}
    for each in lacks:
        by_path.setdefault(each.path, {})[each.privilege.partition(" or ")[0]] = None
    found = []
    for path, privileges in by_path.items():
        names = ",".join(privileges)
        if effective(granted, path):
            found.append(f"pveum role modify ROLE --append 1 --privs {names}   # for {path}")
        else:
            found.append(f"pveum role add ROLE --privs {names}   # or append them to one, as above")
            found.append(f"pveum acl modify {path} --users USER --tokens TOKEN --roles ROLE")
    return tuple(found)


def _of_cluster(info: ClusterInfo) -> Finding:
    quorum = {True: "with quorum", False: "WITHOUT QUORUM", None: "quorum not visible"}[info.quorate]
    nodes = ", ".join(sorted(info.nodes)) or "not visible"
    name = f"cluster {info.identity.name}, " if info.identity.name else ""
    return Finding(info.quorate is not False, f"Proxmox VE {info.version}, {name}{quorum}; nodes: {nodes}")


def _of_privileges(
    cluster: ProxmoxCluster, images: Sequence[str], granted: Permissions, major: int
) -> Iterator[Finding]:
    """A finding for each feature."""
    usual, seeds = scope_of(cluster), [*filter(None, [cluster.spec.defaults.seed_storage])]
    files = {
        Feature.OBSERVE: [*seeds, *images],
        Feature.SEED: seeds,
        Feature.BUILD: seeds,
        Feature.IMAGES: images,
        Feature.CLEANUP: [*seeds, *images],
    }
    for feature in Feature:
        needed = feature in usual.features
        storages = dict.fromkeys([*(usual.storages if needed else ()), *files.get(feature, ())])
        scope = Scope(pool=usual.pool, storages=storages, bridges=usual.bridges, features=(feature,))
        yield _of_need(feature.value, missing(granted, scope, major), needed=needed)


def _of_need(what: str, lacks: list[MissingPrivilege], *, needed: bool = True) -> Finding:
    if not lacks:
        return Finding(True, what)
    told = ", ".join(f"{each.privilege} on {each.path}" for each in lacks)
    return Finding(False if needed else None, f"{what}: lacks {told}", tuple(lacks))


def _of_templates(cluster: ProxmoxCluster, granted: Permissions, inventory: Inventory) -> Finding:
    """CLONE is needed of each template that is cloned; it may be granted for some only."""
    what, path = "cloning templates", scope_of(cluster).vms
    if CLONE in effective(granted, path):
        return Finding(True, what)
    templates = [guest.vmid for guest in inventory.guests.values() if guest.template]
    cloned = [vmid for vmid in sorted(templates) if CLONE in effective(granted, f"/vms/{vmid}")]
    if cloned:
        return Finding(True, f"{what}, of which {', '.join(map(str, cloned))} only")
    return _of_need(what, [MissingPrivilege(path, CLONE, what)])


def _of_storages(cluster: ProxmoxCluster, inventory: Inventory, images: Sequence[str]) -> Iterator[Finding]:
    defaults = cluster.spec.defaults
    for setting, name, content in (
        ("spec.defaults.storage", defaults.storage, "images"),
        ("spec.defaults.seedStorage", defaults.seed_storage, "iso"),
        *(("spec.image.storage of VMTemplates,", name, "import") for name in images),
    ):
        if name is None:
            continue
        nodes = sorted(
            node
            for (storage, node), found in inventory.storages.items()
            if storage == name and found.available and content in found.content
        )
        told = f"on {', '.join(nodes)}" if nodes else f"on no node, or its content is without {content}"
        yield Finding(bool(nodes), f"{setting} {name}: {told}")


async def _of_bridge(cluster: ProxmoxCluster, inventory: Inventory, session: ClusterSession) -> list[Finding]:
    bridge, nodes = cluster.spec.defaults.bridge, []
    if bridge is None:
        return []
    for node in sorted(inventory.nodes.values(), key=lambda node: node.name):
        if node.online and bridge in (await session.bridges(node.name) or ()):
            nodes.append(node.name)
    told = (
        f"on {', '.join(nodes)}" if nodes else "seen on no node: it is not there, or SDN.Use on it is missing"
    )
    return [Finding(bool(nodes), f"spec.defaults.bridge {bridge}: {told}")]


def _usable(cluster: ProxmoxCluster, secret: SecretData) -> Credentials:
    """The credentials. Raises NeedsHuman, which names all that is still to be filled in."""
    mistakes, credentials = [], None
    try:
        tls_of(cluster).context()
    except ValueError as error:
        mistakes.append(f"ProxmoxCluster {cluster.metadata.name}: {error}")
    try:
        credentials = credentials_of(secret)
    except NeedsHuman as error:
        mistakes.append(error.message)
    if mistakes or credentials is None:
        raise NeedsHuman("; ".join(mistakes))
    return credentials


def _misplaced(secret: SecretData, namespace: str) -> Iterator[Finding]:
    if secret.namespace != namespace:
        told = (
            f"Secret {secret.name}: metadata.namespace is {secret.namespace}, where the operator reads no credentials: "
            f"set it to {namespace}, or give the --namespace that the operator runs in"
        )
        yield Finding(False, told)
