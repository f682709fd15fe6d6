"""Adoption: a running VM that people made is taken over, is let go again, and in the end only its notes tell of it.

One stage serves all runs: the VM is put back to what it was before each of them.
"""

from crash.living import OnOneStage
from crash.scenario import Act
from crash.stage import Stage
from harness.kubeapi import Raw
from proxmox_operator.kube.resources import PROXMOX_VMS
from proxmox_operator.planning.identity import read_mark, user_text
from pvesim.world import World

OLD = 700
UUID = "3f2f6f0e-0d1c-4c39-9a43-6f3f1d9a1b01"
NOTES = "The old mail server; ask Ada first."


def adopt(stage: Stage) -> None:
    """Nothing but the VM is named, so nothing but the mark may be written."""
    spec: Raw = {"clusterRef": {"name": stage.cluster}, "source": {"adopt": {"vmid": OLD}}}
    stage.kube.apply(
        PROXMOX_VMS, {"metadata": {"name": stage.NAME, "namespace": stage.namespace}, "spec": spec}
    )


class _OfAnOldVM(OnOneStage):
    before: World
    rehearsed = True

    def prepare(self, stage: Stage) -> None:
        """The VM, running, before any run."""
        stage.sim.add_vm(
            OLD, running=True, description=NOTES, smbios1=f"uuid={UUID}", tags="prod", onboot="1"
        )

    def set_up(self) -> Stage:
        stage = super().set_up()
        stage.remove()
        stage.sim.edit_config(OLD, description=NOTES)
        self.before = stage.sim.world()
        return stage

    def complaints(self, stage: Stage) -> list[str]:
        world = stage.sim.world()
        notes = (world.vm(OLD) or self.before.vms[0])["description"] or ""
        found = [f"task {kind} of {id} still runs" for kind, id in world.tasks]
        found += [line for line in self.before.diff(world) if not line.startswith(f"VM {OLD} description")]
        found += [
            f"{call.method} {call.path} {sorted(call.params)}"
            for call in stage.sim.recorder.mutating
            if f"/qemu/{OLD}/config" not in call.path or "description" not in call.params
        ]
        if user_text(notes) != NOTES:
            found.append(f"the notes are {notes!r}")
        if notes.count("<!--") > 1:
            found.append(f"more than one comment in {notes!r}")
        return found + (self._of_the_owner(stage, notes) if self.exists else self._of_the_past(stage, notes))

    def _of_the_owner(self, stage: Stage, notes: str) -> list[str]:
        raw, mark = stage.raw() or {}, read_mark(notes)
        status, metadata = raw.get("status") or {}, raw.get("metadata") or {}
        facts: dict[str, tuple[object, object]] = {
            "ready": (stage.is_ready(), True),
            "mark": (mark and (mark.vmid, mark.uuid, mark.uid), (OLD, UUID, metadata.get("uid"))),
            "status": ((status.get("vmid"), status.get("uuid"), status.get("started")), (OLD, UUID, True)),
            "task": (status.get("task"), None),
            "finalizers": (len(metadata.get("finalizers") or ()), 1),
        }
        return [
            f"{what} is {is_!r}, wanted {wanted!r}" for what, (is_, wanted) in facts.items() if is_ != wanted
        ]

    def _of_the_past(self, stage: Stage, notes: str) -> list[str]:
        return (["the mark is still there"] if read_mark(notes) else []) + (
            [] if stage.is_gone() else ["the object still exists"]
        )


class Adopt(_OfAnOldVM):
    """Taken over."""

    name = "adopt"
    acts = (Act(do=adopt, reached=Stage.is_ready, what="the VM is taken over"),)


class Release(_OfAnOldVM):
    """Taken over, and let go again by deleting the object."""

    name = "adopt and release"
    acts = (
        Act(do=adopt, reached=Stage.is_ready, what="the VM is taken over"),
        Act(do=Stage.delete, reached=Stage.is_gone, what="the object is gone"),
    )
    exists = False


class GiveUp(_OfAnOldVM):
    """The object is deleted when the operator is about to write the mark."""

    name = "adopt, deleted at the mark"
    acts = (Act(do=adopt, reached=Stage.is_gone, what="the object is gone"),)
    exists = False

    def overheard(self, stage: Stage, call: str) -> None:
        if call.startswith("POST") and call.endswith("/config") and not stage.is_going():
            stage.delete()
