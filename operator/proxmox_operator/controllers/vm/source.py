"""What a new VM is made from: the template that its source names."""

from proxmox_operator.api import Source
from proxmox_operator.errors import NeedsHuman, Unreachable
from proxmox_operator.planning.placement import Template
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
