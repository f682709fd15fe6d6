"""Where a VM goes: which node can host it, and which of those is best.

Decided once, for a VM that is about to be made; an existing one is followed wherever it is, and moved only when that
was asked for (``planning.moving``), by the same rules. Rules that hold are ``rules``; wishes among the nodes that are
left, and free memory, are ``choice``. What a VM takes of a node is ``needs``.
"""

from proxmox_operator.planning.placement.choice import best, place
from proxmox_operator.planning.placement.needs import Needs, needs_of_clone, needs_of_config
from proxmox_operator.planning.placement.rules import Terms, refusal, unknown_nodes
from proxmox_operator.planning.placement.things import (
    Crowd,
    Node,
    Placed,
    Refusal,
    Storage,
    Template,
    Unschedulable,
    grouped,
)

__all__ = [
    "Crowd",
    "Needs",
    "Node",
    "Placed",
    "Refusal",
    "Storage",
    "Template",
    "Terms",
    "Unschedulable",
    "best",
    "grouped",
    "needs_of_clone",
    "needs_of_config",
    "place",
    "refusal",
    "unknown_nodes",
]
