"""How to reach and trust one endpoint: URL, credentials that never print themselves, TLS settings."""

import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

DEFAULT_PORT = 8006
PLACEHOLDER = "REPLACE"
"""What the example manifests have in places that are to be filled in."""
_TOKEN_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9._-]*\Z", re.ASCII)
"""As in ``PVE::AccessControl``; what follows ``=`` in a header would be the secret."""

_HOST = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?\Z|^[0-9A-Fa-f:.]+\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One pveproxy: host and port of ``https://host:8006``."""

    host: str
    port: int = DEFAULT_PORT

    @classmethod
    def parse(cls, url: str) -> "Endpoint":
        """From ``https://host[:port]``; raises ``ValueError`` that says what is wrong."""
        parts = urlsplit(url if "://" in url else f"https://{url}")
        if parts.scheme != "https":
            raise ValueError(
                f"endpoint {url!r}: Proxmox VE is served over https only, write https://host:8006"
            )
        if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
            raise ValueError(f"endpoint {url!r}: only https://host:port, without path, user or query")
        if not parts.hostname or _HOST.match(parts.hostname) is None:
            raise ValueError(f"endpoint {url!r}: no host name or address in it")
        return cls(parts.hostname, parts.port or DEFAULT_PORT)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TokenCredentials:
    """An API token: ``token_id`` is ``user@realm!name``; the secret is left out of every repr."""

    token_id: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        user, _, name = self.token_id.partition("!")
        if "@" not in user or _TOKEN_NAME.match(name) is None:
            raise ValueError("tokenID must look like user@realm!name, for example operator@pve!kubernetes")
        if self.secret.startswith(PLACEHOLDER):
            raise ValueError(
                "tokenSecret is not filled in: Proxmox VE shows it once, when the token is made; one that is lost "
                "takes another token (`pveum user token`)"
            )


@dataclass(frozen=True, slots=True)
class PasswordCredentials:
    """A user with a password; each endpoint gives a ticket for it, good for two hours."""

    username: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        if "@" not in self.username:
            raise ValueError("username must name its realm, for example operator@pve")


Credentials = TokenCredentials | PasswordCredentials


@dataclass(frozen=True, slots=True)
class TLSSettings:
    """Trust: PEM of the CA (None: the system's), or no verification at all."""

    ca_bundle: str | None = None
    insecure_skip_verify: bool = False

    def context(self) -> ssl.SSLContext:
        """A client context that verifies chain and host name; the bundle may also hold a node's own
        certificate.

        Made by hand: Python 3.13's default context is strict (VERIFY_X509_STRICT) and refuses Proxmox CAs
        made before March 2026, which lack keyUsage. Raises ``ValueError`` for a CA bundle that is no PEM.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return context
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if self.ca_bundle is None:
            context.load_default_certs()
            return context
        try:
            context.load_verify_locations(cadata=self.ca_bundle)
        except (ssl.SSLError, ValueError):
            is_what = (
                "is not filled in" if PLACEHOLDER in self.ca_bundle else "holds no usable PEM certificate"
            )
            raise ValueError(
                f"spec.tls.caBundle {is_what}: paste /etc/pve/pve-root-ca.pem of any node as it is, or leave it out "
                "where the endpoints have certificates of a public CA"
            ) from None
        return context
