"""From a ProxmoxCluster and its Secret to what a connection needs: credentials, trust, limits, and whom to expect."""

from proxmox_operator.api import ProxmoxCluster
from proxmox_operator.api.quantity import parse_duration
from proxmox_operator.errors import NeedsHuman
from proxmox_operator.kube.secrets import SecretData
from proxmox_operator.proxmox.client import Limits
from proxmox_operator.proxmox.credentials import (
    Credentials,
    PasswordCredentials,
    TLSSettings,
    TokenCredentials,
)
from proxmox_operator.proxmox.identity import ClusterIdentity, normal_fingerprint
from proxmox_operator.proxmox.permissions import Scope


def credentials_of(secret: SecretData) -> Credentials:
    """An API token (``tokenID``, ``tokenSecret``) or a user (``username``, ``password``).

    Raises NeedsHuman (SecretKeyMissing, SecretKeyInvalid), which names the key.
    """
    try:
        if "username" in secret and "tokenID" not in secret:
            return PasswordCredentials(secret.text("username"), secret.text("password"))
        return TokenCredentials(secret.text("tokenID"), secret.text("tokenSecret"))
    except ValueError as error:
        where = f"Secret {secret.namespace}/{secret.name}"
        raise NeedsHuman(f"{where}: {error}", reason="SecretKeyInvalid") from None


def tls_of(cluster: ProxmoxCluster) -> TLSSettings:
    """Whom to trust."""
    tls = cluster.spec.tls
    return TLSSettings(ca_bundle=tls.ca_bundle, insecure_skip_verify=tls.insecure_skip_verify)


def limits_of(cluster: ProxmoxCluster) -> Limits:
    """How much may be asked at a time."""
    limits = cluster.spec.limits
    return Limits(
        calls_per_node=limits.calls_per_node,
        allocations_per_storage=limits.allocations_per_storage,
        threads=min(32, max(8, 2 * limits.calls_per_node)),
        poll_interval=parse_duration(limits.poll_interval).total_seconds(),
    )


def identity_of(cluster: ProxmoxCluster) -> ClusterIdentity | None:
    """Who must answer: as pinned in the spec, else as recorded at first contact. A recorded name belongs to its CA."""
    given, status = cluster.spec.tls.fingerprint, cluster.status
    if status.ca_fingerprint is None:
        return ClusterIdentity(given) if given else None
    recorded = ClusterIdentity(status.ca_fingerprint, status.cluster_name or None)
    if given is None or normal_fingerprint(given) == normal_fingerprint(status.ca_fingerprint):
        return recorded
    return ClusterIdentity(given)


def scope_of(cluster: ProxmoxCluster) -> Scope:
    """Where privileges are needed whatever VMs ask for."""
    spec = cluster.spec
    return Scope(
        pool=spec.pool,
        storages=(spec.defaults.storage,) if spec.defaults.storage else (),
        bridges=(f"localnetwork/{spec.defaults.bridge}",) if spec.defaults.bridge else (),
    )
