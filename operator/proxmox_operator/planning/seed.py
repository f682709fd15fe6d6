"""The NoCloud seed: what a VM with user data of its own is told at its first boot, and where that lies.

Pure: names, texts, and what an edit means. The image is made in ``guest.seed``; when it is uploaded, attached and
removed is decided in ``planning.lifecycle.seeding``. Sources: cloud-init's NoCloud data source and its network-config
of version 2; volume names as in ``PVE::Storage::Plugin`` (``iso/NAME.iso``).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxmox_operator.api import IPv4, IPv6, Network, ProxmoxVM, SeedStatus

GONE = frozenset(("Emptied", "Removed"))
"""Phases in which no user data is on the storage any more."""


@dataclass(frozen=True, kw_only=True)
class Seed:
    """The seed as it is. ``record`` is that of the status, or newer; ``attached``: a drive of the VM names its volume.

    ``wanted`` is where it has to be before the first start, None where it is not to be there or was not looked for;
    ``current``: it is there, uploaded by this process with what the spec says now. ``kept``: it could not be removed,
    which was told.
    """

    record: SeedStatus | None
    attached: bool = False
    wanted: "Location | None" = None
    current: bool = False
    kept: bool = False


@dataclass(frozen=True, kw_only=True)
class Location:
    """A volume and the node that it is uploaded through; ``shared``: other nodes have it too."""

    volume: str
    node: str
    shared: bool = False

    def is_of(self, record: SeedStatus) -> bool:
        """Whether the seed on record is this very file."""
        return record.volume == self.volume and (self.shared or record.node == self.node)

    @property
    def storage(self) -> str:
        """The storage's ID."""
        return self.volume.partition(":")[0]

    @property
    def file_name(self) -> str:
        """The name of the file on the storage."""
        return self.volume.rpartition("/")[2]


def has_user_data(vm: ProxmoxVM) -> bool:
    """Whether the spec has user data, so that the guest gets a seed in place of Proxmox's cloud-init drive."""
    return vm.spec.cloud_init is not None and vm.spec.cloud_init.has_user_data


def is_seeded(vm: ProxmoxVM) -> bool:
    """Whether native cloud-init must stay away: a guest that was booted with a seed would take it for a new instance,
    and make new host keys."""
    return has_user_data(vm) or (vm.status.seed is not None and vm.status.started)


def is_spent(vm: ProxmoxVM) -> bool:
    """Whether the seed of the VM is of no use any more: its first boot is over, or will be one without a seed."""
    return vm.status.cloud_init_done or not (vm.status.started or has_user_data(vm))


def storage_of(vm: ProxmoxVM, default: str | None) -> str | None:
    """The storage for the seed; ``default`` is that of the ProxmoxCluster."""
    init = vm.spec.cloud_init
    return (init.seed_storage if init is not None else None) or default


def location(vm: ProxmoxVM, storage: str, node: str, *, shared: bool) -> Location:
    """Where the seed goes. The name is the VM's own: an upload that is repeated replaces it."""
    return Location(
        volume=seed_volume(storage, vm.status.vmid or 0, vm.status.uuid or ""), node=node, shared=shared
    )


def seed_volume(storage: str, vmid: int, uuid: str) -> str:
    """The volume of the seed of one very VM."""
    return f"{storage}:iso/{_file_name(vmid, uuid)}"


def is_seed(volume: str, vmid: int | None = None) -> bool:
    """Whether a volume is a seed, made for this VMID or for any."""
    return f":iso/{_PREFIX if vmid is None else _prefix(vmid)}" in volume


def attached_seed(config: Mapping[str, str], vmid: int, uuid: str) -> str | None:
    """The volume of this very VM's seed, where a drive holds it."""
    volumes = (value.partition(",")[0] for value in config.values())
    return next((volume for volume in volumes if volume.endswith(f":iso/{_file_name(vmid, uuid)}")), None)


def _file_name(vmid: int, uuid: str) -> str:
    return f"{_prefix(vmid)}{uuid[:8]}.iso"


_PREFIX = "pvm-seed-"


def _prefix(vmid: int) -> str:
    return f"{_PREFIX}{vmid}-"


def meta_data(vm: ProxmoxVM) -> dict[str, str]:
    """The instance-id is the VM's UUID, so whatever is edited later, the guest never takes itself for a new one."""
    return {"instance-id": vm.status.uuid or "", "local-hostname": vm.spec.name or vm.metadata.name}


def network_config(vm: ProxmoxVM, macs: Mapping[str, str]) -> dict[str, Any] | None:
    """Network-config of version 2 from the addresses of ``spec.networks``, told apart by their MAC addresses ``macs``.

    Where no network has an address, DHCP tells one: with name servers of ``spec.cloudInit.dns`` that is said of each
    device, without them None leaves it to cloud-init. Devices are called ethN as Proxmox's native cloud-init calls
    them; not every renderer of cloud-init can do without a name.
    """
    told = {each.name: _addresses(each) for each in vm.spec.networks if each.ipv4 or each.ipv6}
    name_servers = _name_servers(vm)
    if not told and name_servers:
        told = {network: {"dhcp4": True} for network in macs}
    if not told:
        return None
    ethernets = {}
    for network, addresses in told.items():
        name = f"eth{network.removeprefix('net')}"
        match = {"match": {"macaddress": macs[network].lower()}, "set-name": name}
        ethernets[name] = match | addresses | name_servers
    return {"version": 2, "ethernets": ethernets}


def _addresses(network: Network) -> dict[str, Any]:
    found: dict[str, Any] = {}
    fixed: list[IPv4 | IPv6] = []
    for version, key in ((network.ipv4, "dhcp4"), (network.ipv6, "dhcp6")):
        if version is None:
            continue
        if version.address == "dhcp":
            found[key] = True
        elif version.address == "auto":
            found["accept-ra"] = True
        else:
            fixed.append(version)
    routes = [
        {"to": "::/0" if ":" in version.gateway else "0.0.0.0/0", "via": version.gateway}
        for version in fixed
        if version.gateway is not None
    ]
    found |= {"addresses": [version.address for version in fixed]} if fixed else {}
    return found | ({"routes": routes} if routes else {})


def _name_servers(vm: ProxmoxVM) -> dict[str, Any]:
    dns = vm.spec.cloud_init.dns if vm.spec.cloud_init is not None else None
    if dns is None:
        return {}
    parts = {"addresses": list(dns.servers), "search": list(dns.search_domains)}
    return {"nameservers": {key: values for key, values in parts.items() if values}}


def made_from(vm: ProxmoxVM) -> str:
    """A hash of all that the seed is made from and the spec itself says; the same as long as nothing was edited.

    Of a Secret only its name and key are part of it: nothing about a secret may be found out from the status.
    """
    init = vm.spec.cloud_init
    said = {
        "cloudInit": init.model_dump(
            mode="json", include={"user_data", "user_data_secret_ref", "network_data", "dns"}
        )
        if init is not None
        else None,
        "networks": [
            network.model_dump(mode="json", include={"name", "ipv4", "ipv6"})
            for network in vm.spec.networks
            if network.ipv4 or network.ipv6
        ],
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def comes_too_late(vm: ProxmoxVM) -> str | None:
    """What a person should know of an edit after the first start; None where nothing was edited."""
    if not vm.status.started or not is_seeded(vm):
        return None
    record = vm.status.seed
    if record is None:
        return (
            "spec.cloudInit: user data is read at the first boot only, and of this VM none is on record: it has no "
            "effect any more; make another ProxmoxVM to use it"
        )
    if record.made_from == made_from(vm):
        return None
    return (
        "spec.cloudInit and the addresses of spec.networks were read at the VM's first boot: what was edited since has "
        "no effect; make the change in the guest, or make another ProxmoxVM"
    )
