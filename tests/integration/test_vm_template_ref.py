"""ProxmoxVMs from VMTemplates: from which copy, on which node, and what they wait for."""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.kubeapi import Raw
from harness.templates import Templates
from harness.world import World
from proxmox_operator.kube.resources import VM_TEMPLATES
from pvesim.recorder import Call
from pvesim.tasks import Hold

WORLD = {"sim": {"task_seconds": 0.0}}


@pytest.fixture
def templates(world: World) -> Iterator[Templates]:
    with Templates(world) as templates:
        yield templates
    world.apply_cluster()


def of(template: str, **ref: Any) -> Raw:
    return {"templateRef": {"name": template, **ref}}


def on(*nodes: str) -> Raw:
    return {"nodes": list(nodes), "mode": "Require"}


def reached(hold: Hold) -> None:
    assert hold.reached.wait(10), "no worker came to that stage"


def clones(world: World, vmid: int) -> list[Call]:
    return [call for call in world.writes(vmid) if call.path.endswith("/clone")]


def test_a_vm_is_a_linked_clone_of_the_copy_on_the_node_that_it_is_put_on(
    world: World, templates: Templates
) -> None:
    template = templates.make()
    copies = templates.wait_ready(template)
    for node in ("pve2", "pve3"):
        name = world.make(source=of(template), placement=on(node))
        vmid = world.wait_ready(name)
        assert world.sim.world().vm(vmid).node == node
        [clone] = clones(world, vmid)
        assert clone.path == f"/nodes/{node}/qemu/{copies[node]}/clone"
        assert "target" not in clone.params
        assert str(clone.params["full"]) == "0"
        status = world.status(name)
        assert status["template"] == {
            "name": template,
            "version": templates.status(template)["version"],
            "linked": True,
        }
        assert "provisioning" not in status
    assert world.leaks() == []


def test_a_full_clone_is_made_when_asked_for(world: World, templates: Templates) -> None:
    template = templates.make(nodes=["pve1"])
    copies = templates.wait_ready(template)
    name = world.make(source=of(template, full=True))
    vmid = world.wait_ready(name)
    [clone] = clones(world, vmid)
    assert (clone.path, str(clone.params["full"])) == (f"/nodes/pve1/qemu/{copies['pve1']}/clone", "1")
    assert world.status(name)["template"]["linked"] is False


def test_a_copy_on_shared_storage_serves_the_other_nodes(world: World, templates: Templates) -> None:
    if "ceph" not in world.sim.server.storages:
        world.sim.add_storage("ceph", "rbd", size_gib=1000)
        world.look()
    template = templates.make(storage="ceph")
    [(home, copy)] = templates.wait_ready(template).items()
    other = next(node for node in ("pve1", "pve2", "pve3") if node != home)
    vmid = world.wait_ready(world.make(source=of(template), placement=on(other)))
    [clone] = clones(world, vmid)
    assert (clone.path, clone.params["target"]) == (f"/nodes/{home}/qemu/{copy}/clone", other)
    assert world.sim.world().vm(vmid).node == other
    assert len(templates.copies(template)) == 1


def test_a_vm_waits_for_the_copy_that_it_asks_for_and_goes_on_when_that_is_there(
    world: World, templates: Templates
) -> None:
    template = templates.make(distribution="OnDemand")
    assert templates.wait_ready(template) == {}
    with world.sim.hold("import:copying") as hold:
        name = world.make(source=of(template), placement=on("pve2"))
        reached(hold)
        condition = world.wait_reason(name, "TemplatePending")
        assert condition.status == "False"
        assert f"VMTemplate {template} makes a copy on pve2 first" in condition.message
        world.passes(name)
        assert "vmid" not in world.status(name)
        assert [call for call in world.writes() if call.path.endswith("/clone")] == []
    vmid = world.wait_ready(name)
    assert list(templates.copies(template)) == ["pve2"]
    [clone] = clones(world, vmid)
    assert clone.path == f"/nodes/pve2/qemu/{templates.copies(template)['pve2']}/clone"


def test_vms_go_where_a_copy_is_before_another_one_is_made(world: World, templates: Templates) -> None:
    template = templates.make(distribution="OnDemand")
    first = world.make(source=of(template), placement=on("pve3"))
    world.wait_ready(first)
    second = world.make(source=of(template))
    vmid = world.wait_ready(second)
    assert world.sim.world().vm(vmid).node == "pve3"
    assert list(templates.copies(template)) == ["pve3"]


def test_a_vm_that_is_deleted_while_it_waits_leaves_nothing_and_asks_for_nothing_more(
    world: World, templates: Templates
) -> None:
    template = templates.make(distribution="OnDemand")
    with world.sim.hold("import:copying") as hold:
        name = world.make(source=of(template), placement=on("pve2"))
        reached(hold)
        world.wait_reason(name, "TemplatePending")
        world.delete(name)
        world.wait_gone(name)
    templates.wait_ready(template)
    assert set(world.sim.world().vmids) == {9000, *templates.copies(template).values()}
    assert world.leaks() == []


def test_a_vmtemplate_that_does_not_exist_is_named_and_awaited(world: World, templates: Templates) -> None:
    missing = f"later-{world.namespace}"
    name = world.make(source=of(missing))
    condition = world.wait_reason(name, "TemplateNotFound")
    assert condition.message == (
        f"spec.source.templateRef.name: there is no VMTemplate {missing}: create it, or name one that exists"
    )
    world.passes(name)
    assert world.writes() == []
    manifest = {
        "metadata": {"name": missing},
        "spec": {"clusterRef": {"name": world.cluster}, "image": templates.image(missing), "nodes": ["pve1"]},
    }
    world.kube.apply(VM_TEMPLATES, manifest)
    try:
        vmid = world.wait_ready(name)
        assert world.sim.world().vm(vmid).node == "pve1"
    finally:
        world.remove(VM_TEMPLATES, missing)


def test_a_vmtemplate_without_an_image_says_so_to_the_vm_that_waits_for_it(
    world: World, templates: Templates
) -> None:
    template = templates.make(image=templates.image(status=404), nodes=["pve1"])
    name = world.make(source=of(template))
    world.wait_until(
        lambda: (found := world.condition(name)) is not None and "404" in found.message,
        "the VM shows what the VMTemplate lacks",
        name,
    )
    assert (found := world.condition(name)) is not None
    assert found.reason == "TemplatePending"
    assert [call for call in world.writes() if call.path.endswith("/clone")] == []


def test_a_new_vm_takes_the_current_version_and_an_older_one_stays_as_it_is(
    world: World, templates: Templates
) -> None:
    template = templates.make(nodes=["pve1"])
    before = templates.wait_ready(template)["pve1"]
    first, old = templates.status(template)["version"], world.make(source=of(template))
    vmid = world.wait_ready(old)
    templates.edit(template, hardware={"cpu": {"cores": 3}})
    templates.wait_until(lambda: templates.status(template)["version"] != first, "another version", template)
    after = templates.wait_ready(template)["pve1"]
    made = world.sim.world().vm(vmid)
    new = world.make(source=of(template))
    other = world.wait_ready(new)
    assert clones(world, other)[0].path == f"/nodes/pve1/qemu/{after}/clone"
    assert clones(world, vmid)[0].path == f"/nodes/pve1/qemu/{before}/clone"
    assert str(world.sim.vm(other).config["cores"]) == "3"
    world.passes(old)
    assert world.sim.world().vm(vmid) == made
    assert world.status(old)["template"]["version"] == first
    assert world.status(new)["template"]["version"] == templates.status(template)["version"] != first


def test_a_copy_that_somebody_removes_right_before_it_is_cloned_is_replaced_by_another(
    world: World, templates: Templates
) -> None:
    template = templates.make()
    copies = templates.wait_ready(template)
    removed: list[int] = []

    def remove(call: Call) -> None:
        if call.method == "POST" and call.path.endswith("/clone") and not removed:
            removed.append(int(call.path.split("/")[4]))
            world.sim.server.vanish(removed[0])

    world.sim.intercept = remove
    name = world.make(source=of(template))
    vmid = world.wait_ready(name)
    *lost, made = clones(world, vmid)  # refused, until the VMTemplate has noticed
    assert {call.path.split("/")[4] for call in lost} == {str(removed[0])}
    assert made.path.split("/")[4] != str(removed[0])
    assert {call.params["newid"] for call in lost} == {made.params["newid"]}, "the reserved VMID is kept"
    assert int(made.path.split("/")[4]) in {*copies.values(), *templates.copies(template).values()}
    assert [vm.vmid for vm in world.sim.world().vms if vm.name == name] == [vmid]
    assert world.leaks() == []


def test_a_copy_is_neither_taken_over_nor_is_its_vmid_given_to_a_vm(
    world: World, templates: Templates
) -> None:
    template = templates.make(nodes=["pve1"])
    copy = templates.wait_ready(template)["pve1"]
    before = world.sim.world().vm(copy)
    name = world.make(source=of(template), vmid=copy)
    condition = world.wait_reason(name, "VMIDTaken")
    assert f"spec.vmid: {copy} is used by VMTemplate {template}" in condition.message
    name = world.make(source={"adopt": {"vmid": copy}})
    condition = world.wait_reason(name, "IdentityConflict")
    assert f"VM {copy} belongs to VMTemplate {template}" in condition.message
    assert world.sim.world().vm(copy) == before


def test_a_vm_outlives_its_vmtemplate(world: World, templates: Templates) -> None:
    template = templates.make(nodes=["pve1"])
    templates.wait_ready(template)
    name = world.make(source=of(template, full=True))
    vmid = world.wait_ready(name)
    made = world.sim.world().vm(vmid)
    templates.delete(template)
    templates.wait_gone(template)
    world.forget_writes()
    world.passes(name)
    assert world.wait_ready(name) == vmid
    assert world.sim.world().vm(vmid) == made
    assert world.writes() == []


def test_only_vmtemplates_that_are_granted_may_be_used(world: World, templates: Templates) -> None:
    template = templates.make(nodes=["pve1"])
    templates.wait_ready(template)
    world.apply_cluster(access=[{"templates": ["another"]}])
    world.wait_cluster("Ready")
    world.forget_writes()
    name = world.make(source=of(template))
    condition = world.wait_reason(name, "AccessDenied")
    words = f"spec.source.templateRef.name: VMTemplate {template} is not granted (access[].templates)"
    assert words in condition.message
    assert world.writes() == []
    world.apply_cluster(access=[{"templates": [template]}])
    world.wait_ready(name)


def test_without_any_grant_vmtemplates_may_be_used_but_no_storage_besides(
    world: World, templates: Templates
) -> None:
    if "gold" not in world.sim.server.storages:
        world.sim.add_storage("gold", "lvmthin", size_gib=500)
        world.look()
    template = templates.make(storage="gold", nodes=["pve1"])
    templates.wait_ready(template)
    world.apply_cluster(access=None)
    world.wait_cluster("Ready")
    world.wait_ready(world.make(source=of(template)))
    name = world.make(source=of(template, full=True, storage="gold"))
    condition = world.wait_reason(name, "AccessDenied")
    assert "spec.source.templateRef.storage: storage gold is not granted" in condition.message


def test_sizes_that_a_vmtemplate_brings_along_are_refused_before_a_copy_is_made_for_them(
    world: World, templates: Templates
) -> None:
    template = templates.make(distribution="OnDemand", hardware={"cpu": {"cores": 6}})
    templates.wait_ready(template)
    world.apply_cluster(access=[{"maxSizes": {"cores": 4}}])
    world.wait_cluster("Ready")
    name = world.make(source=of(template))
    condition = world.wait_reason(name, "AccessDenied")
    assert "with what the source has there would be 6 cores, more than the 4 granted" in condition.message
    world.passes(name)
    assert templates.copies(template) == {}
    world.edit(name, cpu={"cores": 4, "sockets": 1})
    world.wait_ready(name)
