"""What people and accidents do to a cluster behind an operator's back: the scenario half of `PveSim`.

All of it is safe to call from any thread, but not from an interceptor.
"""

from .gui_cluster import ClusterActions
from .gui_files import FileActions
from .gui_vms import VmActions


class Gui(VmActions, FileActions, ClusterActions):
    """Actions of other people, nodes and networks. `PveSim` provides `server`, `run` and `call`."""
