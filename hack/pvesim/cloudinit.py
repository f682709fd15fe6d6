"""The cloud-init data that Proxmox VE generates from the native keys, and when it does so.

Facts: PVE::QemuServer::Cloudinit of qemu-server 9.2.6. The instance-id is the SHA-1 of user data plus
network data, so it changes with the name, the keys, a MAC - and, with `nameserver` unset, with the node's
own resolv.conf. The ISO is rebuilt at every start through the API; a running guest keeps the old one unless
told otherwise.
"""

import hashlib
import re
from ipaddress import IPv4Interface
from typing import Any
from urllib.parse import unquote

from .core import Node, Values, die
from .hotplug import features
from .lifecycle import Lifecycle
from .model import SimVm
from .props import Props, drives, is_cloudinit, natural, parse, parse_net

CI_KEY = re.compile(r"ci\w+|ipconfig\d+|nameserver|searchdomain|sshkeys")


class CloudInit(Lifecycle):
    """GET and PUT cloudinit, GET cloudinit/dump, and the seed of a VM."""

    def _table_cloudinit(self) -> list[tuple[str, str, Any]]:
        one = "/nodes/{node}/qemu/{vmid}/cloudinit"
        return [
            ("GET", one + "/dump", self._ci_dump),
            ("PUT", one, self._ci_update),
            ("GET", one, self._ci_pending),
        ]

    def generate_seed(self, vm: SimVm) -> None:
        """apply_cloudinit_config: rebuild the ISO, if the VM has a cloud-init drive."""
        if not any(is_cloudinit(drive) for _, drive in drives(vm.config)):
            vm.seed = None
            return
        vm.seed_config = _ci_keys(vm.config)
        user = user_data(vm.config, vm.vmid)
        network = network_data(vm.config, self.node_info[vm.node])
        digest = hashlib.sha1((user + network).encode(), usedforsecurity=False).hexdigest()
        vm.seed = {
            "user": user,
            "network": network,
            "meta": f"instance-id: {digest}\n",
            "instance_id": digest,
        }
        vm.seed |= {key: str(value) for key, value in vm.config.items() if re.fullmatch(r"ipconfig\d+", key)}

    async def hotplug_pending(self, vm: SimVm, user: str, touched: set[str]) -> dict[str, str]:
        """With the hotplug feature `cloudinit`, a change on a running VM rebuilds its ISO at once."""
        before = dict(vm.config)
        errors = await super().hotplug_pending(vm, user, touched)
        if vm.config != before and "cloudinit" in features(vm.config):
            self.generate_seed(vm)
        return errors

    async def _ci_dump(self, v: Values, user: str) -> str:
        vm = self.load_config(v["node"], v["vmid"])
        if v["type"] == "user":
            return user_data(vm.config, vm.vmid)
        network = network_data(vm.config, self.node_info[vm.node])
        if v["type"] == "network":
            return network
        text = (user_data(vm.config, vm.vmid) + network).encode()
        return f"instance-id: {hashlib.sha1(text, usedforsecurity=False).hexdigest()}\n"

    async def _ci_update(self, v: Values, user: str) -> None:
        vm = self.load_config(v["node"], v["vmid"])
        self.check_lock(vm)
        async with self.flock(vm.vmid):
            self.generate_seed(vm)

    async def _ci_pending(self, v: Values, user: str) -> list[Values]:
        """What the ISO holds, and what has changed since it was made."""
        vm = self.load_config(v["node"], v["vmid"])
        now, then = self._shown(_ci_keys(vm.config)), self._shown(vm.seed_config)
        out: list[Values] = [{"key": key, "pending": now[key]} for key in sorted(now) if key not in then]
        for key in sorted(then):
            item: Values = {"key": key}
            if key not in now:
                item["delete"] = 1
            else:
                item["value"] = then[key]
                if vm.config[key] != vm.seed_config[key]:
                    item["pending"] = now[key]
            out.append(item)
        return out


def _ci_keys(config: Values) -> Values:
    return {key: value for key, value in config.items() if CI_KEY.fullmatch(key)}


def user_data(config: Values, vmid: int) -> str:
    """cloudinit_userdata."""
    host = str(config.get("name") or f"VM{vmid}")
    fqdn = host if "." in host or not config.get("searchdomain") else f"{host}.{config['searchdomain']}"
    lines = [
        "#cloud-config",
        f"hostname: {host.partition('.')[0]}",
        "manage_etc_hosts: true",
        f"fqdn: {fqdn}",
    ]
    if config.get("ciuser"):
        lines.append(f"user: {config['ciuser']}")
    if config.get("ciuser") == "root":
        lines.append("disable_root: False")
    if config.get("cipassword"):
        lines.append(f"password: {config['cipassword']}")
    if config.get("sshkeys"):
        lines.append("ssh_authorized_keys:")
        lines += [f"  - {key}" for key in unquote(str(config["sshkeys"])).split("\n") if key.strip()]
    lines += ["chpasswd:", "  expire: False"]
    if config.get("ciuser") != "root":
        lines += ["users:", "  - default"]
    if str(config.get("ciupgrade", 1)) == "1":
        lines.append("package_upgrade: true")
    return "\n".join(lines) + "\n"


def network_data(config: Values, node: Node) -> str:
    """nocloud_network: version 1, one entry per NIC that has an ipconfig; DNS of the node where the VM sets
    none."""
    lines = ["version: 1", "config:"]
    for key in sorted((key for key in config if re.fullmatch(r"net\d+", key)), key=natural):
        number = key.removeprefix("net")
        settings = parse(config.get(f"ipconfig{number}", ""))
        if not config.get(f"ipconfig{number}"):
            continue
        mac = parse_net(config[key]).get("macaddr")
        if not mac:
            raise die(f"network interface '{key}' has no mac address")
        lines += [
            "    - type: physical",
            f"      name: eth{number}",
            f"      mac_address: '{mac.lower()}'",
            "      subnets:",
        ]
        lines += _subnets(settings)
    servers = str(config["nameserver"]).split() if config.get("nameserver") else list(node.nameservers)
    domains = str(config.get("searchdomain") or node.searchdomain).split()
    lines += ["    - type: nameserver", "      address:", *(f"      - '{server}'" for server in servers)]
    lines += ["      search:", *(f"      - '{domain}'" for domain in domains)]
    return "\n".join(lines) + "\n"


def _subnets(settings: Props) -> list[str]:
    """The addresses of a NIC in cloud-init's words."""
    lines, ip, ip6 = [], settings.get("ip"), settings.get("ip6")
    if ip == "dhcp":
        lines.append("      - type: dhcp4")
    elif ip is not None:
        address = IPv4Interface(ip)
        lines += [
            "      - type: static",
            f"        address: '{address.ip}'",
            f"        netmask: '{address.netmask}'",
        ]
        lines += [f"        gateway: '{settings['gw']}'"] if "gw" in settings else []
    if ip6 in ("dhcp", "auto"):
        lines.append(f"      - type: {'dhcp6' if ip6 == 'dhcp' else 'ipv6_slaac'}")
    elif ip6 is not None:
        lines += ["      - type: static6", f"        address: '{ip6}'"]
        lines += [f"        gateway: '{settings['gw6']}'"] if "gw6" in settings else []
    return lines
