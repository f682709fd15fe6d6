"""Why a VM's power must be left alone for now.

A node that shuts down stops its guests itself; starting them again would fight the administrator (traps: 17).
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
    "qmrollback",
    "hamigrate",
}


async def reason_to_wait(session: ClusterSession, node: str, vmid: int, lock: str | None) -> str | None:
    """Why the VM's power must not be changed now, as a sentence, or ``None``.

    One call: ``GET /nodes/{node}/tasks?source=active``.
    """
    if lock in ("suspended", "suspending"):
        return f"VM {vmid} is hibernated; resume it in Proxmox, which boots it from its saved state"
    for task in await session.tasks.active(node):
        if task.upid.type in NODE_WIDE:
            return f"node {node} {NODE_WIDE[task.upid.type]}; waiting until that has ended"
        if task.upid.type in _OWN and task.upid.id in (str(vmid), ""):
            return f"a Proxmox task is working on VM {vmid} ({task.upid.type}); waiting until it has ended"
    return None
