"""What is managed, and what a person reads about what no longer is."""

import pytest

from proxmox_operator.planning.vmconfig import managed, no_longer_managed
from unit.planning.make import a_vm

CONFIG = {
    "cores": "4",
    "cpulimit": "2",
    "memory": "4096",
    "balloon": "1024",
    "net1": "virtio=BC:24:11:0A:1B:2C,bridge=vmbr0",
    "cipassword": "**********",
    "description": "notes\n\n<!-- proxmox-operator {} -->",
}


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({}, ()),
        (
            {
                "name": "front",
                "tags": ["web"],
                "startup": {"onBoot": True},
                "disks": [{"name": "d", "size": "1Gi"}],
            },
            (),
        ),
        ({"cpu": {"cores": 4, "limit": "2"}}, ("cpu.cores", "cpu.limit")),
        ({"memory": {"size": "4Gi"}, "startup": {"order": 3}}, ("startup.order", "memory.size")),
        ({"networks": [{"name": "net1", "vlan": 4}, {"name": "net0"}]}, ("networks[net1]", "networks[net0]")),
        ({"pciDevices": [{"name": "hostpci0", "mapping": "gpu"}]}, ("pciDevices[hostpci0]",)),
        ({"hotplug": [], "bootOrder": []}, ("hotplug",)),
        ({"agent": False, "serialConsole": False}, ("serialConsole", "agent")),
        ({"cloudInit": {"dns": {"servers": ["10.0.0.1"]}}}, ("cloudInit.dns.servers",)),
    ],
)
def test_what_is_managed(spec, names):
    assert managed(a_vm(**spec).spec) == names


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ((), ("cpu.cores",), None),
        (("cpu.cores",), ("cpu.cores", "memory.size"), None),
        (
            ("cpu.cores", "cpu.limit"),
            ("cpu.cores",),
            "spec.cpu.limit is no longer managed: the VM keeps cpulimit 2",
        ),
        (
            ("memory.size", "memory.minimum", "cpu.cores"),
            ("cpu.cores",),
            "spec.memory is no longer managed: the VM keeps memory 4096, balloon 1024",
        ),
        (
            ("memory.size", "networks[net1]"),
            (),
            "spec.memory, spec.networks[net1] are no longer managed: the VM keeps memory 4096, "
            "net1 virtio=BC:24:11:0A:1B:2C,bridge=vmbr0",
        ),
        (("display",), (), "spec.display is no longer managed: the VM keeps what it has"),
        (("description",), (), "spec.description is no longer managed: the VM keeps description notes"),
        (
            ("cloudInit.passwordSecretRef",),
            (),
            "spec.cloudInit is no longer managed: the VM keeps what it has",
        ),
    ],
)
def test_what_is_said_of_what_no_longer_is(before, now, said):
    assert no_longer_managed(before, now, CONFIG) == said
