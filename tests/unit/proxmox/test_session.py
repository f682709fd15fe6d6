"""One cluster's session as a whole, against the simulator."""

import asyncio

import pytest

from proxmox_operator import errors
from proxmox_operator.proxmox.cluster import major_version, probe
from proxmox_operator.proxmox.credentials import Endpoint, PasswordCredentials, TLSSettings, TokenCredentials
from proxmox_operator.proxmox.errors import NotHere
from proxmox_operator.proxmox.identity import ClusterIdentity, WrongCluster
from proxmox_operator.proxmox.permissions import Scope, missing, permissions
from proxmox_operator.proxmox.resources import changed_nodes
from proxmox_operator.proxmox.session import ClusterSession
from pvesim import PveSim
from pvesim.recorder import Answer

from .fakes import FakeClock, MockTransport, client_over, until


async def test_changes_made_by_others_arrive_and_stop_after_closing(sim, open_session):
    seen: set[int] = set()
    session = open_session(sim, on_change=lambda vmids, nodes: seen.update(vmids))
    session.start()
    await until(lambda: 9000 in seen)
    await asyncio.to_thread(sim.add_vm, 100)
    session.inventory.poke()
    await until(lambda: 100 in seen)
    await session.close()
    polls = len(sim.recorder.matching("GET", "/cluster/resources$"))
    session.inventory.poke()
    await asyncio.sleep(0.05)
    assert len(sim.recorder.matching("GET", "/cluster/resources$")) == polls
    with pytest.raises(errors.Transient):
        await session.vms.config("pve1", 100)


async def test_the_end_of_our_own_task_brings_a_fresh_inventory(sim, open_session):
    told = []

    class Metrics:
        def pve_call(self, cluster, method, call_class, result, seconds):
            pass

        def task_ended(self, cluster, type, outcome, seconds):
            told.append((cluster, type, outcome))

    session = open_session(sim, metrics=Metrics())
    session.start()
    await until(lambda: session.inventory.current)
    upid = await session.vms.clone("pve1", 9000, 100, name="web", description="")
    session.tasks.watch(upid, lambda result: None)
    await until(lambda: 100 in session.inventory.current.guests)
    assert told == [("lab", "qmclone", "Ok")]


async def test_a_cluster_says_who_it_is(sim, open_session):
    session = open_session(sim)
    info = await probe(session.client)
    assert (info.major, info.quorate, info.nodes) == (9, True, ("pve1", "pve2", "pve3"))
    assert info.identity == ClusterIdentity(sim.fingerprint, "pvesim")


async def test_version_8_is_told_from_9(open_session):
    with PveSim(nodes=1, pve=8) as sim:
        assert (await probe(open_session(sim).client)).major == 8


@pytest.mark.parametrize("version", ["7.4-17", "10.0.1"])
async def test_other_versions_are_not_supported(version):
    transport = MockTransport({"GET /version": {"version": version}})
    with client_over(transport) as client, pytest.raises(errors.NeedsHuman) as caught:
        await probe(client)
    assert caught.value.reason == "UnsupportedVersion"


@pytest.mark.parametrize("answer", [None, {}, {"version": "soon"}, []])
async def test_what_names_no_version_is_no_proxmox(answer):
    with (
        client_over(MockTransport({"GET /version": answer})) as client,
        pytest.raises(errors.NeedsHuman) as caught,
    ):
        await probe(client)
    assert caught.value.reason == "NotProxmox"


def test_the_major_version_is_a_number():
    assert major_version("9.2.11") == 9


async def test_an_endpoint_that_answers_for_another_cluster_is_put_aside(sim, open_session):
    other = PveSim(cluster="other", nodes=3)
    await asyncio.to_thread(other.add_vm, 100)
    sim.endpoints["pve1"].impersonate(other)
    expected = ClusterIdentity(sim.fingerprint, "pvesim")
    session = open_session(sim, tls=TLSSettings(insecure_skip_verify=True), expected=expected)
    snapshot = await session.inventory.poll()
    assert set(snapshot.guests) == {9000}
    health = session.client.health()
    assert [h.foreign for h in health] == [True, False, False]
    assert str(health[0].endpoint) == sim.urls[0]


async def test_with_only_foreign_endpoints_nothing_is_read(sim, open_session):
    wrong = ClusterIdentity("00:11:22", None)
    session = open_session(sim, expected=wrong)
    assert await session.inventory.poll() is None
    assert isinstance(session.inventory.error, WrongCluster)
    with pytest.raises(WrongCluster):
        await session.vms.start("pve1", 9000)
    assert sim.recorder.mutating == []


async def test_one_endpoint_of_three_may_be_down(sim, open_session):
    sim.endpoints["pve1"].down()
    session = open_session(sim)
    assert await session.inventory.poll() is not None
    health = {h.endpoint.port: h.error for h in session.client.health()}
    assert "refused" in health[Endpoint.parse(sim.urls[0]).port]
    assert [bool(error) for error in health.values()].count(True) == 1


async def test_a_node_that_is_down_is_unreachable_and_its_vms_are_not_gone(sim, open_session):
    sim.add_vm(100, node="pve2")
    sim.node_down("pve2")
    session = open_session(sim)
    snapshot = await session.inventory.poll()
    assert not snapshot.nodes["pve2"].online
    assert snapshot.guests[100].node == "pve2"
    with pytest.raises(errors.Unreachable) as caught:
        await session.vms.config("pve2", 100)
    assert caught.value.reason == "NodeUnavailable"
    with pytest.raises(errors.Unreachable):
        await session.vms.start("pve2", 100)


async def test_a_node_that_was_silent_is_asked_again_once_the_cluster_sees_it_come_back(sim, open_session):
    sim.add_vm(100, node="pve2")
    clock = FakeClock()
    session = open_session(sim, clock=clock)
    sim.node_down("pve2")
    await session.inventory.poll()
    for _ in range(3):
        with pytest.raises(errors.Unreachable, match="No route to host"):
            await session.vms.config("pve2", 100)
    sim.node_up("pve2")
    with pytest.raises(errors.Unreachable, match="asked again within"):
        await session.vms.config("pve2", 100)
    clock.pass_seconds(1)
    await session.inventory.poll()
    assert await session.vms.config("pve2", 100)


async def test_a_node_that_does_not_answer_is_left_alone_whatever_else_of_it_changes(sim, open_session):
    clock = FakeClock()
    session = open_session(sim, clock=clock)
    await session.inventory.poll()
    sim.intercept = lambda call: (
        Answer(595, "No route to host") if call.path.startswith("/nodes/pve2/") else None
    )
    for _ in range(3):
        with pytest.raises(errors.Unreachable):
            await session.vms.config("pve2", 100)
    sim.server.node_info["pve2"].memory *= 2
    clock.pass_seconds(1)
    before, after = session.inventory.current, await session.inventory.poll()
    assert changed_nodes(before, after) == {"pve2"}
    assert session.client.silent_nodes() == {"pve2"}


async def test_a_token_that_loses_sight_of_the_guests_cannot_write_until_it_sees_them_again(
    sim, open_session
):
    for vmid in (100, 101, 102):
        sim.add_vm(vmid)
    session = open_session(sim)
    await session.inventory.poll()
    sim.revoke(sim.token_id, "/", ["VM.Audit"])
    await session.inventory.poll()
    with pytest.raises(errors.Transient) as caught:
        await session.vms.start("pve1", 100)
    assert caught.value.reason == "WritesFrozen"
    assert sim.recorder.mutating == []
    sim.grant(sim.token_id, "/", ["VM.Audit"])
    await session.inventory.poll()
    assert await session.vms.start("pve1", 100)


@pytest.mark.parametrize("pve", [8, 9])
async def test_the_preflight_finds_exactly_what_was_taken_away(open_session, pve):
    with PveSim(nodes=1, pve=pve) as sim:
        sim.add_template()
        session = open_session(sim)
        scope = Scope(storages=("local-lvm",), bridges=("localnetwork/vmbr0",), templates=(9000,))
        assert missing(await permissions(session.client), scope, pve) == []
        sim.revoke(sim.token_id, "/", ["VM.Config.Disk", "Datastore.AllocateSpace"])
        lacks = missing(await permissions(session.client), scope, pve)
        found = {(each.path, each.privilege) for each in lacks}
        assert found == {("/vms", "VM.Config.Disk"), ("/storage/local-lvm", "Datastore.AllocateSpace")}


async def test_a_template_and_bridges_are_read_once_for_many(sim, open_session):
    session = open_session(sim)
    configs = await asyncio.gather(*(session.template_config("pve1", 9000) for _ in range(20)))
    assert {config.digest for config in configs} == {configs[0].digest}
    bridges = await asyncio.gather(*(session.bridges("pve1") for _ in range(20)))
    assert set(bridges) == {frozenset({"vmbr0", "vmbr1"})}
    assert len(sim.recorder.matching("GET", "/qemu/9000/pending$")) == 1
    assert len(sim.recorder.matching("GET", "/network$")) == 1


async def test_bridges_of_a_node_that_does_not_answer_are_not_known(sim, open_session):
    sim.node_down("pve2")
    session = open_session(sim)
    assert await session.bridges("pve2") is None
    with pytest.raises(NotHere):
        await session.template_config("pve1", 777)


async def test_a_user_with_a_password_can_do_the_same(sim):
    credentials = PasswordCredentials(sim.user, sim.password)
    session = ClusterSession("lab", list(sim.urls), credentials, tls=TLSSettings(sim.ca_pem))
    try:
        assert await session.inventory.poll() is not None
        assert (await session.vms.clone("pve1", 9000, 100, name="web", description="")).startswith("UPID:")
    finally:
        await session.close()


@pytest.mark.parametrize(("urls", "ca"), [(["http://pve1"], None), (["https://pve1"], "no certificate")])
def test_settings_that_cannot_be_right_are_refused_before_anything_is_sent(urls, ca):
    with pytest.raises(ValueError, match=r"https|caBundle"):
        ClusterSession("lab", urls, TokenCredentials("a@pve!b", "c"), tls=TLSSettings(ca))
