"""How large a VM's config makes it: processors and memory, with Proxmox's defaults where it says nothing.

Total: what cannot be read counts as left out. Source: ``cores``, ``sockets`` and ``memory`` of
``GET /nodes/{node}/qemu/{vmid}/config``.
"""

from collections.abc import Mapping

from proxmox_operator.planning.canonical import whole
from proxmox_operator.planning.propstring import parse_props


def topology(config: Mapping[str, str]) -> tuple[int, int]:
    """Cores of each socket, and sockets; 1 by default."""
    return whole(config.get("cores"), 1), whole(config.get("sockets"), 1)


def processors(config: Mapping[str, str]) -> int:
    """Processors that the guest can have at most."""
    cores, sockets = topology(config)
    return cores * sockets


def memory_mib(config: Mapping[str, str]) -> int:
    """Memory in MiB; 512 by default."""
    return whole(parse_props(config.get("memory", ""), "current").get("current"), 512)
