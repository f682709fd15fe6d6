"""Several clusters at once, what each write leaves in the audit log, and that no secret gets out."""

import logging
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from controlplane import Cluster
from harness.clusters import Estate, Site
from proxmox_operator.api.names import PAUSED
from proxmox_operator.controllers.context import CLUSTER_KIND, is_paused
from proxmox_operator.engine import logs
from proxmox_operator.engine.queue import Key
from proxmox_operator.kube.resources import SECRETS
from proxmox_operator.proxmox.credentials import Credentials, Endpoint, TLSSettings
from proxmox_operator.proxmox.https import ProxmoxerTransport
from proxmox_operator.proxmox.transport import Transport
from pvesim.sim import USER

PASSWORD = "kY7-guest-password"


def patient_connect(endpoint: Endpoint, credentials: Credentials, tls: TLSSettings) -> Transport:
    return ProxmoxerTransport(endpoint, credentials, tls, timeout=(0.5, 30.0))


@pytest.fixture(scope="module")
def shared_estate(control_plane: Cluster) -> Iterator[Estate]:
    with Estate(control_plane, operator={"workers": 4, "connect": patient_connect}) as estate:
        estate.secrets.add(PASSWORD)
        yield estate


@pytest.fixture
def estate(shared_estate: Estate) -> Iterator[Estate]:
    with shared_estate.fresh():
        yield shared_estate


def test_a_cluster_that_hangs_does_not_slow_the_other_down(estate: Estate) -> None:
    """Calls to the one that hangs last longer than this test waits: a single worker too many there would fail it."""
    good, bad = estate.site(), estate.site()
    for endpoint in bad.sim.endpoints.values():
        endpoint.hang()
    stuck = [bad.make() for _ in range(8)]
    manager = estate.world.operator.manager
    bad.until(
        lambda: len(manager.fleet.get(bad.name).queued) > 0, "its VMs take all the workers they are given"
    )
    for name in [good.make() for _ in range(3)]:
        good.world.wait_ready(name)
    assert set(bad.sim.world().vmids) == {9000}, "it still hangs"
    for endpoint in bad.sim.endpoints.values():
        endpoint.resume()
    for name in stuck:
        bad.world.wait_ready(name)
    assert len(bad.sim.world().vmids) == 1 + len(stuck)


def a_day(site: Site) -> float:
    """VMs are made, one is stopped by somebody and started again, another is changed, all are deleted: in seconds."""
    began = time.monotonic()
    names = [site.make(cpu={"cores": 1}) for _ in range(3)]
    vmids = [site.world.wait_ready(name) for name in names]
    site.sim.stop(vmids[0])
    site.world.edit(names[1], cpu={"cores": 2})
    site.until(lambda: site.sim.vm(vmids[0]).status == "running", "the VM was started again")
    site.until(
        lambda: str(site.sim.vm(vmids[1]).config.get("cores")) == "2" or bool(site.sim.vm(vmids[1]).pending),
        "cores",
    )
    for name in names:
        site.world.delete(name)
    for name in names:
        site.world.wait_gone(name)
    return time.monotonic() - began


@pytest.mark.parametrize("trouble", ["hangs", "is slow", "is dead"])
def test_making_keeping_and_deleting_take_no_longer_beside_a_cluster_in_trouble(
    estate: Estate, trouble: str
) -> None:
    """Of the bad cluster new VMs wait, others have drifted or are to be deleted: as much work as it can ask for."""
    good, bad = estate.site(), estate.site()
    theirs = [bad.ready()[0] for _ in range(4)]
    undisturbed = min(a_day(good) for _ in range(2))
    for endpoint in bad.sim.endpoints.values():
        endpoint.hang() if trouble == "hangs" else endpoint.down() if trouble == "is dead" else None
    if trouble == "is slow":
        bad.sim.slow_api(2.0)
    for name in theirs[:2]:
        bad.world.delete(name)
    for name in theirs[2:]:
        bad.world.edit(name, cpu={"cores": 2})
    for _ in range(8):
        bad.make()
    beside = min(a_day(good) for _ in range(2))
    assert beside < 2.5 * undisturbed + 0.5
    assert set(bad.sim.world().vmids) - {9000}, "and nothing was made up about the other one's VMs"
    for endpoint in bad.sim.endpoints.values():
        endpoint.resume() if trouble == "hangs" else endpoint.up()
    bad.sim.slow_api(0.0)


def seen_as_paused(estate: Estate, site: Site) -> bool:
    """Whether the operator knows it. Watches of two kinds promise no order among each other."""
    raw = estate.world.operator.manager.store.get(Key(CLUSTER_KIND, "", site.name))
    return raw is not None and is_paused(raw["metadata"].get("annotations", {}))


def test_a_pause_holds_at_once_though_the_cluster_hangs(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    site.sim.stop(vmid)
    for endpoint in site.sim.endpoints.values():
        endpoint.hang()
    site.edit(limits={"callsPerNode": 1})
    site.annotate(**{PAUSED: "true"})
    site.until(lambda: seen_as_paused(estate, site), "the watch has told of the pause")
    waiting = site.make()
    site.world.wait_reason(waiting, "Paused", kind="Paused")
    before = site.sim.world()
    for endpoint in site.sim.endpoints.values():
        endpoint.resume()
    site.wait("Paused", kind="Paused")
    site.world.passes(name)
    assert [line for line in before.diff(site.sim.world()) if f"VM {vmid} " not in line] == []
    site.annotate(**{PAUSED: None})
    site.world.wait_ready(waiting)
    site.until(lambda: site.sim.vm(vmid).status == "running", "the VM was started again")


def test_two_clusters_hold_the_same_vmid_without_mixing_it_up(estate: Estate) -> None:
    one, two = estate.site(), estate.site()
    (first, vmid), (second, same) = one.ready(), two.ready()
    assert vmid == same
    one.world.delete(first)
    one.world.wait_gone(first)
    assert set(one.sim.world().vmids) == {9000}
    assert two.sim.vm(same).status == "running"
    two.world.passes(second)
    assert two.world.condition(second).status == "True"


def test_every_write_has_an_audit_record_without_values(estate: Estate) -> None:
    site = estate.site()
    namespace = site.world.namespace
    site.kube.create(
        SECRETS, {"metadata": {"name": "guest", "namespace": namespace}, "stringData": {"password": PASSWORD}}
    )
    already = len(estate.heard.matching("proxmox_operator.audit"))
    name = site.make(
        cpu={"cores": 3},
        disks=[{"name": "data", "size": "5Gi"}],
        cloudInit={"user": "debian", "passwordSecretRef": {"name": "guest", "key": "password"}},
    )
    vmid = site.world.wait_ready(name)
    assert site.sim.vm(vmid).config.get("cipassword")
    site.edit(default=False)
    site.world.delete(name)
    site.world.wait_gone(name)
    records = [
        record
        for record in estate.heard.matching("proxmox_operator.audit")[already:]
        if record.cluster == site.name  # type: ignore[attr-defined]
    ]
    told = Counter((record.method, record.path, tuple(record.parameters)) for record in records)  # type: ignore[attr-defined]
    sent = Counter(
        (call.method, call.path, tuple(sorted(call.params))) for call in site.sim.recorder.mutating
    )
    assert told == sent
    assert {record.actor for record in records} == {f"ProxmoxVM/{namespace}/{name}"}  # type: ignore[attr-defined]
    assert all(record.actor_uid and record.result == "ok" for record in records)  # type: ignore[attr-defined]
    assert any(record.upid for record in records)  # type: ignore[attr-defined]
    texts = " ".join(str(record.__dict__) for record in records)
    values = {str(value) for call in site.sim.recorder.mutating for value in call.params.values()}
    values -= {namespace}  # a tag, and part of the actor's name as well
    assert [value for value in values if len(value) > 6 and value in texts] == []


def test_a_write_that_fails_is_recorded_with_its_reason(estate: Estate) -> None:
    site = estate.site()
    site.sim.fail("POST", "/clone", 500, "unable to activate storage 'local-lvm'", times=1)
    site.ready()
    records = [r for r in estate.heard.matching("proxmox_operator.audit") if r.cluster == site.name]  # type: ignore[attr-defined]
    clones = [r.result for r in records if r.path.endswith("/clone")]  # type: ignore[attr-defined]
    assert clones == ["StorageUnavailable", "ok"]


def test_no_secret_gets_out_of_a_bad_day(estate: Estate) -> None:
    """Many ways in which things can fail, then a search of logs, Events and statuses."""
    site = estate.unapplied()
    site.set_secret(username=USER, password="wrong-password-c0ffee")
    site.apply()
    site.wait("Unauthorized")
    site.set_secret(tokenID="operator@pve!operator", tokenSecret="wrong-token-c0ffee")
    site.until(lambda: "Authentication failed" in site.condition().message, "the token was tried")
    site.set_secret(username=USER, password=site.sim.password)
    site.wait("Ready")
    site.sim.fail("POST", "/clone", 500, "exploded")
    name = site.make()
    site.world.wait_reason(name, "ProxmoxError")
    site.sim.clear_failures()
    for endpoint in site.sim.endpoints.values():
        endpoint.down()
    site.wait("Unreachable")
    assert estate.leaked() == []
    assert len(estate.heard.lines) > 20
    assert logging.getLogger(logs.PINNED[0]).level == logging.WARNING
