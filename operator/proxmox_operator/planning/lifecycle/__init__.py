"""The life of one VM as a decision: from facts to the next step.

:func:`plan` is pure and total. It looks at what is, not at what happened before, and names one step; after
the step is done the facts are gathered anew. Nothing destructive is ever planned on what is unknown:
a VM that cannot be seen is :class:`Unknown`, which is not :class:`Absent`. Doing the steps is
``controllers.vm.apply``'s part.
"""

from proxmox_operator.planning.lifecycle.deleting import DELETING
from proxmox_operator.planning.lifecycle.facts import (
    Absent,
    Claimed,
    Existence,
    Facts,
    Power,
    Present,
    Unknown,
)
from proxmox_operator.planning.lifecycle.ha import ha_sentences, ha_verdict
from proxmox_operator.planning.lifecycle.living import LIVING, OBSERVING, UNMADE, differences
from proxmox_operator.planning.lifecycle.steps import (
    Adopt,
    AlignHA,
    Blocked,
    Bury,
    ClearHAError,
    Clone,
    Configure,
    Destroy,
    DropSeed,
    Due,
    EndMove,
    Follow,
    GrowDisks,
    Hold,
    JoinHA,
    LeaveHA,
    Migrate,
    MoveDisk,
    NoteCloudInit,
    NoteRestart,
    PutSeed,
    Reclaim,
    RecordStart,
    Release,
    Reserve,
    SetRule,
    Settled,
    Start,
    Step,
    Stop,
    Wait,
)

__all__ = [
    "Absent",
    "Adopt",
    "AlignHA",
    "Blocked",
    "Bury",
    "Claimed",
    "ClearHAError",
    "Clone",
    "Configure",
    "Destroy",
    "DropSeed",
    "Due",
    "EndMove",
    "Existence",
    "Facts",
    "Follow",
    "GrowDisks",
    "Hold",
    "JoinHA",
    "LeaveHA",
    "Migrate",
    "MoveDisk",
    "NoteCloudInit",
    "NoteRestart",
    "Power",
    "Present",
    "PutSeed",
    "Reclaim",
    "RecordStart",
    "Release",
    "Reserve",
    "SetRule",
    "Settled",
    "Start",
    "Step",
    "Stop",
    "Unknown",
    "Wait",
    "differences",
    "ha_sentences",
    "ha_verdict",
    "plan",
]


def plan(facts: Facts) -> Step:
    """The next step. Checks run in order and the first one that has something to say decides."""
    if facts.vm.metadata.deletion_timestamp is not None:
        chain = DELETING
    elif facts.vm.spec.management == "Observe":
        chain = OBSERVING
    elif facts.vm.status.vmid is None:
        chain = UNMADE
    else:
        chain = LIVING
    for check in chain:
        step = check(facts)
        if step is not None:
            return step
    raise AssertionError("every chain ends in a check that always decides")
