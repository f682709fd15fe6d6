"""With the roles of manifests/proxmox, and with nothing else, VMs and templates are made, changed and deleted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import pveroles
from controlplane import Cluster
from harness.clusters import Estate
from harness.templates import Templates
from harness.world import World
from release.pvenode import Node


@pytest.fixture(scope="module")
def estate(control_plane: Cluster) -> Iterator[Estate]:
    with Estate(control_plane) as estate, estate.fresh():
        yield estate


@pytest.mark.parametrize("version", pveroles.VERSIONS)
def test_vms_are_made_changed_moved_and_deleted(estate: Estate, version: int, tmp_path: Path) -> None:
    site = estate.unapplied(sim={"pve": version, "nodes": 2})
    node = Node(tmp_path, site.sim)
    assert node.run(FEATURES="move seed cleanup").returncode == 0
    node.grant()
    before = site.sim.world()
    site.good_secret()
    site.apply(defaults={"storage": "local-lvm", "bridge": "vmbr0", "seedStorage": "local"})
    site.wait("Ready")
    assert site.shows("Authorized").status == "True"

    seeded, _ = site.ready("seeded", cloudInit={"userData": "#cloud-config\npackages: [curl]\n"})
    disk = {"name": "data", "size": "2Gi"}
    name, vmid = site.ready(
        "native",
        cpu={"cores": 2},
        memory={"size": "1Gi"},
        disks=[disk],
        networks=[{"name": "net0", "vlan": 7, "ipv4": {"address": "10.0.20.11/24"}}],
        cloudInit={"user": "debian"},
    )
    [other] = {"pve1", "pve2"} - {site.sim.vm(vmid).node}
    wish = {"mode": "Require", "nodes": [other], "moveLocalDisks": True}
    site.world.edit(name, placement=wish, disks=[{**disk, "size": "3Gi"}], memory={"size": "2Gi"})
    site.world.wait_until(lambda: site.sim.vm(vmid).node == other, "it has been moved", name)
    site.world.wait_ready(name)
    for each in (seeded, name):
        site.world.delete(each)
        site.world.wait_gone(each)
    assert before.diff(site.sim.world()) == []
    assert [str(call) for call in site.calls() if call.status == 403] == []


def test_templates_are_downloaded_built_cloned_and_deleted(
    control_plane: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SOON", "MAX_DELAY"):
        monkeypatch.setattr(f"proxmox_operator.controllers.template.build.{name}", 0.1)
    with World(control_plane) as world, Templates(world) as templates:
        node = Node(tmp_path, world.sim)
        wanted = {"FEATURES": "images build cleanup", "FILE_STORAGES": f"local {templates.storage}"}
        assert node.run(**wanted).returncode == 0
        node.grant()
        world.look()
        before = world.sim.world()
        build = {"steps": [{"name": "hello", "script": "echo hello\n"}], "seedStorage": "local"}
        template = templates.make(nodes=["pve1"], build=build)
        templates.wait_ready(template, timeout=60)
        vm = world.make("cloned", source={"templateRef": {"name": template}})
        world.wait_ready(vm)
        world.delete(vm)
        world.wait_gone(vm)
        templates.delete(template)
        templates.wait_gone(template)
        assert before.diff(world.sim.world()) == []
        assert [str(call) for call in world.sim.recorder if call.status == 403] == []
