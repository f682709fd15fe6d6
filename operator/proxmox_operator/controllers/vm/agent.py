"""What the guest agent tells, asked only where the spec wants it and never in a hurry.

A dead agent occupies a Proxmox worker for seconds, so each VM backs off by itself. The agent is a condition, not a
gate, unless ``spec.readiness.agent`` makes it one.
"""

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.controllers.vm.memory import Memory
from proxmox_operator.errors import OperatorError
from proxmox_operator.planning.lifecycle import Present, Wait
from proxmox_operator.proxmox.session import ClusterSession

MAX_DELAY = 60.0


async def checks(
    session: ClusterSession, vm: ProxmoxVM, present: Present, memory: Memory
) -> tuple[Wait, ...]:
    """What Ready still waits for; refreshes ``memory.addresses``."""
    asked = vm.spec.readiness.agent or vm.spec.agent
    if (
        present.power != "Running"
        or vm.spec.power == "Stopped"
        or not asked
        or vm.metadata.deletion_timestamp is not None
    ):
        return ()
    if memory.addresses is not None:
        return ()
    try:
        by_mac = await session.vms.agent_addresses(present.node, vm.status.vmid or 0)
    except OperatorError as error:
        memory.agent_tries += 1
        if not vm.spec.readiness.agent:
            return ()
        delay = min(2.0 ** min(memory.agent_tries, 6), MAX_DELAY)
        return (Wait(reason="AgentNotConnected", message=error.message, after=delay),)
    memory.agent_tries = 0
    memory.addresses = tuple(address for addresses in by_mac.values() for address in addresses)
    return ()
