"""A build in a real guest, and a VM of what was built: a machine of its own, which user data configures.

One VM serves for both, since each boot takes its minutes under emulation.
"""

from pathlib import Path
from typing import Any

import pytest

from harness.inside import BOOT_SECONDS, PATIENCE, Inside, ssh
from harness.kubeapi import Raw
from harness.templates import Templates
from harness.world import World
from pvesim.client import Api

IDENTITY = "cat /etc/machine-id /etc/ssh/ssh_host_*_key.pub"
STEPS: list[dict[str, Any]] = [
    {"name": "conf", "files": [{"path": "/etc/built/by.conf", "content": "größer\n", "mode": "0640"}]},
    {
        "name": "identity",
        "script": f"{IDENTITY} > /etc/built/identity\necho left behind > /var/tmp/rubbish\n",
    },
    {
        "name": "words",
        "script": "#!/bin/sh -eu\n[ -s /etc/built/identity ]\nstat -c %a:%U /etc/built/by.conf\n",
    },
]

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
def template(world: World, templates: Templates, image: Raw) -> str:
    """A VMTemplate that was built, and is Ready."""
    name = templates.make(image=image, build={"steps": STEPS, "timeout": "25m"})
    templates.wait_ready(name, timeout=BOOT_SECONDS)
    assert not world.sim.files("local", "pve1"), "the seed is deleted"
    return name


@pytest.fixture(scope="module")
def seeded(world: World, template: str, key: Path) -> tuple[str, int]:
    """A VM of it, which is configured by user data."""
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
    return name, world.wait_ready(name, timeout=BOOT_SECONDS)


def test_a_vm_from_a_built_template_has_what_was_built_in_and_an_identity_of_its_own(
    seeded: tuple[str, int], inside: Api
) -> None:
    vm = Inside(inside, seeded[1])
    assert vm.read("cat /etc/built/by.conf; stat -c %a:%U /etc/built/by.conf").endswith("640:root")
    at_build, now = vm.read("cat /etc/built/identity"), vm.read(IDENTITY)
    assert len(at_build.splitlines()) == len(now.splitlines()) > 1
    assert not set(at_build.splitlines()) & set(now.splitlines())
    assert not vm.has("/var/tmp/rubbish")
    assert not vm.has("/run/proxmox-operator-build")


def test_user_data_reaches_the_guest_and_its_seed_is_gone_afterwards(
    world: World, seeded: tuple[str, int], inside: Api, key: Path
) -> None:
    name, vmid = seeded
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
