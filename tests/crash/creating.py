"""Create: a ProxmoxCluster and a ProxmoxVM that no operator has seen yet, until the VM runs.

With a boot disk that grows, a data disk, a NIC, cloud-init and tags. Every run begins with a new Proxmox cluster.
"""

from collections.abc import Callable

from crash.scenario import Act
from crash.stage import Stage


class Create:
    name = "create"
    acts = (Act(do=lambda stage: stage.apply(), reached=Stage.is_ready, what="the VM is Ready"),)

    def __init__(self, new_stage: Callable[[], Stage]) -> None:
        self._new_stage = new_stage

    def set_up(self) -> Stage:
        return self._new_stage().__enter__()

    def tear_down(self, stage: Stage) -> None:
        stage.__exit__()

    def overheard(self, stage: Stage, call: str) -> None:
        """Nothing happens besides."""

    def complaints(self, stage: Stage) -> list[str]:
        return stage.complaints(exists=True)
