"""The listed network devices; a MAC address, once there, is sent again with every change."""

import re
from collections.abc import Iterator, Mapping

from proxmox_operator.api import Network, NetworkStatus
from proxmox_operator.planning import disks
from proxmox_operator.planning.propstring import parse_props, render_props
from proxmox_operator.planning.vmconfig.changes import Change, Problem, Put, Wanted

NIC_MODELS = {
    "VirtIO": "virtio",
    "E1000": "e1000",
    "E1000E": "e1000e",
    "RTL8139": "rtl8139",
    "VMXNET3": "vmxnet3",
}


_MAC_ADDRESS = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")


def networks(wanted: Wanted, config: Mapping[str, str]) -> Iterator[Change]:
    recorded = {network.name: network.mac for network in wanted.vm.status.networks}
    for network in wanted.vm.spec.networks:
        if (bridge := network.bridge or wanted.bridge) is None:
            message = f"spec.networks[{network.name}].bridge: name one, or set defaults.bridge on the ProxmoxCluster"
            yield Problem(reason="BridgeNotChosen", message=message)
            continue
        current = parse_props(config.get(network.name, ""), "model")
        mac = network.mac or _mac(current) or recorded.get(network.name)
        props = _nic(network, bridge, mac)
        if disks.canonical(_as_model(current)) != disks.canonical(_as_model(props)):
            yield Put(key=network.name, value=render_props(props, "model"), was=config.get(network.name))


def _nic(network: Network, bridge: str, mac: str | None) -> dict[str, str]:
    model = NIC_MODELS[network.model]
    props: dict[str, str | None] = {
        "model": None if mac else model,
        model: mac.upper() if mac else None,
        "bridge": bridge,
        "tag": str(network.vlan) if network.vlan else None,
        "mtu": str(network.mtu) if network.mtu else None,
        "queues": str(network.queues) if network.queues else None,
        "firewall": "1" if network.firewall else None,
        "link_down": "1" if network.connected is False else None,
    }
    return {key: value for key, value in props.items() if value is not None}


def _as_model(props: Mapping[str, str]) -> dict[str, str]:
    """``virtio=MAC`` and ``model=virtio,macaddr=MAC`` are the same NIC."""
    result: dict[str, str] = {}
    for key, value in props.items():
        if key == "macaddr":
            result[key] = value.upper()
        elif _MAC_ADDRESS.fullmatch(value):
            result |= {"model": key, "macaddr": value.upper()}
        else:
            result[key] = value
    return result


def _mac(props: Mapping[str, str]) -> str | None:
    return _as_model(props).get("macaddr")


def recorded_networks(wanted: Wanted, config: Mapping[str, str]) -> tuple[NetworkStatus, ...]:
    """The listed networks with the MAC addresses they have; these are sent again with every change."""
    names = [network.name for network in wanted.vm.spec.networks]
    return tuple(
        NetworkStatus(name=name, mac=mac)
        for name in names
        if (mac := _mac(parse_props(config.get(name, ""), "model")))
    )
