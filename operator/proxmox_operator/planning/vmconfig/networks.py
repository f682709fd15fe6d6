"""The listed network devices; a MAC address, once there, is sent again with every change."""

import re
from collections.abc import Iterable, Iterator, Mapping

from proxmox_operator.api import Network, NetworkStatus
from proxmox_operator.planning.canonical import Value, amended
from proxmox_operator.planning.propstring import render_props
from proxmox_operator.planning.vmconfig.changes import Change, Problem, Put, Wanted
from proxmox_operator.planning.vmconfig.effects import nic_parts

NIC_MODELS = {
    "VirtIO": "virtio",
    "E1000": "e1000",
    "E1000E": "e1000e",
    "RTL8139": "rtl8139",
    "VMXNET3": "vmxnet3",
}

_DEVICE = re.compile(r"^net\d+$")

_DEFAULTS: dict[str, Value] = {
    "tag": 0,
    "mtu": 0,
    "queues": 1,
    "rate": 0.0,
    "firewall": False,
    "link_down": False,
}


def networks(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    recorded = {network.name: network.mac for network in wanted.vm.status.networks}
    for network in wanted.vm.spec.networks:
        if (bridge := network.bridge or wanted.bridge) is None:
            message = f"spec.networks[{network.name}].bridge: name one, or set defaults.bridge on the ProxmoxCluster"
            yield Problem(reason="BridgeNotChosen", message=message)
            continue
        current = nic_parts(config.get(network.name, ""))
        mac = network.mac or current.get("macaddr") or recorded.get(network.name)
        props = amended(current, _parts(network, bridge, mac, current), _DEFAULTS)
        if props != current:
            yield Put(key=network.name, value=_rendered(props), was=config.get(network.name))


def _parts(network: Network, bridge: str, mac: str | None, current: Mapping[str, str]) -> dict[str, Value]:
    """All that the spec has words for. Trunks stay as they are spelled where they are the same VLANs."""
    trunks = _vlans((vlans.start, vlans.end) for vlans in network.trunks)
    same = _vlans(_ranges(current.get("trunks", ""))) == trunks
    return {
        "model": NIC_MODELS[network.model],
        "macaddr": mac.upper() if mac else None,
        "bridge": bridge,
        "tag": network.vlan,
        "trunks": current.get("trunks") if same else trunks or None,
        "mtu": network.mtu,
        "queues": network.queues,
        "rate": network.rate_limit,
        "firewall": network.firewall,
        "link_down": not network.connected,
    }


def _ranges(trunks: str) -> Iterator[tuple[int, int]]:
    """``2;4-6`` as Proxmox writes VLANs; what cannot be read is left out."""
    for part in trunks.split(";"):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            yield int(first), int(last or first)


def _vlans(ranges: Iterable[tuple[int, int]]) -> str:
    """The VLANs of ``ranges`` in one spelling: sorted, merged, each once."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return ";".join(str(start) if start == end else f"{start}-{end}" for start, end in merged)


def _rendered(parts: Mapping[str, str]) -> str:
    """``virtio=MAC,bridge=...``; without a MAC Proxmox makes one."""
    rest = {part: text for part, text in parts.items() if part not in ("model", "macaddr")}
    model, mac = parts["model"], parts.get("macaddr")
    return render_props({model: mac, **rest} if mac else {"model": model, **rest}, "model")


def recorded_networks(wanted: Wanted, config: Mapping[str, str]) -> tuple[NetworkStatus, ...]:
    """The listed networks with the MAC addresses they have; these are sent again with every change."""
    names, addresses = [network.name for network in wanted.vm.spec.networks], macs(config)
    return tuple(NetworkStatus(name=name, mac=addresses[name]) for name in names if name in addresses)


def macs(config: Mapping[str, str]) -> dict[str, str]:
    """The MAC addresses of all network devices, by their names."""
    found = {key: nic_parts(value).get("macaddr") for key, value in config.items() if _DEVICE.match(key)}
    return {name: mac for name, mac in found.items() if mac is not None}
