"""The CustomResourceDefinitions, made from the models.

``python -m proxmox_operator.api.crds FOLDER`` writes them. The files are committed, and a test fails when
they are stale. Not here: installing them.
"""

import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from proxmox_operator.api.meta import Resource
from proxmox_operator.api.names import CATEGORY, GROUP, VERSION
from proxmox_operator.api.proxmoxcluster import ProxmoxCluster
from proxmox_operator.api.proxmoxvm import ProxmoxVM
from proxmox_operator.api.structural import Schema, structural
from proxmox_operator.api.vmtemplate import VMTemplate

UNSEEN = {"observedGeneration": -1}
"""The status of an object that nobody has looked at. Without it, a new object counts as a done one by kstatus."""

HEADER = "# Generated from proxmox_operator.api by `make crds`. Do not edit.\n"


class Column(NamedTuple):
    """A column of ``kubectl get``; ``wide`` ones appear with ``-o wide`` only."""

    name: str
    path: str
    description: str
    type: Literal["string", "integer", "date"] = "string"
    wide: bool = False


class Definition(NamedTuple):
    """What a CRD says beyond the schema."""

    model: type[Resource]
    plural: str
    short: str
    scope: Literal["Namespaced", "Cluster"]
    columns: tuple[Column, ...]
    selectable: tuple[str, ...] = ()


def _of_ready(field: str) -> str:
    return f'.status.conditions[?(@.type=="Ready")].{field}'


_READY = Column("Ready", _of_ready("status"), "Whether the object is as its spec says.")
_REASON = Column("Reason", _of_ready("reason"), "Why, in one word.")
_MESSAGE = Column("Message", _of_ready("message"), "Why, as a sentence.", wide=True)
_AGE = Column("Age", ".metadata.creationTimestamp", "Time since the object was created.", "date")

DEFINITIONS = (
    Definition(
        model=ProxmoxCluster,
        plural="proxmoxclusters",
        short="pvec",
        scope="Cluster",
        columns=(
            _READY,
            _REASON,
            Column("Version", ".status.version", "Version of Proxmox VE."),
            Column("Nodes", ".status.nodeCount", "How many nodes there are.", "integer"),
            _AGE,
            _MESSAGE,
        ),
    ),
    Definition(
        model=ProxmoxVM,
        plural="proxmoxvms",
        short="pvm",
        scope="Namespaced",
        columns=(
            _READY,
            _REASON,
            Column("Power", ".status.power", "Power state."),
            Column("Node", ".status.node", "Proxmox node that the VM is on."),
            Column("VMID", ".status.vmid", "VMID in Proxmox.", "integer"),
            Column("IP", ".status.addresses[0]", "First address that the guest reports."),
            _AGE,
            Column("Cluster", ".status.cluster", "ProxmoxCluster that the VM is in.", wide=True),
            _MESSAGE,
        ),
        selectable=(".spec.power", ".status.cluster", ".status.node", ".status.vmid"),
    ),
    Definition(
        model=VMTemplate,
        plural="vmtemplates",
        short="pvt",
        scope="Cluster",
        columns=(
            _READY,
            _REASON,
            Column("Copies", ".status.copiesReady", "Copies that are ready, of those wanted."),
            Column("Version", ".status.version", "Current version."),
            _AGE,
            Column("Cluster", ".status.cluster", "ProxmoxCluster that the templates are in.", wide=True),
            _MESSAGE,
        ),
    ),
)


def custom_resource_definition(definition: Definition) -> dict[str, Any]:
    """One CustomResourceDefinition, ready to be applied."""
    kind, plural = definition.model.kind, definition.plural
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(column) for column in definition.columns],
    }
    if definition.selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in definition.selectable]
    version["schema"] = {"openAPIV3Schema": object_schema(definition.model)}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [definition.short],
                "categories": [CATEGORY],
            },
            "scope": definition.scope,
            "versions": [version],
        },
    }


def object_schema(model: type[Resource]) -> Schema:
    """The schema of a whole object: the model's, with what the API server itself keeps left to it."""
    schema = structural(model)
    bare = structural(model, defaults=False)
    properties = {
        "apiVersion": {"description": "Version of the kind's schema.", "type": "string"},
        "kind": {"description": f"Always {model.kind}.", "type": "string"},
        "metadata": {"type": "object"},
        "spec": schema["properties"]["spec"],
        "status": {**bare["properties"]["status"], "default": UNSEEN},
    }
    return {**schema, "properties": properties, "required": ["spec"]}


def _column(column: Column) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.path,
        "description": column.description,
    }
    return {**entry, "priority": 1} if column.wide else entry


def render(definition: Definition) -> str:
    """The CRD as YAML; the same for the same models, whatever the machine."""
    return HEADER + yaml.safe_dump(
        custom_resource_definition(definition), sort_keys=False, width=110, allow_unicode=True
    )


def files() -> dict[str, str]:
    """Name and text of each file."""
    return {f"{definition.plural}.yaml": render(definition) for definition in DEFINITIONS}


def write(folder: Path) -> None:
    """Write all CRDs to ``folder``, which is made where it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "crds"))
