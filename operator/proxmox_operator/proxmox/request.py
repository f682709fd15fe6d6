"""One call to the Proxmox API as a value, validated before it can become a URL.

proxmoxer joins path parts unquoted, so a part such as ``../cluster`` or ``a?b=c`` would silently become
another call: parts are checked here, once, for everybody. Not here: sending (transport.py) and its policy
(client.py).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO, Literal

Method = Literal["GET", "POST", "PUT", "DELETE"]


@dataclass(frozen=True, slots=True)
class File:
    """A parameter that is a whole file, sent as such: its name and its bytes, which stay in memory until it is sent."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stream:
    """The one parameter that is a file too large for memory: ``pieces`` yields its ``size`` bytes, once.

    What ``pieces`` raises ends the call, with that error, before Proxmox has all of it: then it does nothing.
    """

    name: str
    size: int
    pieces: Iterator[bytes] = field(repr=False)


ParamValue = str | int | float | bool | Sequence[str] | File | Stream | None
WireValue = str | int | float | list[str] | BinaryIO

_PART = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:@!+=~-]{0,255}\Z", re.ASCII)
_NAMED = frozenset({"nodes", "qemu", "tasks", "storage", "snapshot", "pools", "resources", "rules"})
"""Parts after which a name or an id comes."""


@dataclass(frozen=True, slots=True)
class Request:
    """A call: method, path parts below ``/api2/json`` and parameters.

    ``mutating`` is derived from the method; say False for the few POSTs that change nothing (guest agent
    ping). The repr holds no parameter: they may be secret. ``peers``: certificates of servers that have proved
    that they belong to the cluster; nothing is sent to another. Empty: to any.
    """

    method: Method
    path: tuple[str, ...]
    params: Mapping[str, ParamValue] = field(default_factory=dict, repr=False)
    mutating: bool = True
    peers: frozenset[bytes] = field(default=frozenset(), repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("a Proxmox API path needs at least one part")
        for part in self.path:
            if ".." in part or _PART.match(part) is None:
                raise ValueError(f"{part!r} is not a valid part of a Proxmox API path")
        if self.method == "GET" and self.mutating:
            object.__setattr__(self, "mutating", False)

    @property
    def node(self) -> str | None:
        """The node whose API workers the call keeps busy; None for cluster-wide calls, and for a stream: the endpoint
        takes it in beside its other work, and asks a worker for a moment at the end.
        """
        if self.stream is not None:
            return None
        if len(self.path) > 1 and self.path[0] == "nodes" and self.path[1] != "localhost":
            return self.path[1]
        return None

    @property
    def stream(self) -> tuple[str, Stream] | None:
        """The parameter that is a stream, and its name."""
        return next(((key, each) for key, each in self.params.items() if isinstance(each, Stream)), None)

    @property
    def target(self) -> str:
        """``/nodes/pve1/qemu/100/config``: for messages and the audit record."""
        return "/" + "/".join(self.path)

    @property
    def call_class(self) -> str:
        """What is called, without names and ids: ``clone``, ``status/start``, ``cluster/resources``; a metric
        label."""
        path = self.path[: self.path.index("content") + 1] if "content" in self.path else self.path
        befores = ("", *path)
        parts = [part for before, part in zip(befores, path, strict=False) if before not in _NAMED]
        return "/".join(parts[1:] if len(parts) > 1 and parts[0] == "nodes" else parts).removeprefix("qemu/")


def split_path(path: str) -> tuple[str, ...]:
    """Path parts of ``nodes/pve1/qemu``; made by our own code only, parts are validated by Request."""
    return tuple(path.strip("/").split("/"))


class _Named(BytesIO):
    """What proxmoxer, and requests below it, take for an open file of that name."""

    def __init__(self, file: File) -> None:
        super().__init__(file.data)
        self.name = file.name


def wire_params(params: Mapping[str, ParamValue]) -> dict[str, WireValue]:
    """Parameters as Proxmox reads them: booleans 1/0, None left out, sequences as repeated keys, files opened; a stream
    is left out, as form.py has to send it.
    """
    wire: dict[str, WireValue] = {}
    for key, value in params.items():
        if value is None or isinstance(value, Stream):
            continue
        if isinstance(value, bool):
            wire[key] = int(value)
        elif isinstance(value, str | int | float):
            wire[key] = value
        elif isinstance(value, File):
            wire[key] = _Named(value)
        else:
            wire[key] = list(value)
    return wire
