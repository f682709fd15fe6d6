"""What the guest agent tells, asked only where the spec wants it and never in a hurry.

A dead agent occupies a Proxmox worker for seconds, so each VM backs off by itself. The agent is a condition, not a
gate, unless ``spec.readiness.agent`` makes it one.
"""

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.controllers.vm.memory import Memory
from proxmox_operator.errors import OperatorError
from proxmox_operator.planning.lifecycle import Present, Wait
from proxmox_operator.proxmox.errors import AgentUnavailable
from proxmox_operator.proxmox.session import ClusterSession

MAX_DELAY = 60.0
REFRESH = 240.0
"""Seconds after which addresses are asked for anew, at the next pass that looks at the VM anyway."""


async def checks(
    session: ClusterSession, vm: ProxmoxVM, present: Present, memory: Memory, *, now: float
) -> tuple[Wait, ...]:
    """What Ready still waits for; refreshes ``memory.addresses``."""
    asked = vm.spec.readiness.agent or vm.spec.agent
    if (
        present.power != "Running"
        or vm.spec.wanted_power == "Stopped"
        or not asked
        or vm.metadata.deletion_timestamp is not None
    ):
        memory.agent_tries = 0
        return ()
    if memory.agent_at is not None and memory.addresses is not None and now - memory.agent_at < REFRESH:
        return ()
    try:
        by_mac = await session.vms.agent_addresses(present.node, vm.status.vmid or 0)
    except OperatorError as error:
        silent = error if isinstance(error, AgentUnavailable) else None
        if silent is None or silent.asked or memory.agent_tries == 0:
            memory.agent_tries += 1
        memory.agent_again = silent.after if silent is not None else _delay(memory.agent_tries)
        if not vm.spec.readiness.agent:
            return ()
        return (Wait(reason="AgentNotConnected", message=error.message, after=memory.agent_again),)
    memory.agent_at = now
    memory.addresses = tuple(address for addresses in by_mac.values() for address in addresses) or None
    # An agent that answers before the guest has an address is asked again for it.
    memory.agent_tries = 0 if memory.addresses else memory.agent_tries + 1
    memory.agent_again = _delay(memory.agent_tries)
    return ()


def _delay(tries: int) -> float:
    return min(2.0 ** min(tries, 6), MAX_DELAY)
