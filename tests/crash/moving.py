"""A running VM with local disks is moved to the other node, and back: it is once, whole, and nowhere else."""

from crash.living import OnOneStage
from crash.scenario import Act
from crash.stage import Stage


def _require(stage: Stage, node: str) -> None:
    stage.apply(placement={"nodes": [node], "mode": "Require", "moveLocalDisks": True})


def _is_on(stage: Stage, node: str) -> bool:
    status = (stage.raw() or {}).get("status") or {}
    vm = stage.sim.world().vm(stage.vmid() or 0)
    return stage.is_ready() and status.get("node") == node and vm is not None and vm.node == node


class Move(OnOneStage):
    """To pve2, then back to pve1, by what spec.placement requires."""

    name = "move"
    acts = (
        Act(
            do=lambda stage: _require(stage, "pve2"),
            reached=lambda stage: _is_on(stage, "pve2") and not stage.complaints(exists=True),
            what="the VM is on pve2",
        ),
        Act(
            do=lambda stage: _require(stage, "pve1"),
            reached=lambda stage: _is_on(stage, "pve1"),
            what="the VM is on pve1 again",
        ),
    )

    def complaints(self, stage: Stage) -> list[str]:
        """The disks are where the VM is, and no copy of them is left elsewhere."""
        world, vmid = stage.sim.world(), stage.vmid() or 0
        vm = world.vm(vmid)
        nodes = {volume.node for volume in world.volumes_of(vmid)}
        strewn = [] if vm is None or nodes == {vm.node} else [f"VM is on {vm.node}, its volumes on {nodes}"]
        return super().complaints(stage) + strewn
