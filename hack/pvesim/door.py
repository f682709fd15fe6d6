"""The ways into a guest that really runs."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Door:
    """A running guest: its process, NIC -> the port of 127.0.0.1 that leads to port 22 of the guest, the unix socket
    of its serial console, and the file with what it has written there."""

    pid: int
    ssh_ports: dict[str, int]
    console: Path
    console_log: Path
