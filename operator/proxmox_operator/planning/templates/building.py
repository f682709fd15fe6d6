"""The build of a copy: which phase comes next, when it has failed, and which draft may never become a template.

A draft is called one in its mark until the guest was sealed, has shut down, and what was only for the build is seen to
be off; the write that takes the word away does nothing else. So whatever is lost - the operator, an answer, the
status - a copy whose mark says draft is built further or destroyed, and never converted.
"""

from proxmox_operator.api import Build, TemplateCopy
from proxmox_operator.api.build import CopyBuild
from proxmox_operator.api.quantity import parse_duration
from proxmox_operator.planning.identity import Owner
from proxmox_operator.planning.templates.facts import (
    BuildOn,
    CopyFacts,
    Destroy,
    FailBuild,
    Look,
    Next,
    Stop,
    TemplateFacts,
    There,
    Trouble,
    failure,
)

STOPPED_PHASES = ("Seeding", "Attaching", "Stripping")
"""Phases in which nobody but a person starts the guest."""

TALKING_PHASES = ("Running", "Stopping")
"""Phases in which the guest is asked how a step stands; in the latter the seal, lest it was undone by a reboot."""


def is_unbuilt(facts: TemplateFacts, each: CopyFacts, there: There) -> bool:
    """Whether a copy must not become a template as it is: never sealed, or not provably so."""
    build = each.copy.build
    if each.copy.state == "Ready":
        return False
    failed = build is not None and build.failure is not None
    started = build is not None and there.running
    doubtful = there.owner is Owner.UNMARKED and (build is not None or _spec(facts, each) is not None)
    return there.draft or there.seeded or failed or started or doubtful


def next_of_unbuilt(facts: TemplateFacts, each: CopyFacts, there: There) -> Next:
    """The next step of a copy that :func:`is_unbuilt` and wanted."""
    copy, build, spec = each.copy, each.copy.build, _spec(facts, each)
    untouched = build is not None and build.generation == facts.template.metadata.generation
    if copy.state == "Failed" and build is not None and spec is not None and spec.keep_failed and untouched:
        message = (
            f"{build.message}; VM {copy.vmid} on {there.node} is kept for a look: correct spec.build, or set "
            "spec.build.keepFailed to false; with any edit of the spec it is destroyed, and made anew"
        )
        return Trouble(where=copy.node, reason=build.failure or "", message=message[:1000])
    if (
        spec is None
        or copy.state not in ("Creating", "Building", "Converting")
        or there.is_template
        or not there.complete
        or (build is not None and _is_seeded_elsewhere(facts, build))
    ):
        return discard(facts, each, there)
    if build is None:
        if there.running:
            return discard(facts, each, there)
        return failure(copy.node, each.failed) if each.failed else BuildOn(copy=copy, phase="Seeding")
    if (failed := _failed(each, there, build, spec)) is not None:
        return failed
    following = _next_phase(facts, each, there, build, spec)
    goes_on = following is not None and (following.phase, following.step) != (build.phase, build.step)
    if not goes_on and (late := _timed_out(facts, each, build, spec)) is not None:
        return late
    if each.failed is not None:
        return failure(copy.node, each.failed)
    return following or progress(facts, copy)


def discard(facts: TemplateFacts, each: CopyFacts, there: There) -> Next:
    """Have an unbuilt copy destroyed, which holds nothing. A running one is stopped only if its mark says draft."""
    if (why := facts.in_use.get(each.copy.vmid)) is not None:
        return Trouble(where=each.copy.node, reason="InUse", message=why, waits=True)
    if each.failed is not None:
        return failure(each.copy.node, each.failed)
    if not there.running:
        return Destroy(copy=each.copy)
    return Stop(copy=each.copy) if there.draft else running(each.copy)


def running(copy: TemplateCopy) -> Trouble:
    """A copy that runs, and nobody knows what for."""
    message = f"copy {copy.vmid} on {copy.node} was started before it was a template: shut it down"
    return Trouble(where=copy.node, reason="CopyRunning", message=message)


def progress(facts: TemplateFacts, copy: TemplateCopy) -> str:
    """How far the build of a copy is, as a sentence."""
    build, spec, where = copy.build, facts.template.spec.build, f"building copy {copy.vmid} on {copy.node}"
    if build is None or spec is None:
        return where
    doing = {
        "Seeding": "uploading the seed of its boot",
        "Attaching": "attaching the seed of its boot",
        "Starting": "booting",
        "Running": step_name(spec, build.step),
        "Stopping": "shutting down",
        "Stripping": "taking off what was for the build",
    }
    return f"{where}: {doing[build.phase]}"


def step_name(spec: Build, step: int) -> str:
    """How a message names a step, by its number as in the status."""
    if step == 0:
        return "the first boot"
    if step > len(spec.steps):
        return "sealing"
    return f"step {step} of {len(spec.steps)} ({spec.steps[step - 1].name})"


def _spec(facts: TemplateFacts, each: CopyFacts) -> Build | None:
    """How the copy is built; of an earlier version that is not known any more."""
    return facts.template.spec.build if each.copy.version == facts.version else None


def _is_seeded_elsewhere(facts: TemplateFacts, build: CopyBuild) -> bool:
    """Whether the seed is still to be uploaded, to another storage than is named now."""
    storage = build.seed.partition(":")[0] if build.seed is not None else None
    return build.phase == "Seeding" and facts.seed_storage not in (None, storage)


def _next_phase(
    facts: TemplateFacts, each: CopyFacts, there: There, build: CopyBuild, spec: Build
) -> BuildOn | None:
    """None while something is awaited. A call whose answer was lost is not repeated before it can have no effect."""
    copy, settling = each.copy, each.settles_at is not None and facts.now < each.settles_at
    again = None if settling else BuildOn(copy=copy, phase=build.phase, step=build.step)
    match build.phase:
        case "Seeding":
            return again
        case "Attaching":
            return BuildOn(copy=copy, phase="Starting") if there.seeded else again
        case "Starting":
            return BuildOn(copy=copy, phase="Running") if there.running else again
        case "Running":
            return _next_step(each, build, spec)
        case "Stopping":
            if not there.running:
                return BuildOn(copy=copy, phase="Stripping")
            return again if each.look_due else None
        case "Stripping":
            return again


def _next_step(each: CopyFacts, build: CopyBuild, spec: Build) -> BuildOn | None:
    copy, look = each.copy, each.look
    if look is None or look.state != "Ended":
        return BuildOn(copy=copy, phase="Running", step=build.step) if each.look_due else None
    if build.step > len(spec.steps):
        return BuildOn(copy=copy, phase="Stopping", step=build.step)
    return BuildOn(copy=copy, phase="Running", step=build.step + 1)


def _failed(each: CopyFacts, there: There, build: CopyBuild, spec: Build) -> FailBuild | None:
    """Why the build is over, whatever time there is left."""
    look, name = each.look, step_name(spec, build.step) if build.phase == "Running" else "the shutdown"
    if there.running and build.phase in STOPPED_PHASES:
        what = "it was started by somebody while it had to be off: leave it alone"
        return _fail(each, "BuildDisturbed", what)
    if build.phase == "Running" and not there.running:
        what = f"the guest powered off in {name}: steps must leave it running"
        return _fail(each, "BuildGuestStopped", what, look)
    if build.phase not in TALKING_PHASES or look is None:
        return None
    match look.state:
        case "Ended" if look.code != 0:
            own = 0 < build.step <= len(spec.steps)
            remedy = "correct it in spec.build.steps" if own else "try by hand"
            return _fail(each, "BuildStepFailed", f"{name} ended with exit code {look.code}: {remedy}", look)
        case "Rebooted":
            what = f"the guest rebooted in or before {name}: steps must leave it running"
            return _fail(each, "BuildGuestStopped", what)
        case "Refused":
            what = (
                f"the guest agent runs no commands in {name}: allow guest-exec in the image (its option -b, or "
                "--allow-rpcs)"
            )
            return _fail(each, "BuildAgentSilent", what, look)
    return None


def _timed_out(facts: TemplateFacts, each: CopyFacts, build: CopyBuild, spec: Build) -> FailBuild | None:
    """Asked where a phase does not go on. Time is up only once the guest was asked, and told to shut down when it was
    sealed, as the operator may have been away; and not any more when it is off."""
    look, phase = each.look, build.phase
    if facts.now <= build.begun + parse_duration(spec.timeout) or phase == "Stripping":
        return None
    if phase in TALKING_PHASES and (look is None or (look.state == "Ended" and each.failed is None)):
        return None
    where, limit = step_name(spec, build.step), f"within spec.build.timeout ({spec.timeout})"
    if phase == "Running" and look is not None and look.state == "Silent":
        install = (
            "or see that spec.build.network.bridge has DHCP and a way to the mirrors that it is installed from"
            if spec.network is not None
            else "or set spec.build.network to have it installed"
        )
        what = f"the guest agent did not answer in {where} {limit}: have qemu-guest-agent in the image, {install}"
        return _fail(each, "BuildAgentSilent", what, look)
    where = where if phase == "Running" else f"phase {phase}"
    what = f"{where} was not over {limit}: correct it, or allow more time{_hindrance(each)}"
    return _fail(each, "BuildTimedOut", what, look)


def _hindrance(each: CopyFacts) -> str:
    return f" ({each.failed.message})" if each.failed is not None else ""


def _fail(each: CopyFacts, reason: str, what: str, look: Look | None = None) -> FailBuild:
    copy = each.copy
    said = f"; its last words: {look.output}" if look is not None and look.output else ""
    message = f"the build of copy {copy.vmid} on {copy.node} has failed: {what}{said}"
    return FailBuild(copy=copy, reason=reason, message=message)
