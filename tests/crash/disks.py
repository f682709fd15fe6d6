"""Disks come, move and go: one is added, moved, detached, attached again and moved back, another one destroyed."""

from crash.living import OnOneStage
from crash.scenario import Act, make_ready
from crash.stage import Stage

DATA = {"name": "data", "size": "2Gi"}
LOGS = {"name": "logs", "size": "1Gi", "onRemove": "Delete"}


class ChangeDisks(OnOneStage):
    """In the end the VM has the one data disk that it had before, with what was on it."""

    name = "disks added, moved, detached, destroyed and attached again"
    acts = (
        Act(
            do=lambda stage: stage.apply(disks=[DATA | {"storage": "ceph"}, LOGS]),
            reached=lambda stage: (
                stage.is_ready() and _attached(stage) == {"data": "ceph", "logs": "local-lvm"}
            ),
            what="logs is made and data is moved",
        ),
        Act(
            do=lambda stage: stage.apply(disks=[]),
            reached=lambda stage: stage.is_ready() and not _attached(stage) and _detached(stage) == ["data"],
            what="logs is destroyed and data detached",
        ),
        Act(
            do=lambda stage: stage.apply(disks=[DATA | {"storage": "local-lvm"}]),
            reached=lambda stage: stage.is_ready() and not _detached(stage),
            what="data is attached again and moved back",
        ),
    )

    def prepare(self, stage: Stage) -> None:
        stage.sim.add_storage("ceph", "rbd")
        make_ready(stage)
        self._data = _data(stage)

    def complaints(self, stage: Stage) -> list[str]:
        found = super().complaints(stage)
        vm = stage.sim.world().vm(stage.vmid() or 0)
        unused = [key for key, _ in vm.config if key.startswith("unused")] if vm is not None else []
        found += [f"{key} is left in the config" for key in unused]
        if _data(stage) != self._data:
            found.append(f"on the disks is {_data(stage)}, wanted {self._data}")
        return found


def _attached(stage: Stage) -> dict[str, str]:
    """The storages of the disks in the status, by name."""
    disks = ((stage.raw() or {}).get("status") or {}).get("disks") or ()
    return {disk["name"]: disk["volume"].partition(":")[0] for disk in disks}


def _detached(stage: Stage) -> list[str]:
    disks = ((stage.raw() or {}).get("status") or {}).get("detachedDisks") or ()
    return [disk["name"] for disk in disks]


def _data(stage: Stage) -> list[int]:
    """What is on the VM's disks, cloud-init's aside."""
    volumes = stage.sim.world().volumes_of(stage.vmid() or 0)
    return sorted(volume.data for volume in volumes if "cloudinit" not in volume.name)
