"""The certificates of a simulated cluster: one CA per cluster name and one certificate per node.

Keys are elliptic-curve and kept for the life of the process, so starting a simulator costs milliseconds. By
default the CA lacks the keyUsage extension, as every Proxmox VE CA made before March 2026 does (pve-cluster
b9b8383): Python 3.13 refuses such a CA unless VERIFY_X509_STRICT is cleared. This is test material: the keys
protect nothing.
"""

import datetime
import functools
import ipaddress
import ssl
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = datetime.timedelta(days=3650)


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, and what `GET /nodes/{node}/certificates/info` says about it."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """The certificate as PEM text."""
        return self.cert.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the certificate, upper-case pairs joined by colons, as Proxmox VE prints it."""
        return ":".join(f"{byte:02X}" for byte in self.cert.fingerprint(hashes.SHA256()))

    def info(self, filename: str) -> dict[str, object]:
        """The entry of this certificate in `GET /nodes/{node}/certificates/info`."""
        try:
            names = self.cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            san = [str(general.value) for general in names]
        except x509.ExtensionNotFound:
            san = []
        return {
            "filename": filename,
            "fingerprint": self.fingerprint,
            "subject": "/" + "/".join(part.rfc4514_string() for part in self.cert.subject.rdns),
            "issuer": "/" + "/".join(part.rfc4514_string() for part in self.cert.issuer.rdns),
            "notbefore": int(self.cert.not_valid_before_utc.timestamp()),
            "notafter": int(self.cert.not_valid_after_utc.timestamp()),
            "san": san,
            "pem": self.pem,
            "public-key-type": "id-ecPublicKey",
            "public-key-bits": self.key.key_size,
        }


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + VALIDITY)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


@functools.cache
def authority(cluster: str, *, key_usage: bool = False) -> Certificate:
    """The root CA of a cluster (`pve-root-ca.pem`)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "Proxmox Virtual Environment"),
            x509.NameAttribute(
                NameOID.ORGANIZATIONAL_UNIT_NAME, str(uuid.uuid5(uuid.NAMESPACE_DNS, cluster))
            ),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "PVE Cluster Manager CA"),
        ]
    )
    builder = _builder(name, name, key).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    if key_usage:
        builder = builder.add_extension(_key_usage(ca=True), critical=True)
    return Certificate(builder.sign(key, hashes.SHA256()), key)


def node_certificate(
    cluster: str, node: str, *, address: str = "127.0.0.1", key_usage: bool = False
) -> Certificate:
    """The certificate a node serves (`pve-ssl.pem`), valid for its name, its address and localhost; always the same."""
    return _node_certificate(cluster, node, address, key_usage)


@functools.cache  # by position: what is left out, and what is given as it would be, are one
def _node_certificate(cluster: str, node: str, address: str, key_usage: bool) -> Certificate:
    ca = authority(cluster, key_usage=key_usage)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{node}.pvesim.invalid")])
    names: list[x509.GeneralName] = [
        x509.IPAddress(ipaddress.ip_address(host)) for host in sorted({address, "127.0.0.1", "::1"})
    ]
    names += [x509.DNSName(host) for host in ("localhost", node, f"{node}.pvesim.invalid")]
    cert = (
        _builder(name, ca.cert.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca.key, hashes.SHA256())
    )
    return Certificate(cert, key)


@functools.cache
def server_context(
    cluster: str, node: str, *, address: str = "127.0.0.1", key_usage: bool = False
) -> ssl.SSLContext:
    """The TLS context a node's endpoint listens with."""
    leaf = node_certificate(cluster, node, address=address, key_usage=key_usage)
    pem = leaf.pem.encode() + leaf.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # The ssl module reads certificates only from files; this one exists for the length of the call.
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "node.pem"
        path.touch(mode=0o600)
        path.write_bytes(pem)
        context.load_cert_chain(path)
    return context
