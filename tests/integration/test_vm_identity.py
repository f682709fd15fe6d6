"""Whose VM is it: marks lost, copied and foreign, and objects whose status was lost."""

from typing import Any

import pytest

from harness.kubeapi import Raw
from harness.world import World
from proxmox_operator.kube.resources import PROXMOX_VMS
from proxmox_operator.planning.identity import read_mark

WORLD = {"namespaces": 2}


def description(world: World, vmid: int) -> str:
    return str(world.sim.vm(vmid).config.get("description", ""))


def lose_finalizers_and_object(world: World, name: str) -> None:
    """What a command that drops finalizers does: the object goes, the VM stays."""
    world.annotate(name, **{"proxmox-operator.io/paused": "true"})
    world.wait_reason(name, "Paused", kind="Paused")
    world.delete(name)
    world.kube.merge(PROXMOX_VMS, name, {"metadata": {"finalizers": None}}, namespace=world.namespace)
    world.wait_gone(name)


def old_export(raw: Raw) -> Raw:
    """The object as a person exported it before anything was done with it."""
    return {
        "apiVersion": raw["apiVersion"],
        "kind": raw["kind"],
        "metadata": {key: raw["metadata"][key] for key in ("name", "namespace", "resourceVersion")},
        "spec": raw["spec"],
    }


def test_a_foreign_vm_under_our_vmid_is_not_touched(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    world.sim.remove_vm(vmid)
    world.sim.add_vm(vmid, node="pve2", running=False, description="somebody else's")
    world.look()
    condition = world.wait_reason(name, "IdentityConflict")
    assert condition.status == "False"
    assert f"VM {vmid} on pve2" in condition.message
    assert "restore ours" in condition.message
    assert "Retain" in condition.message
    world.forget_writes()
    before = world.sim.world()
    world.passes(name, 3)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []


def test_an_object_whose_vm_was_replaced_is_not_deleted_with_the_foreign_vm(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    world.sim.remove_vm(vmid)
    world.sim.add_vm(vmid, running=True)
    world.wait_reason(name, "IdentityConflict")
    before = world.sim.world()
    world.forget_writes()
    world.delete(name)
    world.passes(name)
    assert "spec.deletionPolicy Retain" in world.wait_reason(name, "IdentityConflict").message
    world.edit(name, deletionPolicy="Retain")
    world.wait_gone(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []


def test_our_vm_that_comes_back_after_a_conflict_is_taken_up_again(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    config = dict(world.sim.vm(vmid).config)
    world.sim.remove_vm(vmid)
    world.sim.add_vm(vmid)
    world.wait_reason(name, "IdentityConflict")
    world.sim.remove_vm(vmid)
    restored: dict[str, Any] = {key: str(config[key]) for key in ("name", "description", "smbios1")}
    world.sim.add_vm(vmid, node="pve3", running=True, **restored)
    assert world.wait_ready(name) == vmid
    assert world.status(name)["node"] == "pve3"


def test_a_mark_lost_in_a_gui_edit_is_written_again_beside_the_new_text(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    before = read_mark(description(world, vmid))
    world.sim.edit_config(vmid, description="edited by hand")
    world.wait_until(lambda: read_mark(description(world, vmid)) is not None, "the mark is back", name)
    assert read_mark(description(world, vmid)) == before
    assert description(world, vmid).startswith("edited by hand")
    assert "lost" in world.wait_event(name, "MarkRestored")
    assert world.wait_ready(name) == vmid
    assert [call.params.keys() & {"description", "digest"} for call in world.writes(vmid)][-1] == {
        "description",
        "digest",
    }


def test_a_mark_deleted_with_the_whole_description_is_written_again(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    world.sim.edit_config(vmid, delete="description")
    world.wait_until(lambda: read_mark(description(world, vmid)) is not None, "the mark is back", name)
    world.wait_event(name, "MarkRestored")


def test_a_gui_clone_of_our_vm_is_a_foreign_vm(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    copy = world.sim.clone_in_gui(vmid, 15000)
    assert read_mark(str(copy.config["description"])) is not None
    world.look()
    before = world.sim.world()
    world.forget_writes()
    world.passes(name)
    assert world.writes() == []
    world.delete(name)
    world.wait_gone(name)
    assert world.changes_besides(before, vmid) == []
    assert vmid not in world.sim.world().vmids


def test_a_gui_clone_is_not_taken_back_when_the_status_is_lost(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    world.sim.clone_in_gui(vmid, 15001)
    lose_finalizers_and_object(world, name)
    world.sim.remove_vm(vmid)
    world.look()
    before = world.sim.world()
    world.apply(name)
    again = world.wait_ready(name)
    assert again not in (15001, vmid)
    assert world.changes_besides(before, again) == []


def test_a_replaced_object_without_its_status_keeps_its_vm(world: World) -> None:
    """`kubectl replace` of an old export: the status is a subresource, so it stays."""
    name = world.make("web")
    vmid = world.wait_ready(name)
    raw = world.raw(name)
    assert raw is not None
    before = world.sim.world()
    world.forget_writes()
    world.kube.replace(PROXMOX_VMS, old_export(raw))
    world.passes(name)
    assert world.wait_ready(name) == vmid
    assert before.diff(world.sim.world()) == []
    raw = world.raw(name)
    assert raw is not None
    assert raw["metadata"]["finalizers"]


def test_a_status_that_was_wiped_is_found_again_by_the_mark(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    uid = world.status(name)["uuid"]
    before = world.sim.world()
    world.forget_writes()
    raw = world.raw(name)
    assert raw is not None
    world.kube.replace(PROXMOX_VMS, {**raw, "status": {}}, subresource="status")
    world.wait_event(name, "Recovered")
    assert world.wait_ready(name) == vmid
    assert world.status(name)["uuid"] == uid
    assert world.status(name)["started"] is True
    assert before.diff(world.sim.world()) == []
    assert world.writes() == []


def test_an_object_that_lost_its_finalizer_and_is_applied_again_gets_its_vm_back(world: World) -> None:
    name = world.make("web", cpu={"cores": 2})
    vmid = world.wait_ready(name)
    before = world.sim.world()
    lose_finalizers_and_object(world, name)
    assert before.diff(world.sim.world()) == []
    world.apply(name, cpu={"cores": 2})
    assert world.wait_ready(name) == vmid
    assert f"VM {vmid}" in world.wait_event(name, "Recovered")
    raw = world.raw(name)
    mark = read_mark(description(world, vmid))
    assert raw is not None
    assert mark is not None
    assert mark.uid == raw["metadata"]["uid"]
    assert [line for line in before.diff(world.sim.world()) if "description" not in line] == []
    world.delete(name)
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids
    assert world.leaks() == []


def test_a_restarted_operator_takes_an_applied_object_back_to_its_vm(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    lose_finalizers_and_object(world, name)
    world.restart()
    world.apply(name)
    assert world.wait_ready(name) == vmid


def change_mark(world: World, vmid: int, **fields: str) -> None:
    """The VM as an earlier namespace or Kubernetes cluster left it."""
    text = description(world, vmid)
    mark = read_mark(text)
    assert mark is not None
    for field, value in fields.items():
        text = text.replace(getattr(mark, field), value)
    world.sim.edit_config(vmid, description=text)


@pytest.mark.parametrize(
    "fields", [{"namespace_uid": "11111111-1111-1111-1111-111111111111"}, {"cluster_id": "another-cluster"}]
)
def test_a_vm_of_an_earlier_namespace_or_cluster_is_taken_only_with_a_grant(
    world: World, fields: dict[str, Any]
) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    lose_finalizers_and_object(world, name)
    change_mark(world, vmid, **fields)
    world.restart()
    listed = {"cloneFrom": [{"start": 9000, "end": 9000}]}
    world.apply_cluster(access=[listed])
    world.wait_cluster("Ready")
    try:
        world.forget_writes()
        before = world.sim.world()
        world.apply(name)
        condition = world.wait_reason(name, "IdentityConflict")
        assert f"VM {vmid}" in condition.message
        assert "access[].recover" in condition.message
        world.passes(name)
        assert world.writes() == []
        assert before.diff(world.sim.world()) == []
        world.apply_cluster(access=[{**listed, "recover": True}])
        assert world.wait_ready(name) == vmid
        mark = read_mark(description(world, vmid))
        assert mark is not None
        assert (mark.cluster_id, mark.name) == ("test", name)
    finally:
        world.apply_cluster()
        world.wait_cluster("Ready")


def test_the_same_name_in_another_namespace_is_another_vm(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    lose_finalizers_and_object(world, name)
    other = world.namespaces[1]
    world.apply(name, namespace=other)
    assert world.wait_ready(name, namespace=other) != vmid
    assert vmid in world.sim.world().vmids


def test_a_vm_the_token_may_no_longer_see_is_unknown_and_neither_deleted_nor_made_again(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    before = world.sim.world()
    world.forget_writes()
    hide(world, vmid)
    condition = world.wait_reason(name, "PermissionDenied")
    assert condition.status == "Unknown"
    assert f"VM.Audit on /vms/{vmid}" in condition.message
    world.passes(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    unhide(world, vmid)
    assert world.wait_ready(name) == vmid
    assert world.writes() == []


def test_deleting_an_object_whose_vm_cannot_be_seen_waits_until_it_can(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    before = world.sim.world()
    hide(world, vmid)
    world.wait_reason(name, "PermissionDenied")
    world.forget_writes()
    world.delete(name)
    world.passes(name)
    assert world.wait_reason(name, "PermissionDenied").status == "Unknown"
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    unhide(world, vmid)
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids
    assert world.leaks() == []


def hide(world: World, vmid: int) -> None:
    """An entry on the VM's own path replaces what the token inherits: it keeps a right, but VM.Audit is gone."""
    world.sim.grant(world.sim.token_id, f"/vms/{vmid}", ["VM.Console"])


def unhide(world: World, vmid: int) -> None:
    """The entry is removed, so the token inherits again what it has on /."""
    server, token = world.sim.server, world.sim.token_id
    kept = {path: set(entry) for path, entry in server.grants[token].items() if path != f"/vms/{vmid}"}
    server.grants[token].clear()
    for path, privileges in kept.items():
        world.sim.grant(token, path, sorted(privileges))
