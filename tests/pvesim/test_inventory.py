"""What the cluster says about itself: resources fresh and stale, free ids, nodes, quorum."""

import time
from pathlib import Path
from typing import Any

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError, eventually


def resources(api: Api, kind: str = "vm") -> dict[str, dict[str, Any]]:
    return {item["id"]: item for item in api.get("/cluster/resources", type=kind)}


def test_a_vm_resource_has_what_the_inventory_needs(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, name="web", tags="a;b", cores=2, sockets=2, memory="1024")
    sim.set_lock(100, "backup")
    item = resources(api)["qemu/100"]
    assert (item["vmid"], item["node"], item["type"], item["status"]) == (100, "pve1", "qemu", "running")
    assert (item["name"], item["tags"], item["lock"], item["template"]) == ("web", "a;b", "backup", 0)
    assert (item["maxcpu"], item["maxmem"], item["maxdisk"]) == (4, 1024**3, 4 * 1024**3)
    assert item["uptime"] > 0


def test_a_vm_without_vm_audit_is_not_listed(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.add_vm(101)
    sim.revoke(sim.token_id, "/vms/100", ["VM.Audit"])
    assert list(resources(api)) == ["qemu/101"]


def test_a_vm_of_a_pool_scoped_token_appears_when_it_joins_the_pool_and_is_gone_when_it_leaves(
    sim: PveSim, api: Api, tmp_path: Path
) -> None:
    sim.add_template()
    sim.add_pool("shop")
    sim.add_token("operator@pve!narrow", "narrow-secret")
    sim.grant("operator@pve!narrow", "/pool/shop", ["VM.Audit", "Pool.Audit"])
    with Api(sim, tmp_path, token="operator@pve!narrow", secret="narrow-secret") as narrow:
        with sim.hold("clone:joining") as hold:
            upid = api.clone(9000, 100, pool="shop")
            assert hold.reached.wait(5)
            assert resources(narrow) == {}
        api.ended(upid)
        assert resources(narrow)["qemu/100"]["pool"] == "shop"
        with sim.hold("destroy:zombie") as hold:
            api.delete("/nodes/pve1/qemu/100")
            assert hold.reached.wait(5)
            assert resources(narrow) == {}
            assert resources(api)["qemu/100"]["lock"] == "destroyed"


def test_nextid_needs_no_privilege_and_sees_stubs_and_invisible_vms(sim: PveSim, tmp_path: Path) -> None:
    sim.add_stub(100)
    sim.add_vm(101, node="pve3")
    sim.add_token("operator@pve!nothing", "no-secret")
    with Api(sim, tmp_path, token="operator@pve!nothing", secret="no-secret") as blind:
        assert blind.get("/cluster/nextid") == "102"
        assert blind.get("/cluster/nextid", vmid=102) == "102"
        for vmid in (100, 101):
            with pytest.raises(ApiError) as taken:
                blind.get("/cluster/nextid", vmid=vmid)
            assert taken.value.status == 400
            assert taken.value.errors == {"vmid": f"VM {vmid} already exists"}


def test_with_stale_statistics_a_new_vm_is_unknown_and_has_no_name(tmp_path: Path) -> None:
    with PveSim(staleness=1.5) as sim, Api(sim, tmp_path) as api:
        sim.add_vm(100, running=True, name="web", tags="a")
        item = resources(api)["qemu/100"]
        assert item["status"] == "unknown"
        assert "name" not in item
        assert (item["node"], item["tags"]) == ("pve1", "a")
        eventually(lambda: resources(api)["qemu/100"]["status"] == "running")
        assert resources(api)["qemu/100"]["name"] == "web"


def test_with_stale_statistics_lock_and_tags_are_immediate_and_status_is_late(tmp_path: Path) -> None:
    with PveSim(staleness=1.5) as sim, Api(sim, tmp_path) as api:
        sim.add_vm(100, running=True)
        eventually(lambda: resources(api)["qemu/100"]["status"] == "running")
        sim.power_loss(100)
        sim.set_lock(100, "backup")
        item = resources(api)["qemu/100"]
        assert (item["status"], item["lock"]) == ("running", "backup")
        assert api.get("/nodes/pve1/qemu/100/status/current")["status"] == "stopped"
        eventually(lambda: resources(api)["qemu/100"]["status"] == "stopped")


def test_statistics_of_a_dead_node_are_dropped_after_thirty_of_its_loops(tmp_path: Path) -> None:
    with PveSim(staleness=0.05) as sim, Api(sim, tmp_path) as api:
        sim.add_vm(100, node="pve2", running=True)
        eventually(lambda: resources(api)["qemu/100"]["status"] == "running")
        sim.node_down("pve2")
        assert resources(api)["qemu/100"]["status"] == "running"
        started = time.monotonic()
        eventually(lambda: resources(api)["qemu/100"]["status"] == "unknown")
        assert time.monotonic() - started > 0.7


def test_nodes_have_capacity_that_can_be_set(sim: PveSim, api: Api) -> None:
    sim.set_capacity("pve2", cpus=4, memory_gib=8)
    sim.add_vm(100, node="pve2", running=True, memory="2048")
    item = resources(api, "node")["node/pve2"]
    assert (item["maxcpu"], item["maxmem"], item["status"]) == (4, 8 * 1024**3, "online")
    assert item["mem"] == 6 * 1024**3
    status = api.get("/nodes/pve2/status")
    assert status["memory"]["total"] == 8 * 1024**3
    assert status["cpuinfo"]["cpus"] == 4


def test_a_storage_appears_once_per_node_with_its_space(sim: PveSim, api: Api) -> None:
    sim.add_storage("ceph", "rbd", size_gib=10, nodes=["pve1", "pve2"])
    items = resources(api, "storage")
    assert {key for key in items if key.endswith("/ceph")} == {"storage/pve1/ceph", "storage/pve2/ceph"}
    item = items["storage/pve1/ceph"]
    assert (item["shared"], item["plugintype"], item["maxdisk"]) == (1, "rbd", 10 * 1024**3)


def test_an_offline_node_is_listed_and_its_calls_answer_595(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, node="pve2", running=True)
    sim.node_down("pve2")
    assert resources(api, "node")["node/pve2"]["status"] == "offline"
    assert resources(api)["qemu/100"]["status"] == "unknown"
    [cluster, *nodes] = api.get("/cluster/status")
    assert cluster["quorate"] == 1
    assert {node["name"]: node["online"] for node in nodes} == {"pve1": 1, "pve2": 0, "pve3": 1}
    with pytest.raises(ApiError) as offline:
        api.config(100, "pve2")
    assert (offline.value.status, offline.value.reason) == (595, "No route to host")


def test_an_unknown_node_fails_to_resolve(api: Api) -> None:
    with pytest.raises(ApiError) as unknown:
        api.get("/nodes/pve9/qemu/100/config")
    assert unknown.value.status == 500
    assert unknown.value.reason.startswith("hostname lookup 'pve9' failed - failed to get address info")


def test_cluster_status_names_the_node_that_answers(sim: PveSim, tmp_path: Path) -> None:
    with Api(sim, tmp_path, node="pve2") as second:
        nodes = second.get("/cluster/status")[1:]
        assert [node["name"] for node in nodes if node["local"]] == ["pve2"]


def test_without_quorum_reads_work_and_writes_are_refused(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.lose_quorum()
    assert api.get("/cluster/status")[0]["quorate"] == 0
    assert api.config(100)
    for call in (
        lambda: api.set(100, cores=2),
        lambda: api.post("/nodes/pve1/qemu/100/status/start"),
        lambda: api.post("/nodes/pve1/qemu", vmid=101),
        lambda: api.delete("/nodes/pve1/qemu/100"),
    ):
        with pytest.raises(ApiError) as refused:
            call()
        assert (refused.value.status, refused.value.reason) == (500, "cluster not ready - no quorum?")
    sim.regain_quorum()
    api.set(100, cores=2)


def test_certificates_show_the_cluster_ca_to_any_token(sim: PveSim, tmp_path: Path) -> None:
    sim.add_token("operator@pve!nothing", "no-secret")
    with Api(sim, tmp_path, token="operator@pve!nothing", secret="no-secret") as blind:
        ca, leaf = blind.get("/nodes/pve1/certificates/info")
        assert ca["filename"] == "pve-root-ca.pem"
        assert (ca["fingerprint"], ca["pem"]) == (sim.fingerprint, sim.ca_pem)
        assert leaf["filename"] == "pve-ssl.pem"
        assert "127.0.0.1" in leaf["san"]
        with pytest.raises(ApiError, match=r"403 Permission check failed \(/, Sys.Audit\)"):
            blind.get("/cluster/config/join")


def test_bridges_are_listed_for_whoever_may_use_them(sim: PveSim, api: Api) -> None:
    listed = api.get("/nodes/pve1/network", type="any_bridge")
    assert [item["iface"] for item in listed] == ["vmbr0", "vmbr1"]
    sim.revoke(sim.token_id, "/sdn/zones/localnetwork/vmbr1", ["SDN.Use", "SDN.Audit"])
    assert [item["iface"] for item in api.get("/nodes/pve1/network", type="any_bridge")] == ["vmbr0"]


def test_a_thousand_vms_are_listed_quickly(sim: PveSim, api: Api) -> None:
    for vmid in range(1000, 2000):
        sim.add_vm(vmid, node=f"pve{vmid % 3 + 1}", storage=None, running=vmid % 2 == 0)
    api.get("/cluster/resources", type="vm")
    started = time.process_time()
    assert len(api.get("/cluster/resources", type="vm")) == 1000
    # Client and server together in this process; the budget is generous against a busy machine.
    assert time.process_time() - started < 0.25


@pytest.mark.parametrize(("pve", "version"), [(8, "8.4.21"), (9, "9.2.11")])
def test_the_version_is_that_of_the_chosen_release(tmp_path: Path, pve: int, version: str) -> None:
    with PveSim(nodes=1, pve=pve) as sim, Api(sim, tmp_path) as api:
        assert api.get("/version")["version"] == version


def test_ha_rules_are_not_implemented_before_version_9(tmp_path: Path, api: Api) -> None:
    with PveSim(nodes=1, pve=8) as old, Api(old, tmp_path) as old_api:
        with pytest.raises(ApiError) as missing:
            old_api.get("/cluster/ha/rules")
        assert missing.value.status == 501
        assert missing.value.reason == "Method 'GET /cluster/ha/rules' not implemented"
    api.get("/cluster/ha/rules")
