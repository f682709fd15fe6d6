"""pvesim: a Proxmox VE cluster that behaves as the real one does for what the operator touches.

Built on fakepve (AGPL, development and test only): nothing of it, and nothing of this package, goes into the
image. See README.md beside this file.
"""

from .model import Guest, SimVm
from .recorder import Answer, Call, DropAfter, DropBefore, Late, Recorder
from .sim import Endpoint, PveSim
from .tasks import Task
from .world import VmState, VolumeState, World

__all__ = [
    "Answer",
    "Call",
    "DropAfter",
    "DropBefore",
    "Endpoint",
    "Guest",
    "Late",
    "PveSim",
    "Recorder",
    "SimVm",
    "Task",
    "VmState",
    "VolumeState",
    "World",
]
