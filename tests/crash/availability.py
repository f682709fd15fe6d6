"""High availability: into HA, stopped and started through it, and out of it; or deleted while it is under HA.

The manager acts in rounds of its own, whether an operator lives or not.
"""

from crash.leaving import Delete
from crash.living import OnOneStage
from crash.scenario import Act
from crash.stage import Stage

UNDER_HA = {"availability": {"ha": True}}
OUT_OF_HA = {"availability": {"ha": False}}
SHARED = "ceph"


def is_under_ha(stage: Stage, power: str) -> bool:
    """Ready, with this power, and requested to have it."""
    requested = {"Running": "started", "Stopped": "stopped"}[power]
    world, vmid = stage.sim.world(), stage.vmid()
    vm = world.vm(vmid or 0)
    return (
        stage.is_ready()
        and vm is not None
        and vm.status == power.lower()
        and world.ha == ((f"vm:{vmid}", requested),)
    )


class HighAvailability(OnOneStage):
    """Running, under HA, Stopped, Running, out of HA."""

    name = "high availability"
    acts = (
        Act(
            do=lambda stage: stage.apply(**UNDER_HA),
            reached=lambda stage: is_under_ha(stage, "Running"),
            what="the VM is under HA",
        ),
        Act(
            do=lambda stage: stage.apply(power="Stopped", **UNDER_HA),
            reached=lambda stage: is_under_ha(stage, "Stopped"),
            what="HA has stopped the VM",
        ),
        Act(
            do=lambda stage: stage.apply(**UNDER_HA),
            reached=lambda stage: is_under_ha(stage, "Running"),
            what="HA has started the VM again",
        ),
        Act(
            do=lambda stage: stage.apply(**OUT_OF_HA),
            reached=lambda stage: stage.is_ready() and not stage.sim.world().ha,
            what="the VM is out of HA",
        ),
    )

    def furnish(self, stage: Stage) -> None:
        stage.storage = SHARED


class DeleteUnderHA(Delete):
    """A running VM with a data disk that HA keeps."""

    name = "delete, under HA"

    def furnish(self, stage: Stage) -> None:
        stage.storage, stage.besides = SHARED, UNDER_HA
