"""``proxmox-operator check``: whether a ProxmoxCluster would work, asked of Proxmox VE itself before it is applied.

Given are manifests, as for ``kubectl apply -f``. Neither Kubernetes nor an installed operator is needed, and nothing is
written. Secrets come from a Secret among the manifests or from the environment, never from the command line.
"""

import argparse
import asyncio
import base64
import binascii
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from proxmox_operator.api import ProxmoxCluster
from proxmox_operator.controllers.connecting import credentials_of, identity_of, limits_of, scope_of, tls_of
from proxmox_operator.errors import NeedsHuman, OperatorError, Unreachable
from proxmox_operator.kube.secrets import SecretData
from proxmox_operator.proxmox.cluster import ClusterInfo, probe
from proxmox_operator.proxmox.credentials import Credentials, TokenCredentials
from proxmox_operator.proxmox.permissions import (
    Feature,
    MissingPrivilege,
    Permissions,
    Scope,
    missing,
    permissions,
)
from proxmox_operator.proxmox.resources import Inventory
from proxmox_operator.proxmox.session import ClusterSession, Connect, connect

TOKEN_ID, TOKEN_SECRET = "PROXMOX_TOKEN_ID", "PROXMOX_TOKEN_SECRET"

DESCRIPTION = f"""\
Ask Proxmox VE whether a ProxmoxCluster would work: endpoints, trust, credentials, privileges, storages and bridges.
Needs no Kubernetes and writes nothing. The credentials are those of the Secret that the ProxmoxCluster names, where it
is among the manifests, else those of the variables {TOKEN_ID} and {TOKEN_SECRET}.
Exit codes: 0 all that is needed is there, 1 something is missing, 2 wrong usage.
"""

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at. ``ok`` is None for something that only VMs need whose spec asks for it."""

    ok: bool | None
    text: str

    def __str__(self) -> str:
        return f"  {'ok      ' if self.ok else 'optional' if self.ok is None else 'FAILED  '}  {self.text}"


def check(arguments: list[str], *, connect: Connect = connect) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="proxmox-operator check",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("manifests", nargs="+", metavar="FILE", help="YAML files; - is the standard input")
    try:
        documents = list(_documents(parser.parse_args(arguments).manifests))
        clusters = [ProxmoxCluster.parse(raw) for raw in documents if raw.get("kind") == ProxmoxCluster.kind]
        if not clusters:
            raise NeedsHuman("there is no ProxmoxCluster in these files")
        done = [_check(cluster, _credentials(cluster, documents), connect) for cluster in clusters]
    except NeedsHuman as error:
        print(f"proxmox-operator check: {error.message}", file=sys.stderr)
        return 2
    return 0 if all(done) else 1


def _check(cluster: ProxmoxCluster, credentials: Credentials, connect: Connect) -> bool:
    who = credentials.token_id if isinstance(credentials, TokenCredentials) else credentials.username
    print(f"ProxmoxCluster {cluster.metadata.name}, as {who}")
    findings, lacks = asyncio.run(examine(cluster, credentials, connect=connect))
    print("\n".join(map(str, findings)))
    if lacks:
        print(
            "\nTo grant it, on a Proxmox node, ROLE being what `pveum acl list` shows for that path or one above it (a "
            "token has\nno more than its user has):"
        )
        print("\n".join(f"  {command}" for command in commands(lacks)))
    return all(finding.ok is not False for finding in findings)


async def examine(
    cluster: ProxmoxCluster, credentials: Credentials, *, connect: Connect
) -> tuple[list[Finding], list[MissingPrivilege]]:
    """All findings about a cluster, and the privileges that the credentials lack. Raises NeedsHuman for settings that
    cannot be right; what Proxmox refuses, or does not answer, is a finding."""
    try:
        session = ClusterSession(
            cluster.metadata.name,
            cluster.spec.endpoints,
            credentials,
            tls=tls_of(cluster),
            limits=limits_of(cluster),
            expected=identity_of(cluster),
            connect=connect,
        )
    except ValueError as error:
        raise NeedsHuman(f"ProxmoxCluster {cluster.metadata.name}: {error}") from None
    findings: list[Finding] = []
    lacks: list[MissingPrivilege] = []
    try:
        health = await session.client.check_endpoints()
        findings += [
            Finding(not each.error, f"{each.endpoint}{f': {each.error}' if each.error else ''}")
            for each in health
        ]
        if all(each.error for each in health):
            return findings, lacks  # each has said what is the matter with it
        info, granted = await probe(session.client), await permissions(session.client)
        findings.append(_of_cluster(info))
        for finding, missed in _of_privileges(cluster, granted, info.major):
            findings.append(finding)
            lacks += missed
        inventory = await session.inventory.poll()
        if inventory is None:
            raise session.inventory.error or Unreachable("the inventory could not be read")
        findings += [*_of_storages(cluster, inventory), *await _of_bridge(cluster, inventory, session)]
    except OperatorError as error:
        findings.append(Finding(False, error.message))
    finally:
        await session.close()
    return findings, lacks


def commands(lacks: Iterable[MissingPrivilege]) -> Iterator[str]:
    """What grants the privileges, one line for each path.

    Roles are extended: an entry of its own for a path would take the place of what is inherited there (``pveum`` user
    management, "Inheritance").
    """
    by_path: dict[str, dict[str, None]] = {}
    for each in lacks:
        by_path.setdefault(each.path, {})[each.privilege.partition(" or ")[0]] = None
    for path, privileges in by_path.items():
        yield f"pveum role modify ROLE --append 1 --privs {','.join(privileges)}   # on {path}"


def _of_cluster(info: ClusterInfo) -> Finding:
    quorum = {True: "with quorum", False: "WITHOUT QUORUM", None: "quorum not visible"}[info.quorate]
    nodes = ", ".join(sorted(info.nodes)) or "not visible"
    name = f"cluster {info.identity.name}, " if info.identity.name else ""
    return Finding(info.quorate is not False, f"Proxmox VE {info.version}, {name}{quorum}; nodes: {nodes}")


def _of_privileges(
    cluster: ProxmoxCluster, granted: Permissions, major: int
) -> Iterator[tuple[Finding, list[MissingPrivilege]]]:
    """A finding for each feature."""
    usual, defaults = scope_of(cluster), cluster.spec.defaults
    for feature in Feature:
        needed = feature in usual.features
        storages = usual.storages if needed else (defaults.seed_storage,) if defaults.seed_storage else ()
        scope = Scope(pool=usual.pool, storages=storages, bridges=usual.bridges, features=(feature,))
        lacks = missing(granted, scope, major)
        told = f": lacks {', '.join(f'{each.privilege} on {each.path}' for each in lacks)}" if lacks else ""
        yield Finding(not lacks or (False if needed else None), f"{feature.value}{told}"), lacks


def _of_storages(cluster: ProxmoxCluster, inventory: Inventory) -> Iterator[Finding]:
    defaults = cluster.spec.defaults
    for field, name, content in (
        ("storage", defaults.storage, "images"),
        ("seedStorage", defaults.seed_storage, "iso"),
    ):
        if name is None:
            continue
        nodes = sorted(
            node
            for (storage, node), found in inventory.storages.items()
            if storage == name and found.available and content in found.content
        )
        told = f"on {', '.join(nodes)}" if nodes else f"on no node, or its content is without {content}"
        yield Finding(bool(nodes), f"spec.defaults.{field} {name}: {told}")


async def _of_bridge(cluster: ProxmoxCluster, inventory: Inventory, session: ClusterSession) -> list[Finding]:
    bridge, nodes = cluster.spec.defaults.bridge, []
    if bridge is None:
        return []
    for node in sorted(inventory.nodes.values(), key=lambda node: node.name):
        if node.online and bridge in (await session.bridges(node.name) or ()):
            nodes.append(node.name)
    told = f"on {', '.join(nodes)}" if nodes else "on no node, or the credentials may not use it (SDN.Use)"
    return [Finding(bool(nodes), f"spec.defaults.bridge {bridge}: {told}")]


# The manifests


def _documents(names: Sequence[str]) -> Iterator[Raw]:
    for name in names:
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
            documents = list(yaml.safe_load_all(text))
        except OSError as error:
            raise NeedsHuman(f"{name}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise NeedsHuman(f"{name}: is no text") from None
        except yaml.YAMLError as error:
            # Without the text around it, which may hold a secret.
            mark = getattr(error, "problem_mark", None)
            where = f" at line {mark.line + 1}" if mark is not None else ""
            raise NeedsHuman(f"{name}: is no YAML{where}") from None
        yield from (document for document in documents if isinstance(document, dict))


def _credentials(cluster: ProxmoxCluster, documents: Iterable[Raw]) -> Credentials:
    name = cluster.spec.credentials_secret_ref.name
    for raw in documents:
        metadata = raw.get("metadata") or {}
        if raw.get("kind") == "Secret" and metadata.get("name") == name:
            return credentials_of(_secret(raw, namespace=metadata.get("namespace") or ""))
    given = {"tokenID": os.environ.get(TOKEN_ID), "tokenSecret": os.environ.get(TOKEN_SECRET)}
    if not all(given.values()):
        raise NeedsHuman(
            f"Secret {name} is not among these files: name the file that holds it, or set {TOKEN_ID} and {TOKEN_SECRET}"
        )
    values = {key: (value or "").encode() for key, value in given.items()}
    return credentials_of(SecretData(namespace="environment", name=name, values=values))


def _secret(raw: Raw, *, namespace: str) -> SecretData:
    name = raw["metadata"]["name"]
    try:
        values = {
            key: base64.b64decode(value, validate=True) for key, value in (raw.get("data") or {}).items()
        }
    except (binascii.Error, TypeError, ValueError):
        raise NeedsHuman(f"Secret {name}: a value under data is not base64") from None
    values |= {key: str(value).encode() for key, value in (raw.get("stringData") or {}).items()}
    return SecretData(namespace=namespace, name=name, values=values)
