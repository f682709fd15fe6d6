"""The QEMU guest agent of a VM without a real guest: what it answers, and when it is not there.

Facts: PVE::QemuServer::Agent::assert_agent_available. The three refusals come in this order: `agent` not in
the config, VM not running, no answer to a 3 s ping. The device exists only if QEMU was started with it, so
an `agent` that is pending does not count. Nothing is executed but what agent_exec.py answers: other commands,
and those for files, are refused as a locked-down agent refuses them.
"""

import ipaddress
import re
import time
from typing import Any

from . import agent_exec
from .core import Values, die
from .guest_fs import fsinfo
from .model import SimVm
from .props import enabled, natural, parse, parse_net
from .snapshots import Snapshots

COMMANDS = {
    "ping": "POST",
    "info": "GET",
    "get-osinfo": "GET",
    "get-host-name": "GET",
    "network-get-interfaces": "GET",
    "get-time": "GET",
    "get-timezone": "GET",
    "get-users": "GET",
    "get-fsinfo": "GET",
    "get-vcpus": "GET",
    "shutdown": "POST",
    "fstrim": "POST",
    "fsfreeze-status": "POST",
}
EXEC = {"exec": "POST", "exec-status": "GET"}
REFUSED = {"file-read": "GET", "file-write": "POST", "set-user-password": "POST"}


class Agent(Snapshots):
    """GET and POST /nodes/{node}/qemu/{vmid}/agent/*."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.boot_seconds = 0.0
        self.dhcp_network = ipaddress.ip_network("10.77.0.0/16")

    def _table_agent(self) -> list[tuple[str, str, Any]]:
        base = "/nodes/{node}/qemu/{vmid}/agent/"
        return [
            (method, base + command, self._command(command))
            for command, method in (COMMANDS | EXEC | REFUSED).items()
        ]

    def _command(self, command: str) -> Any:
        async def handler(v: Values, user: str) -> Values:
            vm = self.load_config(v["node"], v["vmid"])
            await self._assert_agent(vm)
            if command == "exec":
                pid, powers_off = agent_exec.run(vm.guest_os, _argv(v["command"]), v.get("input-data") or "")
                if powers_off:
                    await self.power_off(vm)
                return {"pid": pid}
            if command == "exec-status":
                return agent_exec.result(vm.guest_os, int(v["pid"]))
            if command in REFUSED:
                name = "guest-" + command.replace("file-read", "file-open").replace("file-write", "file-open")
                raise die(f"Agent error: The command {name} has been disabled for this instance")
            if command == "shutdown":
                await self.power_off(vm)
            return {"result": self._answer_of(vm, command)}

        return handler

    async def _assert_agent(self, vm: SimVm) -> None:
        if vm.config.get("agent") is None:
            raise die("No QEMU guest agent configured")
        if not vm.running:
            raise die(f"VM {vm.vmid} is not running")
        if not await self._answers(vm):
            raise die("QEMU guest agent is not running")

    async def _answers(self, vm: SimVm) -> bool:
        """True if a ping is answered within 3 s."""
        if not self.agent_answers(vm):
            await self.pause(3)
        return self.agent_answers(vm)

    def agent_answers(self, vm: SimVm) -> bool:
        """True if a ping would be answered now."""
        guest = vm.guest_os
        has_device = vm.qemu is not None and enabled(vm.qemu.get("agent"))
        booted = time.monotonic() - vm.booted >= max(guest.boot_seconds, self.boot_seconds)
        return vm.running and has_device and guest.agent and booted and not guest.hung

    def _answer_of(self, vm: SimVm, command: str) -> Any:
        guest = vm.guest_os
        if command == "network-get-interfaces":
            return self.interfaces(vm)
        if command == "get-osinfo":
            return {
                "id": guest.os_id,
                "name": guest.os_name.partition(" (")[0],
                "pretty-name": guest.os_name,
                "version-id": "12",
                "kernel-release": "6.1.0",
                "machine": "x86_64",
            }
        if command == "get-fsinfo":
            return fsinfo(vm, self.pve)
        if command == "info":
            known = [
                {"name": f"guest-{name}", "enabled": True, "success-response": True} for name in COMMANDS
            ]
            return {"version": "7.2.0", "supported_commands": known}
        answers: dict[str, Any] = {
            "get-host-name": {"host-name": vm.name},
            "get-time": time.time_ns(),
            "get-users": [],
            "get-timezone": {"zone": "UTC", "offset": 0},
            "fsfreeze-status": "thawed",
            "fstrim": {"paths": []},
        }
        return answers.get(command, {})

    def interfaces(self, vm: SimVm) -> list[Values]:
        """lo, and one entry per NIC that QEMU has, with the addresses of the seed (or of a DHCP server)."""
        out: list[Values] = [
            {
                "name": "lo",
                "hardware-address": "00:00:00:00:00:00",
                "ip-addresses": [_address("127.0.0.1/8"), _address("::1/128")],
            }
        ]
        config = vm.qemu or {}
        for key in sorted((key for key in config if re.fullmatch(r"net\d+", key)), key=natural):
            mac = parse_net(config[key])["macaddr"]
            addresses = self.addresses(vm, key, mac)
            out.append(
                {
                    "name": "eth" + key.removeprefix("net"),
                    "hardware-address": mac.lower(),
                    "ip-addresses": [_address(text) for text in addresses],
                    "statistics": {"rx-bytes": 0, "tx-bytes": 0},
                }
            )
        return out

    def addresses(self, vm: SimVm, key: str, mac: str) -> list[str]:
        """The addresses (`a.b.c.d/n`) of a NIC as the guest has them; a link-local IPv6 one is always
        there."""
        tail = int(mac.replace(":", ""), 16) & 0xFFFFFFFF
        link_local = f"fe80::{tail >> 16:x}:{tail & 0xFFFF:x}/64"
        if vm.guest_os.addresses is not None:
            return [*vm.guest_os.addresses.get(mac.upper(), []), link_local]
        if vm.seed is None:
            return [self._lease(mac), link_local]
        settings = parse(vm.seed.get("ipconfig" + key.removeprefix("net"), ""))
        found = []
        for name in ("ip", "ip6"):
            text = settings.get(name)
            if text == "dhcp" and name == "ip":
                found.append(self._lease(mac))
            elif text and text not in ("dhcp", "auto"):
                found.append(text)
        return [*found, link_local]

    def _lease(self, mac: str) -> str:
        """The fake DHCP server: a stable address made of the MAC's last two bytes."""
        host = int(mac.replace(":", "")[-4:], 16) or 1
        return f"{self.dhcp_network.network_address + host}/{self.dhcp_network.prefixlen}"


def _argv(command: str | list[str]) -> list[str]:
    return [command] if isinstance(command, str) else list(command)


def _address(text: str) -> Values:
    interface = ipaddress.ip_interface(text)
    return {
        "ip-address": str(interface.ip),
        "ip-address-type": f"ipv{interface.version}",
        "prefix": interface.network.prefixlen,
    }
