"""VMTemplates for years: new versions, nodes that come and go, other people's hands, and the end."""

from collections.abc import Iterator

import pytest

from harness.templates import Templates
from harness.world import World
from proxmox_operator.api.names import PAUSED
from proxmox_operator.kube.resources import PROXMOX_CLUSTERS, VM_TEMPLATES


@pytest.fixture
def templates(world: World) -> Iterator[Templates]:
    with Templates(world) as templates:
        yield templates


def versions(templates: Templates, name: str) -> dict[str, set[int]]:
    """VMIDs by version, as recorded."""
    found: dict[str, set[int]] = {}
    for copy in templates.status(name).get("copies", ()):
        found.setdefault(copy["version"], set()).add(copy["vmid"])
    return found


# New versions


def test_a_change_makes_a_new_version_beside_the_old_one(world: World, templates: Templates) -> None:
    name = templates.make(nodes=["pve1"])
    old, first = templates.wait_ready(name)["pve1"], templates.status(name)["version"]
    templates.edit(name, hardware={"cpu": {"cores": 4}})
    templates.wait_until(lambda: templates.status(name)["version"] != first, "another version", name)
    new = templates.wait_ready(name)["pve1"]
    assert new != old
    assert str(world.sim.vm(new).config["cores"]) == "4"
    assert world.sim.world().vm(old).template, "kept, as keepVersions is 1"
    assert templates.status(name)["versions"] == [first, templates.status(name)["version"]]


def test_versions_beyond_those_to_be_kept_are_destroyed(world: World, templates: Templates) -> None:
    name = templates.make(nodes=["pve1"])
    made = [templates.wait_ready(name)["pve1"]]
    for text in "bc":
        templates.edit(name, revision=text)
        templates.wait_until(
            lambda: templates.copies(name, state="Ready") not in ({}, {"pve1": made[-1]}), text, name
        )
        made.append(templates.wait_ready(name)["pve1"])
    templates.wait_until(lambda: made[0] not in world.sim.world().vmids, "the oldest is gone", name)
    assert {made[1], made[2]} <= set(world.sim.world().vmids)
    assert not world.sim.world().orphans


def test_a_version_that_linked_clones_use_stays_until_they_are_gone(
    world: World, templates: Templates
) -> None:
    if "ceph" not in world.sim.server.storages:
        world.sim.add_storage("ceph", "rbd", size_gib=1000)
        world.look()
    name = templates.make(storage="ceph", keepVersions=0, nodes=["pve1"])
    old = templates.wait_ready(name)["pve1"]
    vm = world.make(source={"clone": {"vmid": old}})
    vmid = world.wait_ready(vm)
    templates.edit(name, revision="b")
    templates.wait_until(lambda: len(versions(templates, name)) == 2, "two versions", name)
    new = templates.wait_ready(name)["pve1"]
    templates.wait_until(
        lambda: "linked clones" in templates.condition(name).message, "it says why the old one stays", name
    )
    assert {old, new, vmid} <= set(world.sim.world().vmids)
    assert templates.condition(name).status == "True"


def test_other_tags_or_fewer_kept_versions_make_no_new_version(templates: Templates) -> None:
    name = templates.make(nodes=["pve1"])
    before = templates.wait_ready(name)
    templates.edit(name, tags=["other"], keepVersions=3)
    assert templates.wait_ready(name) == before


# Nodes


def test_a_node_that_is_offline_gets_its_copy_when_it_is_back(world: World, templates: Templates) -> None:
    world.sim.node_down("pve3")
    try:
        world.look()
        name = templates.make()
        found = templates.wait_reason(name, "NodeUnavailable", "Distributed")
        assert "pve3" in found.message
        templates.wait_until(lambda: len(templates.copies(name, state="Ready")) == 2, "two copies", name)
        templates.wait_until(
            lambda: templates.condition(name).status == "True", "VMs can be made from it", name
        )
    finally:
        world.sim.node_up("pve3")
    assert sorted(templates.wait_ready(name)) == ["pve1", "pve2", "pve3"]


def test_a_node_that_is_not_there_is_named(templates: Templates) -> None:
    name = templates.make(nodes=["pve1", "pve9"])
    assert "pve9" in templates.wait_reason(name, "NodeNotFound", "Distributed").message


def test_a_node_taken_off_the_list_loses_its_copy(world: World, templates: Templates) -> None:
    name = templates.make(nodes=["pve1", "pve2"])
    copies = templates.wait_ready(name)
    templates.edit(name, nodes=["pve1"])
    templates.wait_until(lambda: copies["pve2"] not in world.sim.world().vmids, "the copy is gone", name)
    assert templates.wait_ready(name) == {"pve1": copies["pve1"]}


def test_shared_needs_a_storage_that_is(templates: Templates) -> None:
    name = templates.make(distribution="Shared")
    assert "local-lvm" in templates.wait_reason(name, "StorageNotShared").message


def test_on_demand_makes_nothing_until_a_vm_asks(world: World, templates: Templates) -> None:
    name = templates.make(distribution="OnDemand")
    assert templates.wait_ready(name) == {}
    assert set(world.sim.world().vmids) == {9000}
    assert templates.status(name)["copiesReady"] == "0/0"


# A VM as the source


def test_a_stopped_vm_becomes_the_template_and_stays_as_it_is(world: World, templates: Templates) -> None:
    world.sim.add_vm(500, node="pve2", cores=3)
    world.look()
    before = world.sim.world().vm(500)
    name = templates.make(storage=None, fromVM={"vmid": 500})
    copies = templates.wait_ready(name)
    assert list(copies) == ["pve2"]
    copy = world.sim.world().vm(copies["pve2"])
    assert copy.template
    assert str(world.sim.vm(copy.vmid).config["cores"]) == "3"
    assert world.sim.world().vm(500) == before


def test_a_running_vm_is_not_copied_until_it_is_shut_down(world: World, templates: Templates) -> None:
    world.sim.add_vm(500, node="pve2", running=True)
    world.look()
    name = templates.make(fromVM={"vmid": 500})
    assert "shut it down" in templates.wait_reason(name, "SourceRunning").message
    world.sim.stop(500)
    templates.wait_ready(name)


def test_a_vm_that_is_not_there_is_named(templates: Templates) -> None:
    name = templates.make(fromVM={"vmid": 777})
    assert "777" in templates.wait_reason(name, "SourceNotFound").message


# Other people's hands


def test_a_copy_deleted_in_the_gui_is_made_again(world: World, templates: Templates) -> None:
    name = templates.make(nodes=["pve1"])
    old = templates.wait_ready(name)["pve1"]
    world.sim.remove_vm(old)
    templates.wait_until(
        lambda: templates.copies(name, state="Ready") not in ({}, {"pve1": old}), "another", name
    )
    assert any(said.reason == "CopyDropped" for said in templates.events(name))


def test_a_copy_turned_into_a_vm_is_converted_again(world: World, templates: Templates) -> None:
    name = templates.make(nodes=["pve1"])
    vmid = templates.wait_ready(name)["pve1"]
    world.sim.edit_config(vmid, delete="template")
    templates.wait_until(lambda: world.sim.world().vm(vmid).template, "a template again", name)
    templates.wait_until(
        lambda: templates.copies(name, state="Ready") == {"pve1": vmid}, "the copy is ready", name
    )


def test_a_foreign_vm_in_place_of_a_copy_is_left_alone(world: World, templates: Templates) -> None:
    name = templates.make(nodes=["pve1"])
    vmid = templates.wait_ready(name)["pve1"]
    world.sim.vanish(vmid)
    world.sim.add_vm(vmid, running=True)
    templates.wait_until(
        lambda: templates.copies(name, state="Ready") not in ({}, {"pve1": vmid}), "another", name
    )
    templates.delete(name)
    templates.wait_gone(name)
    assert world.sim.vm(vmid).status == "running"


def test_a_status_that_was_lost_is_found_again_by_the_marks(world: World, templates: Templates) -> None:
    name = templates.make(nodes=["pve1", "pve2"])
    copies = templates.wait_ready(name)
    raw = templates.raw(name)
    assert raw is not None
    manifest = {"metadata": {"name": name}, "spec": raw["spec"]}
    world.kill()  # it would take the object for one that is to be destroyed with all copies
    world.remove(VM_TEMPLATES, name)
    world.kube.apply(VM_TEMPLATES, manifest)
    world.start()
    assert templates.wait_ready(name) == copies


# The end


def test_deleting_it_destroys_its_copies_and_images(world: World, templates: Templates) -> None:
    name = templates.make()
    templates.wait_ready(name)
    templates.delete(name)
    templates.wait_gone(name)
    assert set(world.sim.world().vmids) == {9000}
    assert [templates.files(node) for node in ("pve1", "pve2", "pve3")] == [[], [], []]


def test_deleting_it_while_it_is_being_made_leaves_nothing(world: World, templates: Templates) -> None:
    with world.sim.hold("import:copying") as hold:
        name = templates.make(nodes=["pve1"])
        assert hold.reached.wait(10)
        templates.delete(name)
        templates.wait_reason(name, "Deleting")
    templates.wait_gone(name)
    assert set(world.sim.world().vmids) == {9000}
    assert templates.files("pve1") == []


def test_retain_leaves_the_templates_without_our_mark(world: World, templates: Templates) -> None:
    name = templates.make(nodes=["pve1"], deletionPolicy="Retain")
    vmid = templates.wait_ready(name)["pve1"]
    templates.delete(name)
    templates.wait_gone(name)
    assert world.sim.world().vm(vmid).template
    assert "released" in world.sim.vm(vmid).config["description"]


def test_it_is_not_deleted_while_linked_clones_need_it(world: World, templates: Templates) -> None:
    if "ceph" not in world.sim.server.storages:
        world.sim.add_storage("ceph", "rbd", size_gib=1000)
        world.look()
    name = templates.make(storage="ceph", nodes=["pve1"])
    vmid = templates.wait_ready(name)["pve1"]
    vm = world.make(source={"clone": {"vmid": vmid}})
    world.wait_ready(vm)
    templates.delete(name)
    found = templates.wait_reason(name, "InUse")
    assert "Retain" in found.message
    assert world.sim.world().vm(vmid).template
    templates.edit(name, deletionPolicy="Retain")
    templates.wait_gone(name)
    assert world.sim.world().vm(vmid).template


def test_nothing_is_done_while_it_is_paused(world: World, templates: Templates) -> None:
    name = templates.make(nodes=["pve1"])
    copies = templates.wait_ready(name)
    world.kube.merge(VM_TEMPLATES, name, {"metadata": {"annotations": {PAUSED: "true"}}})
    templates.wait_reason(name, "Paused", "Paused")
    templates.edit(name, revision="b")
    world.look()
    assert set(world.sim.world().vmids) == {9000, *copies.values()}
    world.kube.merge(VM_TEMPLATES, name, {"metadata": {"annotations": {PAUSED: None}}})
    templates.wait_until(lambda: len(versions(templates, name)) == 2, "two versions", name)


def test_its_cluster_is_kept_as_long_as_it_is(world: World, templates: Templates) -> None:
    name = templates.make(nodes=["pve1"])
    templates.wait_ready(name)
    manager = world.operator.manager if world.operator is not None else None
    assert manager is not None
    assert manager.fleet.users(world.cluster) == [f"VMTemplate {name}"]
    assert world.kube.get(PROXMOX_CLUSTERS, world.cluster) is not None
