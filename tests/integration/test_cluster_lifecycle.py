"""A ProxmoxCluster from its first status to its end: what is shown, changes without a restart, pause, deletion."""

import time
from collections.abc import Iterator

import pytest

from controlplane import Cluster
from harness.clusters import Estate
from proxmox_operator.api.names import FINALIZER, PAUSED
from proxmox_operator.kube.resources import PROXMOX_CLUSTERS


@pytest.fixture(scope="module")
def shared_estate(control_plane: Cluster) -> Iterator[Estate]:
    with Estate(control_plane, operator={"slow_retry": 30.0}) as estate:
        yield estate


@pytest.fixture
def estate(shared_estate: Estate) -> Iterator[Estate]:
    with shared_estate.fresh():
        yield shared_estate


def test_a_cluster_shows_what_it_is_and_how_it_stands(estate: Estate, control_plane: Cluster) -> None:
    site = estate.site()
    status = site.status()
    assert status["version"] == "9.2.11"
    assert status["clusterName"] == site.name
    assert status["caFingerprint"] == site.sim.fingerprint
    assert status["observedGeneration"] == site.raw()["metadata"]["generation"]
    shown = {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
    assert shown == {
        "Reachable": ("True", "Reachable"),
        "Authorized": ("True", "Authorized"),
        "Quorate": ("True", "Quorate"),
        "Ready": ("True", "Ready"),
        "Reconciling": ("False", "Ready"),
        "Stalled": ("False", "Ready"),
    }
    assert site.condition().message == "Proxmox VE 9.2.11 is reachable"
    table = control_plane.kubectl("get", "pvec", site.name).stdout.splitlines()
    assert table[0].split()[:2] == ["NAME", "READY"]
    assert {"VERSION", "NODES", "AGE"} <= set(table[0].split())
    assert {"True", "9.2.11", "3"} <= set(table[1].split())


def test_an_idle_cluster_is_not_written_to_again_and_again(estate: Estate) -> None:
    site = estate.site()
    site.wait("Ready")
    time.sleep(0.3)
    before = site.raw()["metadata"]["resourceVersion"]
    calls = site.calls_within(1.0)
    assert site.raw()["metadata"]["resourceVersion"] == before
    assert [call for call in calls if call.mutating] == []


def test_version_8_is_supported(estate: Estate) -> None:
    site = estate.site(sim={"pve": 8})
    assert site.status()["version"].startswith("8.")
    _, vmid = site.ready()
    assert site.sim.vm(vmid).status == "running"


def test_another_major_version_is_refused_with_its_number(estate: Estate) -> None:
    site = estate.unapplied()
    site.sim.server.version = "7.4.17"
    site.good_secret()
    site.apply()
    found = site.wait("UnsupportedVersion")
    assert found.message == "Proxmox VE 7.4.17 is not supported: versions 8 and 9 are"
    name = site.make()
    site.world.wait_reason(name, "ClusterNotReady")
    assert site.writes() == []


def test_endpoints_are_changed_without_a_restart(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    site.apply(endpoints=[site.sim.endpoints["pve3"].url])
    site.wait("Ready")
    site.until(lambda: {call.endpoint for call in site.calls_within(0.2)} == {"pve3"}, "only pve3 is asked")
    site.sim.stop(vmid)
    site.until(lambda: site.sim.vm(vmid).status == "running", "the VM was started through pve3")
    site.world.wait_ready(name)


def test_a_session_that_was_replaced_asks_nothing_any_more(estate: Estate) -> None:
    site = estate.site()
    for round_trip in range(3):
        site.apply(limits={"callsPerNode": 2 + round_trip, "configReadsPerSecond": 100})
        site.wait("Ready")
    fresh = estate.site()
    assert len(site.calls_within(0.6)) <= 1.5 * len(fresh.calls_within(0.6)) + 5


def test_access_is_changed_without_a_restart(estate: Estate) -> None:
    site = estate.site(access=None)
    name = site.make()
    found = site.world.wait_reason(name, "AccessDenied")
    assert "spec.source.clone.vmid: cloning VM 9000 is not granted (access[].cloneFrom)" in found.message
    assert site.writes() == []
    site.edit(access=[{"cloneFrom": [{"start": 9000, "end": 9000}]}])
    vmid = site.world.wait_ready(name)
    site.edit(access=[])
    site.world.wait_reason(name, "AccessDenied")
    before = site.sim.world()
    site.world.passes(name)
    assert before.diff(site.sim.world()) == [], "a grant taken back destroys nothing"
    site.edit(access=[{"allow": "Everything"}])
    assert site.world.wait_ready(name) == vmid


def test_a_pause_stops_all_vms_of_the_cluster_and_its_end_resumes_them(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    site.annotate(**{PAUSED: "true"})
    found = site.wait("Paused", kind="Paused", status="True")
    assert found.message == f"nothing is written here until the annotation {PAUSED} is removed"
    assert site.condition().status == "True", "how it stood before"
    shown = site.world.wait_reason(name, "Paused", kind="Paused")
    assert shown.message.startswith(f"ProxmoxCluster {site.name} is paused")
    site.sim.stop(vmid)
    before = site.sim.world()
    site.forget_calls()
    waiting = site.make()
    site.world.wait_reason(waiting, "Paused", kind="Paused")
    site.world.delete(name)
    site.world.passes(waiting)
    assert site.writes() == []
    assert before.diff(site.sim.world()) == []
    site.annotate(**{PAUSED: None})
    site.wait("Ready")
    site.world.wait_gone(name)
    site.world.wait_ready(waiting)
    assert site.condition("Paused") is None
    assert site.world.condition(waiting, "Paused") is None


def test_a_pause_survives_a_restart(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    site.annotate(**{PAUSED: "true"})
    site.wait("Paused", kind="Paused")
    estate.world.restart()
    site.sim.stop(vmid)
    site.forget_calls()
    site.world.passes(name)
    assert site.calls() == []
    site.annotate(**{PAUSED: None})
    site.until(lambda: site.sim.vm(vmid).status == "running", "the VM was started again")
    site.world.wait_ready(name)


def test_deletion_waits_for_the_last_vm_and_says_for_which(estate: Estate) -> None:
    site = estate.site()
    first, _ = site.ready("first")
    second, _ = site.ready("second")
    site.delete()
    found = site.wait("InUse")
    namespace = site.world.namespace
    assert found.message == (
        f"deletion waits: used by {namespace}/{first}, {namespace}/{second}; delete these first, or set spec.lost "
        "if the cluster is gone for good"
    )
    assert (found.status, site.condition("Stalled").status) == ("False", "True")
    assert FINALIZER in site.raw()["metadata"]["finalizers"]
    site.world.delete(first)
    site.world.wait_gone(first)
    site.until(
        lambda: f"used by {namespace}/{second};" in site.condition().message, "only the second is left"
    )
    site.world.delete(second)
    site.world.wait_gone(second)
    site.until(lambda: site.raw() == {}, "the ProxmoxCluster is gone")
    assert set(site.sim.world().vmids) == {9000}
    site.until(lambda: site.calls_within(0.4) == [], "nobody asks a cluster that is no longer known")


def test_no_new_vm_is_made_in_a_cluster_that_is_being_deleted(estate: Estate) -> None:
    site = estate.site()
    first, _ = site.ready()
    site.delete()
    site.wait("InUse")
    site.forget_calls()
    late = site.make()
    found = site.world.wait_reason(late, "ClusterNotReady")
    assert found.message == f"ProxmoxCluster {site.name} is being deleted: name another in a new object"
    assert site.writes() == []
    site.world.delete(first)
    site.until(lambda: site.raw() == {}, "the ProxmoxCluster is gone")
    site.world.wait_reason(late, "ClusterNotFound")


def test_a_lost_cluster_lets_its_objects_go_and_says_what_was_left_behind(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    for endpoint in site.sim.endpoints.values():
        endpoint.down()
    site.wait("Unreachable")
    before = site.sim.world()
    site.delete()
    site.wait("InUse")
    site.world.delete(name)
    site.world.passes(name)
    assert site.world.raw(name) is not None
    site.edit(lost=True)
    site.world.wait_gone(name)
    note = site.world.wait_event(name, "LeftBehind")
    assert note == f"ProxmoxCluster {site.name} is lost; left behind there: VM {vmid} on pve1"
    site.until(lambda: site.raw() == {}, "the ProxmoxCluster is gone")
    assert before.diff(site.sim.world()) == []


def test_lost_touches_nothing_though_the_cluster_answers(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    site.edit(lost=True)
    site.wait("Ready")
    before = site.sim.world()
    site.forget_calls()
    site.world.delete(name)
    site.world.wait_gone(name)
    assert before.diff(site.sim.world()) == []
    assert site.writes() == []
    assert site.sim.vm(vmid).status == "running"


def test_a_status_from_an_old_export_is_filled_again(estate: Estate) -> None:
    site = estate.site()
    raw = site.raw()
    raw["status"] = {}
    site.kube.replace(PROXMOX_CLUSTERS, raw, subresource="status")
    site.until(
        lambda: site.status().get("caFingerprint") == site.sim.fingerprint, "the status is filled again"
    )
    site.wait("Ready")
    site.ready()
