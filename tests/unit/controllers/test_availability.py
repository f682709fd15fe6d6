"""Which VMs are in a group: those of one namespace and cluster that name it and are under HA."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import pytest

from proxmox_operator.api.names import PAUSED
from proxmox_operator.controllers.context import Context
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.controllers.vm.availability import HAWriter, _peers
from proxmox_operator.controllers.vm.memory import Memory
from proxmox_operator.engine.store import ObjectStore
from proxmox_operator.errors import Unreachable
from proxmox_operator.planning.availability import HAResource
from proxmox_operator.planning.lifecycle import ClearHAError
from proxmox_operator.proxmox.session import ClusterSession
from unit.planning.make import a_vm, facts, made

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


async def test_a_request_that_fails_does_not_use_up_the_one_try_to_clear_an_error() -> None:
    failing = SimpleNamespace(change=AsyncMock(side_effect=Unreachable("no answer")))
    record = AsyncMock()
    memory = SimpleNamespace(sending=lambda **_: nullcontext())
    session = SimpleNamespace(ha=failing)
    writer = HAWriter(
        cast(Context, None), cast(ClusterSession, session), cast(Memory, memory), record, cast(Any, None)
    )
    with pytest.raises(Unreachable):
        await writer.write(facts(a_vm(status=made())), ClearHAError())
    record.assert_not_awaited()


def test_a_vm_without_a_group_has_no_peers() -> None:
    vm = a_vm(status=made(), availability={"ha": True})
    context = cast(Context, SimpleNamespace(store=stored((10000, {}))))
    assert _peers(context, cast(Member, SimpleNamespace(name="lab")), vm, RESOURCES) == ({}, frozenset())
