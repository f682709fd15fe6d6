"""Doing the phases of a copy's build: its seed, its boot, its steps through the guest agent, and what is taken off
again.

Each phase is on record before its call. All calls can be made again: an upload replaces its file, a config write is
guarded by its digest, and the guest itself sees to it that a step runs once (``guest.build``). When any of it is done
is decided in ``planning.templates.building``.
"""

from collections.abc import Awaitable, Callable

from proxmox_operator.api import Build, CopyBuild, Hardware, TemplateCopy
from proxmox_operator.controllers.context import Context
from proxmox_operator.controllers.fleet import Member
from proxmox_operator.controllers.template.buildable import refusal_of_build, seed_storage
from proxmox_operator.controllers.template.memory import TemplateMemory
from proxmox_operator.controllers.template.observe import TemplateObserver
from proxmox_operator.controllers.template.record import Record
from proxmox_operator.errors import NeedsHuman, Outdated
from proxmox_operator.guest.build import SHELL, read, runner, seed_data, seed_network
from proxmox_operator.guest.seed import cloud_config, network_text, seed_image
from proxmox_operator.planning import disks
from proxmox_operator.planning.identity import Owner, render_description, user_text
from proxmox_operator.planning.seed import Location, seed_volume
from proxmox_operator.planning.templates import BuildOn, FailBuild, Look, TemplateFacts, There, proxmox_name
from proxmox_operator.planning.templates.building import step_name
from proxmox_operator.planning.templates.draft import BOOT_ORDER, CLOUD_INIT_SLOT, NETWORK_SLOT
from proxmox_operator.proxmox.errors import AgentRefused, AgentUnavailable, LostProcess, NotRunning
from proxmox_operator.proxmox.session import ClusterSession

SOON = 1.0
"""Seconds after which the guest is asked again how a step stands; each look that finds it running doubles them."""

MAX_DELAY = 10.0
"""Seconds between two looks."""

MAX_SILENCE = 15.0
"""Seconds at most for which an agent that did not answer is left alone: it is what a build waits for."""

SHUTDOWN_SECONDS = 180
"""How long one attempt to shut the guest down may take; there are more, until ``spec.build.timeout``."""

Working = Callable[[TemplateCopy, str], Awaitable[None]]
"""Records the task that works on a copy, and has it watched."""


def after_task(copy: TemplateCopy, memory: TemplateMemory, *, succeeded: bool) -> CopyBuild | None:
    """The build of a copy whose task has ended. What other tasks bring about is seen of the VM itself."""
    build, unseeded = copy.build, copy.vmid in memory.seedless
    memory.seedless.discard(copy.vmid)
    if build is None or not succeeded:
        return build
    if unseeded:
        return build.model_copy(update={"seed": None})
    uploaded = copy.state == "Building" and build.phase == "Seeding"
    return build.model_copy(update={"phase": "Attaching"}) if uploaded else build


class Builder:
    """For one object in one pass; part of its TemplateApplier."""

    def __init__(
        self,
        context: Context,
        member: Member,
        session: ClusterSession,
        observer: TemplateObserver,
        memory: TemplateMemory,
        record: Record,
        working: Working,
    ) -> None:
        self._context = context
        self._member = member
        self._session = session
        self._observer = observer
        self._memory = memory
        self._record = record
        self._working = working

    async def build_on(self, facts: TemplateFacts, step: BuildOn) -> None:
        """Enter a phase, or do what it consists of once more. Raises the errors of the doors it uses."""
        build = facts.template.spec.build
        if build is None:
            raise AssertionError("planned only where the spec has a build")
        if step.phase == "Running":
            await self._run(build, step)
            return
        copy = await self._enter(build, step)
        upid: str | None
        match step.phase:
            case "Seeding":
                upid = await self._upload(copy, build)
            case "Attaching":
                upid = await self._attach(copy)
            case "Starting":
                self._memory.talks.pop(copy.vmid, None)
                upid = await self._session.vms.start(copy.node, copy.vmid)
            case "Stopping":
                upid = await self._shut_down(build, copy, step.step)
            case "Stripping":
                upid = await self._strip(facts, copy)
        self._memory.answered.add(copy.vmid)
        if upid is not None:
            await self._working(copy, upid)

    async def fail(self, step: FailBuild) -> None:
        """The failure is on record before anything of it is done, so no draft that failed is built on."""
        copy, build = step.copy, step.copy.build
        if build is not None:
            build = build.model_copy(
                update={
                    "failure": step.reason,
                    "message": step.message,
                    "generation": self._record.template.metadata.generation,
                }
            )
        await self._record.change(copy, state="Failed", since=self._context.now(), build=build)
        error = NeedsHuman(step.message, reason=step.reason)
        slow = self._context.settings.slow_retry
        self._memory.fail_build(copy.vmid, error, now=self._context.clock(), slow=slow)
        self._memory.failures.pop(copy.vmid, None)
        # Also of what is tried again at once, which nobody is needed for.
        self._record.event(step.reason, step.message, warning=True)

    async def stop(self, copy: TemplateCopy) -> None:
        """No digest guards a stop: that it is a draft of ours is read live just before. That it goes is recorded first,
        as from here on it is not what its record says of its build."""
        there = await self._live(copy)
        if not there.draft or there.owner is not Owner.OURS:
            raise Outdated(f"copy {copy.vmid} is no longer a draft")
        copy = await self._record.change(copy, state="Removing", since=self._context.now())
        self._memory.answered.discard(copy.vmid)
        await self._working(copy, await self._session.vms.stop(there.node, copy.vmid))

    async def remove_seed(self, copy: TemplateCopy) -> None:
        """One that cannot be deleted, unless it is a matter of time, is left, and said to be: it holds no secret."""
        build = copy.build
        if build is None or build.seed is None:
            raise AssertionError("planned only where a seed is on record")
        try:
            if copy.node not in self._observer.inventory.nodes:
                raise NeedsHuman(f"there is no node {copy.node} any more", reason="NodeNotFound")
            upid = await self._session.files.delete(copy.node, build.seed)
        except NeedsHuman as error:
            message = f"the seed {build.seed} on {copy.node} is no longer needed and stays: {error.message}"
            self._record.event("SeedLeft", message, warning=True)
            upid = None
        if upid is None:
            await self._record.change(copy, build=build.model_copy(update={"seed": None}))
            return
        self._memory.seedless.add(copy.vmid)
        await self._working(copy, upid)

    async def _enter(self, build: Build, step: BuildOn) -> TemplateCopy:
        """Intent before effect: from here on the call of this phase may have been made."""
        copy, now, known = step.copy, self._context.now(), step.copy.build
        if known is None:
            reason, refusal = refusal_of_build(self._member, self._observer.inventory, build, copy.node)
            if refusal is not None:
                raise NeedsHuman(refusal, reason=reason)
            seed = seed_volume(seed_storage(self._member, build) or "", copy.vmid, copy.uuid)
            known = CopyBuild(phase=step.phase, begun=now, seed=seed)
            self._record.event("BuildStarted", f"building copy {copy.vmid} on {copy.node}")
        elif known.phase == "Running" and (known.phase, known.step) != (step.phase, step.step):
            message = f"copy {copy.vmid} on {copy.node}: {step_name(build, known.step)} is done"
            self._record.event("BuildStepDone", message)
        known = known.model_copy(update={"phase": step.phase, "step": step.step})
        self._memory.answered.discard(copy.vmid)
        return await self._record.change(copy, state="Building", since=now, build=known)

    async def _upload(self, copy: TemplateCopy, build: Build) -> str:
        place = Location(volume=_seed_of(copy), node=copy.node)
        name = proxmox_name(self._record.template.metadata.name, copy.version)
        image = seed_image(
            cloud_config(seed_data(build)),
            {"instance-id": copy.uuid, "local-hostname": name},
            network_text(seed_network(build)),
        )
        return await self._session.files.upload_iso(place.node, place.storage, place.file_name, image)

    async def _attach(self, copy: TemplateCopy) -> str | None:
        vms = self._session.vms
        config = await vms.config(copy.node, copy.vmid)
        drive = {CLOUD_INIT_SLOT: f"{_seed_of(copy)},media=cdrom"}
        return await vms.set_config(copy.node, copy.vmid, drive, digest=config.digest)

    async def _strip(self, facts: TemplateFacts, copy: TemplateCopy) -> str | None:
        """Take off what was only for the build; a later write, once that is seen to be in force, has the mark no longer
        say draft. Proxmox writes the keys of one call one by one, so a call that fails may have written any of them
        (``PVE::API2::Qemu``, update_vm_api).
        """
        vms, template = self._session.vms, facts.template
        config = await vms.config(copy.node, copy.vmid)
        changes = {} if config.current.get("boot") == BOOT_ORDER else {"boot": BOOT_ORDER}
        gone, slots = [NETWORK_SLOT] if NETWORK_SLOT in config.current else [], set[str]()
        drive = disks.all_drives(config.current).get(CLOUD_INIT_SLOT)
        wanted = (template.spec.hardware or Hardware()).cloud_init_drive
        if wanted and (drive is None or not disks.is_cloud_init(drive)):
            changes[CLOUD_INIT_SLOT], slots = f"{copy.storage}:cloudinit", {copy.storage}
        elif not wanted and drive is not None:
            gone.append(CLOUD_INIT_SLOT)
        if not changes and not gone:
            text = user_text(config.raw.get("description", ""))
            changes["description"] = render_description(self._observer.mark(template, copy), text)
        return await vms.set_config(
            copy.node, copy.vmid, changes, delete=gone, digest=config.digest, slots=slots
        )

    async def _run(self, build: Build, step: BuildOn) -> None:
        copy, known = step.copy, step.copy.build
        if known is None or (known.phase, known.step) != (step.phase, step.step):
            copy = await self._enter(build, step)
        self._memory.answered.add(copy.vmid)
        await self._ask(build, copy, step.step)

    async def _shut_down(self, build: Build, copy: TemplateCopy, sealing: int) -> str | None:
        """A guest that has rebooted since it was sealed has made an identity for itself: it is asked just before."""
        look = await self._ask(build, copy, sealing)
        if look is None or (look.state, look.code) != ("Ended", 0):
            return None
        await self._live(copy)
        return await self._session.vms.shutdown(copy.node, copy.vmid, timeout=SHUTDOWN_SECONDS)

    async def _ask(self, build: Build, copy: TemplateCopy, number: int) -> Look | None:
        """Send the runner of the step, or see to the answer of the one that was sent: what it says now, None where the
        answer is still to come."""
        talk, vms, look = self._memory.talk(copy.vmid, number), self._session.vms, None
        try:
            if talk.pid is None:
                text = runner(build, number)
                talk.pid = await vms.agent_exec(copy.node, copy.vmid, SHELL, stdin=text, silence=MAX_SILENCE)
            result = await vms.agent_result(copy.node, copy.vmid, talk.pid, silence=MAX_SILENCE)
        except (AgentUnavailable, NotRunning):
            look = Look(state="Silent", output=talk.look.output if talk.look else "")
        except AgentRefused as error:
            look = Look(state="Refused", output=error.message)
        except LostProcess:
            talk.pid = None  # its answer was told to nobody: the runner is sent again
        else:
            look = read(result, seal=number > len(build.steps)) if result is not None else None
        if look is not None:
            talk.pid, talk.look = None, look
        talk.delay = min(2 * talk.delay or SOON, MAX_DELAY)
        talk.ask_at = self._context.clock() + talk.delay
        return look

    async def _live(self, copy: TemplateCopy) -> There:
        """The copy as its node has it now. Raises Outdated where it is not ours to stop."""
        there = await self._observer.ours(self._record.template, copy)
        if there is None:
            raise Outdated(f"copy {copy.vmid} is no longer as it was seen")
        return there


def _seed_of(copy: TemplateCopy) -> str:
    if copy.build is None or copy.build.seed is None:
        raise AssertionError("recorded when the build began")
    return copy.build.seed
