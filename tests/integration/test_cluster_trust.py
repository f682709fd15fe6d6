"""Who answers behind an endpoint: certificates, the pinned fingerprint, and endpoints of another cluster."""

import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controlplane import Cluster
from harness.clusters import Estate, Site
from pvesim import PveSim, pki


@pytest.fixture(scope="module")
def shared_estate(control_plane: Cluster) -> Iterator[Estate]:
    with Estate(control_plane) as estate:
        yield estate


@pytest.fixture
def estate(shared_estate: Estate) -> Iterator[Estate]:
    with shared_estate.fresh():
        yield shared_estate


def assert_untrusted(site: Site, name: str, why: str) -> None:
    found = site.wait("TLSUntrusted")
    assert (found.status, site.condition("Reachable").status) == ("False", "False")
    assert why in found.message
    assert found.message.endswith(
        "put the cluster's /etc/pve/pve-root-ca.pem into spec.tls.caBundle, and use a host name or address that the "
        "certificate names"
    )
    assert site.condition("Authorized").status == "Unknown"
    site.world.wait_reason(name, "ClusterNotReady")
    assert len(site.sim.recorder) == 0, "neither a call nor a token went to whom nobody trusts"


def test_a_wrong_ca_is_told_and_the_right_one_mends_it(estate: Estate) -> None:
    site = estate.unapplied()
    site.good_secret()
    site.apply(tls={"caBundle": pki.authority("another").pem})
    name = site.make()
    assert_untrusted(site, name, "certificate not trusted")
    site.apply()
    site.wait("Ready")
    site.world.wait_ready(name)


def test_without_a_ca_the_cluster_is_not_trusted_unless_told_not_to_verify(estate: Estate) -> None:
    site = estate.unapplied()
    site.good_secret()
    site.apply(tls=None)
    name = site.make()
    assert_untrusted(site, name, "certificate not trusted")
    site.apply(tls={"insecureSkipVerify": True})
    site.wait("Ready")
    site.world.wait_ready(name)
    assert site.status()["caFingerprint"] == site.sim.fingerprint


def test_a_certificate_for_another_host_is_not_trusted(estate: Estate) -> None:
    site = estate.unapplied()
    site.good_secret()
    with serving(site, hosts=["pve.example.org"]):
        site.apply()
        name = site.make()
        assert_untrusted(site, name, "certificate is not valid for '127.0.0.1'")
    site.wait("Ready")
    site.world.wait_ready(name)


def test_an_expired_certificate_is_not_trusted_and_a_renewed_one_is(estate: Estate) -> None:
    site = estate.unapplied()
    site.good_secret()
    with serving(site, hosts=["127.0.0.1"], ends=datetime.timedelta(days=-1)):
        site.apply()
        name = site.make()
        assert_untrusted(site, name, "certificate has expired")
    site.wait("Ready")
    site.world.wait_ready(name)


def test_a_ca_bundle_that_cannot_be_read_is_told_by_its_field(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    site.apply(tls={"caBundle": "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"})
    found = site.wait("InvalidSpec")
    assert "tls.caBundle holds no usable PEM certificate" in found.message
    site.apply()
    site.wait("Ready")
    assert site.world.wait_ready(name) == vmid


def test_the_fingerprint_is_pinned_at_first_contact(estate: Estate) -> None:
    site = estate.site()
    assert site.status()["caFingerprint"] == site.sim.fingerprint
    assert site.status()["clusterName"] == site.sim.server.cluster_name


def test_a_pinned_fingerprint_that_differs_is_the_wrong_cluster_and_nothing_is_written(
    estate: Estate,
) -> None:
    site = estate.unapplied()
    site.good_secret()
    other = pki.authority("another").fingerprint
    site.apply(tls={"caBundle": site.sim.ca_pem, "fingerprint": other})
    name = site.make()
    found = site.wait("WrongCluster")
    assert found.status == "False"
    assert f"its CA has fingerprint {site.sim.fingerprint}, expected {other}" in found.message
    assert "correct spec.endpoints, or make a new ProxmoxCluster if the cluster was rebuilt" in found.message
    assert site.shows("Reachable")[:2] == ("False", "WrongCluster")
    site.world.wait_reason(name, "ClusterNotReady")
    assert site.writes() == []
    assert "caFingerprint" not in site.status()
    site.apply(tls={"caBundle": site.sim.ca_pem, "fingerprint": site.sim.fingerprint.lower()})
    site.wait("Ready")
    site.world.wait_ready(name)


def test_an_endpoint_of_another_cluster_is_put_aside_and_the_others_serve(estate: Estate) -> None:
    site = estate.site()
    name, vmid = site.ready()
    other = PveSim(cluster=f"{site.name}-impostor")
    site.sim.endpoints["pve1"].impersonate(other)
    found = site.wait("SomeEndpointsUnusable", kind="Reachable")
    assert found.status == "True"
    assert site.sim.endpoints["pve1"].url in found.message
    site.sim.stop(vmid)
    site.until(lambda: site.sim.vm(vmid).status == "running", "the VM was started through another endpoint")
    site.world.wait_ready(name)
    assert other.recorder.mutating == []
    site.sim.endpoints["pve1"].rejoin()
    site.wait("Reachable", kind="Reachable", status="True")


def test_with_the_same_ca_bundle_an_endpoint_of_another_cluster_is_told_by_its_fingerprint(
    estate: Estate,
) -> None:
    site = estate.site()
    other = PveSim(cluster=f"{site.name}-impostor")
    site.apply(tls={"caBundle": site.sim.ca_pem + other.ca_pem})
    site.wait("Ready")
    site.sim.endpoints["pve2"].impersonate(other)
    told = f"{site.sim.endpoints['pve2'].url} answers for another Proxmox cluster: its CA has"
    # For a moment nobody listens there, which is told by the same reason.
    site.until(lambda: told in site.shows("Reachable").message, f"{site.name} shows {told!r}")
    found = site.wait("SomeEndpointsUnusable", kind="Reachable")
    assert told in found.message
    assert f"fingerprint {other.fingerprint}, expected {site.sim.fingerprint}" in found.message
    site.ready()
    assert other.recorder.mutating == []


@pytest.mark.parametrize("proof_is_asked_for_again_after", [0.2, 30.0])
def test_when_all_endpoints_answer_for_another_cluster_everything_stops(
    estate: Estate, monkeypatch: pytest.MonkeyPatch, proof_is_asked_for_again_after: float
) -> None:
    monkeypatch.setattr("proxmox_operator.proxmox.client.PROOF_INTERVAL", proof_is_asked_for_again_after)
    site = estate.site()
    name, vmid = site.ready()
    other = PveSim(cluster=f"{site.name}-rebuilt")
    other.add_template(vmid=9000)
    other.add_vm(vmid, running=False)
    site.apply(tls={"caBundle": site.sim.ca_pem + other.ca_pem})
    site.wait("Ready")
    before, foreign = site.sim.world(), other.world()
    for endpoint in site.sim.endpoints.values():
        endpoint.impersonate(other)
    found = site.wait("WrongCluster")
    assert f"fingerprint {other.fingerprint}, expected {site.sim.fingerprint}" in found.message
    shown = site.world.wait_reason(name, "ClusterNotReady")
    assert "WrongCluster" in shown.message or "another Proxmox cluster" in shown.message
    waiting = site.make()
    site.world.delete(name)
    site.world.passes(waiting)
    assert other.recorder.mutating == []
    assert foreign.diff(other.world()) == []
    assert before.diff(site.sim.world()) == []
    assert site.world.raw(name) is not None
    for endpoint in site.sim.endpoints.values():
        endpoint.rejoin()
    site.wait("Ready")
    site.world.wait_gone(name)
    site.world.wait_ready(waiting)


def test_a_cluster_that_was_rebuilt_is_taken_up_when_its_fingerprint_is_given(estate: Estate) -> None:
    site = estate.site()
    rebuilt = PveSim(cluster=f"{site.name}-rebuilt")
    rebuilt.add_template(vmid=9000)
    for endpoint in site.sim.endpoints.values():
        endpoint.impersonate(rebuilt)
    site.apply(tls={"caBundle": rebuilt.ca_pem})
    site.wait("WrongCluster")
    site.apply(tls={"caBundle": rebuilt.ca_pem, "fingerprint": rebuilt.fingerprint})
    site.wait("Ready")
    assert site.status()["caFingerprint"] == rebuilt.fingerprint
    site.apply(tls={"caBundle": rebuilt.ca_pem})
    site.wait("Ready")


@contextmanager
def serving(
    site: Site, *, hosts: list[str], ends: datetime.timedelta = datetime.timedelta(days=30)
) -> Iterator[None]:
    """All endpoints show a certificate of the cluster's CA for these hosts only."""

    def restart() -> None:
        for endpoint in site.sim.endpoints.values():
            endpoint.down()
            endpoint.up()

    leaf = certificate(site.sim.server.cluster_name, hosts, ends)
    with mock.patch("pvesim.endpoints.server_context", return_value=leaf):
        restart()
    yield
    restart()


def certificate(cluster: str, hosts: list[str], ends: datetime.timedelta) -> ssl.SSLContext:
    authority, key = pki.authority(cluster, key_usage=False), ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
        for host in hosts
    ]
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])]))
        .issuer_name(authority.cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=10))
        .not_valid_after(now + ends)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    pem = leaf.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "node.pem"
        path.write_bytes(pem)
        context.load_cert_chain(path)
    return context
