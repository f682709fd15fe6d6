"""HA: resources and rules, the manager's lag, failed starts, fencing and recovery, maintenance."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError, eventually

RESOURCES = "/cluster/ha/resources"
RULES = "/cluster/ha/rules"
ONE = "/nodes/pve1/qemu/100"


@pytest.fixture
def sim() -> Iterator[PveSim]:
    """A Proxmox second is 10 ms: the manager looks every 0.1 s and a dead node's services move after 1.2 s."""
    with PveSim(nodes=3, time_scale=0.01) as running:
        running.add_storage("ceph", "rbd")
        yield running


def service(api: Api, vmid: int = 100) -> dict[str, Any]:
    """What status/current says of a service."""
    listed = {item["id"]: item for item in api.get("/cluster/ha/status/current")}
    found: dict[str, Any] = listed.get(f"service:vm:{vmid}", {})
    return found


def state(api: Api, vmid: int = 100) -> str | None:
    """The manager's state of a service."""
    found: str | None = service(api, vmid).get("crm_state")
    return found


def manage(api: Api, vmid: int = 100, **options: Any) -> None:
    """Put a VM under HA and wait until the manager has taken notice."""
    api.post(RESOURCES, sid=f"vm:{vmid}", **options)
    eventually(lambda: state(api, vmid) in ("started", "stopped"))


# ---------------------------------------------------------------------- resources


def test_a_resource_is_queued_until_the_manager_looks(sim: PveSim, api: Api) -> None:
    sim.server.time_scale = 1.0
    sim.add_vm(100, storage="ceph")
    api.post(RESOURCES, sid="vm:100", state="stopped", max_restart=3, comment="ours")
    found = service(api)
    assert (found["state"], found["request_state"], found["max_restart"]) == ("queued", "stopped", 3)
    assert "crm_state" not in found
    assert api.get("/cluster/resources", type="vm")[0]["hastate"] == "stopped"
    assert api.get(f"{ONE}/status/current")["ha"] == {"managed": 1, "state": None}


def test_the_managers_state_is_the_hastate_of_the_inventory(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph")
    manage(api, state="stopped")
    eventually(lambda: api.get("/cluster/resources", type="vm")[0].get("hastate") == "stopped")
    assert api.get("/cluster/resources", type="node")[0]["hastate"] == "online"
    assert api.get("/cluster/ha/status/manager_status")["manager_status"]["node_status"]["pve1"] == "online"


def test_reading_needs_audit_and_writing_needs_the_console_on_the_root(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.revoke(sim.token_id, "/", ["Sys.Console"])
    calls: list[Callable[[], Any]] = [
        lambda: api.post(RESOURCES, sid="vm:100"),
        lambda: api.delete(f"{RESOURCES}/vm:100"),
        lambda: api.post(RULES, rule="a", type="node-affinity", resources="vm:100", nodes="pve1"),
    ]
    for call in calls:
        with pytest.raises(ApiError, match=r"403 .*\(/, Sys\.Console\)"):
            call()
    assert api.get(RESOURCES) == []
    sim.revoke(sim.token_id, "/", ["Sys.Audit"])
    with pytest.raises(ApiError, match=r"403 .*\(/, Sys\.Audit\)"):
        api.get(RESOURCES)


def test_a_resource_is_changed_under_its_digest(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    api.post(RESOURCES, sid="vm:100", state="stopped", comment="old")
    digest = api.get(f"{RESOURCES}/vm:100")["digest"]
    api.put(f"{RESOURCES}/vm:100", max_relocate=2, delete="comment", digest=digest)
    found = api.get(f"{RESOURCES}/vm:100")
    assert (found["max_relocate"], found.get("comment")) == (2, None)
    with pytest.raises(ApiError, match="500 detected modified configuration"):
        api.put(f"{RESOURCES}/vm:100", max_relocate=3, digest=digest)


def test_a_resource_reads_back_with_what_was_given_and_no_defaults(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    api.post(RESOURCES, sid="100")
    found = api.get(f"{RESOURCES}/vm:100")
    assert set(found) == {"sid", "type", "digest"}
    assert (service(api)["request_state"], service(api)["max_restart"]) == ("started", 1)


def test_a_vm_that_does_not_exist_or_is_managed_cannot_be_added(sim: PveSim, api: Api) -> None:
    with pytest.raises(ApiError, match="500 resource 'vm:100' does not exist in cluster"):
        api.post(RESOURCES, sid="vm:100")
    sim.add_vm(100)
    api.post(RESOURCES, sid="vm:100")
    with pytest.raises(ApiError, match="500 resource ID 'vm:100' already defined"):
        api.post(RESOURCES, sid="vm:100")


def test_leaving_ha_leaves_the_vm_as_it_is(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph", running=True)
    manage(api)
    api.delete(f"{RESOURCES}/vm:100")
    eventually(lambda: service(api) == {})
    assert sim.vm(100).status == "running"
    assert api.get(f"{ONE}/status/current")["ha"] == {"managed": 0}


def test_a_node_starts_no_vm_whose_resource_is_gone_though_the_manager_has_yet_to_see_it(
    sim: PveSim, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LRM::run_workers: "missing resource configuration for 'vm:100'"."""
    sim.add_vm(100, storage="ceph", running=True)
    manage(api)
    monkeypatch.setattr(sim.server, "crm_round", lambda: None)
    api.delete(f"{RESOURCES}/vm:100")
    sim.power_loss(100)
    order = sim.server.ha_services["vm:100"]
    order.renew()
    sim.server.lrm_round()
    assert not order.given
    assert sim.vm(100).status == "stopped"


def test_an_ignored_resource_is_not_managed(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph")
    api.post(RESOURCES, sid="vm:100", state="ignored")
    assert ":qmstart:" in api.post(f"{ONE}/status/start")
    assert service(api)["state"] == "ignored"


def test_groups_are_of_version_8_and_rules_of_version_9(sim: PveSim, api: Api, tmp_path: Path) -> None:
    sim.add_vm(100)
    with pytest.raises(
        ApiError, match="500 invalid parameter 'group': ha groups have been migrated to rules"
    ):
        api.post(RESOURCES, sid="vm:100", group="any")
    with PveSim(nodes=3, pve=8, cluster="eight") as old, Api(old, tmp_path) as eight:
        old.add_vm(100)
        with pytest.raises(ApiError, match=r"501 .*/cluster/ha/rules' not implemented"):
            eight.get(RULES)
        with pytest.raises(ApiError, match="500 HA group 'any' does not exist"):
            eight.post(RESOURCES, sid="vm:100", group="any")
        old.add_ha_group("any", "pve1:2,pve2", restricted=True)
        eight.post(RESOURCES, sid="vm:100", group="any", state="stopped")
        assert eight.get(f"{RESOURCES}/vm:100")["group"] == "any"
        assert [group["group"] for group in eight.get("/cluster/ha/groups")] == ["any"]
        with pytest.raises(ApiError, match="400"):
            eight.put(f"{RESOURCES}/vm:100", failback=1)


def test_a_destroy_needs_purge_and_takes_resource_and_rules_along(sim: PveSim, api: Api) -> None:
    for vmid in (100, 101):
        sim.add_vm(vmid)
        api.post(RESOURCES, sid=f"vm:{vmid}", state="stopped")
    api.post(RULES, rule="alone", type="node-affinity", resources="vm:100", nodes="pve1")
    api.post(RULES, rule="both", type="resource-affinity", resources="vm:100,vm:101", affinity="negative")
    with pytest.raises(ApiError, match=r"500 unable to remove VM 100 - used in HA resources"):
        api.delete(ONE)
    upid = api.delete(ONE, purge=1)
    assert api.ended(upid) == "OK"
    assert "NOTE: removed VM 100 from HA resource configuration." in api.log(upid)
    assert [entry["sid"] for entry in api.get(RESOURCES)] == ["vm:101"]
    [rule] = api.get(RULES)
    assert (rule["rule"], rule["resources"]) == ("both", "vm:101")
    assert rule["errors"] == {"resources": ["rule is ineffective as there are less than two resources"]}


# -------------------------------------------------------------------------- rules


def test_a_rule_reads_back_with_priorities_order_and_defaults(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    api.post(RESOURCES, sid="vm:100", state="stopped")
    api.post(RULES, rule="home", type="node-affinity", resources="vm:100", nodes="pve2,pve1:2", strict=1)
    rule = api.get(f"{RULES}/home")
    assert (rule["nodes"], rule["strict"], rule["resources"], rule["order"]) == (
        "pve1:2,pve2",
        1,
        "vm:100",
        1,
    )
    api.put(f"{RULES}/home", type="node-affinity", strict=0, digest=rule["digest"])
    assert api.get(f"{RULES}/home")["strict"] == 0
    with pytest.raises(ApiError, match="500 detected modified configuration"):
        api.put(f"{RULES}/home", type="node-affinity", strict=1, digest=rule["digest"])
    assert [entry["rule"] for entry in api.get(RULES, resource="vm:100")] == ["home"]
    api.delete(f"{RULES}/home")
    assert api.get(RULES) == []


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"type": "node-affinity", "resources": "vm:109", "nodes": "pve1"},
         r"500 cannot use unmanaged resource\(s\) vm:109\."),
        ({"type": "node-affinity", "resources": "vm:100", "nodes": "pve9"},
         r"500 cannot use non-existent node\(s\) pve9\."),
        ({"type": "node-affinity", "resources": "vm:101", "nodes": "pve2"},
         r"400 .*resource 'vm:101' is already used in another node affinity rule"),
        ({"type": "resource-affinity", "resources": "vm:100", "affinity": "positive"},
         r"400 .*rule is ineffective as there are less than two resources"),
        ({"type": "resource-affinity", "resources": "vm:100,vm:101,vm:102,vm:103", "affinity": "negative"},
         r"400 .*rule defines more resources than available nodes"),
        ({"type": "resource-affinity", "resources": "vm:102,vm:103", "affinity": "negative"},
         r"400 .*rule shares two or more resources with a positive resource affinity rule"),
    ],
    ids=["unmanaged", "no such node", "two node rules", "one resource", "too many", "a contradiction"],
)  # fmt: skip
def test_this_rule_is_refused(sim: PveSim, api: Api, rule: dict[str, Any], text: str) -> None:
    for vmid in range(100, 104):
        sim.add_vm(vmid)
        api.post(RESOURCES, sid=f"vm:{vmid}", state="stopped")
    api.post(RULES, rule="one", type="node-affinity", resources="vm:101", nodes="pve1")
    api.post(RULES, rule="two", type="resource-affinity", resources="vm:102,vm:103", affinity="positive")
    with pytest.raises(ApiError, match=text):
        api.post(RULES, rule="new", **rule)


@pytest.mark.parametrize(
    ("rule", "field", "text"),
    [
        ({"nodes": "pve1"}, "type", "property is missing and it is not optional"),
        ({"type": "colour"}, "type", "does not have a value in the enumeration"),
        ({"type": "node-affinity"}, "nodes", "property is missing and it is not optional"),
        ({"type": "resource-affinity"}, "affinity", "property is missing and it is not optional"),
        (
            {"type": "resource-affinity", "affinity": "negative", "nodes": "pve1"},
            "nodes",
            "not defined in schema",
        ),
        (
            {"type": "node-affinity", "nodes": "pve1", "strict": "yes"},
            "strict",
            "type check ('boolean') failed",
        ),
    ],
    ids=["no type", "no such type", "no nodes", "no affinity", "another type's property", "no boolean"],
)
def test_the_properties_of_a_rule_depend_on_its_type(
    sim: PveSim, api: Api, rule: dict[str, Any], field: str, text: str
) -> None:
    sim.add_vm(100)
    api.post(RESOURCES, sid="vm:100", state="stopped")
    with pytest.raises(ApiError) as refused:
        api.post(RULES, rule="new", resources="vm:100", **rule)
    assert refused.value.status == 400
    assert text in refused.value.errors[field]


def test_an_update_of_a_rule_names_its_type_too(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    api.post(RESOURCES, sid="vm:100", state="stopped")
    api.post(RULES, rule="home", type="node-affinity", resources="vm:100", nodes="pve1")
    with pytest.raises(ApiError) as refused:
        api.put(f"{RULES}/home", strict=1)
    assert refused.value.errors == {"type": "property is missing and it is not optional"}


# -------------------------------------------------------------------------- power


def test_a_start_of_a_managed_vm_is_a_wish_that_the_node_fulfils_later(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph")
    manage(api, state="stopped")
    upid = api.post(f"{ONE}/status/start")
    assert ":hastart:100:" in upid
    assert api.ended(upid) == "OK"
    assert sim.vm(100).status == "stopped"
    assert api.get(f"{RESOURCES}/vm:100")["state"] == "started"
    eventually(lambda: sim.vm(100).status == "running")
    [start] = sim.tasks("qmstart")
    assert start.user == "root@pam"


def test_a_reboot_of_a_managed_vm_ends_with_its_nodes_start(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph", running=True)
    manage(api)
    sim.edit_config(100, cores=4)
    assert api.ended(api.post(f"{ONE}/status/reboot")) == "OK"
    eventually(lambda: sim.vm(100).status == "running")
    assert api.pending(100) == {}
    eventually(lambda: {task.type for task in sim.tasks()} == {"qmreboot", "hastart", "qmstart"})


@pytest.mark.parametrize("verb", ["stop", "shutdown"])
def test_a_stop_of_a_managed_vm_is_a_request_that_becomes_the_wished_state(
    sim: PveSim, api: Api, verb: str
) -> None:
    sim.add_vm(100, storage="ceph", running=True)
    manage(api)
    upid = api.post(f"{ONE}/status/{verb}")
    assert ":hastop:100:" in upid
    assert api.ended(upid) == "OK"
    eventually(lambda: sim.vm(100).status == "stopped")
    eventually(lambda: state(api) == "stopped")
    assert api.get(f"{RESOURCES}/vm:100")["state"] == "stopped"
    assert len(sim.tasks("qmstop" if verb == "stop" else "qmshutdown")) == 1


def test_overrule_shutdown_is_not_for_managed_vms(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph", running=True)
    manage(api)
    with pytest.raises(ApiError, match="Not applicable for HA resources"):
        api.post(f"{ONE}/status/stop", **{"overrule-shutdown": 1})


def test_a_managed_vm_that_dies_is_started_again(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph", running=True)
    manage(api)
    sim.power_loss(100)
    eventually(lambda: sim.vm(100).status == "running")


def test_a_wished_state_is_reached_through_the_resource_too(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph", running=True)
    manage(api)
    api.put(f"{RESOURCES}/vm:100", state="disabled")
    eventually(lambda: sim.vm(100).status == "stopped")
    api.put(f"{RESOURCES}/vm:100", state="started")
    eventually(lambda: sim.vm(100).status == "running")


def test_a_start_that_fails_everywhere_is_retried_relocated_and_ends_in_error(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph")
    sim.server.start_errors[100] = "start failed: QEMU exited with code 1"
    manage(api, state="stopped", max_restart=1, max_relocate=1)
    api.put(f"{RESOURCES}/vm:100", state="started")
    eventually(lambda: state(api) == "error")
    starts = [task.node for task in sim.tasks("qmstart")]
    assert starts == ["pve1", "pve1", "pve2", "pve2"]
    assert service(api)["state"] == "error"


def test_error_is_left_by_disabled_only(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph")
    sim.server.start_errors[100] = "start failed: QEMU exited with code 1"
    manage(api, state="stopped", max_restart=0, max_relocate=0)
    api.put(f"{RESOURCES}/vm:100", state="started")
    eventually(lambda: state(api) == "error")
    text = "500 service 'vm:100' in error state, must be disabled and fixed first"
    with pytest.raises(ApiError, match=text):
        api.put(f"{RESOURCES}/vm:100", state="stopped")
    assert api.ended(api.post(f"{ONE}/status/start")) == (
        "command 'ha-manager set vm:100 --state started' failed: exit code 255"
    )
    del sim.server.start_errors[100]
    api.put(f"{RESOURCES}/vm:100", state="disabled")
    eventually(lambda: state(api) == "stopped")
    api.put(f"{RESOURCES}/vm:100", state="started")
    eventually(lambda: sim.vm(100).status == "running")


# ------------------------------------------------------------------------- moving


def test_a_migration_of_a_managed_vm_is_only_queued_and_happens_later(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    manage(api)
    eventually(lambda: service(api)["state"] == "started")
    upid = api.post(f"{ONE}/migrate", target="pve3", online=1)
    assert ":hamigrate:100:" in upid
    assert api.ended(upid) == "OK"
    assert sim.vm(100).node == "pve1"
    eventually(lambda: sim.vm(100).node == "pve3")
    eventually(lambda: state(api) == "started")
    assert sim.vm(100).status == "running"
    [migration] = sim.tasks("qmigrate")
    assert migration.user == "root@pam"


def test_a_stopped_service_moves_when_asked_to_and_stays_stopped(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    manage(api, state="stopped")
    api.post(f"{RESOURCES}/vm:100/migrate", node="pve3")
    eventually(lambda: sim.vm(100).node == "pve3" and state(api) == "stopped")
    assert sim.vm(100).status == "stopped"


def test_a_relocation_stops_moves_and_starts(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    manage(api)
    api.post(f"{RESOURCES}/vm:100/relocate", node="pve3")
    eventually(lambda: sim.vm(100).node == "pve3" and sim.vm(100).status == "running")
    assert [task.type for task in sim.tasks()] == ["qmshutdown", "qmigrate", "qmstart"]


def test_a_failed_ha_migration_leaves_the_service_where_it_runs(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    manage(api)
    sim.server.migrate_errors[100] = "mirror-scsi0: 'mirror' has been cancelled"
    api.ended(api.post(f"{ONE}/migrate", target="pve3", online=1))
    eventually(lambda: [task.exitstatus for task in sim.tasks("qmigrate")] == ["migration problems"])
    eventually(lambda: state(api) == "started")
    assert (sim.vm(100).node, sim.vm(100).status) == ("pve1", "running")


def test_a_node_rule_moves_a_service_to_its_best_node_and_failback_0_does_not(sim: PveSim, api: Api) -> None:
    for vmid, failback in ((100, 1), (101, 0)):
        sim.add_vm(vmid, storage="ceph", running=True)
        manage(api, vmid, failback=failback)
        api.post(RULES, rule=f"r{vmid}", type="node-affinity", resources=f"vm:{vmid}", nodes="pve2:2,pve1")
    eventually(lambda: sim.vm(100).node == "pve2")
    assert sim.vm(101).node == "pve1"


def test_services_in_positive_affinity_move_together_and_negative_ones_block(sim: PveSim, api: Api) -> None:
    for vmid, node in ((100, "pve1"), (101, "pve1"), (102, "pve2")):
        sim.add_vm(vmid, storage="ceph", running=True, node=node)
        manage(api, vmid)
    api.post(RULES, rule="with", type="resource-affinity", resources="vm:100,vm:101", affinity="positive")
    api.post(RULES, rule="not", type="resource-affinity", resources="vm:100,vm:102", affinity="negative")
    found = api.get(f"{ONE}/migrate")
    assert found["allowed_nodes"] == ["pve3"]
    assert found["dependent-ha-resources"] == ["vm:101"]
    assert found["not_allowed_nodes"] == {
        "pve2": {"blocking-ha-resources": [{"sid": "vm:102", "cause": "resource-affinity"}]}
    }
    answer = api.post(f"{RESOURCES}/vm:100/migrate", node="pve3")
    assert answer == {"sid": "vm:100", "requested-node": "pve3", "comigrated-resources": ["vm:101"]}
    eventually(lambda: (sim.vm(100).node, sim.vm(101).node) == ("pve3", "pve3"))
    eventually(lambda: state(api) == "started")
    answer = api.post(f"{RESOURCES}/vm:100/migrate", node="pve2")
    assert answer["blocking-resources"] == [{"sid": "vm:102", "cause": "resource-affinity"}]


# ----------------------------------------------------------------- fencing, nodes


def test_the_services_of_a_dead_node_are_recovered_after_it_is_fenced(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph", node="pve3", running=True, lock="backup")
    sim.set_ha(100, "started")
    eventually(lambda: service(api).get("state") == "started")
    sim.node_down("pve3")
    eventually(lambda: state(api) == "fence")
    assert sim.vm(100).node == "pve3"
    eventually(lambda: sim.vm(100).node != "pve3")
    eventually(lambda: sim.vm(100).status == "running")
    assert sim.vm(100).lock is None


def test_a_strict_rule_keeps_a_service_in_recovery_until_a_node_of_it_is_back(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph", node="pve3", running=True)
    sim.set_ha(100, "started")
    api.post(RULES, rule="home", type="node-affinity", resources="vm:100", nodes="pve3", strict=1)
    eventually(lambda: service(api).get("state") == "started")
    sim.node_down("pve3")
    eventually(lambda: state(api) == "recovery")
    assert sim.vm(100).node == "pve3"
    sim.node_up("pve3")
    eventually(lambda: sim.vm(100).status == "running")
    assert sim.vm(100).node == "pve3"


def test_a_recovered_vm_whose_disk_stayed_behind_fails_to_start(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, node="pve3", running=True)
    sim.set_ha(100, "started", max_restart=0, max_relocate=0)
    eventually(lambda: service(api).get("state") == "started")
    sim.node_down("pve3")
    eventually(lambda: state(api) == "error")
    assert "no such volume" in str(sim.tasks("qmstart")[-1].exitstatus)


def test_a_node_that_is_back_before_it_is_fenced_starts_its_services_itself(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph", node="pve3", running=True)
    sim.set_ha(100, "started")
    eventually(lambda: service(api).get("state") == "started")
    sim.server.time_scale = 0.05
    sim.node_down("pve3")
    sim.node_up("pve3")
    eventually(lambda: sim.vm(100).status == "running")
    assert sim.vm(100).node == "pve3"
    assert {task.type for task in sim.tasks() if task.node == "pve3"} == {"startall", "qmstart"}


def test_maintenance_moves_services_away_and_back_and_shows_at_the_node(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph", running=True)
    manage(api)
    sim.maintenance("pve1")
    eventually(lambda: sim.vm(100).node != "pve1")
    nodes = {item["node"]: item for item in api.get("/cluster/resources", type="node")}
    assert (nodes["pve1"]["status"], nodes["pve1"]["hastate"]) == ("online", "maintenance")
    [lrm] = [item for item in api.get("/cluster/ha/status/current") if item["id"] == "lrm:pve1"]
    assert "maintenance mode" in lrm["status"]
    eventually(lambda: state(api) == "started")
    sim.maintenance("pve1", on=False)
    eventually(lambda: sim.vm(100).node == "pve1")


def test_a_clean_shutdown_of_a_node_stops_services_and_ha_takes_them_elsewhere(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph", node="pve3", running=True)
    sim.set_ha(100, "started")
    eventually(lambda: service(api).get("state") == "started")
    sim.shutdown_node("pve3")
    assert [task.type for task in sim.tasks()][:2] == ["qmshutdown", "stopall"]
    eventually(lambda: sim.vm(100).node != "pve3" and sim.vm(100).status == "running")


def test_without_quorum_the_manager_does_nothing(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, storage="ceph", running=True)
    manage(api)
    sim.lose_quorum()
    eventually(lambda: not sim.server.quorate)
    before = sim.server.ha_services["vm:100"].uid
    sim.server.crm_round()
    assert sim.server.ha_services["vm:100"].uid == before
    [quorum] = [item for item in api.get("/cluster/ha/status/current") if item["type"] == "quorum"]
    assert quorum["quorate"] == 0
