"""Taking over VMs that exist: as they are, without a restart, one owner each, and released again untouched."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane import Cluster
from harness.operator import RunningOperator
from harness.world import World
from proxmox_operator.api.names import FINALIZER, MOVE_TO, PAUSED, RESTART
from proxmox_operator.kube.resources import NAMESPACES, PROXMOX_VMS
from proxmox_operator.planning.identity import read_mark, user_text

WORLD: dict[str, Any] = {"namespaces": 2}
ROOT = Path(__file__).resolve().parents[2]

MAIL: dict[str, Any] = {
    "name": "mail.example.org",
    "description": "The old mail server; ask Ada first.\n",
    "tags": "mail;prod",
    "onboot": "1",
    "scsi3": "local-lvm:3,discard=on",
    "net0": "e1000=BC:24:11:00:00:01,bridge=vmbr0,tag=20",
    "net5": "virtio=BC:24:11:00:00:02,bridge=vmbr0,firewall=1",
    "boot": "order=scsi0",
    "smbios1": "uuid=3f2f6f0e-0d1c-4c39-9a43-6f3f1d9a1b01,sku=QQ==,base64=1",
}
UUID = "3f2f6f0e-0d1c-4c39-9a43-6f3f1d9a1b01"

count = iter(range(20_000, 30_000))


def somebodys(world: World, *, running: bool = True, **config: Any) -> int:
    """A VM that people made in Proxmox; returns its VMID."""
    vmid = next(count)
    world.sim.add_vm(vmid, node="pve2", running=running, **(MAIL | config))
    world.look()
    return vmid


def adopting(vmid: int, **spec: Any) -> dict[str, Any]:
    return {"source": {"adopt": {"vmid": vmid}}, **spec}


def notes(world: World, vmid: int) -> str:
    return str(world.sim.vm(vmid).config.get("description", ""))


def untouched(world: World, before: Any, vmid: int) -> list[str]:
    """What is different since ``before``, but for this VM's notes."""
    return [line for line in before.diff(world.sim.world()) if not line.startswith(f"VM {vmid} description")]


def test_a_running_vm_is_taken_over_and_nothing_but_its_notes_is_written(world: World) -> None:
    vmid = somebodys(world)
    before = world.sim.world()
    name = world.make("mail", **adopting(vmid))
    assert world.wait_ready(name) == vmid
    assert world.condition(name).reason == "Running"
    world.passes(name)
    assert untouched(world, before, vmid) == []
    [write] = world.writes()
    assert (write.method, write.path) == ("POST", f"/nodes/pve2/qemu/{vmid}/config")
    assert write.params.keys() - {"background_delay"} == {"description", "digest"}
    status, raw = world.status(name), world.raw(name)
    assert raw is not None
    mark = read_mark(notes(world, vmid))
    assert mark is not None
    assert (mark.vmid, mark.uuid, mark.uid) == (vmid, UUID, raw["metadata"]["uid"])
    assert user_text(notes(world, vmid)) == MAIL["description"].strip()
    assert (status["uuid"], status["node"], status["started"]) == (UUID, "pve2", True)
    assert "task" not in status
    assert raw["metadata"]["finalizers"] == [FINALIZER]
    assert f"VM {vmid} on pve2" in world.wait_event(name, "Adopted")
    assert [said.reason for said in world.events(name)] == ["Adopted"]


def test_a_vm_is_found_by_its_uuid_however_it_is_written(world: World) -> None:
    others = [somebodys(world, smbios1=f"uuid=00000000-0000-0000-0000-0000000000{n}") for n in (10, 11)]
    vmid = somebodys(world)
    before = world.sim.world()
    name = world.make(source={"adopt": {"uuid": UUID.upper()}})
    assert world.wait_ready(name) == vmid
    assert untouched(world, before, vmid) == []
    assert [world.writes(other) for other in others] == [[], []]


def test_two_vms_of_one_uuid_are_both_left_alone(world: World) -> None:
    first, second = somebodys(world), somebodys(world)
    name = world.make(source={"adopt": {"uuid": UUID}})
    condition = world.wait_reason(name, "AdoptAmbiguous")
    assert f"VMs {first}, {second}" in condition.message
    world.passes(name)
    assert world.writes() == []


def test_what_is_not_there_is_never_made_but_taken_over_once_it_comes(world: World) -> None:
    vmid = next(count)
    name = world.make(**adopting(vmid))
    condition = world.wait_reason(name, "AdoptNotFound")
    assert (condition.status, "nothing is made" in condition.message) == ("False", True)
    world.passes(name)
    assert world.writes() == []
    assert "vmid" not in world.status(name)
    world.sim.add_vm(vmid)
    assert world.wait_ready(name) == vmid


def test_a_vm_that_gets_its_uuid_later_is_found_by_it(world: World) -> None:
    vmid = somebodys(world, smbios1="uuid=11111111-0000-0000-0000-000000000001")
    name = world.make(source={"adopt": {"uuid": UUID}})
    world.wait_reason(name, "AdoptNotFound")
    world.sim.edit_config(vmid, smbios1=f"uuid={UUID}")
    assert world.wait_ready(name) == vmid


def refused(world: World, name: str, reason: str, *words: str) -> None:
    """It holds nothing, and nothing was written."""

    def said() -> bool:
        condition = world.condition(name)
        return (
            condition is not None
            and condition.reason == reason
            and all(word in condition.message for word in words)
        )

    world.wait_until(said, f"{name} is refused with {reason} and {words}", name)
    world.passes(name)
    raw = world.raw(name)
    assert raw is not None
    assert "finalizers" not in raw["metadata"]
    assert "vmid" not in world.status(name)
    assert world.writes() == []


def test_a_template_is_not_taken_over(world: World) -> None:
    refused(world, world.make(**adopting(9000)), "AdoptRefused", "guest 9000 is a template", "source.clone")


@pytest.mark.parametrize("lock", ["clone", "create", "destroyed"])
def test_a_vm_in_the_making_is_not_taken_over(world: World, lock: str) -> None:
    vmid = somebodys(world, running=False)
    world.sim.set_lock(vmid, lock)
    world.look()
    refused(world, world.make(**adopting(vmid)), "Locked", f"lock: {lock}")


def test_a_vm_that_is_being_backed_up_is_taken_over_afterwards(world: World) -> None:
    vmid = somebodys(world)
    world.sim.set_lock(vmid, "backup")
    world.look()
    name = world.make(**adopting(vmid))
    refused(world, name, "Locked", "(backup)")
    world.sim.set_lock(vmid, None)
    assert world.wait_ready(name) == vmid


def test_notes_that_leave_no_room_are_not_cut(world: World) -> None:
    vmid = somebodys(world, description="x" * 7001)
    name = world.make(**adopting(vmid))
    refused(world, name, "DescriptionTooLong", "7001 characters")
    world.sim.edit_config(vmid, description="y" * 7000)
    assert world.wait_ready(name) == vmid
    assert user_text(notes(world, vmid)) == "y" * 7000


def test_a_vm_of_another_object_is_refused_with_its_name_and_the_way_out(world: World) -> None:
    owner = world.make("owner")
    vmid = world.wait_ready(owner)
    world.forget_writes()
    thief = world.make("thief", **adopting(vmid))
    refused(world, thief, "IdentityConflict", f"ProxmoxVM {world.namespace}/{owner}", "Retain")
    by_uuid = world.make("thief", source={"adopt": {"uuid": world.status(owner)["uuid"]}})
    refused(world, by_uuid, "IdentityConflict", f"ProxmoxVM {world.namespace}/{owner}")
    world.delete(by_uuid)
    world.edit(owner, deletionPolicy="Retain")
    world.delete(owner)
    world.wait_gone(owner)
    assert world.wait_ready(thief) == vmid


def test_a_vm_with_the_mark_of_an_unknown_owner_is_refused_until_a_person_removes_it(world: World) -> None:
    vmid = somebodys(world)
    first = world.make(**adopting(vmid))
    world.wait_ready(first)
    marked = notes(world, vmid).replace(f'"name":"{first}"', '"name":"of-long-ago"')
    let_go_without_a_word(world, first)
    world.sim.edit_config(vmid, description=marked)
    world.forget_writes()
    name = world.make(**adopting(vmid))
    refused(world, name, "IdentityConflict", f"ProxmoxVM {world.namespace}/of-long-ago", "remove the comment")
    world.sim.edit_config(vmid, description="hello")
    world.annotate(name, look="again")
    assert world.wait_ready(name) == vmid


def test_a_gui_clone_of_our_vm_is_taken_over_only_without_the_copied_mark(world: World) -> None:
    owner = world.make("owner")
    vmid, copy = world.wait_ready(owner), next(count)
    world.sim.clone_in_gui(vmid, copy)
    world.look()
    world.forget_writes()
    name = world.make(**adopting(copy))
    refused(world, name, "IdentityConflict", f"copy of the mark of VM {vmid}")
    world.sim.edit_config(copy, description="a copy")
    world.annotate(name, look="again")
    assert world.wait_ready(name) == copy
    assert world.wait_ready(owner) == vmid


def let_go_without_a_word(world: World, name: str) -> None:
    """The object goes, and its VM with the mark stays: what a command does that drops finalizers."""
    world.annotate(name, **{PAUSED: "true"})
    world.wait_reason(name, "Paused", kind="Paused")
    world.delete(name)
    world.kube.merge(PROXMOX_VMS, name, {"metadata": {"finalizers": None}}, namespace=world.namespace)
    world.wait_gone(name)


# One owner


def owners(world: World, contenders: dict[str, str]) -> dict[str, list[str]]:
    """By VMID in the status: the objects (name to namespace) that hold it."""
    found: dict[str, list[str]] = {}
    for name, namespace in contenders.items():
        vmid = world.status(name, namespace=namespace).get("vmid")
        if vmid is not None:
            found.setdefault(str(vmid), []).append(name)
    return found


def shows(world: World, name: str, namespace: str, *reasons: str) -> bool:
    condition = world.condition(name, namespace=namespace)
    return condition is not None and condition.reason in reasons


def fight(world: World, vmids: list[int], first: str, second: str) -> None:
    """An object in each of two namespaces for each VM, all at once: one of them gets it, and the other one says why."""
    contenders = {
        world.make("a" if namespace == first else "b", namespace=namespace, **adopting(vmid)): namespace
        for vmid in vmids
        for namespace in (first, second)
    }
    for name, namespace in contenders.items():
        world.wait_until(
            lambda name=name, namespace=namespace: shows(  # type: ignore[misc]
                world, name, namespace, "Running", "IdentityConflict"
            ),
            f"{name} is decided",
            name,
            namespace,
        )
    held = owners(world, contenders)
    assert sorted(held) == sorted(map(str, vmids))
    for vmid, names in held.items():
        mark = read_mark(notes(world, int(vmid)))
        assert [mark and mark.name] == names
        assert len([call for call in world.writes(int(vmid)) if call.status == 200]) == 1


def test_of_two_objects_that_want_one_vm_exactly_one_gets_it(world: World) -> None:
    fight(world, [somebodys(world) for _ in range(4)], *world.namespaces)


@pytest.fixture
def another_kubernetes(world: World, control_plane: Cluster) -> Iterator[str]:
    """The namespace of an operator that is, by its mark, of another Kubernetes cluster; it uses the same Proxmox."""
    namespace = f"{world.namespace}-elsewhere"
    if world.kube.get(NAMESPACES, namespace) is None:
        world.kube.create(NAMESPACES, {"metadata": {"name": namespace}})
    with RunningOperator(
        control_plane.kubeconfig, namespace=namespace, cluster_id="elsewhere", slow_retry=0.2
    ):
        yield namespace
        for raw in world.kube.listed(PROXMOX_VMS, namespace):
            world.delete(raw["metadata"]["name"], namespace=namespace)
            world.wait_gone(raw["metadata"]["name"], namespace=namespace)


def test_of_two_kubernetes_clusters_that_want_one_vm_exactly_one_gets_it(
    world: World, another_kubernetes: str
) -> None:
    fight(world, [somebodys(world) for _ in range(4)], world.namespace, another_kubernetes)


def test_an_owner_whose_mark_was_replaced_by_hand_lets_go(world: World) -> None:
    """Somebody removes the mark and has it adopted by an object of another cluster: hands off."""
    vmid = somebodys(world)
    name = world.make(**adopting(vmid))
    world.wait_ready(name)
    theirs = notes(world, vmid).replace('"cluster_id":"test"', '"cluster_id":"elsewhere"')
    theirs = theirs.replace(world.raw(name)["metadata"]["uid"], "00000000-1111-2222-3333-444444444444")  # type: ignore[index]
    world.sim.edit_config(vmid, description=theirs)
    world.wait_reason(name, "IdentityConflict")
    world.forget_writes()
    world.passes(name)
    assert world.writes() == []
    world.delete(name)
    world.wait_gone(name)
    assert world.writes() == []


# Afterwards


def test_a_lost_status_is_found_again_by_the_mark(world: World) -> None:
    vmid = somebodys(world)
    name = world.make(**adopting(vmid))
    world.wait_ready(name)
    let_go_without_a_word(world, name)
    before = world.sim.world()
    world.apply(name, **adopting(vmid))
    assert world.wait_ready(name) == vmid
    assert f"VM {vmid}" in world.wait_event(name, "Recovered")
    assert untouched(world, before, vmid) == []
    assert world.status(name)["uuid"] == UUID


def test_a_lost_status_of_a_vm_adopted_by_its_uuid_is_found_again_though_that_was_changed(
    world: World,
) -> None:
    vmid = somebodys(world)
    name = world.make(source={"adopt": {"uuid": UUID}})
    world.wait_ready(name)
    let_go_without_a_word(world, name)
    world.sim.edit_config(vmid, smbios1="uuid=11111111-0000-0000-0000-000000000002")
    world.apply(name, source={"adopt": {"uuid": UUID}})
    assert world.wait_ready(name) == vmid


def test_a_vm_without_a_uuid_gets_none_but_can_be_taken_over(world: World) -> None:
    vmid = somebodys(world)
    world.sim.vm(vmid).config.pop("smbios1")
    before = world.sim.world()
    name = world.make(**adopting(vmid))
    world.wait_ready(name)
    world.passes(name)
    assert untouched(world, before, vmid) == []
    mark = read_mark(notes(world, vmid))
    assert mark is not None
    assert mark.uuid == world.status(name)["uuid"]


def test_a_mark_lost_in_a_gui_edit_is_written_again(world: World) -> None:
    vmid = somebodys(world)
    name = world.make(**adopting(vmid))
    world.wait_ready(name)
    world.sim.edit_config(vmid, description="edited by hand")
    world.wait_event(name, "MarkRestored")
    assert user_text(notes(world, vmid)) == "edited by hand"


def test_an_adopted_vm_that_vanishes_is_missing_and_never_made_again(world: World) -> None:
    vmid = somebodys(world)
    name = world.make(**adopting(vmid))
    world.wait_ready(name)
    world.sim.remove_vm(vmid)
    condition = world.wait_reason(name, "Missing")
    assert "delete this object" in condition.message
    world.forget_writes()
    world.passes(name)
    assert world.writes() == []
    world.delete(name)
    world.wait_gone(name)


@pytest.mark.parametrize("power", ["stopped", "paused", "hibernated"])
def test_whatever_its_power_state_an_adopted_vm_keeps_it(world: World, power: str) -> None:
    vmid = somebodys(world, running=power != "stopped")
    name = world.make(**adopting(vmid))
    world.wait_ready(name)
    if power == "paused":
        world.sim.vm(vmid).qmpstatus = "paused"
    elif power == "hibernated":
        world.sim.stop(vmid)
        world.sim.set_lock(vmid, "suspended")
    world.look()
    before = world.sim.world()
    world.forget_writes()
    world.passes(name, 3)
    world.wait_ready(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []


def test_annotations_that_were_there_before_the_adoption_start_nothing(world: World) -> None:
    """Copied with the manifest, say: they are noted down as done."""
    vmid, name = somebodys(world), world.name()
    before = world.sim.world()
    manifest = world.manifest(name, **adopting(vmid))
    manifest["metadata"]["annotations"] = {RESTART: "monday", MOVE_TO: "pve1"}
    world.kube.apply(PROXMOX_VMS, manifest)
    world.wait_ready(name)
    world.passes(name, 3)
    world.wait_ready(name)
    assert untouched(world, before, vmid) == []
    assert [call.path for call in world.writes()] == [f"/nodes/pve2/qemu/{vmid}/config"]


def test_an_adopted_vm_that_ha_manages_stays_so(world: World) -> None:
    vmid = somebodys(world)
    world.sim.set_ha(vmid, "started")
    world.look()
    before = world.sim.world()
    name = world.make(**adopting(vmid))
    world.wait_ready(name)
    world.passes(name)
    assert untouched(world, before, vmid) == []
    assert {call.path for call in world.writes()} == {f"/nodes/pve2/qemu/{vmid}/config"}


def test_what_the_spec_lists_is_managed_and_nothing_else(world: World) -> None:
    vmid = somebodys(world, running=False)
    before = world.sim.world()
    networks = [{"name": "net0", "bridge": "vmbr0", "vlan": 30, "model": "E1000"}]
    name = world.make(**adopting(vmid, cpu={"cores": 2}, tags=["web"], networks=networks))
    world.wait_ready(name)
    config = world.sim.vm(vmid).config
    assert str(config["cores"]) == "2"
    assert "BC:24:11:00:00:01" in config["net0"]
    assert "tag=30" in config["net0"]
    assert set(str(config["tags"]).split(";")) == {"prod", "mail", "web", world.namespace}
    changed = {line.split(":")[0].split()[-1] for line in untouched(world, before, vmid)}
    assert changed == {"cores", "tags", "net0"}
    world.edit(name, tags=None)
    world.wait_until(
        lambda: set(str(world.sim.vm(vmid).config["tags"]).split(";")) == {"prod", "mail"},
        "our tags are gone, and those of people are still there",
        name,
    )


def test_disks_that_are_there_are_taken_over_by_their_slot_and_let_go_again(world: World) -> None:
    vmid = somebodys(world)
    before = world.sim.world()
    disks = [{"name": "scsi3", "size": "3Gi", "discard": True}]
    name = world.make(**adopting(vmid, disks=disks))
    world.wait_ready(name)
    assert untouched(world, before, vmid) == []
    assert [disk["slot"] for disk in world.status(name)["disks"]] == ["scsi3"]
    world.edit(name, disks=[disks[0] | {"size": "5Gi"}])
    world.wait_until(lambda: "size=5G" in str(world.sim.vm(vmid).config["scsi3"]), "the disk has grown", name)
    world.wait_ready(name)
    world.edit(name, disks=None)
    world.wait_until(lambda: not world.status(name).get("disks"), "the disk is not managed any more", name)
    assert "size=5G" in str(world.sim.vm(vmid).config["scsi3"])
    assert world.sim.world().volumes_of(vmid) != []
    assert "detachedDisks" not in world.status(name)


def test_a_disk_that_may_mean_an_existing_one_is_not_made(world: World) -> None:
    vmid = somebodys(world)
    before = world.sim.world()
    name = world.make(**adopting(vmid, disks=[{"name": "data", "size": "3Gi"}]))
    assert "call it scsi3" in world.wait_reason(name, "DiskAmbiguous").message
    world.passes(name)
    assert untouched(world, before, vmid) == []
    world.edit(name, disks=[{"name": "data", "size": "2Gi"}])
    world.wait_ready(name)
    assert "serial=data" in str(world.sim.vm(vmid).config["scsi1"])


# Letting go


def test_a_released_vm_is_what_it_was_and_can_be_taken_over_again(world: World) -> None:
    vmid = somebodys(world)
    before = world.sim.world()
    for round_ in ("first", "second"):
        name = world.make(round_, **adopting(vmid))
        assert world.wait_ready(name) == vmid
        world.delete(name)
        world.wait_gone(name)
        assert untouched(world, before, vmid) == []
        assert notes(world, vmid).count("<!--") == 1
        assert f"released {world.namespace}/{name}" in notes(world, vmid)
        assert user_text(notes(world, vmid)) == MAIL["description"].strip()
    assert world.sim.vm(vmid).status == "running"


def test_an_adopted_vm_is_destroyed_only_where_the_object_says_so(world: World) -> None:
    vmid = somebodys(world)
    name = world.make(**adopting(vmid, deletionPolicy="Delete"))
    world.wait_ready(name)
    world.sim.edit_config(vmid, protection=1)
    world.delete(name)
    assert "protected in Proxmox" in world.wait_reason(name, "Protected").message
    assert world.sim.vm(vmid).status == "running"
    world.sim.edit_config(vmid, protection=0)
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids
    assert world.leaks() == []


# Only looking


def test_an_object_that_only_looks_shows_what_would_change_and_touches_nothing(world: World) -> None:
    vmid = somebodys(world)
    before = world.sim.world()
    spec = adopting(vmid, management="Observe", cpu={"cores": 4}, power="Stopped")
    name = world.make(**spec)
    condition = world.wait_reason(name, "OutOfSync")
    assert "Observe" in condition.message
    status, raw = world.status(name), world.raw(name)
    assert raw is not None
    assert any(line.startswith("cores: 1 -> 4") for line in status["plan"])
    assert not any("description" in line for line in status["plan"])
    assert (status["node"], status["power"], status["cluster"]) == ("pve2", "Running", world.cluster)
    assert "vmid" not in status
    assert "finalizers" not in raw["metadata"]
    world.sim.edit_config(vmid, cores=4)
    world.edit(name, power=None)
    world.wait_reason(name, "Running")
    world.passes(name)
    world.delete(name)
    world.wait_gone(name)
    assert world.writes() == []
    assert untouched(world, before, vmid) == [f"VM {vmid} pending: () -> (('cores', '4'),)"]


def test_an_object_that_looked_takes_over_once_it_may_manage(world: World) -> None:
    vmid = somebodys(world)
    name = world.make(**adopting(vmid, management="Observe"))
    world.wait_reason(name, "Running")
    other = world.make(**adopting(vmid))
    world.wait_ready(other)
    world.wait_reason(name, "IdentityConflict")
    world.delete(other)
    world.wait_gone(other)
    world.wait_reason(name, "Running")
    world.edit(name, management="Manage")
    assert world.wait_ready(name) == vmid
    world.wait_event(name, "Adopted")


def test_an_object_that_looks_at_what_is_not_there_says_so(world: World) -> None:
    name = world.make(**adopting(next(count), management="Observe"))
    refused(world, name, "AdoptNotFound")


def test_the_example_looks_first_and_then_takes_over(world: World) -> None:
    manifest = yaml.safe_load((ROOT / "manifests" / "examples" / "vm-adopt.yaml").read_text())
    vmid, name = manifest["spec"]["source"]["adopt"]["vmid"], manifest["metadata"]["name"]
    config: dict[str, Any] = {
        "cores": 2,
        "memory": "4096",
        "net0": "virtio=BC:24:11:00:00:07,bridge=vmbr0,tag=20,firewall=1",
    }
    world.sim.add_vm(vmid, running=True, scsi1="local-lvm:100,discard=on", **config)
    world.look()
    before = world.sim.world()
    world.apply(name, **manifest["spec"])
    world.wait_reason(name, "Running")
    assert world.status(name).get("plan", []) == []
    assert world.writes() == []
    world.edit(name, management=None)
    assert world.wait_ready(name) == vmid
    assert untouched(world, before, vmid) == []


def test_an_object_whose_name_is_no_host_name_can_adopt(world: World) -> None:
    vmid = somebodys(world)
    name = f"{world.name('mail')}.example.org"
    world.apply(name, **adopting(vmid))
    assert world.wait_ready(name) == vmid
    assert world.sim.vm(vmid).config["name"] == MAIL["name"]
