"""VMTemplates: an image becomes a Proxmox template on each node, and what is no longer wanted goes."""

from collections.abc import Iterator

import pytest

from harness.templates import Templates
from harness.world import World


@pytest.fixture
def templates(world: World) -> Iterator[Templates]:
    with Templates(world) as templates:
        yield templates


def test_each_node_gets_a_template_with_the_hardware_of_the_spec(world: World, templates: Templates) -> None:
    name = templates.make(
        hardware={"cpu": {"cores": 2, "type": "host"}, "memory": {"size": "2Gi"}, "machine": "q35"},
        tags=["debian"],
    )
    copies = templates.wait_ready(name)
    assert sorted(copies) == ["pve1", "pve2", "pve3"]
    for node, vmid in copies.items():
        vm = world.sim.world().vm(vmid)
        assert (vm.node, vm.template, vm.status) == (node, True, "stopped")
        config = {key: str(value) for key, value in world.sim.vm(vmid).config.items()}
        assert config["scsi0"].startswith(f"local-lvm:base-{vmid}-disk-")
        assert "size=3G" in config["scsi0"]
        assert (config["cores"], config["cpu"], config["memory"]) == ("2", "host", "2048")
        assert (config["agent"], config["serial0"], config["boot"]) == ("1", "socket", "order=scsi0")
        assert "cloudinit" in config["ide2"]
    status = templates.status(name)
    assert status["copiesReady"] == "3/3"
    assert {copy["state"] for copy in status["copies"]} == {"Ready"}
    assert templates.server.count(f"/{name}.qcow2") == 3, "each node has a storage of its own"
    assert templates.condition(name, "Downloaded").status == "True"


def test_a_shared_storage_has_one_copy_whatever_the_distribution(world: World, templates: Templates) -> None:
    if "ceph" not in world.sim.server.storages:
        world.sim.add_storage("ceph", "rbd", size_gib=1000)
        world.look()
    name = templates.make(storage="ceph")
    assert len(templates.wait_ready(name)) == 1
    assert templates.server.count(f"/{name}.qcow2") == 1
    assert templates.status(name)["copiesReady"] == "1/1"
