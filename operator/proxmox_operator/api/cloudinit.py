"""Cloud-init: what a guest is told at its boot, by Proxmox's native keys or by user data of one's own.

User data reaches the guest as a NoCloud seed (``planning.seed``); the native keys become Proxmox's cloud-init drive.
A VM has one of both, since a guest takes the first that it finds.
"""

from typing import Annotated

from pydantic import Field

from proxmox_operator.api.base import Matches, Rule, Wire
from proxmox_operator.api.scalars import ObjectName, SeedStorageName, StorageName

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


MAX_USER_DATA = 65536
"""Bytes of user data, and of network data."""

BEGINNINGS = (
    "#cloud-config", "#!", "#include", "#cloud-boothook", "#part-handler", "## template:",
    "Content-Type:", "MIME-Version:",
)  # fmt: skip
"""How user data begins that cloud-init reads (``cloudinit.handlers.INCLUSION_TYPES_MAP``, and MIME messages)."""

UserData = Annotated[
    str,
    Field(max_length=MAX_USER_DATA),
    Rule(
        cel=f"{list(BEGINNINGS)}.exists(begin, self.startsWith(begin))",
        message=(
            "userData must begin with #cloud-config, with #! where it is a script, or be a MIME message (or begin with "
            "#include, #cloud-boothook, #part-handler, ## template:): cloud-init ignores anything else"
        ),
    ),
]
NetworkData = Annotated[
    str,
    Field(max_length=MAX_USER_DATA),
    Rule(
        cel="self.contains('version:')",
        message="networkData must be a network-config of cloud-init: it begins with 'version: 2'",
    ),
]


class SecretKeyRef(Wire):
    """One key of a Secret in the ProxmoxVM's own namespace."""

    name: ObjectName
    """Name of the Secret. Required."""
    key: SecretKey = "password"
    """Key of the Secret's data that holds the value. Default: password."""


class UserDataRef(Wire):
    """One key of a Secret in the ProxmoxVM's own namespace that holds user data, at most 64 KiB."""

    name: ObjectName
    """Name of the Secret. Required."""
    key: SecretKey = "userdata"
    """Key of the Secret's data that holds the user data. Default: userdata."""


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


_HAS_USER_DATA = "(has(self.userData) || has(self.userDataSecretRef))"


class CloudInit(Wire):
    """What cloud-init tells the guest; addresses are set at each network."""

    rules = (
        Rule(
            cel=(
                "has(self.user) || (has(self.sshKeys) && size(self.sshKeys) > 0) || has(self.passwordSecretRef)"
                " || has(self.dns) || has(self.upgradePackages) || has(self.storage) || has(self.networkData)"
                f" || has(self.seedStorage) || {_HAS_USER_DATA}"
            ),
            message=(
                "spec.cloudInit is empty: set user, sshKeys, passwordSecretRef, dns, upgradePackages or storage, or "
                "userData or userDataSecretRef, or remove cloudInit"
            ),
        ),
        Rule(
            cel="!has(self.userData) || !has(self.userDataSecretRef)",
            message="spec.cloudInit has userData and userDataSecretRef: remove one; what is secret belongs in a Secret",
            field=".userData",
        ),
        Rule(
            cel=f"{_HAS_USER_DATA} || (!has(self.networkData) && !has(self.seedStorage))",
            message=(
                "spec.cloudInit.networkData and seedStorage go with user data: set userData or userDataSecretRef, or "
                "remove them"
            ),
        ),
        Rule(
            cel=(
                f"!{_HAS_USER_DATA} || !(has(self.user) || (has(self.sshKeys) && size(self.sshKeys) > 0)"
                " || has(self.passwordSecretRef) || has(self.upgradePackages) || has(self.storage))"
            ),
            message=(
                "spec.cloudInit.user, sshKeys, passwordSecretRef, upgradePackages and storage are not used beside user "
                "data: remove them and write there, under #cloud-config, user: NAME, ssh_authorized_keys: [KEY], "
                "password: HASH and package_upgrade: true"
            ),
        ),
        Rule(
            cel="!has(self.networkData) || !has(self.dns)",
            message="spec.cloudInit.dns is not used beside networkData: write nameservers there, and remove dns",
            field=".dns",
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
    user_data: UserData | None = None
    """User data of one's own, such as a #cloud-config, in place of the fields above but dns; at most 64 KiB. The guest
    reads it at its first boot only. Default: none."""
    user_data_secret_ref: UserDataRef | None = None
    """Secret that holds the user data, where there are secrets in it. Default: none."""
    network_data: NetworkData | None = None
    """Network-config of cloud-init, version 2, beside user data; at most 64 KiB. Default: made from the addresses of
    spec.networks and from dns; DHCP where there are none."""
    seed_storage: SeedStorageName | None = None
    """Proxmox storage with content ISO image that holds the user data until the first boot is over. Default:
    spec.defaults.seedStorage of the ProxmoxCluster."""

    @property
    def has_user_data(self) -> bool:
        """Whether the guest gets user data of one's own, in place of Proxmox's native cloud-init."""
        return self.user_data is not None or self.user_data_secret_ref is not None
