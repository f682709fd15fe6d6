"""What makes a VM unable to start where it is, as far as that is visible beforehand.

Asked before a VM is shut down in order to start again. Not a promise: Proxmox may refuse a start for other reasons.
Source: ``PVE::QemuServer::vm_start_nolock`` and ``config_to_command``.
"""

import re
from collections.abc import Collection, Mapping

from proxmox_operator.planning.configured import memory_mib, processors
from proxmox_operator.planning.propstring import parse_props


def obstacle(
    config: Mapping[str, str],
    *,
    node: str,
    cpus: int | None,
    memory: int | None,
    bridges: Collection[str] | None,
) -> str | None:
    """Why a VM with this config (pending changes merged) would not start on ``node``, or None.

    ``cpus`` and ``memory`` (bytes) are what the node has; None is not known, and never in the way.
    """
    cores = processors(config)
    if cpus is not None and cores > cpus:
        return f"it would have {cores} cores and {node} has {cpus}"
    size = memory_mib(config)
    if memory is not None and size << 20 > memory:
        return f"it would have {size} MiB of memory and {node} has {memory >> 20}"
    for key in sorted(key for key in config if re.fullmatch(r"net\d+", key)):
        bridge = parse_props(config[key], "model").get("bridge")
        if bridges is not None and bridge is not None and bridge not in bridges:
            return f"{key} is on bridge {bridge}, which {node} does not have (or the credentials may not see)"
    return None
