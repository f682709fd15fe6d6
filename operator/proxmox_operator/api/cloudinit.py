"""Proxmox's native cloud-init: what a guest is told at its boot."""

from typing import Annotated

from pydantic import Field

from proxmox_operator.api.base import Matches, Rule, Wire
from proxmox_operator.api.scalars import ObjectName, StorageName

UserName = Annotated[
    str,
    Field(max_length=32),
    Matches(
        pattern="^[A-Za-z_][A-Za-z0-9_.-]*$",
        message="user must be a login name such as debian: letters, digits, dot, dash and underscore, at most 32",
    ),
]
SSHKey = Annotated[
    str,
    Field(max_length=4096),
    Matches(
        pattern=(
            r"^(ssh|ecdsa-sha2|sk-ssh|sk-ecdsa-sha2)-[a-z0-9@.-]+ AAAA[A-Za-z0-9+/]+={0,2}( [^\x00-\x1f]*)?$"
        ),
        message="sshKeys must list OpenSSH public keys, each in one line, such as 'ssh-ed25519 AAAA... me@laptop'",
    ),
]
SecretKey = Annotated[
    str,
    Field(max_length=253),
    Matches(
        pattern="^[-._a-zA-Z0-9]+$",
        message="key must be a key of the Secret's data: letters, digits, dot, dash and underscore",
    ),
]
SearchDomain = Annotated[
    str,
    Field(max_length=253),
    Matches(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$",
        message="searchDomains must list DNS domains such as example.org, without a trailing dot",
    ),
]
Resolver = Annotated[
    str,
    Field(max_length=39),
    Rule(
        cel="isIP(self)",
        message="servers must list IP addresses of DNS servers such as 10.0.20.1, not names",
    ),
]


class SecretKeyRef(Wire):
    """One key of a Secret in the ProxmoxVM's own namespace."""

    name: ObjectName
    """Name of the Secret. Required."""
    key: SecretKey = "password"
    """Key of the Secret's data that holds the value. Default: password."""


class DNS(Wire):
    """DNS settings of the guest."""

    rules = (
        Rule(
            cel=(
                "(has(self.servers) && size(self.servers) > 0)"
                " || (has(self.searchDomains) && size(self.searchDomains) > 0)"
            ),
            message="spec.cloudInit.dns is empty: set servers or searchDomains, or remove dns",
        ),
    )

    servers: Annotated[tuple[Resolver, ...], Field(max_length=8)] = ()
    """IP addresses of DNS servers, at most 8. Default: those of the Proxmox node; moving the VM then may
    make the guest run its cloud-init modules again."""
    search_domains: Annotated[tuple[SearchDomain, ...], Field(max_length=8)] = ()
    """Domains in which short names are looked up, at most 8. Default: those of the Proxmox node."""


class CloudInit(Wire):
    """What cloud-init tells the guest; addresses are set at each network."""

    rules = (
        Rule(
            cel=(
                "has(self.user) || (has(self.sshKeys) && size(self.sshKeys) > 0) || has(self.passwordSecretRef)"
                " || has(self.dns) || has(self.upgradePackages) || has(self.storage)"
            ),
            message=(
                "spec.cloudInit is empty: set user, sshKeys, passwordSecretRef, dns, upgradePackages or "
                "storage, or remove cloudInit"
            ),
        ),
    )

    user: UserName | None = None
    """Login name of the user that keys and password are for. Default: the image's own."""
    ssh_keys: Annotated[tuple[SSHKey, ...], Field(max_length=32)] = ()
    """OpenSSH public keys that may log in, at most 32, one line each. Default: unmanaged."""
    password_secret_ref: SecretKeyRef | None = None
    """Secret that holds the user's password; it is sent when the reference changes. Default: no password is set."""
    dns: DNS | None = None
    """DNS settings of the guest. Default: those of the Proxmox node."""
    upgrade_packages: bool | None = None
    """Whether the guest upgrades its packages at the first boot. Default: as Proxmox does, which is true."""
    storage: StorageName | None = None
    """Proxmox storage of the cloud-init drive, where the source has none. Default: that of the boot disk."""
