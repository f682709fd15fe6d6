"""How often cloud-init in a guest is asked: ever more rarely, and never where it cannot be."""

import asyncio
from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock

import pytest

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.controllers.vm.firstboot import MAX_DELAY, ask, is_owed
from proxmox_operator.controllers.vm.memory import Memory
from proxmox_operator.planning.firstboot import FirstBoot
from proxmox_operator.proxmox.agent import ExecResult
from proxmox_operator.proxmox.permissions import Feature
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.proxmox.vm import VMConfig
from unit.planning.make import a_vm, made, present

HOUR = 3600


class Guest:
    """A VM whose object is looked at each second for which something is owed."""

    def __init__(self, *, lacking: dict[Feature, str] | None = None, agent: str = "1") -> None:
        self.vm: ProxmoxVM = a_vm(readiness={"cloudInit": True}, status=made(power="Running"))
        self.member = cast(Member, SimpleNamespace(lacking=lacking or {}))
        self.memory = Memory(config=VMConfig({"agent": agent}, "digest"))
        self.run, self.look = AsyncMock(return_value=7), AsyncMock(return_value=None)
        vms = SimpleNamespace(agent_exec=self.run, agent_result=self.look)
        self.session = cast(ClusterSession, SimpleNamespace(vms=vms))

    def ask(self, now: float) -> FirstBoot:
        found = asyncio.run(ask(self.session, self.member, self.vm, present(), self.memory, now=now))
        assert found is not None
        return found

    def passes(self, seconds: int) -> int:
        count = 0
        for now in range(seconds):
            if is_owed(self.vm, self.memory, now):
                self.ask(now)
                count += 1
        return count


@pytest.mark.parametrize(
    ("guest", "reason"),
    [
        (Guest(lacking={Feature.EXEC: "grant it"}), "PermissionDenied"),
        (Guest(agent="0"), "AgentNotConfigured"),
    ],
)
def test_a_question_that_is_impossible_owes_nothing_and_is_asked_once_it_is_possible(
    guest: Guest, reason: str
) -> None:
    assert guest.passes(HOUR) == 1
    assert guest.ask(HOUR).reason == reason
    assert guest.ask(HOUR).after > MAX_DELAY
    guest.run.assert_not_awaited()
    guest.member.lacking, guest.memory.config = {}, VMConfig({"agent": "1"}, "digest")
    guest.ask(HOUR)
    guest.run.assert_awaited_once()


def test_a_process_that_does_not_end_is_looked_at_ever_more_rarely() -> None:
    guest = Guest()
    assert guest.passes(4) == 3
    assert guest.passes(HOUR) < HOUR / MAX_DELAY + 10
    guest.run.assert_awaited_once()


def test_each_question_is_first_looked_at_soon() -> None:
    guest = Guest()
    guest.passes(100)
    guest.look.return_value = ExecResult(0, '{"status": "running", "errors": []}', "")
    guest.passes(200)
    guest.look.return_value = None
    assert guest.ask(1000).after == 1.0
