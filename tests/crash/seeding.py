"""User data: read at the first boot and removed, or never read, as the object is deleted before."""

from crash.scenario import Act, Scenario
from crash.stage import TEMPLATE, Stage

CLOUD_INIT = {"userData": "#cloud-config\n", "seedStorage": "local", "dns": {"servers": ["10.0.0.1"]}}
NATIVE = ("ciuser is ", "nameserver is ", "ipconfig0 is ")
"""What a VM with user data has no need of."""


class Seed(Scenario):
    """The guest has finished its first boot whenever it is asked."""

    name = "create with user data"
    acts: tuple[Act, ...] = (
        Act(
            do=lambda stage: stage.apply(agent=True, cloudInit=CLOUD_INIT),
            reached=lambda stage: stage.is_ready() and _phase(stage) == "Removed",
            what="the VM is Ready, and its user data removed",
        ),
    )

    def complaints(self, stage: Stage) -> list[str]:
        found = [line for line in super().complaints(stage) if not line.startswith(NATIVE)]
        found += [f"{name} is left on {node}" for node, name in _seeds(stage)]
        vm = stage.sim.world().vm(stage.vmid() or 0) if self.exists else None
        if vm is not None and vm["ide2"] != "none,media=cdrom":
            found.append(f"in the drive is {vm['ide2']}")
        return found


class SeedNeverRead(Seed):
    """The guest is still at its first boot when the object is deleted."""

    name = "create with user data, deleted in the first boot"
    acts = (
        Act(
            do=lambda stage: stage.apply(agent=True, cloudInit=CLOUD_INIT),
            reached=lambda stage: stage.is_ready() and _phase(stage) == "Uploaded",
            what="the VM is Ready, with its user data",
        ),
        Act(do=Stage.delete, reached=Stage.is_gone, what="the object is gone"),
    )
    exists = False

    def set_up(self) -> Stage:
        stage = super().set_up()
        stage.sim.vm(TEMPLATE).guest_os.cloud_init = {"status": "running", "errors": []}
        return stage


def _phase(stage: Stage) -> str | None:
    seed = ((stage.raw() or {}).get("status") or {}).get("seed") or {}
    phase: str | None = seed.get("phase")
    return phase


def _seeds(stage: Stage) -> list[tuple[str, str]]:
    return [
        (node, name)
        for node in stage.sim.server.nodes
        for name in stage.sim.files("local", node)
        if "pvm-seed" in name
    ]
