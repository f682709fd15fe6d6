"""VMTemplates to decide about, as short as a test can say them: two nodes, an image by URL, a local storage."""

from typing import Any

from proxmox_operator.api import TemplateCopy, TemplateImage, TemplateSpec, VMTemplate
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.errors import NeedsHuman
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.templates import (
    CopyFacts,
    Gone,
    NodeFacts,
    Standing,
    TemplateFacts,
    There,
    Unclear,
    image_file,
    plan,
    version_of,
)
from unit.planning.make import NOW, UUID

SHA = "a1b2c3d4e5f60718" * 4
IMAGE = {
    "url": "https://images.example.org/debian-12.qcow2",
    "checksum": f"sha256:{SHA}",
    "storage": "images",
}
STORAGE = "local-lvm"
OLD = "0123456789"
"""An earlier version."""

GONE = Gone()
UNCLEAR = Unclear(reason="NodeUnavailable", message="node pve1 is offline: bring it back")
TEMPLATE = There(node="pve1", owner=Owner.OURS, is_template=True, complete=True)
MADE = There(node="pve1", owner=Owner.OURS, complete=True)
FOREIGN = There(node="pve1", owner=Owner.FOREIGN, is_template=True, complete=True)


def a_spec(**spec: Any) -> TemplateSpec:
    """By the names on the wire; without ``image`` or ``fromVM`` of an image by URL."""
    source = {} if "image" in spec or "fromVM" in spec else {"image": IMAGE}
    return TemplateSpec.model_validate(source | spec)


CURRENT = version_of(a_spec(), storage=STORAGE)


def a_template(
    *, deleting: bool = False, held: bool = True, status: dict[str, Any] | None = None, **spec: Any
) -> VMTemplate:
    """A VMTemplate; ``spec`` and ``status`` by the names on the wire."""
    metadata: dict[str, Any] = {"name": "debian-12", "uid": "uid-1", "generation": 3}
    metadata["finalizers"] = [FINALIZER] if held else []
    if deleting:
        metadata["deletionTimestamp"] = NOW.isoformat()
    source = {} if "image" in spec or "fromVM" in spec else {"image": IMAGE}
    return VMTemplate.parse({"metadata": metadata, "spec": source | spec, "status": status or {}})


def a_copy(vmid: int = 10000, **changes: Any) -> TemplateCopy:
    """A copy of the current version on pve1 that is ready."""
    usual: dict[str, Any] = {
        "node": "pve1",
        "vmid": vmid,
        "uuid": UUID,
        "version": CURRENT,
        "storage": STORAGE,
        "state": "Ready",
        "since": NOW,
    }
    return TemplateCopy(**(usual | changes))


def seen(standing: Standing = TEMPLATE, copy: TemplateCopy | None = None, **changes: Any) -> CopyFacts:
    """A copy as it is; on its own node, unless the standing says otherwise."""
    return CopyFacts(copy=copy if copy is not None else a_copy(), standing=standing, **changes)


def node(name: str = "pve1", **changes: Any) -> NodeFacts:
    """One that copies can be made on."""
    usual: dict[str, Any] = {"name": name, "online": True}
    return NodeFacts(**(usual | changes))


def an_image(node: str = "pve1") -> TemplateImage:
    """One that was downloaded once."""
    return TemplateImage(node=node, volume="images:import/debian-11-0000000000000000.qcow2")


def facts(template: VMTemplate | None = None, /, **changes: Any) -> TemplateFacts:
    """What was gathered about it; nodes pve1 and pve2, of which the spec wants pve1 unless it is given."""
    template = template if template is not None else a_template(nodes=["pve1"])
    image = template.spec.image
    file = image_file(image) if image is not None else None
    usual: dict[str, Any] = {
        "template": template,
        "now": NOW,
        "version": CURRENT,
        "storage": STORAGE,
        "shared": False,
        "nodes": {name: node(name) for name in ("pve1", "pve2")},
        "file": file,
        "volume": file.volume if file is not None else image.volume if image is not None else None,
    }
    return TemplateFacts(**(usual | changes))


BROKEN = NeedsHuman("spec.image.checksum: another one", reason="ChecksumMismatch")
NEW, READY, REMOVING = (a_copy(state=state) for state in ("Creating", "Ready", "Removing"))
EARLIER = a_copy(10001, version=OLD)


def planned(template: VMTemplate | None = None, /, *copies: CopyFacts, **changes: Any) -> Any:
    """Kinds of the steps, with what they are about; the reasons of troubles; what is awaited."""
    template = template or a_template(nodes=["pve1"])
    found = plan(facts(template, copies=copies, **changes))
    steps = [
        (type(step), getattr(step, "copy", None) or getattr(step, "nodes", None)) for step in found.steps
    ]
    return steps, [each.reason for each in found.troubles], len(found.working)


def only(step: type, about: object) -> Any:
    """One step, and nothing else."""
    return [(step, about)], [], 0


def stuck(reason: str) -> Any:
    """One trouble, and nothing else."""
    return [], [reason], 0


NOTHING: Any = ([], [], 0)
AWAITS: Any = ([], [], 1)
