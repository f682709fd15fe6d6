"""Which ProxmoxCluster a VM is made in: named, the only one, the default one - or a message how to name one."""

from collections.abc import Iterator

import pytest

from controlplane import Cluster
from harness.clusters import Estate
from harness.world import TEMPLATE, World
from proxmox_operator.kube.resources import PROXMOX_CLUSTERS, PROXMOX_VMS


@pytest.fixture(scope="module")
def shared_estate(control_plane: Cluster) -> Iterator[Estate]:
    with Estate(control_plane, operator={"slow_retry": 30.0}) as estate:
        yield estate


@pytest.fixture
def estate(shared_estate: Estate) -> Iterator[Estate]:
    with shared_estate.fresh():
        yield shared_estate


def unnamed(world: World) -> str:
    """A ProxmoxVM that names no cluster."""
    name = world.name()
    spec = {"source": {"clone": {"vmid": TEMPLATE}}}
    world.kube.apply(PROXMOX_VMS, {"metadata": {"name": name, "namespace": world.namespace}, "spec": spec})
    return name


def test_a_vm_of_an_unknown_cluster_says_so_and_is_made_once_that_cluster_exists(estate: Estate) -> None:
    world, site = estate.world, estate.unapplied()
    site.good_secret()
    name = site.make()
    found = world.wait_reason(name, "ClusterNotFound")
    assert (found.status, found.message) == (
        "False",
        f"spec.clusterRef.name: there is no ProxmoxCluster {site.name}: create it, or name one that exists",
    )
    assert world.condition(name, "Stalled").status == "True"
    assert site.calls() == []
    assert "vmid" not in world.status(name)
    site.apply()
    vmid = world.wait_ready(name)
    assert site.sim.world().vm(vmid).name == name


def test_the_only_cluster_needs_no_name(estate: Estate) -> None:
    world = estate.world
    name = unnamed(world)
    vmid = world.wait_ready(name)
    assert world.status(name)["cluster"] == world.cluster
    assert world.sim.world().vm(vmid).name == name


def test_among_several_clusters_one_must_be_named_or_marked_default(estate: Estate) -> None:
    world, site = estate.world, estate.site()
    name = unnamed(world)
    found = world.wait_reason(name, "ClusterNotFound")
    assert (
        found.message == "spec.clusterRef: there are 2 ProxmoxClusters and none is marked default: name one"
    )
    assert world.writes() == []
    assert site.writes() == []
    site.edit(default=True)
    vmid = world.wait_ready(name)
    assert site.sim.world().vm(vmid).name == name
    assert world.status(name)["cluster"] == site.name


def test_two_defaults_are_none(estate: Estate) -> None:
    world, first, second = estate.world, estate.site(default=True), estate.site(default=True)
    name = unnamed(world)
    found = world.wait_reason(name, "ClusterNotFound")
    assert found.message == "spec.clusterRef: there are 3 ProxmoxClusters and 2 are marked default: name one"
    second.edit(default=False)
    world.wait_ready(name)
    assert world.status(name)["cluster"] == first.name


def test_a_vm_stays_in_its_cluster_when_the_default_moves(estate: Estate) -> None:
    world, first, second = estate.world, estate.site(default=True), estate.site()
    name = unnamed(world)
    vmid = world.wait_ready(name)
    first.edit(default=False)
    second.edit(default=True)
    second.wait("Ready")
    before = second.sim.world()
    first.sim.stop(vmid)
    world.wait_until(lambda: first.sim.vm(vmid).status == "running", "the VM was started where it is", name)
    world.passes(name)
    assert second.sim.world() == before
    assert world.status(name)["cluster"] == first.name


def test_without_any_cluster_a_vm_waits_for_one(estate: Estate) -> None:
    world = estate.world
    world.kube.delete(PROXMOX_CLUSTERS, world.cluster)
    world.wait_until(lambda: world.cluster_raw() is None, "the only ProxmoxCluster is gone")
    name = unnamed(world)
    try:
        assert world.wait_reason(name, "ClusterNotFound").message == "there is no ProxmoxCluster: create one"
    finally:
        world.apply_cluster()
    world.wait_ready(name)
