"""A build in a real guest: its steps are run, and what is made from the template is a machine of its own."""

import hashlib
from typing import Any

import pytest

import guest
from harness.inside import BOOT_SECONDS, Inside
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


def test_a_vm_from_a_built_template_has_what_was_built_in_and_an_identity_of_its_own(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    data = guest.image().read_bytes()
    with Templates(world) as templates, Api(world.sim, tmp_path_factory.mktemp("api")) as api:
        image = {
            "url": templates.server.serve("/debian-12.qcow2", data),
            "checksum": f"sha256:{hashlib.sha256(data).hexdigest()}",
            "storage": templates.storage,
        }
        built = templates.make(image=image, build={"steps": STEPS, "timeout": "25m"})
        templates.wait_ready(built, timeout=BOOT_SECONDS)
        assert not world.sim.files("local", "pve1"), "the seed is deleted"
        name = world.make(
            "built",
            source={"templateRef": {"name": built}},
            agent=True,
            networks=[{"name": "net0"}],
            cloudInit={"user": "ops"},
            readiness={"agent": True, "cloudInit": True},
        )
        vm = Inside(api, world.wait_ready(name, timeout=BOOT_SECONDS))
        assert vm.read("cat /etc/built/by.conf; stat -c %a:%U /etc/built/by.conf").endswith("640:root")
        at_build, now = vm.read("cat /etc/built/identity"), vm.read(IDENTITY)
        assert len(at_build.splitlines()) == len(now.splitlines()) > 1
        assert not set(at_build.splitlines()) & set(now.splitlines())
        assert not vm.has("/var/tmp/rubbish")
        assert not vm.has("/run/proxmox-operator-build")
