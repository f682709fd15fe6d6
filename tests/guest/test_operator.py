"""From an image to a VM that one can log into, by the operator: a VMTemplate, and cloud-init both ways.

All of it is real but Proxmox VE: the API server, the image that the node downloads, the guests and their cloud-init.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import guest
from harness.inside import BOOT_SECONDS, Inside, ssh
from harness.templates import Templates
from harness.world import World
from proxmox_operator.api.names import RESTART
from pvesim.client import Api

PATIENCE = 300.0
"""Seconds for what takes the operator or a running guest a moment, on a machine that has other things to do."""

QEMU_S = "10.0.2.15/24"
"""Where QEMU's own network expects the guest, as the config of a VM with a seed names no address: ssh gets there."""

USER_DATA = """\
#cloud-config
users:
  - name: ops
    sudo: ALL=(ALL) NOPASSWD:ALL
    shell: /bin/bash
    ssh_authorized_keys: [{key}]
write_files:
  - path: /etc/motd
    content: written by user data
locale: false
"""


@pytest.fixture(scope="module")
def template(world: World) -> Iterator[str]:
    """A VMTemplate of the real image, which is Ready."""
    with Templates(world) as templates:
        data = guest.image().read_bytes()
        url = templates.server.serve("/debian-12.qcow2", data)
        image = {
            "url": url,
            "checksum": f"sha256:{hashlib.sha256(data).hexdigest()}",
            "storage": templates.storage,
        }
        name = templates.make(image=image)
        templates.wait_ready(name, timeout=PATIENCE)
        yield name


@pytest.fixture(scope="module")
def inside(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A client of the simulator, for a look into guests."""
    with Api(world.sim, tmp_path_factory.mktemp("api")) as api:
        yield api


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


def test_user_data_reaches_the_guest_and_its_seed_is_gone_afterwards(
    world: World, template: str, inside: Api, key: Path
) -> None:
    name = world.make(
        "seeded",
        source={"templateRef": {"name": template}},
        cpu={"cores": 1},
        memory={"size": "1Gi"},
        agent=True,
        networks=[{"name": "net0", "ipv4": {"address": QEMU_S, "gateway": "10.0.2.2"}}],
        cloudInit={"userData": USER_DATA.format(key=key.with_suffix(".pub").read_text().strip())},
        readiness={"agent": True, "cloudInit": True},
    )
    vmid = world.wait_ready(name, timeout=BOOT_SECONDS)
    vm = Inside(inside, vmid)
    found = world.condition(name, "CloudInit")
    assert found is not None
    assert found.status == "True"
    assert vm.read("cat /etc/motd") == "written by user data"
    assert vm.read("hostname") == name
    assert "10.0.2.15" in world.status(name)["addresses"]
    done = ssh("ops", world.sim.door(vmid).ssh_ports["net0"], key, "sudo id -un")
    assert (done.stdout.strip(), done.returncode) == ("root", 0), done.stderr
    world.wait_until(
        lambda: not world.sim.files("local", "pve1"), "the seed is deleted", name, timeout=PATIENCE
    )
