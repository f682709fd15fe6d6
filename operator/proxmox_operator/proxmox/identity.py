"""Which cluster answers behind an endpoint: the fingerprint of its CA, and its name.

The CA (``/etc/pve/pve-root-ca.pem``) lives in the cluster's own replicated file system, is made once and
outlives nodes, addresses, node certificates and custom or ACME certificates. ``GET
/nodes/localhost/certificates/info`` shows its SHA-256 fingerprint to every authenticated user, without a
privilege, and is answered by the endpoint itself: pveproxy does not forward ``localhost`` (pve-manager,
PVE/API2/Certificates.pm and PVE/HTTPServer.pm). The TLS chain is no substitute: pveproxy sends the leaf
alone, and a custom certificate names another CA. The name, from ``/cluster/status`` (needs Sys.Audit on /),
tells a node that was separated from its cluster and kept its CA.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from proxmox_operator import errors

from .request import Request
from .transport import Refused, Transport

ROOT_CA = "pve-root-ca.pem"

_STATUS = Request("GET", ("cluster", "status"))


def _certificates(node: str) -> Request:
    return Request("GET", ("nodes", node, "certificates", "info"))


class WrongCluster(errors.NeedsHuman):
    """An endpoint answers for another cluster than the recorded one: it is neither read nor written."""

    default_reason = "WrongCluster"


@dataclass(frozen=True, slots=True)
class ClusterIdentity:
    """``ca_fingerprint``: SHA-256 as upper-case hex with colons. ``name``: "" for a node that is in no
    cluster, None when it may not be read.
    """

    ca_fingerprint: str
    name: str | None = None

    def difference(self, found: "ClusterIdentity") -> str | None:
        """Why ``found`` is not this cluster; None when it is.

        A lone node that has founded a cluster since is the same; a node without a cluster is not the
        cluster it left.
        """
        if normal_fingerprint(found.ca_fingerprint) != normal_fingerprint(self.ca_fingerprint):
            return f"its CA has fingerprint {found.ca_fingerprint}, expected {self.ca_fingerprint}"
        if self.name and found.name is not None and found.name != self.name:
            where = f"cluster {found.name!r}" if found.name else "no cluster"
            return f"it belongs to {where}, expected {self.name!r}"
        return None


@dataclass(frozen=True, slots=True)
class Proof:
    """What an endpoint says of itself. ``quorate`` is None where it may not be read; ``peer`` is the certificate it
    showed.
    """

    identity: ClusterIdentity
    quorate: bool | None
    nodes: tuple[str, ...] = ()
    peer: bytes | None = None


@runtime_checkable
class Peered(Protocol):
    """A transport that knows who answered the last request of the calling thread."""

    def peer(self) -> bytes | None: ...


def normal_fingerprint(text: str) -> str:
    """Upper-case hex without colons, however people write it."""
    return text.replace(":", "").strip().upper()


def read_proof(transport: Transport) -> Proof:
    """Ask one endpoint who it is: two reads. Raises what Transport.send raises, or Refused when it names no
    CA.
    """
    try:
        status: list[dict[str, Any]] | None = transport.send(_STATUS)
    except Refused as refused:
        if refused.status != 403:
            raise
        status = None
    nodes = [item for item in status or () if item.get("type") == "node"]
    local = next((str(node["name"]) for node in nodes if node.get("local")), "localhost")
    certificates: list[dict[str, Any]] = transport.send(_certificates(local)) or []
    fingerprint = next((str(c["fingerprint"]) for c in certificates if c.get("filename") == ROOT_CA), None)
    if fingerprint is None:
        raise Refused(500, f"the endpoint names no {ROOT_CA}: cannot tell which cluster it belongs to")
    peer = transport.peer() if isinstance(transport, Peered) else None
    if status is None:
        return Proof(ClusterIdentity(fingerprint), None, peer=peer)
    cluster = next((item for item in status if item.get("type") == "cluster"), None)
    return Proof(
        ClusterIdentity(fingerprint, str(cluster["name"]) if cluster else ""),
        bool(cluster.get("quorate")) if cluster else True,
        tuple(sorted(str(node["name"]) for node in nodes)),
        peer,
    )
