"""Where a VM goes: which node can host it, and which of those is best.

Decided once, for a VM that is about to be made; an existing one is followed wherever it is, and moved only when that
was asked for (``planning.moving``), by the same rules. Rules that hold are ``rules``; wishes among the nodes that are
left, and free memory, are ``choice``. What a VM takes of a node is ``needs``; what it can be cloned from, where its
source is a VMTemplate, is ``copies``. A copy that is yet to be made makes a node eligible like one that is there, and
is worth waiting for where that node is the better one by far.
"""

from proxmox_operator.planning.placement.choice import best, place
from proxmox_operator.planning.placement.copies import copies_to_come, current_copies, shortcoming
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
    "copies_to_come",
    "current_copies",
    "grouped",
    "needs_of_clone",
    "needs_of_config",
    "place",
    "refusal",
    "shortcoming",
    "unknown_nodes",
]
