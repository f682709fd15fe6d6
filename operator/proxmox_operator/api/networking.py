"""Network devices of a ProxmoxVM and the addresses that cloud-init gives them.

A network that is listed is owned whole: what it leaves out has Proxmox's default.
"""

from typing import Annotated, Literal

from pydantic import Field

from proxmox_operator.api.base import ListMap, Matches, Rule, Wire
from proxmox_operator.api.scalars import BridgeName, VlanRange, VlanTag

NetworkName = Annotated[
    str,
    Field(max_length=5),
    Matches(
        pattern="^net([0-9]|[12][0-9]|3[01])$",
        message="name must be that of a Proxmox network device: net0 to net31",
    ),
]
MACAddress = Annotated[
    str,
    Field(max_length=17),
    Matches(
        pattern="^[0-9A-Fa-f][02468ACEace](:[0-9A-Fa-f]{2}){5}$",
        message="mac must be a unicast address such as BC:24:11:0A:1B:2C: its second digit is even",
    ),
]


def _address_rules(version: int, words: str, example: str) -> tuple[Rule, ...]:
    """Rules of an address block; ``words`` are those that stand in place of an address."""
    field = f"ipv{version}"
    listed = " or ".join(f"'{word}'" for word in words.split())
    is_word = " || ".join(f"self.address == '{word}'" for word in words.split())
    is_cidr = f"isCIDR(self.address) && cidr(self.address).ip().family() == {version}"
    is_ip = f"isIP(self.gateway) && ip(self.gateway).family() == {version}"
    return (
        Rule(
            cel=f"{is_word} || ({is_cidr})",
            message=f"{field}.address must be {listed} or an IPv{version} address with its prefix such as {example}",
            field=".address",
        ),
        Rule(
            cel=f"!has(self.gateway) || ({is_ip})",
            message=f"{field}.gateway must be an IPv{version} address without a prefix",
            field=".gateway",
        ),
        Rule(
            cel=f"!has(self.gateway) || !({is_word})",
            message=(
                f"{field}.gateway is given by the network when address is {listed}: remove gateway or set an"
                " address"
            ),
            field=".gateway",
        ),
    )


class IPv4(Wire):
    """IPv4 address that cloud-init gives the network."""

    rules = (
        *_address_rules(4, "dhcp", "10.0.20.11/24"),
        Rule(
            cel=(
                "!has(self.gateway) || !isIP(self.gateway) || !isCIDR(self.address)"
                " || cidr(self.address).containsIP(self.gateway)"
            ),
            message="ipv4.gateway is outside the subnet of ipv4.address: correct the gateway or the prefix length",
            field=".gateway",
        ),
    )

    address: Annotated[str, Field(max_length=18)]
    """Address with its prefix length such as 10.0.20.11/24, or dhcp. Required."""
    gateway: Annotated[str, Field(max_length=15)] | None = None
    """Router of the default route, such as 10.0.20.1, inside the address's subnet. Default: none."""


class IPv6(Wire):
    """IPv6 address that cloud-init gives the network."""

    rules = (
        *_address_rules(6, "dhcp auto", "2001:db8::11/64"),
        Rule(
            cel=(
                "!has(self.gateway) || !isIP(self.gateway) || !isCIDR(self.address)"
                " || ip(self.gateway).isLinkLocalUnicast() || cidr(self.address).containsIP(self.gateway)"
            ),
            message=(
                "ipv6.gateway is neither link-local nor inside the subnet of ipv6.address: correct the "
                "gateway or the prefix length"
            ),
            field=".gateway",
        ),
    )

    address: Annotated[str, Field(max_length=43)]
    """Address with its prefix length such as 2001:db8::11/64, dhcp, or auto for SLAAC. Required."""
    gateway: Annotated[str, Field(max_length=39)] | None = None
    """Router of the default route, such as fe80::1, link-local or inside the address's subnet. Default: none."""


class Network(Wire):
    """Network device. One taken off the list stays in the VM, unmanaged."""

    rules = (
        Rule(
            cel="(!has(self.mtu) && !has(self.queues)) || !has(self.model) || self.model == 'VirtIO'",
            message="mtu and queues of a network work with model VirtIO only: remove them or set model to VirtIO",
            field=".model",
        ),
        Rule(
            cel="!has(self.mtu) || self.mtu <= 1 || self.mtu >= 576",
            message="mtu must be 1, which means that of the bridge, or from 576 to 65520 bytes",
            field=".mtu",
        ),
    )

    name: NetworkName
    """Device of the VM, net0 to net31, unique in the VM. Required."""
    bridge: BridgeName | None = None
    """Bridge or SDN vnet of the node, such as vmbr0. Default: spec.defaults.bridge of the ProxmoxCluster."""
    model: Literal["VirtIO", "E1000", "E1000E", "RTL8139", "VMXNET3"] = "VirtIO"
    """Device that the guest sees; others than VirtIO are for guests without its driver. Default: VirtIO."""
    vlan: VlanTag | None = None
    """VLAN tag of the traffic, 1 to 4094. Default: untagged."""
    trunks: Annotated[tuple[VlanRange, ...], Field(max_length=32)] = ()
    """VLANs that the guest may tag itself, at most 32 ranges; the bridge must be VLAN-aware. Default: none."""
    mac: MACAddress | None = None
    """MAC address such as BC:24:11:0A:1B:2C. Default: one that Proxmox makes, which then stays and is shown
    in status."""
    mtu: Annotated[int, Field(ge=1, le=65520)] | None = None
    """Largest packet in bytes, 576 to 65520, or 1 for that of the bridge; VirtIO only. Default: 1500."""
    queues: Annotated[int, Field(ge=1, le=64)] | None = None
    """Queue pairs, 1 to 64, as many as the VM has cores for much traffic; VirtIO only. Default: 1."""
    rate_limit: Annotated[int, Field(ge=1, le=10240)] | None = None
    """Megabytes per second that the device may carry, 1 to 10240. Default: not limited."""
    firewall: bool = False
    """Whether the Proxmox firewall filters this device. Default: false."""
    connected: bool = True
    """Whether the link is up; false is a pulled cable. Default: true."""
    ipv4: IPv4 | None = None
    """IPv4 address, given by cloud-init. Default: unmanaged."""
    ipv6: IPv6 | None = None
    """IPv6 address, given by cloud-init. Default: unmanaged."""


Networks = Annotated[
    tuple[Network, ...],
    Field(max_length=32),
    ListMap("name"),
    Rule(
        cel="self.all(a, !has(a.mac) || self.exists_one(b, has(b.mac) && b.mac.lowerAscii() == a.mac.lowerAscii()))",
        message="spec.networks uses one mac twice: give each network its own, or leave mac out",
    ),
]
