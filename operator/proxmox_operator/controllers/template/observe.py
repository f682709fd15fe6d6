"""All reading for one pass over a VMTemplate: from Proxmox, the store and memory to :class:`TemplateFacts`.

A copy that is ready is believed to the inventory; whatever is about to be changed is read live.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from math import inf

from proxmox_operator.api import InvalidObject, TemplateCopy, TemplateImage, VMTemplate
from proxmox_operator.controllers.context import TEMPLATE_KIND, VM_KIND, Context
from proxmox_operator.controllers.fleet import Coming, Member, Place
from proxmox_operator.controllers.template.buildable import refusal_of_build, seed_storage
from proxmox_operator.controllers.template.images import refusal_of_image
from proxmox_operator.controllers.template.memory import TemplateMemory
from proxmox_operator.errors import Forbidden, OperatorError, Unreachable
from proxmox_operator.planning import disks
from proxmox_operator.planning.identity import Mark, Owner, owner, signs_of
from proxmox_operator.planning.templates import (
    CopyFacts,
    Gone,
    ImageFile,
    NodeFacts,
    Standing,
    TemplateFacts,
    There,
    Unclear,
    image_file,
    image_volume,
    is_draft,
    is_uploaded,
    marked_name,
)
from proxmox_operator.planning.templates.draft import CLOUD_INIT_SLOT
from proxmox_operator.proxmox.errors import NotHere
from proxmox_operator.proxmox.resources import Inventory
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.proxmox.tasks import UPID
from proxmox_operator.proxmox.vm import Presence

_UNSETTLED = ("Creating", "Building", "Failed", "Removing")
"""States in which a call whose answer was lost is not repeated, or forgotten, at once."""

UNWATCHED = 2.0
"""Seconds until another look at a task whose id is not recorded: the answer to its call was lost."""

_PENDING_LOCKS = frozenset({"clone", "create", "destroyed"})


class TemplateObserver:
    """Reads for one object in one pass."""

    def __init__(
        self, context: Context, member: Member, session: ClusterSession, memory: TemplateMemory
    ) -> None:
        self._context = context
        self._member = member
        self._session = session
        self._memory = memory

    async def facts(self, template: VMTemplate) -> TemplateFacts:
        """Gather, for the version that is on record. Raises the errors of the doors it uses."""
        spec, inventory, self._memory.again_at = template.spec, self.inventory, inf
        storage = spec.storage or self._member.cluster.spec.defaults.storage or ""
        file = image_file(spec.image) if spec.image is not None else None
        volume = image_volume(spec.image) if spec.image is not None else None
        version = template.status.version or ""  # named before, but for an object that is only let go
        makers = self._makers()
        copies = [await self._copy(template, copy, makers) for copy in template.status.copies]
        source = inventory.guests.get(spec.from_vm.vmid) if spec.from_vm is not None else None
        lacking = {
            each.copy.node
            for each in copies
            if each.copy.version == version
            and each.copy.state == "Creating"
            and isinstance(each.standing, Gone)
        }
        nodes = {}
        for name in inventory.nodes:
            networked = spec.build is not None and spec.build.network is not None
            bridges = (
                await self._session.bridges(name) if networked and inventory.nodes[name].online else None
            )
            node = self._node(template, name, storage, volume, file, bridges)
            if volume is not None and name in lacking and node.online and node.refusal is None:
                node = await self._with_image(node, volume, file)
            nodes[name] = node
        clock, awaited = self._context.clock(), self._member.copies_awaited.values()
        unused = self._unused(template)
        coming = tuple([image for image in unused if await self._is_coming(image.node, image.volume)])
        return TemplateFacts(
            template=template,
            now=self._context.now(),
            version=version,
            storage=storage,
            shared=any(each.shared for each in inventory.storages.values() if each.name == storage),
            nodes=nodes,
            copies=tuple(copies),
            file=file,
            volume=volume,
            source=source.node if source is not None else None,
            asked=frozenset(
                node for name, node in awaited if name == template.metadata.name and node is not None
            ),
            in_use={
                copy.vmid: why
                for copy in template.status.copies
                if (why := self._memory.needed(copy.vmid, clock)) is not None
            },
            seed_storage=seed_storage(self._member, spec.build) if spec.build is not None else None,
            unused=tuple(image for image in unused if image not in coming),
            coming=coming,
        )

    @property
    def inventory(self) -> Inventory:
        """What is known of the cluster; there is one wherever an object is worked on."""
        inventory = self._session.inventory.current
        if inventory is None:
            raise Unreachable("the inventory has not been read")
        return inventory

    def mark(self, template: VMTemplate, copy: TemplateCopy, *, draft: bool = False) -> Mark:
        """The mark of a copy; ``draft``: as long as it is to be built."""
        return Mark(
            cluster_id=self._context.cluster_id,
            namespace_uid="",
            namespace="",
            name=marked_name(template.metadata.name, copy.version, draft=draft),
            uid=template.metadata.uid,
            vmid=copy.vmid,
            uuid=copy.uuid,
        )

    # Copies

    def _makers(self) -> dict[int, list[str]]:
        """The ProxmoxVMs of this cluster that are being made, by the VMID that they are cloned from."""
        found: dict[int, list[str]] = {}
        for raw in self._context.store.list(VM_KIND):
            status = raw.get("status") or {}
            intent = status.get("provisioning") or {}
            if status.get("cluster") == self._member.name and "sourceVmid" in intent:
                name = f"{raw['metadata']['namespace']}/{raw['metadata']['name']}"
                found.setdefault(intent["sourceVmid"], []).append(name)
        return found

    async def _copy(
        self, template: VMTemplate, copy: TemplateCopy, makers: Mapping[int, list[str]]
    ) -> CopyFacts:
        if copy.upid is not None:
            silent = self._silent(UPID.parse(copy.upid).node)
            return CopyFacts(copy=copy, standing=silent or Gone(), working=silent is None)
        standing = await self.standing(template, copy)
        clock, build = self._context.clock(), copy.build
        look, look_due = (
            self._memory.look(copy.vmid, build.step, clock) if build is not None else (None, True)
        )
        calls = build.phase != "Running" if copy.state == "Building" and build is not None else True
        span = timedelta(seconds=self._context.settings.takeover_delay)
        known = copy.vmid in self._memory.unsent | self._memory.answered
        return CopyFacts(
            copy=copy,
            standing=standing,
            working=isinstance(standing, There) and await self._is_worked_on(template, copy, standing),
            failed=self._memory.failed(copy.vmid, clock),
            settles_at=None if known or not calls or copy.state not in _UNSETTLED else copy.since + span,
            making=tuple(makers.get(copy.vmid, ())),
            unconfirmed=self._is_unconfirmed(copy, standing),
            look=look,
            look_due=look_due,
            build_failed=self._memory.build_failed(copy.vmid, clock),
        )

    def _is_unconfirmed(self, copy: TemplateCopy, standing: Standing) -> bool:
        """A template that the inventory, which lags, still has as a VM: it would not tell if somebody made it one."""
        guest = self.inventory.guests.get(copy.vmid)
        converted = isinstance(standing, There) and standing.is_template
        return converted and guest is not None and not guest.template

    async def ours(self, template: VMTemplate, copy: TemplateCopy) -> There | None:
        """The copy as its node has it now; None where it is not ours to touch, or somebody else is at it."""
        there = await self.standing(template, copy, live=True)
        if not isinstance(there, There) or there.owner not in (Owner.OURS, Owner.UNMARKED):
            return None
        return there if there.lock is None else None

    async def standing(self, template: VMTemplate, copy: TemplateCopy, *, live: bool = False) -> Standing:
        """How a copy stands; ``live``: asked of its node, whatever the inventory says."""
        if copy.vmid in self._memory.unsent:
            return Gone()
        guest = self.inventory.guests.get(copy.vmid)
        believed = not live and copy.vmid not in self._memory.doubted
        if guest is not None and guest.template and copy.state == "Ready" and believed:
            return There(node=guest.node, owner=Owner.OURS, lock=guest.lock, is_template=True, complete=True)
        node = guest.node if guest is not None else copy.node
        if (silent := self._silent(node)) is not None:
            return silent
        if guest is not None and guest.type != "qemu":
            return There(node=node, owner=Owner.FOREIGN)
        try:
            if node in self.inventory.nodes:
                config = await self._session.vms.config(node, copy.vmid)
                signs = signs_of(config.raw)
                draft = signs.mark is not None and is_draft(signs.mark.name)
                seed = copy.build.seed if copy.build is not None else None
                return There(
                    node=node,
                    owner=owner(self.mark(template, copy, draft=draft), signs, lock=config.lock),
                    lock=config.lock,
                    is_template=config.is_template,
                    complete=bool(disks.drives(config.raw)),
                    running=not config.is_template and await self._runs(node, copy.vmid),
                    draft=draft,
                    seeded=seed is not None
                    and config.current.get(CLOUD_INIT_SLOT, "").partition(",")[0] == seed,
                )
        except NotHere:
            self._session.inventory.poke()
        except Forbidden as error:
            return Unclear(reason="PermissionDenied", message=error.message)
        except Unreachable as error:
            return Unclear(reason=error.reason, message=error.message)
        proof = await self._session.vms.prove_absent(copy.vmid)
        if proof.presence is Presence.ABSENT:
            return Gone()
        why = proof.why or "it is moving, or the credentials may not see it"
        return Unclear(
            reason="ExistenceUnknown", message=f"whether copy {copy.vmid} exists cannot be told: {why}"
        )

    async def _runs(self, node: str, vmid: int) -> bool:
        return (await self._session.vms.status(node, vmid)).status != "stopped"

    def _silent(self, node: str) -> Unclear | None:
        known = self.inventory.nodes.get(node)
        if known is None or known.online:
            return None
        return Unclear(reason="NodeUnavailable", message=f"node {node} is offline: bring it back")

    async def _is_worked_on(self, template: VMTemplate, copy: TemplateCopy, there: There) -> bool:
        """Whether a task makes or removes it: ours, whose answer was lost or which an earlier process began.

        Proxmox says that it is a template before its disks are those of one.
        """
        converting = copy.state == "Converting" and there.is_template
        if there.lock not in _PENDING_LOCKS and not converting:
            return False
        tasks, source = self._session.tasks, template.spec.from_vm
        if source is not None and not converting and there.lock != "destroyed":
            since = copy.since.timestamp()
            found = await tasks.find_clone(source.vmid, copy.vmid, node=there.node, since=since)
            return found is not None and found.running
        # A clone in the making names its source only: somebody may have taken the VMID.
        anybodys = there.owner is Owner.PENDING and source is None
        return any(
            task.upid.id == str(copy.vmid) or (anybodys and task.upid.type == "qmclone")
            for task in await tasks.active(there.node)
        )

    # Nodes

    def _node(
        self,
        template: VMTemplate,
        name: str,
        storage: str,
        volume: str | None,
        file: ImageFile | None,
        bridges: frozenset[str] | None,
    ) -> NodeFacts:
        inventory, info = self.inventory, self.inventory.nodes[name]
        if not info.online:
            return NodeFacts(name=name, online=False)
        refusal, reason = None, ""
        found = inventory.storages.get((storage, name))
        if storage and (found is None or not found.available or "images" not in found.content):
            reason = "StorageNotUsable"
            refusal = f"spec.storage: {storage} is not available on {name}, or takes no disk images"
        elif volume is not None:
            lying = template.spec.image is not None and template.spec.image.volume is not None
            field = "spec.image.volume" if lying else "spec.image.storage"
            uploaded = file is not None and file.uploaded
            reason, refusal = refusal_of_image(
                self._member, inventory, field, name, volume, uploaded=uploaded
            )
        elif (why := self._refusal_of_source(template, name)) is not None:
            reason, refusal = why
        if refusal is None and template.spec.build is not None:
            reason, refusal = refusal_of_build(self._member, inventory, template.spec.build, name, bridges)
        return NodeFacts(name=name, online=True, refusal=refusal, reason=reason)

    def _refusal_of_source(self, template: VMTemplate, node: str) -> tuple[str, str] | None:
        source = template.spec.from_vm
        if source is None:
            return None
        guest = self.inventory.guests.get(source.vmid)
        if guest is None or guest.type != "qemu":
            message = (
                f"spec.fromVM.vmid: there is no VM {source.vmid}, or the credentials may not see it: create it, or "
                f"grant VM.Audit and VM.Clone on /vms/{source.vmid}"
            )
            return "SourceNotFound", message
        if guest.node != node:
            return "SourceElsewhere", f"VM {source.vmid} is on {guest.node}: a copy of it is made there"
        if guest.status == "running":
            return "SourceRunning", f"spec.fromVM.vmid: VM {source.vmid} runs: shut it down, and it is cloned"
        return None

    async def _with_image(self, node: NodeFacts, volume: str, file: ImageFile | None) -> NodeFacts:
        """Whether the image is there, or on its way; a storage that cannot be looked at is its node's trouble alone."""
        try:
            listed = await self._session.files.images(node.name, volume.partition(":")[0])
            trusted = (
                file is None or not file.uploaded or self.place_of(node.name, volume) in self._member.whole
            )
            if (volume in listed and trusted) or file is None:
                self._memory.failures.pop(node.name, None)
                return replace(node, image=volume in listed)
            downloading = await self._is_coming(node.name, volume)
        except OperatorError as error:
            self._memory.fail(
                node.name, error, now=self._context.clock(), slow=self._context.settings.slow_retry
            )
            return replace(node, failed=self._memory.failed(node.name, self._context.clock()) or error)
        failed = self._memory.failed(node.name, self._context.clock())
        return replace(node, image=False, downloading=downloading, failed=failed)

    async def _is_coming(self, node: str, volume: str) -> bool:
        """Whether the image is on its way: by one of our templates, or a task that an earlier process began."""
        place = self.place_of(node, volume)
        if any((where, volume) in self._member.downloads for where in (node, "")):
            return True
        if is_uploaded(volume):
            return await self._is_copied()
        for task in await self._session.tasks.active(node):
            if task.upid.type == "download" and task.upid.id == volume.rpartition("/")[2]:
                self._member.downloads[place] = Coming(node=node, upid=task.upid.text)
        return place in self._member.downloads

    async def _is_copied(self) -> bool:
        """Whether a file is copied into place that is not known to be another: the task of an upload does not say which
        one it is. It may be of an earlier process, or one whose answer was lost; seeds of this process are known.
        """
        known = {coming.upid for coming in self._member.downloads.values()}
        for node in self.inventory.nodes.values():
            for task in await self._session.tasks.active(node.name) if node.online else ():
                ours = task.upid.type == "imgcopy" and task.upid.user == self._session.user
                if ours and task.upid.text not in known and not self._session.tasks.watches(task.upid):
                    self._memory.again_at = min(self._memory.again_at, self._context.clock() + UNWATCHED)
                    return True
        return False

    def place_of(self, node: str, volume: str) -> Place:
        """What tells one file from another: its volume id, and its node unless the storage is shared."""
        storage = self.inventory.storages.get((volume.partition(":")[0], node))
        return ("" if storage is not None and storage.shared else node), volume

    def _unused(self, template: VMTemplate) -> tuple[TemplateImage, ...]:
        """Images of this object that neither it nor another VMTemplate needs any more, on nodes that can be reached."""
        kept = None if template.metadata.deletion_timestamp is not None else _volume_of(template)
        candidates = [
            image
            for image in template.status.images
            if image.volume != kept
            and image.node in self.inventory.nodes
            and self._silent(image.node) is None
        ]
        if not candidates:
            return ()  # as nearly always: then nobody else's spec is read
        needed = set()
        for raw in self._context.store.list(TEMPLATE_KIND):
            if raw["metadata"]["uid"] == template.metadata.uid or "deletionTimestamp" in raw["metadata"]:
                continue
            try:
                other = VMTemplate.parse(raw)
            except InvalidObject:
                return ()  # what it needs is not known
            if other.status.cluster in (None, self._member.name):
                needed.add(_volume_of(other))
        return tuple(image for image in candidates if image.volume not in needed)


def _volume_of(template: VMTemplate) -> str | None:
    """The image that a VMTemplate is made from, downloaded or not."""
    return image_volume(template.spec.image) if template.spec.image is not None else None
