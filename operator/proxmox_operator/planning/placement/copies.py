"""The copies of a VMTemplate that a new VM may be cloned from: those that are there, and those yet to be made.

Not here: making them, which is the VMTemplate's own part, and reading them from Proxmox.
"""

from collections.abc import Iterable, Sequence

from proxmox_operator.api import Hardware, TemplateCopy, TemplateSpec, VMTemplate, find_condition
from proxmox_operator.api.quantity import parse_quantity
from proxmox_operator.planning.placement.things import Node, Template


def current_copies(template: VMTemplate) -> list[TemplateCopy]:
    """The copies that new VMs are made from: ready, and of the current version."""
    return [
        copy
        for copy in template.status.copies
        if copy.state == "Ready" and copy.version == template.status.version
    ]


def copies_to_come(
    template: VMTemplate,
    made: Sequence[Template],
    nodes: Iterable[Node],
    *,
    storage: str | None,
    source: str | None,
) -> list[Template]:
    """A copy for each node that has none of the current version and may still get one.

    ``made``: those that were read; they tell how large another one is, or else the VMTemplate's spec does. ``storage``
    is the cluster's default, ``source`` the node of the VM that ``spec.fromVM`` names. None is to come where the disks
    are on a shared storage, which one copy serves whole, nor where one is on record that could not be read: whether it
    is there is the VMTemplate's to find out.
    """
    spec = template.spec
    storage = spec.storage or storage
    if storage is None or spec.distribution == "Shared":
        return []
    config = made[0].config if made else _expected(spec, storage)
    taken = {copy.node for copy in current_copies(template)} | {each.node for each in made}
    return [
        Template(
            vmid=None,
            node=node.name,
            is_template=True,
            config=config,
            name=template.metadata.name,
            version=template.status.version,
            note=shortcoming(template),
        )
        for node in nodes
        if node.name not in taken and _may_have(spec, node, storage, source)
    ]


def shortcoming(template: VMTemplate) -> str:
    """Why a VMTemplate has not all of its copies, as it says itself; empty where it has, or has not been looked at."""
    conditions = [find_condition(template.status.conditions, name) for name in ("Ready", "Distributed")]
    lacking = (each.message for each in conditions if each is not None and each.status != "True")
    return next(lacking, "")


def _may_have(spec: TemplateSpec, node: Node, storage: str, source: str | None) -> bool:
    """Whether a copy can be made on the node; that its disks find their storage there is asked of every VM."""
    if spec.nodes and node.name not in spec.nodes:
        return False
    if storage in node.storages and node.storages[storage].shared:
        return False
    if spec.image is None:
        return node.name == source
    images = node.storages.get(spec.image.storage or (spec.image.volume or "").partition(":")[0])
    return images is not None and "import" in images.content


def _expected(spec: TemplateSpec, storage: str) -> dict[str, str]:
    """The config of a first copy, as far as placement asks for it; how large its disk gets is not known."""
    config = {"scsi0": f"{storage}:0"}
    if spec.image is not None:
        hardware = spec.hardware or Hardware()
        config["memory"] = str(parse_quantity(hardware.memory.size) >> 20)
        config |= {"cores": str(hardware.cpu.cores or 1), "sockets": str(hardware.cpu.sockets or 1)}
    return config
