"""Doing the steps for one VMTemplate. Decides nothing: each function carries out what ``planning.templates`` named.

What must be known after a crash is written to the status before the call is made. Each step stands alone: one that
fails is remembered with its copy, or its node, and the others go on.
"""

from datetime import datetime
from uuid import uuid4

from proxmox_operator.api import TemplateCopy, TemplateImage
from proxmox_operator.controllers.context import TEMPLATE_KIND, Context, key_of
from proxmox_operator.controllers.fleet import Coming, Fleet, Member
from proxmox_operator.controllers.template.build import Builder, after_task
from proxmox_operator.controllers.template.memory import TemplateMemory
from proxmox_operator.controllers.template.observe import TemplateObserver
from proxmox_operator.controllers.template.record import Record
from proxmox_operator.controllers.template.uploads import Upload
from proxmox_operator.errors import NeedsHuman, Outdated
from proxmox_operator.planning.identity import render_description, render_tombstone
from proxmox_operator.planning.propstring import parse_tags
from proxmox_operator.planning.templates import (
    Again,
    BuildOn,
    Bury,
    Convert,
    Create,
    DeleteImage,
    Destroy,
    Download,
    Drop,
    FailBuild,
    Finish,
    Hold,
    Keep,
    Release,
    RemoveSeed,
    Reserve,
    Step,
    Stop,
    TemplateFacts,
    There,
    draft,
    proxmox_name,
)
from proxmox_operator.proxmox.session import ClusterSession
from proxmox_operator.proxmox.tasks import TaskResult, unfreed


class TemplateApplier:
    """Carries out steps for one object in one pass."""

    def __init__(
        self,
        context: Context,
        fleet: Fleet,
        member: Member,
        session: ClusterSession,
        observer: TemplateObserver,
        memory: TemplateMemory,
        record: Record,
    ) -> None:
        self._context = context
        self._fleet = fleet
        self._member = member
        self._session = session
        self._observer = observer
        self._memory = memory
        self._record = record
        self._builder = Builder(context, member, session, observer, memory, record, self._working)

    async def apply(self, facts: TemplateFacts, step: Step) -> None:
        """Carry out one step. Raises the errors of the doors it uses."""
        match step:
            case Hold():
                await self._record.hold()
            case Download():
                await self._download(step)
            case Reserve():
                await self._reserve(facts, step)
            case Create():
                await self._create(facts, step.copy)
            case BuildOn():
                await self._builder.build_on(facts, step)
            case FailBuild():
                await self._builder.fail(step)
            case Stop():
                await self._builder.stop(step.copy)
            case RemoveSeed():
                await self._builder.remove_seed(step.copy)
            case Again():
                await self._record.change(step.copy, state="Creating", since=self._now(), build=None)
            case Convert():
                await self._convert(facts, step.copy)
            case Finish():
                await self._record.change(step.copy, state="Ready", since=self._now(), build=None)
                self._record.event("CopyReady", f"copy {step.copy.vmid} on {step.copy.node} is ready")
            case Destroy():
                await self._destroy(step.copy)
            case Keep():
                await self._record.change(step.copy, state="Ready", since=self._now())
            case Bury():
                await self._bury(step.copy)
            case Drop():
                await self._drop(step.copy, step.told)
            case DeleteImage():
                await self._delete_image(step.image)
            case Release():
                await self._record.release()

    async def take_up(self) -> None:
        """Tasks that have ended: what they brought about, or failed of, is recorded; the others are watched."""
        ended: list[TemplateCopy] = []
        for copy in self._record.template.status.copies:
            if copy.upid is None:
                continue
            result = self._memory.results.get(copy.upid)
            if result is None:
                self._watch(copy.upid)
                continue
            del self._memory.results[copy.upid]
            self._memory.answered.add(copy.vmid)
            self._ended(copy, result)
            build = after_task(copy, self._memory, succeeded=result.explained() is None)
            ended.append(copy.model_copy(update={"upid": None, "since": self._now(), "build": build}))
        if ended:
            await self._record.put(ended)

    def _ended(self, copy: TemplateCopy, result: TaskResult) -> None:
        now, error = self._context.clock(), result.explained()
        if error is not None and error.reason == "ShutdownTimeout":
            message = "the guest did not shut down in time: see at its console what it waits for"
            error = NeedsHuman(message, reason=error.reason)
        if error is None:
            self._memory.failures.pop(copy.vmid, None)
            if copy.state == "Removing" and (left := unfreed(result.log_tail)):
                free = " && ".join(f"pvesm free {volume}" for volume in left)
                message = f"copy {copy.vmid} is destroyed, but Proxmox could not free these volumes; run there: {free}"
                self._record.event("LeftBehind", message, warning=True)
        elif error.reason == "BaseInUse":
            message = f"copy {copy.vmid} of version {copy.version} on {copy.node} stays: linked clones use its disks"
            self._memory.keep(copy.vmid, NeedsHuman(message, reason="InUse"), now=now)
        else:
            self._memory.fail(copy.vmid, error, now=now, slow=self._context.settings.slow_retry)

    def _watch(self, upid: str) -> None:
        """Have the tracker wake the object when the task has ended; a task is watched once."""
        if upid in self._memory.results:
            return
        self._memory.results[upid] = None
        key, results, queue = key_of(self._record.raw), self._memory.results, self._context.queue

        def ended(result: TaskResult) -> None:
            results[upid] = result
            queue.add(key)

        self._session.tasks.watch(upid, ended)

    async def _working(self, copy: TemplateCopy, upid: str) -> None:
        self._watch(upid)
        await self._record.change(copy, upid=upid)

    # Making

    async def _download(self, step: Download) -> None:
        """The image is recorded first, so that it is known when nothing needs it any more.

        From the first moment on other VMTemplates see that it is on its way, and are woken to await it.
        """
        file, node, downloads = step.file, step.node, self._member.downloads
        place = self._observer.place_of(node, file.volume)
        if place in downloads:
            return
        coming = downloads[place] = Coming(node=node, file=file)
        try:
            await self._note_image(node, file.volume)
            if file.uploaded:
                coming.owners[key_of(self._record.raw)] = self._memory
                Upload(self._context, self._member, self._session, place, coming).start(file)
                self._record.event("Uploading", f"uploading {file.url} to {file.volume} on {node}")
                return
            coming.upid = await self._session.files.download_image(
                node,
                file.storage,
                url=file.url,
                filename=file.name,
                checksum=file.digest,
                algorithm=file.algorithm,
            )
        finally:
            if coming.upid is None and coming.job is None:
                del downloads[place]
            self._context.wake_users(self._member.name, TEMPLATE_KIND)
        self._record.event("Downloading", f"{node} downloads {file.url} to {file.volume}")

    async def _note_image(self, node: str, volume: str) -> None:
        """Record that this object needs the image, whoever had it downloaded."""
        shared = self._observer.place_of(node, volume)[0] == ""
        images = self._record.template.status.images
        if not any(image.volume == volume and (shared or image.node == node) for image in images):
            await self._record.write(images=(*images, TemplateImage(node=node, volume=volume)))

    async def _reserve(self, facts: TemplateFacts, step: Reserve) -> None:
        """Intent before effect: VMID and UUID of each copy are in the status before the first call."""
        copies = []
        for node in step.nodes:
            vmid = await self._fleet.next_vmid(self._member)
            copies.append(
                TemplateCopy(
                    node=node,
                    vmid=vmid,
                    uuid=str(uuid4()),
                    version=facts.version,
                    storage=facts.storage,
                    state="Creating",
                    since=self._now(),
                )
            )
        await self._record.put(copies, cluster=self._member.name)
        for copy in copies:
            self._member.keys[copy.vmid] = key_of(self._record.raw)
            self._memory.unsent.add(copy.vmid)

    async def _create(self, facts: TemplateFacts, copy: TemplateCopy) -> None:
        spec, name = facts.template.spec, facts.template.metadata.name
        if facts.file is not None:
            await self._note_image(copy.node, facts.file.volume)
        copy = await self._record.change(copy, since=self._now())
        mark, vms, pool = (
            self._observer.mark(facts.template, copy, draft=spec.build is not None),
            self._session.vms,
            self._member.cluster.spec.pool,
        )
        self._memory.unsent.discard(copy.vmid)
        self._memory.answered.discard(copy.vmid)
        slots = {copy.storage} if copy.storage else set()
        if spec.from_vm is not None:
            await self._refuse_running(copy.node, spec.from_vm.vmid)
            upid = await vms.clone(
                copy.node,
                spec.from_vm.vmid,
                copy.vmid,
                name=proxmox_name(name, copy.version),
                description=render_description(mark, ""),
                full=True,
                storage=copy.storage or None,
                pool=pool,
                slots=slots,
            )
        else:
            config = draft(
                spec,
                template=name,
                version=copy.version,
                mark=mark,
                storage=copy.storage,
                volume=facts.volume or "",
            )
            upid = await vms.create(copy.node, copy.vmid, config, pool=pool, slots=slots)
        await self._working(copy, upid)
        self._record.event("MakingCopy", f"making copy {copy.vmid} of version {copy.version} on {copy.node}")

    async def _convert(self, facts: TemplateFacts, copy: TemplateCopy) -> None:
        """A clone has the tags of its source; those of the spec are added while it is still a VM.

        No digest guards the call: that it is no draft, which was never sealed, is read live just before.
        """
        spec, vms = facts.template.spec, self._session.vms
        there = await self._live(copy, to_keep=True)
        if there.draft or there.running:
            raise Outdated(f"copy {copy.vmid} is still to be built, or was started")
        if spec.from_vm is not None and spec.tags:
            config = await vms.config(copy.node, copy.vmid)
            tags = sorted({*parse_tags(config.raw.get("tags", "")), *spec.tags})
            await vms.set_config(
                copy.node, copy.vmid, {"tags": ";".join(tags)}, digest=config.digest, background_delay=10
            )
        copy = await self._record.change(copy, state="Converting", since=self._now())
        await self._working(copy, await vms.convert(copy.node, copy.vmid))

    async def _refuse_running(self, node: str, vmid: int) -> None:
        """Disks that are being written would be copied in no state at all. Asked live: the inventory lags."""
        if (await self._session.vms.status(node, vmid)).status != "stopped":
            raise NeedsHuman(
                f"spec.fromVM.vmid: VM {vmid} runs: shut it down, and it is cloned", reason="SourceRunning"
            )

    # The end

    async def _destroy(self, copy: TemplateCopy) -> None:
        """No digest guards a destroy: whose it is, is read live just before. That it goes is recorded first."""
        there = await self._live(copy)
        copy = await self._record.change(copy, state="Removing", since=self._now())
        self._memory.answered.discard(copy.vmid)
        self._session.inventory.expect_gone(copy.vmid)
        upid = await self._session.vms.destroy(there.node, copy.vmid)
        await self._working(copy, upid)
        self._record.event(
            "RemovingCopy", f"removing copy {copy.vmid} of version {copy.version} on {there.node}"
        )

    async def _live(self, copy: TemplateCopy, *, to_keep: bool = False) -> There:
        """The copy as its node has it now. Raises Outdated where it is no longer ours to touch, and has it read from
        then on, so that the next look says why.

        What was ready and is a template no longer may hold what nobody has elsewhere: it is only let go, or converted
        again (``to_keep``).
        """
        there = await self._observer.ours(self._record.template, copy)
        expendable = there is not None and not there.running and (there.is_template or copy.state != "Ready")
        if there is None or not (to_keep or expendable):
            self._memory.doubted.add(copy.vmid)
            raise Outdated(f"copy {copy.vmid} is no longer as it was seen")
        return there

    async def _bury(self, copy: TemplateCopy) -> None:
        """Forgotten only once its notes are seen to say that it was let go: the write may end in a task."""
        there = await self._live(copy, to_keep=True)
        config = await self._session.vms.config(there.node, copy.vmid)
        before = config.raw.get("description", "")
        description = render_tombstone(before, self._observer.mark(self._record.template, copy))
        if before.strip() == description.strip():
            await self._drop(copy, f"template {copy.vmid} stays on {there.node} (spec.deletionPolicy Retain)")
            return
        self._memory.doubted.add(copy.vmid)
        await self._session.vms.set_config(
            there.node, copy.vmid, {"description": description}, digest=config.digest, background_delay=10
        )

    async def _drop(self, copy: TemplateCopy, told: str | None) -> None:
        await self._record.drop(copy)
        self._member.forget(copy.vmid, key_of(self._record.raw))
        self._memory.forget(copy.vmid)
        if told is not None:
            self._record.event("CopyDropped", told)

    async def _delete_image(self, image: TemplateImage) -> None:
        """One that may not be deleted is left, and said to be."""
        try:
            await self._session.files.delete(image.node, image.volume)
            self._member.whole.discard(self._observer.place_of(image.node, image.volume))
        except NeedsHuman as error:
            message = f"image {image.volume} on {image.node} is no longer needed and stays: {error.message}"
            self._record.event("ImageLeft", message, warning=True)
        images = tuple(each for each in self._record.template.status.images if each != image)
        await self._record.write(images=images)

    def _now(self) -> datetime:
        return self._context.now()
