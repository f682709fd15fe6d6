"""Which VMs are in a group of HA: those of one namespace and cluster that name it. And what HA is not asked for."""

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from proxmox_operator.api import Availability
from proxmox_operator.api.names import PAUSED
from proxmox_operator.controllers.context import Context
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.controllers.vm.availability import HAStep, HAWriter, _peers
from proxmox_operator.controllers.vm.memory import Memory
from proxmox_operator.engine.store import ObjectStore
from proxmox_operator.errors import Outdated, Unreachable
from proxmox_operator.planning.availability import HA, HAResource
from proxmox_operator.planning.lifecycle import AlignHA, ClearHAError, JoinHA
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.proxmox.vm import LiveStatus
from unit.planning.make import a_vm, facts, made, present

OFF = present(power="Stopped")
RESOURCES = {vmid: HAResource() for vmid in range(10000, 10020)}


def group(name: str = "db", affinity: str = "Apart", *, ha: bool = True) -> dict[str, Any]:
    return {"ha": ha, "rule": {"resourceAffinity": {"group": name, "affinity": affinity}}}


def provisioned(status: str = "True") -> dict[str, str]:
    return {"type": "Provisioned", "status": status}


def stored(*objects: tuple[int, dict[str, Any]]) -> ObjectStore:
    """A store of ProxmoxVMs: VMID, and what is different from a member of the group."""
    store = ObjectStore()
    for number, (vmid, changes) in enumerate(objects, 1):
        metadata = {
            "name": f"vm-{vmid}",
            "namespace": "shop",
            "uid": str(vmid),
            "resourceVersion": str(number),
        }
        raw = {
            "metadata": metadata | changes.get("metadata", {}),
            "spec": {"availability": changes.get("availability", group())} | changes.get("spec", {}),
            "status": {"vmid": vmid, "cluster": "lab", "conditions": [provisioned()]}
            | changes.get("status", {}),
        }
        store.apply("ProxmoxVM", raw)
    return store


def test_the_group_is_what_names_it_in_the_same_namespace_and_cluster_and_is_under_ha() -> None:
    store = stored(
        (10000, {}),
        (10001, {"availability": group(affinity="Together")}),
        (10002, {"availability": group("other")}),
        (10003, {"availability": {"ha": True}}),
        (10004, {"availability": group(ha=False)}),
        (10005, {"metadata": {"namespace": "bank"}}),
        (10006, {"metadata": {"deletionTimestamp": "2026-11-25T00:00:00Z"}}),
        (10007, {"status": {"cluster": "elsewhere"}}),
        (10008, {"status": {"vmid": None}}),
        (10050, {}),
    )
    vm = a_vm(status=made(), availability=group())
    context = cast(Context, SimpleNamespace(store=store))
    member = cast(Member, SimpleNamespace(name="lab"))
    found, bystanders = _peers(context, member, vm, RESOURCES)
    assert found == {10000: "Apart", 10001: "Together"}
    assert bystanders == frozenset()


def test_who_is_not_managed_at_present_or_not_known_to_be_ours_only_stands_by() -> None:
    store = stored(
        (10000, {"status": {"conditions": []}}),
        (10001, {}),
        (10002, {"spec": {"management": "Observe"}}),
        (10003, {"metadata": {"annotations": {PAUSED: "true"}}}),
        (10004, {"status": {"task": {"action": "Adopting"}}}),
        (10005, {"status": {"conditions": [provisioned("False")]}}),
        (10006, {"status": {"conditions": [provisioned("Unknown")]}}),
        (10007, {"status": {"conditions": None}}),
    )
    vm = a_vm(status=made(), availability=group())
    context = cast(Context, SimpleNamespace(store=store))
    found, bystanders = _peers(context, cast(Member, SimpleNamespace(name="lab")), vm, RESOURCES)
    assert set(found) == set(range(10000, 10008))
    assert bystanders == set(range(10002, 10008)), "the VM itself and one that is managed belong to it"


def writer_over(ha: Any, record: AsyncMock, memory: Memory, *, live: str) -> HAWriter:
    """A writer whose VM has this live status."""
    session = SimpleNamespace(
        ha=ha,
        vms=SimpleNamespace(status=AsyncMock(return_value=LiveStatus(live, None, None))),
        tasks=SimpleNamespace(active=AsyncMock(return_value=[])),
        inventory=SimpleNamespace(current=None),
    )
    context = SimpleNamespace(clock=lambda: 100.0)
    return HAWriter(cast(Context, context), cast(ClusterSession, session), memory, record, cast(Any, None))


async def test_a_request_that_fails_does_not_use_up_the_one_try_to_clear_an_error() -> None:
    failing, record = SimpleNamespace(change=AsyncMock(side_effect=Unreachable("no answer"))), AsyncMock()
    writer = writer_over(failing, record, Memory(), live="stopped")
    with pytest.raises(Unreachable):
        await writer.write(facts(a_vm(status=made()), existence=OFF), ClearHAError())
    record.assert_not_awaited()


@pytest.mark.parametrize(
    "step",
    [
        ClearHAError(),
        AlignHA(changes={"state": "stopped"}, was=HAResource()),
        JoinHA(state="stopped", wish=Availability(ha=True)),
    ],
    ids=lambda step: type(step).__name__,
)
async def test_what_runs_is_not_given_to_ha_to_keep_off_and_is_known_to_run(step: HAStep) -> None:
    asked, memory = SimpleNamespace(change=AsyncMock(), add=AsyncMock()), Memory()
    writer = writer_over(asked, AsyncMock(), memory, live="running")
    with pytest.raises(Outdated):
        await writer.write(facts(a_vm(status=made()), existence=OFF, ha=HA(comment="ours")), step)
    asked.change.assert_not_awaited()
    asked.add.assert_not_awaited()
    assert memory.believed_power(None, 101.0) == "Running"


def test_a_vm_without_a_group_has_no_peers() -> None:
    vm = a_vm(status=made(), availability={"ha": True})
    context = cast(Context, SimpleNamespace(store=stored((10000, {}))))
    assert _peers(context, cast(Member, SimpleNamespace(name="lab")), vm, RESOURCES) == ({}, frozenset())
