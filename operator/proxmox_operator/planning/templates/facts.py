"""What is known about the copies of one VMTemplate, and what may be done next.

Steps are carried out by ``controllers.template.apply``; each names one copy or node, and several may be taken in one
pass, since copies on different nodes do not wait for each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from proxmox_operator.api import TemplateCopy, TemplateImage, VMTemplate
from proxmox_operator.api.build import BuildPhase
from proxmox_operator.errors import NeedsHuman, OperatorError
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.templates.version import ImageFile


@dataclass(frozen=True, kw_only=True)
class Gone:
    """Proven: its VMID is free, and no task is making it."""


@dataclass(frozen=True, kw_only=True)
class Unclear:
    """It may exist or not."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class There:
    """It exists. ``complete``: it has the disk that it boots from.

    ``draft``: its mark says that it is still to be built. ``seeded``: it has the seed of its build in a drive.
    """

    node: str
    owner: Owner
    lock: str | None = None
    is_template: bool = False
    complete: bool = False
    running: bool = False
    draft: bool = False
    seeded: bool = False


Standing = Gone | Unclear | There


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the guest said last of the step that is on record: Ended with ``code``, Rebooted since the build began;
    Silent: its agent does not answer, Refused: it runs no commands. ``output`` are its last words, short.
    """

    state: Literal["Running", "Ended", "Rebooted", "Silent", "Refused"]
    code: int = 0
    output: str = ""


@dataclass(frozen=True, kw_only=True)
class CopyFacts:
    """One copy as recorded, and as it is. ``working``: a task of ours works on it, or one not to be told from ours.

    ``failed`` is why the last attempt at it failed, as long as it is not to be tried again. ``settles_at``: before this
    time a call whose answer was lost may still take effect. ``making`` are ProxmoxVMs that are being cloned from it.
    ``unconfirmed``: the inventory does not show yet that it is a template.
    ``look``: how its build stands in the guest, None where this process has not asked; ``look_due``: it is to be asked
    now. ``build_failed`` is why its last build failed, as long as it is not to be tried again.
    """

    copy: TemplateCopy
    standing: Standing
    working: bool = False
    failed: OperatorError | None = None
    settles_at: datetime | None = None
    making: tuple[str, ...] = ()
    unconfirmed: bool = False
    look: Look | None = None
    look_due: bool = True
    build_failed: OperatorError | None = None


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """One node, as far as copies on it are concerned: what stands in their way, and whether the image is there.

    ``refusal`` is None where a copy can be made. ``online`` is False for a node that is not known at all. ``image`` is
    None where nobody has looked, as there is no need; ``downloading`` where a download is under way, by whomever of
    our templates; ``failed`` as in :class:`CopyFacts`, of the download.
    """

    name: str
    online: bool
    refusal: str | None = None
    reason: str = "NodeUnsuitable"
    image: bool | None = None
    downloading: bool = False
    failed: OperatorError | None = None


@dataclass(frozen=True, kw_only=True)
class TemplateFacts:
    """Everything the decision rests on. ``nodes`` are all nodes of the cluster, by name.

    ``shared``: the storage of the disks is one that all nodes see. ``file`` is what has to be downloaded first, where
    anything has; ``volume`` what the boot disk is imported from, None with ``fromVM``, whose node is ``source``.
    ``asked`` are nodes on which a ProxmoxVM waits for a copy. ``unused``: images that nothing needs any more;
    ``coming``: such that are still being downloaded.
    """

    template: VMTemplate
    now: datetime
    version: str
    storage: str
    shared: bool
    nodes: Mapping[str, NodeFacts]
    copies: tuple[CopyFacts, ...] = ()
    file: ImageFile | None = None
    volume: str | None = None
    source: str | None = None
    asked: frozenset[str] = frozenset()
    in_use: Mapping[int, str] = field(default_factory=dict)
    """By VMID, why Proxmox has refused to destroy a copy that is no longer wanted."""
    seed_storage: str | None = None
    """Where the seed of a build is to be uploaded; None where no storage is named, or nothing is built."""
    unused: tuple[TemplateImage, ...] = ()
    coming: tuple[TemplateImage, ...] = ()

    @property
    def current(self) -> tuple[CopyFacts, ...]:
        """The copies of the version that is wanted."""
        return tuple(each for each in self.copies if each.copy.version == self.version)

    @property
    def making(self) -> tuple[str, ...]:
        """ProxmoxVMs that are being cloned from any copy."""
        return tuple(sorted({name for each in self.copies for name in each.making}))


@dataclass(frozen=True, kw_only=True)
class Hold:
    """Add the finalizer: from here on the object does not vanish before its copies."""


@dataclass(frozen=True, kw_only=True)
class Download:
    """Have a node fetch the image, or upload it there."""

    node: str
    file: ImageFile


@dataclass(frozen=True, kw_only=True)
class Reserve:
    """Record a VMID for a copy on each of these nodes, before anything is made."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Create:
    """Have the copy made, as a VM that is no template yet."""

    copy: TemplateCopy


@dataclass(frozen=True, kw_only=True)
class BuildOn:
    """Do what this phase of the copy's build consists of, or do it again. It is recorded first; ``step`` as in the
    status."""

    copy: TemplateCopy
    phase: BuildPhase
    step: int = 0


@dataclass(frozen=True, kw_only=True)
class FailBuild:
    """Record that the build has failed, and of what."""

    copy: TemplateCopy
    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Pull the plug of a draft that is to be destroyed."""

    copy: TemplateCopy


@dataclass(frozen=True, kw_only=True)
class RemoveSeed:
    """Delete the seed of the copy's build, which no VM has in a drive any more."""

    copy: TemplateCopy


@dataclass(frozen=True, kw_only=True)
class Again:
    """Make the copy anew, under the same VMID, after its build has failed."""

    copy: TemplateCopy


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Have the VM converted to a template."""

    copy: TemplateCopy


@dataclass(frozen=True, kw_only=True)
class Finish:
    """Record that the copy is ready."""

    copy: TemplateCopy


@dataclass(frozen=True, kw_only=True)
class Destroy:
    """Destroy the copy. That it is being removed is recorded first."""

    copy: TemplateCopy


@dataclass(frozen=True, kw_only=True)
class Keep:
    """Record that a copy stays, which could not be removed."""

    copy: TemplateCopy


@dataclass(frozen=True, kw_only=True)
class Bury:
    """Leave the copy in Proxmox, and replace its mark by a tombstone."""

    copy: TemplateCopy


@dataclass(frozen=True, kw_only=True)
class Drop:
    """Take the copy off the record. ``told``: an Event's message, where that is a surprise."""

    copy: TemplateCopy
    told: str | None = None


@dataclass(frozen=True, kw_only=True)
class DeleteImage:
    """Delete a downloaded image that nothing needs any more."""

    image: TemplateImage


@dataclass(frozen=True, kw_only=True)
class Release:
    """Drop the finalizer: nothing of this object is left in Proxmox."""


Step = (
    Hold
    | Download
    | Reserve
    | Create
    | BuildOn
    | FailBuild
    | Stop
    | RemoveSeed
    | Again
    | Convert
    | Finish
    | Destroy
    | Keep
    | Bury
    | Drop
    | DeleteImage
    | Release
)


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Something that does not go on by itself: at ``where``, a node or a copy.

    ``waits``: it may, without anybody's doing. ``unknown``: nobody can tell how it stands.
    """

    where: str
    reason: str
    message: str
    waits: bool = False
    unknown: bool = False


Next = Step | Trouble | str | None
"""What comes next of one copy: a step, what stands in the way, what is awaited, or nothing."""


def failure(where: str, error: OperatorError) -> Trouble:
    """What an attempt failed of, as what stands in the way."""
    waits = not isinstance(error, NeedsHuman)
    return Trouble(where=where, reason=error.reason, message=error.message, waits=waits)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do, and what stands in the way of more. ``working`` says what is awaited, one sentence each."""

    steps: tuple[Step, ...] = ()
    working: tuple[str, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    missing: tuple[str, ...] = ()
    """Nodes on which a copy of the current version is still to be made."""
