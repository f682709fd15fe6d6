"""Manners and parsing for calls to the guest agent; the calls themselves are in vm.py."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from proxmox_operator.planning.guestfs import Filesystem, GuestDisk

from .breaker import Breaker
from .client import PveClient
from .errors import AgentUnavailable, NotRunning
from .request import Request

MAX_SILENCE = 300.0
"""Seconds up to which an agent that does not answer is left alone, unless the caller says otherwise."""


class AgentGate:
    """Agent calls cost a Proxmox worker up to 8 s when the guest is silent: one at a time per node, and a
    VM whose agent did not answer is left alone for a while (3 s growing to 5 min, or what the caller says). It grows by
    half: a guest that has booted at last is kept waiting for about half as long again, and no longer.
    """

    def __init__(self, client: PveClient, clock: Callable[[], float]) -> None:
        self._client = client
        self._clock = clock
        self._nodes: dict[str, asyncio.Lock] = {}
        self._silent: dict[int, Breaker] = {}

    async def call(self, vmid: int, request: Request, *, silence: float = MAX_SILENCE) -> Any:
        """The agent's answer; AgentUnavailable without a call while backing off, for ``silence`` seconds at most."""
        breaker = self._silent.get(vmid)
        if breaker is not None and not breaker.admit():
            silent = AgentUnavailable(f"{breaker.last_error} (asked again later)")
            silent.after, silent.asked = breaker.wait(), False
            raise silent
        async with self._nodes.setdefault(request.node or "", asyncio.Lock()):
            try:
                data = await self._client.call(request)
            except (AgentUnavailable, NotRunning) as error:
                breaker = self._silent.setdefault(
                    vmid, Breaker(self._clock, threshold=1, base=3.0, ceiling=silence, growth=1.5)
                )
                breaker.failed(error.message)
                if isinstance(error, AgentUnavailable):
                    error.after = breaker.wait()
                raise
            except BaseException:
                if breaker is not None:
                    breaker.abandoned()
                raise
        self._silent.pop(vmid, None)
        return data

    def forget(self, vmid: int) -> None:
        """The VM is started: its agent deserves a fresh look."""
        self._silent.pop(vmid, None)


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a process in the guest has ended; ``code`` is None where a signal has ended it."""

    code: int | None
    out: str
    err: str


def parse_result(data: Any) -> ExecResult | None:
    """An answer of ``exec-status``; None while the process runs."""
    if not isinstance(data, dict) or not data.get("exited"):
        return None
    code = data.get("exitcode")
    out, err = (_decoded(str(data.get(key) or "")) for key in ("out-data", "err-data"))
    return ExecResult(int(code) if code is not None else None, out, err)


def _decoded(text: str) -> str:
    """Proxmox hands the bytes of the output on as characters of Latin-1 (``PVE::API2::Qemu::Agent``)."""
    try:
        return text.encode("latin-1").decode(errors="replace")
    except UnicodeEncodeError:
        return text


def parse_interfaces(data: Any) -> dict[str, list[str]]:
    """Addresses by MAC of an answer of ``network-get-interfaces``, IPv4 first; what cannot be read is left
    out.
    """
    items = data.get("result") if isinstance(data, dict) else None
    found: dict[str, list[str]] = {}
    for item in items if isinstance(items, list) else ():
        mac = str(item.get("hardware-address") or "").upper()
        if not mac or mac == "00:00:00:00:00:00":
            continue
        addresses = [_address(entry.get("ip-address")) for entry in item.get("ip-addresses") or ()]
        usable = sorted((a for a in addresses if a is not None), key=lambda a: (a.version, int(a)))
        if usable:
            found[mac] = [str(address) for address in usable]
    return found


def parse_filesystems(data: Any) -> tuple[Filesystem, ...]:
    """An answer of ``get-fsinfo``; nothing where it cannot be read, which proves nothing."""
    items = data.get("result") if isinstance(data, dict) else None
    return tuple(
        Filesystem(
            mountpoint=str(item.get("mountpoint") or "?"),
            device=str(item.get("name") or ""),
            type=str(item.get("type") or "").lower(),
            disks=tuple(_disk(disk) for disk in item.get("disk") or () if isinstance(disk, dict)),
        )
        for item in (items if isinstance(items, list) else ())
        if isinstance(item, dict)
    )


def _disk(item: dict[str, Any]) -> GuestDisk:
    def number(key: str) -> int | None:
        value = item.get(key)
        return value if isinstance(value, int) and value >= 0 else None

    serial, bus = item.get("serial"), item.get("bus-type")
    return GuestDisk(
        serial=str(serial) if serial else None,
        bus=str(bus) if bus else None,
        target=number("target"),
        unit=number("unit"),
    )


def _address(text: object) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(str(text).partition("%")[0])
    except ValueError:
        return None
    useless = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    return None if useless else address
