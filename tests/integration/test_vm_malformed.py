"""Stored objects that no schema of today would let in, written by an older or a newer release."""

from collections.abc import Iterator
from typing import Any

import pytest

from controlplane import Cluster
from harness.kubeapi import KubeApi, Raw, Refused
from harness.world import TEMPLATE, World
from proxmox_operator.kube.resources import PROXMOX_VMS, Resource

CRDS = Resource(
    "apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False
)
NAME = "proxmoxvms.proxmox-operator.io"
ANYTHING: Raw = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@pytest.fixture(scope="module")
def lax_schema(control_plane: Cluster) -> Iterator[None]:
    """The CRD lets anything in, as that of another release might; its own schema comes back afterwards."""
    with KubeApi(control_plane.kubeconfig) as kube:
        before = kube.get(CRDS, NAME)
        assert before is not None
        lax = {"schema": {"openAPIV3Schema": ANYTHING}, "selectableFields": []}
        versions = [{**version, **lax} for version in before["spec"]["versions"]]
        kube.merge(CRDS, NAME, {"spec": {"versions": versions}})
        try:
            yield
        finally:
            now = kube.get(CRDS, NAME)
            assert now is not None
            kube.replace(CRDS, {**now, "spec": before["spec"]})


@pytest.fixture(scope="module")
def shared_world(control_plane: Cluster, lax_schema: None) -> Iterator[World]:
    """Without the schema there are no defaults either: the operator has its own."""
    with World(control_plane) as world:
        world.wait_until(lambda: accepts_anything(world), "the lax schema is in force")
        yield world


def accepts_anything(world: World) -> bool:
    name = world.name("probe")
    try:
        world.kube.create(
            PROXMOX_VMS, {"metadata": {"name": name, "namespace": world.namespace}, "spec": {"x": 1}}
        )
    except Refused:
        return False
    world.kube.merge(PROXMOX_VMS, name, {"metadata": {"finalizers": None}}, namespace=world.namespace)
    world.kube.delete(PROXMOX_VMS, name, world.namespace)
    return True


def store(world: World, name: str, spec: Any, status: Any = None) -> None:
    """Put an object into the store as it is."""
    manifest = {"metadata": {"name": name, "namespace": world.namespace}}
    world.kube.create(PROXMOX_VMS, {**manifest, "spec": spec} if spec is not None else manifest)
    if status is not None:
        world.kube.merge(
            PROXMOX_VMS, name, {"status": status}, namespace=world.namespace, subresource="status"
        )


BROKEN: list[tuple[str, Any, str]] = [
    ("no spec", None, "spec"),
    ("no source", {"power": "Running"}, "spec.source"),
    (
        "an unknown kind of source",
        {"source": {"image": {"url": "https://example.org/x.qcow2"}}},
        "spec.source",
    ),
    (
        "a number for a size",
        {"source": {"clone": {"vmid": TEMPLATE}}, "memory": {"size": 4}},
        "spec.memory.size",
    ),
    ("a vmid out of range", {"source": {"clone": {"vmid": 5}}}, "spec.source.clone.vmid"),
    ("an unknown word", {"source": {"clone": {"vmid": TEMPLATE}}, "power": "Hibernated"}, "spec.power"),
    ("a list for a block", {"source": {"clone": {"vmid": TEMPLATE}}, "cpu": [4]}, "spec.cpu"),
    (
        "a nested mistake",
        {"source": {"clone": {"vmid": TEMPLATE}}, "networks": [{"name": "eth0"}]},
        "spec.networks[0].name",
    ),
]


@pytest.mark.parametrize(("spec", "field"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_stored_object_that_cannot_be_read_names_the_field_and_recovers_when_it_is_mended(
    world: World, spec: Any, field: str
) -> None:
    before = world.sim.world()
    name = world.name("broken")
    store(world, name, spec)
    condition = world.wait_reason(name, "InvalidSpec")
    assert condition.status == "False"
    assert field in condition.message
    world.passes(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    raw = world.raw(name)
    assert raw is not None
    good = world.manifest(name)["spec"]
    world.kube.replace(PROXMOX_VMS, {**raw, "spec": good})
    vmid = world.wait_ready(name)
    assert world.changes_besides(before, vmid) == []


def test_fields_of_a_newer_release_are_ignored(world: World) -> None:
    name = world.make("newer", teleport={"to": "mars"}, cpu={"cores": 2, "quantum": True})
    vmid = world.wait_ready(name)
    assert str(world.sim.vm(vmid).config["cores"]) == "2"


@pytest.mark.parametrize(
    "status",
    [
        {"phase": "Running", "conditions": "none", "addresses": 7},
        {"conditions": [{"type": "Ready"}, {"type": "Old", "status": "Perhaps"}], "observedGeneration": "x"},
        {"provisioning": {"step": "clone"}, "task": "UPID:gone", "disks": {"data": "scsi1"}},
    ],
)
def test_a_status_of_another_release_does_not_stop_the_creation(world: World, status: Raw) -> None:
    name = world.name("older")
    store(world, name, world.manifest(name)["spec"], status)
    vmid = world.wait_ready(name)
    assert [vm.vmid for vm in world.sim.world().vms if vm.name == name] == [vmid]
    assert world.leaks() == []


@pytest.mark.parametrize(
    "junk",
    [
        {"networks": "net0", "disks": [{"slot": 3}], "tags": {"a": 1}, "phase": "Old", "conditions": None},
        {"vmid": "ten thousand", "uuid": 7, "started": "yes", "cluster": None},
    ],
)
def test_ill_typed_fields_in_the_status_of_a_running_vm_make_no_second_one(world: World, junk: Raw) -> None:
    name = world.make("drifted")
    vmid = world.wait_ready(name)
    before = world.sim.world()
    world.forget_writes()
    world.kube.merge(PROXMOX_VMS, name, {"status": junk}, namespace=world.namespace, subresource="status")

    def is_mended() -> bool:
        status = world.status(name)
        return all(status.get(field) != value for field, value in junk.items())

    world.wait_until(is_mended, "the status was written anew", name)
    world.passes(name)
    assert world.wait_ready(name) == vmid
    assert before.diff(world.sim.world()) == []
    assert world.writes() == []


def test_a_running_vm_whose_spec_becomes_unreadable_is_left_alone_and_taken_up_again(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    before = world.sim.world()
    world.forget_writes()
    world.edit(name, memory={"size": "lots"})
    condition = world.wait_reason(name, "InvalidSpec")
    assert "spec.memory.size" in condition.message
    assert world.status(name)["vmid"] == vmid
    world.passes(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    world.edit(name, memory=None)
    assert world.wait_ready(name) == vmid


def test_an_unreadable_object_that_holds_a_vm_is_not_let_go_when_it_is_deleted(world: World) -> None:
    name = world.make("web")
    vmid = world.wait_ready(name)
    world.edit(name, source=None)
    world.wait_reason(name, "InvalidSpec")
    world.delete(name)
    world.passes(name)
    assert world.raw(name) is not None
    assert vmid in world.sim.world().vmids
    world.edit(name, source={"clone": {"vmid": TEMPLATE}})
    world.wait_gone(name)
    assert vmid not in world.sim.world().vmids


def test_an_unreadable_object_that_holds_nothing_can_be_deleted(world: World) -> None:
    name = world.name("broken")
    store(world, name, {"power": "Running"})
    world.wait_reason(name, "InvalidSpec")
    world.delete(name)
    world.wait_gone(name)
    assert world.writes() == []
