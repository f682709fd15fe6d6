"""Why a VM's power must be left alone for now.

A node that shuts down stops its guests itself; starting them again would fight the administrator (traps: 17). So would
a start on a node that is in maintenance; one that was shut down there may well stay off.
"""

from proxmox_operator.proxmox.session import ClusterSession

NODE_WIDE = {
    "stopall": "is stopping all its guests (shutdown or maintenance)",
    "suspendall": "is suspending all its guests",
    "startall": "is starting its guests itself",
    "migrateall": "is moving all its guests away",
}
_OWN = {
    "qmstart",
    "qmstop",
    "qmshutdown",
    "qmreboot",
    "qmsuspend",
    "qmresume",
    "vzdump",
    "qmigrate",
    "qmmove",
    "qmrollback",
    "hamigrate",
}


async def reason_to_wait(
    session: ClusterSession, node: str, vmid: int, lock: str | None, *, starting: bool
) -> str | None:
    """Why the VM's power must not be changed now, as a sentence, or ``None``. ``starting``: it is to run.

    One call: ``GET /nodes/{node}/tasks?source=active``.
    """
    if lock in ("suspended", "suspending"):
        return f"VM {vmid} is hibernated; resume it in Proxmox, which boots it from its saved state"
    inventory = session.inventory.current
    info = inventory.nodes.get(node) if inventory is not None else None
    if starting and info is not None and info.maintenance:
        return (
            f"node {node} is in maintenance; waiting until that has ended (`ha-manager crm-command node-maintenance "
            f"disable {node}`), or until the VM is moved"
        )
    for task in await session.tasks.active(node):
        if task.upid.type in NODE_WIDE:
            return f"node {node} {NODE_WIDE[task.upid.type]}; waiting until that has ended"
        if task.upid.type in _OWN and task.upid.id in (str(vmid), ""):
            return f"a Proxmox task is working on VM {vmid} ({task.upid.type}); waiting until it has ended"
    return None
