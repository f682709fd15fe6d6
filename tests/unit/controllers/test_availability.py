"""Which VMs are in a group: those of one namespace and cluster that name it and are under HA."""

from types import SimpleNamespace
from typing import Any, cast

from proxmox_operator.controllers.context import Context
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.controllers.vm.availability import _peers
from proxmox_operator.engine.store import ObjectStore
from proxmox_operator.planning.availability import HAResource
from unit.planning.make import a_vm, made

RESOURCES = {vmid: HAResource() for vmid in range(10000, 10020)}


def group(name: str = "db", affinity: str = "Apart", *, ha: bool = True) -> dict[str, Any]:
    return {"ha": ha, "rule": {"resourceAffinity": {"group": name, "affinity": affinity}}}


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
            "spec": {"availability": changes.get("availability", group())},
            "status": {"vmid": vmid, "cluster": "lab"} | changes.get("status", {}),
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
    assert _peers(context, member, vm, RESOURCES) == {10000: "Apart", 10001: "Together"}


def test_a_vm_without_a_group_has_no_peers() -> None:
    vm = a_vm(status=made(), availability={"ha": True})
    context = cast(Context, SimpleNamespace(store=stored((10000, {}))))
    assert _peers(context, cast(Member, SimpleNamespace(name="lab")), vm, RESOURCES) == {}
