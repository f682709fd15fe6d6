"""What would keep a VM from starting, as far as its node shows."""

from typing import Any

import pytest

from proxmox_operator.planning.startable import obstacle

NODE: dict[str, Any] = {"node": "pve1", "cpus": 8, "memory": 16 << 30, "bridges": frozenset({"vmbr0"})}
UNSEEN: dict[str, Any] = {"node": "pve1", "cpus": None, "memory": None, "bridges": None}
NIC = "virtio=BC:24:11:00:00:01,bridge="


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, None),
        ({"cores": "4", "sockets": "2", "memory": "16384", "net0": f"{NIC}vmbr0"}, None),
        ({"cores": "4", "sockets": "3"}, "it would have 12 cores and pve1 has 8"),
        ({"memory": "16385"}, "it would have 16385 MiB of memory and pve1 has 16384"),
        ({"memory": "current=32768"}, "it would have 32768 MiB of memory and pve1 has 16384"),
        ({"net0": f"{NIC}vmbr0", "net1": f"{NIC}vmbr7"}, "net1 is on bridge vmbr7, which pve1 does not have"),
        ({"net0": "virtio=BC:24:11:00:00:01"}, None),
    ],
)
def test_what_the_node_cannot_give_is_said_and_what_is_not_known_is_no_obstacle(config, said):
    found = obstacle(config, **NODE)
    assert found is None if said is None else found is not None and found.startswith(said)
    assert obstacle(config, **UNSEEN) is None
