"""What a new VM is made from and where it could go: the template, and the nodes as placement sees them."""

from proxmox_operator.api import Source
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.errors import NeedsHuman, Unreachable
from proxmox_operator.planning.placement import Node, Storage, Template
from proxmox_operator.proxmox.errors import NotHere
from proxmox_operator.proxmox.session import ClusterSession


async def read_template(session: ClusterSession, source: Source) -> Template:
    """The VM that ``source.clone`` names, with its config (at most a minute old).

    Raises NeedsHuman (TemplateNotFound) where the credentials see no such VM; a template that was just made is found
    at the next poll of the inventory.
    """
    if source.clone is None:
        raise NeedsHuman("spec.source: set spec.source.clone", reason="InvalidSpec")
    vmid = source.clone.vmid
    inventory = session.inventory.current
    guest = inventory.guests.get(vmid) if inventory else None
    if guest is None or guest.type != "qemu":
        message = (
            f"spec.source.clone.vmid: there is no VM {vmid} to clone, or the credentials may not see it: create the "
            f"template, or grant VM.Audit and VM.Clone on /vms/{vmid}"
        )
        raise NeedsHuman(message, reason="TemplateNotFound")
    if inventory is not None and (node := inventory.nodes.get(guest.node)) is not None and not node.online:
        raise Unreachable(
            f"node {guest.node}, which holds template {vmid}, is offline", reason="NodeUnavailable"
        )
    try:
        config = await session.template_config(guest.node, vmid)
    except NotHere as error:
        session.inventory.poke()
        raise Unreachable(f"template {vmid} is moving: {error.message}", reason="TemplateMoving") from error
    return Template(vmid=vmid, node=guest.node, is_template=config.is_template, config=config.raw)


async def gather_nodes(member: Member, session: ClusterSession, *, besides: str) -> list[Node]:
    """Every node as placement sees it; memory that is promised to other VMs in the making counts as used."""
    inventory = session.inventory.current
    if inventory is None:
        return []
    nodes: list[Node] = []
    for info in inventory.nodes.values():
        free = None
        if info.maxmem is not None and info.mem is not None:
            free = info.maxmem - info.mem - member.promised_on(info.name, besides=besides)
        storages = {
            storage.name: Storage(
                name=storage.name,
                shared=storage.shared,
                type=storage.type,
                content=storage.content,
            )
            for (_, node), storage in inventory.storages.items()
            if node == info.name and storage.available
        }
        bridges = await session.bridges(info.name) if info.online else None
        nodes.append(
            Node(name=info.name, online=info.online, memory_free=free, storages=storages, bridges=bridges)
        )
    return nodes
