"""What a Proxmox cluster says of itself: version, quorum, name, nodes. Who it is, is identity.py."""

import re
from dataclasses import dataclass

from proxmox_operator import errors

from .client import PveClient
from .identity import ClusterIdentity

SUPPORTED = (8, 9)


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """``quorate`` and the node names are None/empty where Sys.Audit on / is missing."""

    version: str
    identity: ClusterIdentity
    quorate: bool | None
    nodes: tuple[str, ...]

    @property
    def major(self) -> int:
        """8 or 9: decides privileges and the HA API."""
        return major_version(self.version)


def major_version(version: str) -> int:
    """The first number of ``9.2.11``; raises NeedsHuman for what is no Proxmox VE version."""
    match = re.match(r"(\d+)\.", version)
    if match is None:
        raise errors.NeedsHuman(
            f"the endpoint answers with version {version!r}: is it Proxmox VE?", reason="NotProxmox"
        )
    return int(match[1])


async def probe(client: PveClient) -> ClusterInfo:
    """``GET /version`` and ``GET /cluster/status``. Raises the client's errors, and NeedsHuman for another
    major version.
    """
    data = await client.get("version")
    version = str(data.get("version", "")) if isinstance(data, dict) else ""
    if major_version(version) not in SUPPORTED:
        raise errors.NeedsHuman(
            f"Proxmox VE {version} is not supported: versions 8 and 9 are", reason="UnsupportedVersion"
        )
    proof = await client.proof()
    return ClusterInfo(version, proof.identity, proof.quorate, proof.nodes)
