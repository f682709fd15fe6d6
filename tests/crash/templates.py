"""A VMTemplate's life: it is made and deleted, and replaced by another version again and again.

One stage serves all runs of a scenario: each ends as it began.
"""

import hashlib
from collections.abc import Callable
from typing import Self

from controlplane import Cluster
from crash.living import OnOneStage
from crash.points import Point
from crash.scenario import Act
from crash.stage import Stage
from crash.witness import Witness
from harness.kubeapi import Raw
from imageserver import GIB, ImageServer, qcow2
from proxmox_operator.kube.resources import VM_TEMPLATES
from proxmox_operator.planning.identity import read_mark
from pvesim.world import World

IMAGES = "images"
"""A storage of each node, which the image is downloaded to."""

PATHS = ("/12/debian.qcow2", "/13/debian.qcow2")
"""Two images, whose files have the same name but for the checksum."""


class TemplateStage(Stage):
    """The object is a VMTemplate with a copy on one node; earlier versions are not kept."""

    resource = VM_TEMPLATES

    def __init__(
        self, control_plane: Cluster, kube: Witness, namespace: str, *, via: str = "Proxmox"
    ) -> None:
        super().__init__(control_plane, kube, namespace)
        self._via = via
        self.NAME = f"debian-{namespace}"
        self.server = ImageServer()
        self._images = {path: qcow2(2 * GIB, path.encode()) for path in PATHS}
        self._path = PATHS[0]
        self._order: list[int] = []

    def __enter__(self) -> Self:
        self.server.__enter__()
        for path, data in self._images.items():
            self.server.serve(path, data)
        self.sim.add_storage(IMAGES, "dir", content="import")
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self.server.__exit__(None, None, None)

    # The object

    def usual(self) -> Raw:
        return {"image": self._image(), "nodes": ["pve1"], "keepVersions": 0, "storage": self.storage}

    def _image(self) -> Raw:
        checksum = f"sha256:{self._digest()}"
        url = self.server.url + self._path
        return {"url": url, "checksum": checksum, "storage": IMAGES, "via": self._via}

    def _digest(self) -> str:
        return hashlib.sha256(self._images[self._path]).hexdigest()

    def begin(self) -> None:
        """A run begins: VMIDs are told apart anew, those that are there first."""
        self._order = [int(copy["vmid"]) for copy in self.copies()]

    def replace(self) -> None:
        """Name the other image."""
        (self._path,) = set(PATHS) - {self._path}
        self.apply()

    def copies(self) -> list[Raw]:
        """As recorded."""
        return list(((self.raw() or {}).get("status") or {}).get("copies", ()))

    def vmid(self) -> int | None:
        """The VMID of the only copy; all join ``reserved``."""
        vmids = [int(copy["vmid"]) for copy in self.copies()]
        self.reserved.update(vmids)
        return vmids[0] if len(vmids) == 1 else None

    def role(self, vmid: int) -> str:
        """Copies are told apart by the order in which they are first spoken of."""
        role = super().role(vmid)
        if role != "vm":
            return role
        if vmid not in self._order:
            self._order.append(vmid)
        return f"copy-{self._order.index(vmid) + 1}"

    def is_made(self) -> bool:
        """There is one template, made from the image of the spec, and nothing else of this object."""
        return self.is_ready() and not self.complaints(exists=True)

    # What must be true

    def complaints(self, *, exists: bool, power: str = "Stopped") -> list[str]:
        world, vmid = self.sim.world(), self.vmid()
        if not exists:
            return self._complaints_of_others(world, r"(?!)") + (
                [] if self.is_gone() else ["the object still exists"]
            )
        if vmid is None:
            return [f"recorded are {self.copies()}"]
        ours = rf"VM {vmid} |volume {self.storage}:(vm|base)-{vmid}-|file {IMAGES}:"
        return self._complaints_of_others(world, ours) + self._complaints_of_copy(vmid, world)

    def made_once(self) -> list[str]:
        """Whether more than one VM was made in this run."""
        made = [call for call in self.sim.recorder.mutating if call.path.endswith("/qemu") and call.upid]
        return [] if len(made) == 1 else [f"VMs were made by {[str(call) for call in made]}"]

    def _complaints_of_copy(self, vmid: int, world: World) -> list[str]:
        raw, vm = self.raw(), world.vm(vmid)
        if raw is None or vm is None:
            return [f"there is no {'object' if raw is None else 'template'}"]
        status = raw["status"]
        (copy,) = status["copies"]
        mark = read_mark(vm["description"] or "")
        file = f"import/debian-{self._digest()[:16]}{'-uploaded' if self._via == 'Operator' else ''}.qcow2"
        volume = next((each for each in world.volumes_of(vmid) if "cloudinit" not in each.name), None)
        image = next((each for each in world.files if each.name == file), None)
        facts: dict[str, tuple[object, object]] = {
            "template": (vm.template, True),
            "lock": (vm.lock, None),
            "mark": (mark and (mark.vmid, mark.uuid, mark.uid), (vmid, copy["uuid"], raw["metadata"]["uid"])),
            "disk": (volume and (volume.name, volume.size), (f"base-{vmid}-disk-0", 2 * GIB)),
            "volumes": (len(world.volumes_of(vmid)), 2),
            "files": ([each.name for each in world.files], [file]),
            "content": (volume and volume.data, image and image.data),
            "images": ([each["volume"] for each in status.get("images", ())], [f"{IMAGES}:{file}"]),
            "state": (copy["state"], "Ready"),
            "task": (copy.get("upid"), None),
            "version": (copy["version"], status["version"]),
            "versions": (status["versions"], [status["version"]]),
            "finalizers": (len(raw["metadata"].get("finalizers") or ()), 1),
        }
        return [
            f"{what} is {is_!r}, wanted {wanted!r}" for what, (is_, wanted) in facts.items() if is_ != wanted
        ]


class BuiltStage(TemplateStage):
    """Its copy is built: one step, between the boot and the sealing."""

    def usual(self) -> Raw:
        steps = [{"name": "web", "script": "echo hello\n"}]
        return {**super().usual(), "build": {"steps": steps, "seedStorage": "local"}}

    def _complaints_of_copy(self, vmid: int, world: World) -> list[str]:
        found, guest = super()._complaints_of_copy(vmid, world), self.sim.vm(vmid).guest_os
        if found:
            return found
        facts: dict[str, tuple[object, object]] = {
            "steps that ran": (guest.ran, [0, 1, 2]),
            "sealed": (guest.sealed, True),
            "draft": ("+draft" in self.sim.vm(vmid).config["description"], False),
            "build": (self.copies()[0].get("build"), None),
        }
        return [
            f"{what} is {is_!r}, wanted {wanted!r}" for what, (is_, wanted) in facts.items() if is_ != wanted
        ]


class OfATemplate(OnOneStage):
    """Ends as it began; a stage on which that is not so is not used again."""

    rehearsed = True

    def __init__(self, new_stage: Callable[[], TemplateStage]) -> None:
        super().__init__(new_stage)

    def set_up(self) -> Stage:
        stage = super().set_up()
        _template(stage).begin()
        return stage

    def tear_down(self, stage: Stage) -> None:
        if stage.complaints(exists=self.exists):
            stage.__exit__()
            self._stage = None

    def complaints(self, stage: Stage) -> list[str]:
        return super().complaints(stage) + _template(stage).made_once()


class MakeAndDelete(OfATemplate):
    """A VMTemplate that no operator has seen yet; in the end nothing is left of it."""

    name = "template made and deleted"
    acts = (
        Act(do=Stage.apply, reached=lambda stage: _template(stage).is_made(), what="the template is there"),
        Act(do=Stage.delete, reached=Stage.is_gone, what="the object is gone"),
    )
    exists = False

    def prepare(self, stage: Stage) -> None:
        """Nothing is there before the first run."""


class BuildAndDelete(MakeAndDelete):
    """The same of one whose copy is built.

    It dies at writes, and at answers that are told once: to die at another read is to die after the write before it.
    """

    name = "template built and deleted"

    def concerns(self, point: Point) -> bool:
        return point.writes or "exec-status" in point.name


class Replace(OfATemplate):
    """Another image is named; in the end there is a template of that one, and nothing of the first."""

    name = "template replaced by another version"
    acts = (
        Act(
            do=lambda stage: _template(stage).replace(),
            reached=lambda stage: _template(stage).is_made(),
            what="the new version is there, and nothing of the old one",
        ),
    )


def _template(stage: Stage) -> TemplateStage:
    assert isinstance(stage, TemplateStage)
    return stage
