"""Two hundred VMs edited at once: what it costs, and that it restarts none."""

from collections import Counter

import pytest

from controlplane import Cluster
from harness.world import World

MANY = 200


@pytest.mark.timeout(240)
def test_two_hundred_vms_edited_at_once_are_written_to_once_each_and_none_is_restarted(
    control_plane: Cluster, record_property
) -> None:
    lifted = {"limits": {"allocationsPerStorage": 16, "callsPerNode": 16}}
    with World(control_plane, sim={"task_seconds": 0.0}, cluster=lifted, patient=True) as world:
        world.sim.set_capacity("pve1", memory_gib=1024, cpus=512)
        names = [world.make("many", cpu={"cores": 1}) for _ in range(MANY)]
        vmids = [world.wait_ready(name, timeout=180) for name in names]
        world.forget_writes()
        calls = len(world.sim.recorder)
        for name in names:
            world.edit(name, cpu={"cores": 2}, tags=["edited"])
        for name in names:
            world.wait_ready(name, timeout=60)
        asked = [call for call in list(world.sim.recorder)[calls:] if "/qemu/" in call.path]
        record_property("summary", f"{MANY} VMs edited at once: {len(asked) / MANY:g} Proxmox calls each")
        written = Counter(call.path.rpartition("/qemu/")[2] for call in world.writes())
        assert written == {f"{vmid}/config": 1 for vmid in vmids}
        assert len(asked) <= 5 * MANY
        for name, vmid in zip(names, vmids, strict=True):
            vm, required = world.sim.vm(vmid), world.condition(name, "RestartRequired")
            assert (str(vm.pending.get("cores")), vm.status) == ("2", "running")
            assert "edited" in vm.config["tags"]
            assert required is not None
            assert required.status == "True"
