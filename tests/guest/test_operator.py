"""From an image to a VM that one can log into, by the operator: a VMTemplate, and Proxmox's own cloud-init keys.

All of it is real but Proxmox VE: the API server, the image that the node downloads, the guests and their cloud-init.
"""

from pathlib import Path

import pytest

from harness.inside import BOOT_SECONDS, PATIENCE, Inside, ssh
from harness.kubeapi import Raw
from harness.templates import Templates
from harness.world import World
from proxmox_operator.api.names import RESTART
from pvesim.client import Api


@pytest.fixture(scope="module")
def template(templates: Templates, image: Raw) -> str:
    """A VMTemplate of the real image, which is Ready."""
    name = templates.make(image=image)
    templates.wait_ready(name, timeout=PATIENCE)
    return name


@pytest.fixture(scope="module")
def native(world: World, template: str, key: Path) -> tuple[str, int]:
    """A VM that Proxmox's own cloud-init keys configure."""
    name = world.make(
        "native",
        source={"templateRef": {"name": template}},
        cpu={"cores": 1},
        memory={"size": "1Gi"},
        bootDisk={"size": "6Gi"},
        agent=True,
        networks=[{"name": "net0", "ipv4": {"address": "10.20.0.5/24", "gateway": "10.20.0.1"}}],
        cloudInit={"user": "ops", "sshKeys": [key.with_suffix(".pub").read_text().strip()]},
        readiness={"agent": True},
    )
    return name, world.wait_ready(name, timeout=BOOT_SECONDS)


def test_a_vm_from_the_image_has_its_name_user_key_address_and_a_grown_root(
    world: World, native: tuple[str, int], inside: Api, key: Path
) -> None:
    name, vmid = native
    vm = Inside(inside, vmid)
    vm.wait_first_boot()
    # The IPv4 one is in the spec too; what QEMU's network announces, only the guest can tell.
    world.wait_until(
        lambda: any(address.startswith("fec0:") for address in world.status(name)["addresses"]),
        "the addresses that the guest reports",
        name,
        timeout=PATIENCE,
    )
    assert "10.20.0.5" in world.status(name)["addresses"]
    done = ssh("ops", world.sim.door(vmid).ssh_ports["net0"], key, "id -un; hostname")
    assert (done.stdout.split(), done.returncode) == (["ops", name], 0), done.stderr
    assert int(vm.read("df --output=size --block-size=1M / | tail -1")) > 5_500
    assert world.status(name)["template"]["linked"]


def test_a_disk_that_is_added_shows_in_the_running_guest(
    world: World, native: tuple[str, int], inside: Api
) -> None:
    name, vmid = native
    world.edit(name, disks=[{"name": "data", "size": "1Gi"}])
    vm = Inside(inside, vmid)
    world.wait_until(
        lambda: "1073741824" in vm.read("lsblk --bytes --nodeps --noheadings --output SIZE").split(),
        "the disk is in the guest",
        name,
        timeout=PATIENCE,
    )
    world.wait_ready(name, timeout=PATIENCE)


def test_a_restart_that_is_asked_for_boots_the_same_system_with_all_its_disks(
    world: World, native: tuple[str, int], inside: Api, key: Path
) -> None:
    name, vmid = native
    vm = Inside(inside, vmid)
    boot, instance = (
        vm.read(f"cat {file}")
        for file in ("/proc/sys/kernel/random/boot_id", "/var/lib/cloud/data/instance-id")
    )
    world.annotate(name, **{RESTART: "1"})
    world.wait_until(
        lambda: world.status(name).get("restartedFor") == "1" and "restart" not in world.status(name),
        "the restart is over",
        name,
        timeout=PATIENCE,
    )
    vm.wait_first_boot()
    assert vm.read("cat /proc/sys/kernel/random/boot_id") != boot
    assert vm.read("cat /var/lib/cloud/data/instance-id") == instance
    assert "1073741824" in vm.read("lsblk --bytes --nodeps --noheadings --output SIZE").split()
    done = ssh("ops", world.sim.door(vmid).ssh_ports["net0"], key, "hostname")
    assert (done.stdout.strip(), done.returncode) == (name, 0), done.stderr
    world.wait_ready(name, timeout=PATIENCE)
    assert "10.20.0.5" in world.status(name)["addresses"]
