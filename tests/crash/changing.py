"""Changes of a VM that runs: some wait for a cold boot, and are restarted for, some take effect at once.

Each is taken back again, so one stage serves all runs. How often the VM was started is counted.
"""

from crash.living import OnOneStage
from crash.scenario import Act
from crash.stage import Stage


class Restart(OnOneStage):
    """More memory, then as much as before, each with a restart: two of them, wherever an operator dies."""

    name = "restart"
    acts = (
        Act(
            do=lambda stage: stage.apply(memory={"size": "2Gi"}, updates={"restart": "Automatic"}),
            reached=lambda stage: stage.is_ready() and _runs_with(stage, "2048"),
            what="the VM runs with more memory",
        ),
        Act(
            do=lambda stage: stage.apply(updates={"restart": "Automatic"}),
            reached=lambda stage: stage.is_ready() and _runs_with(stage, "1024"),
            what="the VM runs with as much memory as before",
        ),
    )

    def set_up(self) -> Stage:
        stage = super().set_up()
        self._starts = _starts(stage)
        return stage

    def complaints(self, stage: Stage) -> list[str]:
        made, status = _starts(stage) - self._starts, (stage.raw() or {}).get("status") or {}
        wrong = [] if made == len(self.acts) else [f"the VM was restarted {made} times"]
        wrong += ["a restart is still on record"] if "restart" in status else []
        return wrong + super().complaints(stage)


class Update(OnOneStage):
    """Several keys that take effect at once, and as they were again; nothing is restarted."""

    name = "update"
    acts = (
        Act(
            do=lambda stage: stage.apply(
                tags=["web", "blue"],
                description="blue",
                cpu={"cores": 3, "limit": "2"},
                networks=[
                    {
                        "name": "net0",
                        "vlan": 20,
                        "ipv4": {"address": "10.0.0.5/24", "gateway": "10.0.0.1"},
                    }
                ],
            ),
            reached=lambda stage: stage.is_ready() and _is_blue(stage),
            what="the changes are in force",
        ),
        Act(
            do=lambda stage: stage.apply(description="", cpu={"cores": 3, "limit": "1"}),
            reached=lambda stage: stage.is_ready() and not _is_blue(stage),
            what="they are taken back",
        ),
    )

    def set_up(self) -> Stage:
        stage = super().set_up()
        self._starts = _starts(stage)
        return stage

    def complaints(self, stage: Stage) -> list[str]:
        made = _starts(stage) - self._starts
        return ([f"the VM was restarted {made} times"] if made else []) + super().complaints(stage)


def _starts(stage: Stage) -> int:
    """How often the VM was really started, by anybody."""
    return sum(task.exitstatus == "OK" for task in stage.sim.tasks("qmstart"))


def _runs_with(stage: Stage, memory: str) -> bool:
    vm = stage.sim.vm(stage.vmid() or 0)
    return str((vm.qemu or {}).get("memory")) == memory


def _is_blue(stage: Stage) -> bool:
    vm = stage.sim.vm(stage.vmid() or 0)
    return "blue" in vm.config["tags"] and "tag=20" in (vm.qemu or {}).get("net0", "")
