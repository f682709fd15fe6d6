"""Endpoints and nodes that are down, hang or lose quorum: nothing is done on what is unknown, and it recovers.

The queue's own backoff is as long as in production, so what recovers here was woken, not merely retried.
"""

from collections.abc import Iterator
from functools import partial

import pytest

from controlplane import Cluster
from harness.clusters import TIMEOUT, Estate, Site
from proxmox_operator.engine.queue import WorkQueue
from pvesim.sim import TOKEN_ID, USER


@pytest.fixture(scope="module")
def shared_estate(control_plane: Cluster) -> Iterator[Estate]:
    patient = {"proxmox_operator.controllers.manager.WorkQueue": partial(WorkQueue, base=5.0)}
    with Estate(control_plane, short=patient, operator={"slow_retry": 30.0}) as estate:
        yield estate


@pytest.fixture
def estate(shared_estate: Estate) -> Iterator[Estate]:
    with shared_estate.fresh():
        yield shared_estate


def ready_is_unknown(site: Site, name: str) -> str:
    site.world.wait_until(lambda: site.world.condition(name).status == "Unknown", "Ready is Unknown", name)
    return site.world.condition(name).message


def test_with_all_endpoints_down_vms_are_unknown_and_nothing_is_done(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    before = site.sim.world()
    for endpoint in site.sim.endpoints.values():
        endpoint.down()
    site.forget_calls()
    message = ready_is_unknown(site, name)
    assert "no endpoint of the Proxmox cluster can be used" in message
    assert all(f"{url}: Connection refused" in message for url in site.sim.urls)
    found = site.wait("Unreachable")
    assert (found.status, site.condition("Reachable").status) == ("Unknown", "False")
    assert site.condition("Authorized").status == "Unknown"
    waiting = site.make()
    site.world.wait_reason(waiting, "ClusterNotReady")
    site.world.delete(name)
    site.world.passes(name)
    assert site.calls() == []
    assert before.diff(site.sim.world()) == []
    assert site.world.raw(name) is not None, "absence was not proven, so the object stays"
    for endpoint in site.sim.endpoints.values():
        endpoint.up()
    site.wait("Ready")
    site.world.wait_gone(name)
    made = site.world.wait_ready(waiting)
    assert set(site.sim.world().vmids) == {9000, made}
    assert made != vmid


def test_one_of_three_endpoints_down_is_named_and_not_noticed_otherwise(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    down = site.sim.endpoints["pve1"]
    down.down()
    site.forget_calls()
    site.sim.stop(vmid)
    site.until(lambda: site.sim.vm(vmid).status == "running", "the VM was started through another endpoint")
    found = site.wait("SomeEndpointsUnusable", kind="Reachable")
    assert found.status == "True"
    assert found.message == f"1 of 3 endpoints cannot be used: {down.url}: Connection refused"
    assert site.condition().status == "True"
    site.world.wait_ready(name)
    assert {call.endpoint for call in site.writes()} <= {"pve2", "pve3"}
    down.up()
    assert site.wait("Reachable", kind="Reachable").message == "all endpoints can be used"


def test_a_hung_endpoint_delays_one_call_and_no_more(estate: Estate) -> None:
    site = estate.site()
    site.sim.endpoints["pve1"].hang()
    _, vmid = site.ready()
    assert site.sim.vm(vmid).status == "running"
    found = site.wait("SomeEndpointsUnusable", kind="Reachable")
    assert f"{site.sim.endpoints['pve1'].url}: no answer within {TIMEOUT[1]:g} s" in found.message
    assert site.condition().status == "True"
    site.sim.endpoints["pve1"].resume()
    site.wait("Reachable", kind="Reachable", status="True")
    assert set(site.sim.world().vmids) == {9000, vmid}


def test_an_outage_that_is_over_before_it_counts_is_not_shown(estate: Estate) -> None:
    site = estate.site()
    name, _ = site.ready()
    since = site.raw()["status"]["conditions"]
    site.sim.fail("GET", "/cluster/resources", 500, "temporary failure", times=1)
    site.until(lambda: any(call.status == 500 for call in site.sim.recorder), "one poll failed")
    site.world.passes(name)
    assert site.world.condition(name).status == "True"
    assert [(c["type"], c["status"]) for c in site.raw()["status"]["conditions"]] == [
        (c["type"], c["status"]) for c in since
    ]


def test_a_cluster_without_quorum_is_not_written_to(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    site.sim.lose_quorum()
    found = site.wait("NotQuorate")
    assert found.message == (
        "the Proxmox cluster has no quorum, so nothing is written: bring nodes back (`pvecm status`)"
    )
    assert site.shows("Quorate")[:2] == ("False", "NotQuorate")
    assert site.condition("Reachable").status == "True"
    assert site.condition("Authorized").status == "True"
    assert "no quorum" in site.world.wait_reason(name, "ClusterNotReady").message
    site.forget_calls()
    site.sim.power_loss(vmid)
    before = site.sim.world()
    waiting = site.make()
    site.world.delete(name)
    site.world.passes(waiting)
    assert site.writes() == []
    assert before.diff(site.sim.world()) == []
    site.sim.regain_quorum()
    site.wait("Ready")
    site.world.wait_gone(name)
    site.world.wait_ready(waiting)


def test_the_frozen_list_of_a_cut_off_node_is_not_believed(estate: Estate) -> None:
    site = estate.site()
    name, _ = site.ready()
    for endpoint in site.sim.endpoints.values():
        endpoint.cut_off()
    site.wait("NotQuorate")
    before = site.sim.world()
    site.forget_calls()
    site.world.delete(name)
    site.world.passes(name)
    assert site.writes() == []
    assert before.diff(site.sim.world()) == []
    assert site.world.raw(name) is not None
    for endpoint in site.sim.endpoints.values():
        endpoint.rejoin()
    site.world.wait_gone(name)
    assert set(site.sim.world().vmids) == {9000}


def test_one_node_that_is_cut_off_is_not_listened_to(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    site.sim.endpoints["pve1"].cut_off()
    site.sim.power_loss(vmid)
    site.until(lambda: site.sim.vm(vmid).status == "running", "the truth came from another endpoint")
    site.world.wait_ready(name)
    site.forget_calls()
    assert site.condition().status == "True"
    assert all(call.endpoint != "pve1" for call in site.writes())


def test_many_vms_that_vanish_at_once_freeze_writes_until_it_is_explained(estate: Estate) -> None:
    site = estate.site()
    for vmid in range(200, 208):
        site.sim.add_vm(vmid)
    name, _ = site.ready()
    site.until(lambda: 207 in inventory(site), "the inventory shows the others")
    site.sim.call(lambda: site.sim.server.set_acl(TOKEN_ID, "/vms", set()))
    site.until(lambda: not inventory(site), "the inventory shows none of them")
    site.forget_calls()
    before = site.sim.world()
    site.world.delete(name)
    waiting = site.make()
    site.world.passes(name)
    assert site.writes() == []
    assert before.diff(site.sim.world()) == []
    assert site.world.raw(name) is not None
    found = site.wait("WritesFrozen")
    assert (found.status, "vanished at once from what the credentials may see" in found.message) == (
        "False",
        True,
    )
    site.sim.call(lambda: site.sim.server.set_acl(TOKEN_ID, "/vms", site.sim.server.privileges))
    site.wait("Ready")
    site.world.wait_gone(name)
    site.world.wait_ready(waiting)
    assert set(range(200, 208)) <= set(site.sim.world().vmids)


def test_a_new_secret_that_sees_nothing_freezes_writes_as_well(estate: Estate) -> None:
    """Otherwise every VM that the new token does not see would be thought of as gone."""
    site = estate.site()
    for vmid in range(200, 208):
        site.sim.add_vm(vmid)
    name, vmid = site.ready()
    site.until(lambda: 207 in inventory(site), "the inventory shows the others")
    blind, secret = f"{USER}!blind", "blind-token-c0ffee"
    site.sim.add_token(blind, secret)
    site.sim.grant(blind, "/", sorted({*site.sim.server.privileges} - {"VM.Audit"}))
    site.forget_calls()
    before = site.sim.world()
    site.set_secret(tokenID=blind, tokenSecret=secret)
    site.wait("WritesFrozen")
    site.world.delete(name)
    site.world.passes(name)
    assert site.writes() == []
    assert before.diff(site.sim.world()) == []
    site.good_secret()
    site.wait("Ready")
    site.world.wait_gone(name)
    assert vmid not in site.sim.world().vmids


def inventory(site: Site) -> set[int]:
    member = site.world.operator.manager.fleet.get(site.name)
    return set(member.session.inventory.current.guests)


def test_nodes_are_listed_with_their_capacity_and_followed(estate: Estate) -> None:
    site = estate.unapplied()
    site.sim.set_capacity("pve2", cpus=48, memory_gib=256)
    site.good_secret()
    site.apply()
    site.wait("Ready")
    status = site.status()
    assert status["nodeCount"] == 3
    nodes = {node["name"]: node for node in status["nodes"]}
    assert nodes["pve2"] == {"name": "pve2", "online": True, "cpus": 48, "memory": "262144Mi"}
    site.sim.node_down("pve2")
    site.until(lambda: not online(site)["pve2"], "pve2 is shown as offline")
    assert online(site) == {"pve1": True, "pve2": False, "pve3": True}
    assert site.condition().status == "True"
    site.sim.node_up("pve2")
    site.until(lambda: online(site)["pve2"], "pve2 is shown as online")


def online(site: Site) -> dict[str, bool]:
    return {node["name"]: node["online"] for node in site.status()["nodes"]}


def test_a_vm_on_a_node_that_is_down_is_unknown_and_the_others_go_on(estate: Estate) -> None:
    site = estate.site()
    site.sim.add_storage("shared", "nfs", shared=True, size_gib=500, content="images")
    name, vmid = site.ready()
    site.sim.node_down(site.sim.vm(vmid).node)
    found = ready_is_unknown(site, name)
    assert found == f"node pve1 is offline, and it holds VM {vmid}: bring it back"
    before = site.sim.world()
    site.forget_calls()
    site.world.delete(name)
    site.world.passes(name)
    assert site.writes() == []
    assert before.diff(site.sim.world()) == []
    site.sim.node_up("pve1")
    site.world.wait_gone(name)
