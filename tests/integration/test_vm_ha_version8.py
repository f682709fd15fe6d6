"""HA on Proxmox VE 8: there are groups and no rules; after an upgrade rules take effect by themselves."""

from pathlib import Path

from harness.world import LOOK, World
from proxmox_operator.kube.resources import PROXMOX_CLUSTERS
from pvesim.client import Api
from pvesim.core import VERSIONS

WORLD = {"sim": {"pve": 8}}


def test_on_version_8_the_rule_is_told_to_be_out_of_force_until_the_upgrade(
    world: World, tmp_path: Path
) -> None:
    sim = world.sim
    sim.add_storage("ceph", "rbd", size_gib=1000)
    sim.add_template(vmid=9001, storage="ceph", name="shared")
    world.look()
    wish = {"ha": True, "rule": {"nodeAffinity": {"nodes": [{"name": "pve1"}]}}}
    name = world.make("db", source={"clone": {"vmid": 9001}}, availability=wish)
    vmid = world.wait_ready(name)
    found = world.wait_reason(name, "RulesNotSupported", kind="HighlyAvailable")
    assert found.status == "False"
    assert "the VM is under HA" in found.message
    with Api(sim, tmp_path) as api:
        assert api.get(f"/cluster/ha/resources/vm:{vmid}")["state"] == "started"
        sim.server.pve = 9
        sim.server.version, sim.server.release_version = VERSIONS[9]
        mark = {LOOK: "after the upgrade"}
        world.kube.merge(PROXMOX_CLUSTERS, world.cluster, {"metadata": {"annotations": mark}})
        world.wait_reason(name, "HighlyAvailable", kind="HighlyAvailable")
        assert [rule["nodes"] for rule in api.get("/cluster/ha/rules")] == ["pve1"]
