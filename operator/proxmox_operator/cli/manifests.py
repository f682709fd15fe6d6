"""The manifests that ``proxmox-operator check`` is given: read as ``kubectl apply -f`` reads them.

Not here: what they mean (``api``), and what Proxmox VE says of them (``cli.check``).
"""

import base64
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from proxmox_operator.api import ProxmoxCluster
from proxmox_operator.errors import NeedsHuman
from proxmox_operator.kube.secrets import SecretData

TOKEN_ID, TOKEN_SECRET = "PROXMOX_TOKEN_ID", "PROXMOX_TOKEN_SECRET"

Raw = Mapping[str, Any]


def documents_of(names: Sequence[str]) -> Iterator[Raw]:
    """What is in these YAML files, of which ``-`` is the standard input. Raises NeedsHuman, which names the file."""
    for name in names:
        try:
            text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
            documents = list(yaml.safe_load_all(text))
        except OSError as error:
            raise NeedsHuman(f"{name}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise NeedsHuman(f"{name}: is no text") from None
        except (yaml.YAMLError, ValueError) as error:
            # Without the text around it, which may hold a secret.
            mark = getattr(error, "problem_mark", None)
            where = f" at line {mark.line + 1}" if mark is not None else ""
            raise NeedsHuman(f"{name}: is no YAML{where}") from None
        yield from (document for document in documents if isinstance(document, dict))


def secret_of(cluster: ProxmoxCluster, documents: Iterable[Raw], namespace: str) -> SecretData:
    """The Secret of a cluster's credentials, of several of this name the one that the operator would read.

    Where there is none, what the environment has in its place. Raises NeedsHuman, which quotes no value.
    """
    name = cluster.spec.credentials_secret_ref.name
    found = {}
    for raw in documents:
        metadata = _mapping(raw, "metadata", what="a Secret")
        if raw.get("kind") == "Secret" and metadata.get("name") == name:
            # One that names none goes to whatever kubectl is told.
            found[str(metadata.get("namespace") or namespace)] = raw
    if found:
        place = namespace if namespace in found else next(iter(found))
        return _secret(found[place], name=name, namespace=place)
    given = {"tokenID": os.environ.get(TOKEN_ID), "tokenSecret": os.environ.get(TOKEN_SECRET)}
    if not all(given.values()):
        raise NeedsHuman(
            f"Secret {name} is not among these files: name the file that holds it, or set {TOKEN_ID} and {TOKEN_SECRET}"
        )
    values = {key: (value or "").encode() for key, value in given.items()}
    return SecretData(namespace=namespace, name=f"{name} of the environment", values=values)


def _secret(raw: Raw, *, name: str, namespace: str) -> SecretData:
    what = f"Secret {name}"
    try:
        values = {
            key: base64.b64decode(str(value), validate=True)
            for key, value in _mapping(raw, "data", what=what).items()
        }
    except ValueError:
        raise NeedsHuman(f"{what}: a value under data is not base64") from None
    values |= {key: str(value).encode() for key, value in _mapping(raw, "stringData", what=what).items()}
    return SecretData(namespace=namespace, name=name, values=values)


def _mapping(raw: Raw, field: str, *, what: str) -> Raw:
    found = raw.get(field) or {}
    if not isinstance(found, Mapping):
        raise NeedsHuman(f"{what}: {field} must hold keys and values")
    return found
