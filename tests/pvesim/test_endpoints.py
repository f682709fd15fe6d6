"""Endpoints of nodes: down, hung, cut off, replaced; TLS; and the manners of pveproxy."""

import http.client
import ssl
import time
from pathlib import Path

import pytest
import requests
from cryptography import x509

from pvesim import PveSim
from pvesim.client import Api, ApiError


def test_every_node_answers_for_the_whole_cluster(sim: PveSim, api: Api, tmp_path: Path) -> None:
    sim.add_vm(100, node="pve3")
    with Api(sim, tmp_path, node="pve2") as second:
        assert second.config(100, "pve3") == api.config(100, "pve3")


def test_a_stopped_endpoint_refuses_connections_while_its_node_lives(
    sim: PveSim, api: Api, tmp_path: Path
) -> None:
    api.get("/version")
    sim.endpoints["pve1"].down()
    with pytest.raises(requests.ConnectionError):
        api.get("/version")
    with Api(sim, tmp_path, node="pve2") as second:
        second.get("/nodes/pve1/status")
    sim.endpoints["pve1"].up()
    api.get("/version")


def test_a_hung_endpoint_answers_when_it_resumes(sim: PveSim, api: Api) -> None:
    sim.endpoints["pve1"].hang()
    with pytest.raises(requests.ReadTimeout):
        api.session.get(f"{api.url}/api2/json/version", timeout=0.2)
    sim.endpoints["pve1"].resume()
    api.get("/version")


def test_a_cut_off_node_answers_with_a_frozen_list_and_refuses_writes(
    sim: PveSim, api: Api, tmp_path: Path
) -> None:
    sim.add_vm(100, node="pve2", running=True)
    sim.endpoints["pve1"].cut_off()
    sim.add_vm(101, node="pve2")
    sim.power_loss(100)
    [cluster, *nodes] = api.get("/cluster/status")
    assert cluster["quorate"] == 0
    assert [node["name"] for node in nodes if node["online"]] == ["pve1"]
    [item] = api.get("/cluster/resources", type="vm")
    assert (item["vmid"], item["status"]) == (100, "running")
    assert api.get("/cluster/nextid", vmid=101) == "101"
    with pytest.raises(ApiError, match="500 cluster not ready - no quorum"):
        api.post("/nodes/pve1/qemu", vmid=102)
    with pytest.raises(ApiError, match="595"):
        api.config(100, "pve2")
    with Api(sim, tmp_path, node="pve2") as second:
        assert second.get("/cluster/status")[0]["quorate"] == 1
    sim.endpoints["pve1"].rejoin()
    assert len(api.get("/cluster/resources", type="vm")) == 2


def test_another_cluster_on_the_same_port_has_another_ca(sim: PveSim, api: Api, tmp_path: Path) -> None:
    other = PveSim(cluster="other")
    assert other.fingerprint != sim.fingerprint
    sim.endpoints["pve1"].impersonate(other)
    with pytest.raises(requests.exceptions.SSLError):
        api.get("/version")
    with Api(sim, tmp_path) as stranger:
        ca = tmp_path / "other.pem"
        ca.write_text(other.ca_pem)
        stranger.session.verify = str(ca)
        assert stranger.get("/cluster/status")[0]["name"] == "other"
        assert stranger.get("/nodes/pve1/certificates/info")[0]["fingerprint"] == other.fingerprint
    sim.endpoints["pve1"].rejoin()
    assert api.get("/cluster/status")[0]["name"] == "pvesim"


def test_the_ca_lacks_key_usage_as_old_ones_do_and_can_have_it(sim: PveSim) -> None:
    old = x509.load_pem_x509_certificate(sim.ca_pem.encode())
    with pytest.raises(x509.ExtensionNotFound):
        old.extensions.get_extension_for_class(x509.KeyUsage)
    new = x509.load_pem_x509_certificate(PveSim(cluster="new", key_usage=True).ca_pem.encode())
    assert new.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_a_strict_client_rejects_the_old_ca(sim: PveSim) -> None:
    context = ssl.create_default_context(cadata=sim.ca_pem)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    connection = http.client.HTTPSConnection("127.0.0.1", sim.endpoints["pve1"].port, context=context)
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/")
    connection.close()


def test_a_slow_synchronous_call_is_596_while_the_operation_goes_on(tmp_path: Path) -> None:
    with PveSim(nodes=1, proxy_timeout=0.1) as sim, Api(sim, tmp_path) as api:
        sim.add_vm(100)
        with sim.hold("config:write"), pytest.raises(ApiError, match="596 Connection timed out"):
            api.set(100, cores=2)
        deadline = time.monotonic() + 5
        while api.config(100)["cores"] != 2:
            assert time.monotonic() < deadline


def test_an_error_closes_the_connection_and_a_success_keeps_it(sim: PveSim, api: Api) -> None:
    good = api.session.get(f"{api.url}/api2/json/version", timeout=5)
    assert good.headers.get("Connection") != "close"
    bad = api.session.get(f"{api.url}/api2/json/nodes/pve1/qemu/100/config", timeout=5)
    assert bad.headers["Connection"] == "close"


def test_a_connection_serves_a_hundred_requests(api: Api) -> None:
    closed = [
        api.session.get(f"{api.url}/api2/json/version", timeout=5).headers.get("Connection")
        for _ in range(100)
    ]
    assert closed == [None] * 99 + ["close"]


def test_the_reason_phrase_is_the_first_line_and_the_body_holds_it_all(sim: PveSim, api: Api) -> None:
    sim.fail("GET", "/version", 500, "first line\nsecond line")
    with pytest.raises(ApiError) as failed:
        api.get("/version")
    assert failed.value.reason == "first line"
    assert failed.value.message == "first line\nsecond line"


def test_a_method_that_does_not_exist_is_501(api: Api) -> None:
    with pytest.raises(ApiError) as missing:
        api.delete("/version")
    assert missing.value.status == 501


def test_permissions_are_checked_before_parameters(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.revoke(sim.token_id, "/vms/100")
    with pytest.raises(ApiError, match="403"):
        api.put("/nodes/pve1/qemu/100/resize", nonsense=1)
