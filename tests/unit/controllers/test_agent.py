"""How often an agent is asked for addresses: as its gate says, counted by what was asked, and not of a VM at rest."""

import asyncio
from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.controllers.vm.agent import checks
from proxmox_operator.controllers.vm.memory import Memory
from proxmox_operator.planning.lifecycle import Wait
from proxmox_operator.proxmox.errors import AgentUnavailable
from proxmox_operator.proxmox.session import ClusterSession
from unit.planning.make import a_vm, made, present


class Guest:
    def __init__(self) -> None:
        self.memory = Memory()
        self.addresses = AsyncMock()
        self.session = cast(
            ClusterSession, SimpleNamespace(vms=SimpleNamespace(agent_addresses=self.addresses))
        )

    def look(self, vm: ProxmoxVM, power: str = "Running") -> tuple[Wait, ...]:
        return asyncio.run(checks(self.session, vm, present(power=power), self.memory, now=100.0))

    def silent(self, after: float, *, asked: bool) -> None:
        error = AgentUnavailable("QEMU guest agent is not running")
        error.after, error.asked = after, asked
        self.addresses.side_effect = error


ASKED = a_vm(agent=True, status=made(power="Running"))
READY_BY_IT = a_vm(agent=True, readiness={"agent": True}, status=made(power="Running"))


def test_it_is_asked_again_when_its_gate_lets_it_be() -> None:
    guest = Guest()
    guest.silent(6.75, asked=True)
    [wait] = guest.look(READY_BY_IT)
    assert (wait.reason, wait.after) == ("AgentNotConnected", 6.75)


def test_what_the_gate_refused_is_no_attempt_but_the_first_is_owed_all_the_same() -> None:
    guest = Guest()
    guest.silent(3.0, asked=False)
    guest.look(ASKED)
    assert guest.memory.agent_tries == 1
    for _ in range(5):
        guest.look(ASKED)
    assert guest.memory.agent_tries == 1
    guest.silent(4.5, asked=True)
    guest.look(ASKED)
    assert (guest.memory.agent_tries, guest.memory.agent_again) == (2, 4.5)


def test_a_vm_that_was_stopped_owes_no_addresses() -> None:
    guest = Guest()
    guest.silent(3.0, asked=True)
    guest.look(ASKED)
    guest.look(a_vm(agent=True, power="Stopped", status=made(power="Running")), power="Stopped")
    assert guest.memory.agent_tries == 0


def test_an_agent_that_tells_no_address_yet_is_asked_ever_more_rarely() -> None:
    guest = Guest()
    guest.addresses.return_value = {}
    told = []
    for _ in range(8):
        guest.look(ASKED)
        told.append(guest.memory.agent_again)
    assert told == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    guest.addresses.return_value = {"BC:24:11:00:00:01": ["10.0.0.5"]}
    guest.look(ASKED)
    assert guest.memory.addresses == ("10.0.0.5",)
    assert guest.memory.agent_tries == 0
