"""The credentials Secret on a bad day: missing, incomplete, malformed, refused, expired, deleted, replaced.

Circuits are as slow as in production here: what recovers does so because the Secret changed.
"""

from collections.abc import Iterator

import pytest

from controlplane import Cluster
from harness.clusters import Estate, Site
from harness.operator import NAMESPACE
from pvesim.sim import TOKEN_ID, TOKEN_SECRET, USER

WRONG = "22222222-dead-4333-8444-555555555555"


@pytest.fixture(scope="module")
def shared_estate(control_plane: Cluster) -> Iterator[Estate]:
    with Estate(control_plane, circuits=1.0) as estate:
        yield estate


@pytest.fixture
def estate(shared_estate: Estate) -> Iterator[Estate]:
    with shared_estate.fresh():
        yield shared_estate


@pytest.fixture
def site(estate: Estate) -> Site:
    """Neither Secret nor ProxmoxCluster yet."""
    return estate.unapplied()


def is_waiting_for(site: Site, name: str, text: str) -> None:
    """The VM says which cluster it waits for and why, and nothing was written anywhere."""
    found = site.world.wait_reason(name, "ClusterNotReady")
    assert found.message == f"ProxmoxCluster {site.name} is not ready: {text}"
    assert "vmid" not in site.world.status(name)
    assert site.writes() == []


def test_without_its_secret_a_cluster_is_not_even_asked(site: Site) -> None:
    site.apply()
    name = site.make()
    text = f"Secret {NAMESPACE}/{site.secret} does not exist: create it in namespace {NAMESPACE}"
    found = site.wait("SecretNotFound")
    assert (found.status, found.message) == ("False", text)
    assert site.shows("Authorized")[:3] == ("False", "SecretNotFound", text)
    assert site.condition("Reachable").status == "Unknown"
    assert site.condition("Quorate").status == "Unknown"
    assert site.condition("Stalled").status == "True"
    site.until(lambda: site.events() == [("Warning", "SecretNotFound", text)], "it is told, once")
    is_waiting_for(site, name, text)
    assert site.calls() == []
    site.good_secret()
    site.wait("Ready")
    site.world.wait_ready(name)
    assert [site.condition(kind).status for kind in ("Reachable", "Authorized", "Quorate")] == ["True"] * 3


@pytest.mark.parametrize(
    ("keys", "missing"),
    [
        ({}, "'tokenID'"),
        ({"tokenID": TOKEN_ID}, "'tokenSecret'"),
        ({"tokenID": TOKEN_ID, "tokenSecret": ""}, "'tokenSecret'"),
        ({"username": USER}, "'password'"),
    ],
)
def test_a_secret_without_its_keys_is_told_by_their_names(
    site: Site, keys: dict[str, str], missing: str
) -> None:
    site.set_secret(**keys)
    site.apply()
    found = site.wait("SecretKeyMissing", kind="Authorized")
    assert f"Secret {NAMESPACE}/{site.secret} has no value for {missing}" in found.message
    assert site.wait("SecretKeyMissing").message == found.message
    assert site.calls() == []
    site.good_secret()
    site.wait("Ready")


@pytest.mark.parametrize(
    ("keys", "remedy"),
    [
        (
            {"tokenID": "operator@pve", "tokenSecret": TOKEN_SECRET},
            "tokenID must look like user@realm!name, for example operator@pve!kubernetes",
        ),
        (
            {"username": "operator", "password": "pvesim-password"},
            "username must name its realm, for example operator@pve",
        ),
    ],
)
def test_a_malformed_name_is_told_without_the_secret(site: Site, keys: dict[str, str], remedy: str) -> None:
    site.set_secret(**keys)
    site.apply()
    found = site.wait("SecretKeyInvalid")
    assert found.message == f"Secret {NAMESPACE}/{site.secret}: {remedy}"
    assert site.calls() == []
    site.good_secret()
    site.wait("Ready")


def test_a_refused_token_is_not_tried_hotly_and_a_changed_secret_mends_it(estate: Estate) -> None:
    site = estate.unapplied(sim={"auth_delay": 0.1})
    site.set_secret(tokenID=TOKEN_ID, tokenSecret=WRONG)
    site.apply()
    name = site.make()
    found = site.wait("Unauthorized")
    assert found.status == "False"
    assert found.message == (
        "Proxmox refused the credentials (Authentication failed!): correct the credentials Secret; the user or token "
        f"must exist, be enabled and not have expired (Secret {NAMESPACE}/{site.secret})"
    )
    assert site.shows("Authorized")[:3] == ("False", "Unauthorized", found.message)
    is_waiting_for(site, name, found.message)
    assert len(site.calls()) <= 2 * len(site.sim.urls), (
        "each endpoint is asked once, perhaps twice at the very start"
    )
    assert site.calls_within(1.0) == []
    assert len(site.sim.recorder) <= 2 * len(site.sim.urls)
    site.good_secret()
    site.wait("Ready")
    vmid = site.world.wait_ready(name)
    assert site.sim.world().vm(vmid).status == "running"


def test_a_token_that_is_revoked_stops_everything_and_a_new_one_goes_on(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    site.sim.remove_token(TOKEN_ID)
    site.wait("Unauthorized")
    site.world.wait_reason(name, "ClusterNotReady")
    site.forget_calls()
    site.sim.stop(vmid)
    assert len(site.calls_within(0.8)) <= len(site.sim.urls)
    assert site.sim.vm(vmid).status == "stopped"
    new = "33333333-2222-4333-8444-555555555555"
    site.sim.add_token("operator@pve!second", new)
    site.sim.grant("operator@pve!second", "/", sorted(site.sim.server.privileges))
    site.set_secret(tokenID="operator@pve!second", tokenSecret=new)
    site.world.wait_ready(name)
    assert site.sim.vm(vmid).status == "running"
    assert {call.user for call in site.writes()} == {"operator@pve!second"}


def test_a_secret_that_is_deleted_leaves_the_last_good_credentials_in_use(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    site.drop_secret()
    found = site.wait("SecretNotFound", kind="Authorized", status="False")
    assert found.message == (
        f"Secret {NAMESPACE}/{site.secret} does not exist: create it in namespace {NAMESPACE} "
        "(the last good credentials stay in use)"
    )
    assert site.condition().status == "True"
    site.sim.stop(vmid)
    site.until(lambda: site.sim.vm(vmid).status == "running", "drift is still corrected")
    site.world.wait_ready(name)
    site.good_secret()
    site.wait("Authorized", kind="Authorized", status="True")


def test_a_secret_that_loses_its_keys_leaves_the_last_good_credentials_in_use(estate: Estate) -> None:
    site = estate.site()
    site.set_secret(tokenID=TOKEN_ID)
    found = site.wait("SecretKeyMissing", kind="Authorized", status="False")
    assert found.message.endswith("(the last good credentials stay in use)")
    site.ready()


def test_after_a_restart_without_its_secret_a_cluster_has_no_credentials_to_stay_in_use(
    estate: Estate,
) -> None:
    site = estate.site()
    name, vmid = site.ready()
    before = site.sim.world()
    site.drop_secret()
    estate.world.restart()
    site.forget_calls()
    site.wait("SecretNotFound")
    assert "stay in use" not in site.condition("Authorized").message
    site.world.wait_reason(name, "ClusterNotReady")
    assert site.calls() == []
    assert before.diff(site.sim.world()) == []
    site.good_secret()
    assert site.world.wait_ready(name) == vmid


def test_a_user_with_a_password_works_too(site: Site) -> None:
    site.set_secret(username=USER, password=site.sim.password)
    site.apply()
    site.wait("Ready")
    _, vmid = site.ready()
    assert site.sim.vm(vmid).status == "running"
    assert {call.user for call in site.writes()} == {USER}


def test_a_ticket_that_ends_is_renewed_and_no_write_is_lost(site: Site) -> None:
    site.set_secret(username=USER, password=site.sim.password)
    site.apply()
    site.wait("Ready")
    name, vmid = site.ready()
    tickets = len(site.sim.recorder.matching("POST", "/access/ticket$"))
    site.sim.call(site.sim.server.tickets.clear)
    before = site.sim.world()
    site.sim.stop(vmid)
    site.until(lambda: site.sim.vm(vmid).status == "running", "the VM was started with a new ticket")
    site.world.wait_ready(name)
    assert before.diff(site.sim.world()) == []
    assert len(site.sim.recorder.matching("POST", "/access/ticket$")) > tickets
    assert site.condition().status == "True"


def test_a_wrong_password_is_told_once_and_not_tried_again(site: Site) -> None:
    site.set_secret(username=USER, password=WRONG)
    site.apply()
    found = site.wait("Unauthorized")
    assert found.message.endswith(f"not have expired (Secret {NAMESPACE}/{site.secret})")
    assert site.calls_within(1.0) == []
    assert len(site.sim.recorder) <= 2 * len(site.sim.urls)
    site.set_secret(username=USER, password=site.sim.password)
    site.wait("Ready")
