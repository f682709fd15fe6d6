"""Asking cloud-init in the guest how far the first boot is, through the guest agent and never in a hurry.

Asked only where somebody waits for the answer (a seed, or ``spec.readiness.cloudInit``), and never again once it was
"done". The gate of the agent sees to it that a node has one such call at a time, and leaves a silent agent alone.
"""

from dataclasses import replace
from math import inf

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.controllers.vm.memory import BootQuestion, Memory
from proxmox_operator.errors import OperatorError
from proxmox_operator.guest.cloudinit import PLAIN_QUESTION, QUESTION, read_answer, read_plain_answer
from proxmox_operator.planning.canonical import meaning
from proxmox_operator.planning.firstboot import FirstBoot, matters
from proxmox_operator.planning.lifecycle import Present
from proxmox_operator.planning.propstring import parse_props
from proxmox_operator.proxmox.agent import ExecResult
from proxmox_operator.proxmox.errors import AgentUnavailable
from proxmox_operator.proxmox.permissions import Feature
from proxmox_operator.proxmox.session import ClusterSession

SOON = 1.0
"""Seconds after which a process in the guest is looked at again; each look that finds it running doubles them."""

MAX_DELAY = 30.0
"""Seconds between two questions while cloud-init is at work, and between two looks at a process."""

MAX_SILENCE = 300.0
"""The same where it could not be asked, or has failed."""

_ASKING = FirstBoot(state="Unknown", reason="Asking", message="cloud-init in the guest is being asked")


def is_owed(vm: ProxmoxVM, memory: Memory, now: float) -> bool:
    """Whether cloud-init is to be asked now."""
    due = memory.boot.ask_at is None or memory.boot.ask_at <= now
    return _is_open(vm) and due and vm.status.power == "Running"


async def ask(
    session: ClusterSession, member: Member, vm: ProxmoxVM, present: Present, memory: Memory, *, now: float
) -> FirstBoot | None:
    """What is known of the first boot; None where nobody waits for it, or the VM does not run."""
    question = memory.boot
    if not _is_open(vm) or present.power != "Running" or vm.metadata.deletion_timestamp is not None:
        question.ask_at = None
        return None
    if (impossible := _impossible(member, memory)) is not None:
        # Known without a call, and changed only by what wakes the object or by a config that is read anew.
        question.found, question.ask_at = None, inf
        return replace(impossible, after=MAX_SILENCE)
    found = question.found
    if found is None or question.ask_at is None or question.ask_at <= now:
        question.found = found = await _asked(session, vm, present.node, question)
        question.ask_at = now + _delay(question)
    return replace(found, after=question.ask_at - now)


def _is_open(vm: ProxmoxVM) -> bool:
    """Whether somebody still waits for the answer."""
    return matters(vm) and not vm.status.cloud_init_done and vm.spec.management == "Manage"


def _impossible(member: Member, memory: Memory) -> FirstBoot | None:
    """Why no call is made at all."""
    if (remedy := member.lacking.get(Feature.EXEC)) is not None:
        message = f"cloud-init cannot be asked: {remedy}"
        return FirstBoot(state="Unknown", reason="PermissionDenied", message=message)
    agent = memory.config.current.get("agent", "0") if memory.config is not None else "0"
    if not meaning(parse_props(agent, "enabled").get("enabled"), default=False):
        message = (
            "cloud-init is asked through the guest agent, for which the VM has no device: set spec.agent to true and "
            "restart it"
        )
        return FirstBoot(state="Unknown", reason="AgentNotConfigured", message=message)
    return None


async def _asked(session: ClusterSession, vm: ProxmoxVM, node: str, question: BootQuestion) -> FirstBoot:
    vmid = vm.status.vmid or 0
    try:
        if question.pid is None:
            command = PLAIN_QUESTION if question.plain else QUESTION
            question.pid = await session.vms.agent_exec(node, vmid, command)
            question.looks = 0
        result = await session.vms.agent_result(node, vmid, question.pid)
    except OperatorError as error:
        # Its result is told once, so one that was lost is gone: asked anew.
        question.pid = None
        question.tries += 1
        question.silent_for = error.after if isinstance(error, AgentUnavailable) else None
        return FirstBoot(state="Unknown", reason=error.reason, message=f"cloud-init: {error.message}")
    question.silent_for = None
    if result is None:
        question.looks += 1
        return question.found or _ASKING
    question.pid = None
    question.tries += 1
    return _read(result, vm, question)


def _read(result: ExecResult, vm: ProxmoxVM, question: BootQuestion) -> FirstBoot:
    secret = vm.spec.cloud_init is not None and vm.spec.cloud_init.user_data_secret_ref is not None
    if question.plain:
        return read_plain_answer(result, secret=secret)
    found = read_answer(result, secret=secret)
    if found is None:
        question.plain = True
        question.tries = 0
        return _ASKING
    return found


def _delay(question: BootQuestion) -> float:
    if question.silent_for is not None:
        return question.silent_for
    if question.pid is not None:
        return min(SOON * 2.0 ** min(question.looks - 1, 10), MAX_DELAY)
    running = question.found is not None and question.found.state == "Running"
    return min(2.0 ** min(question.tries, 10), MAX_DELAY if running else MAX_SILENCE)
