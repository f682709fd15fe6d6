"""The build of a copy: which phase comes next, when it has failed, and which draft may never become a template.

A draft is called one in its mark until the guest was sealed, has shut down, and what was only for the build is seen to
be off; the write that takes the word away does nothing else. So whatever is lost - the operator, an answer, the
status - a copy whose mark says draft is built further or destroyed, and never converted.
"""

from datetime import timedelta

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
    if copy.state == "Failed" and build is not None and spec is not None and spec.keep_failed:
        message = (
            f"{build.message}; VM {copy.vmid} on {there.node} is kept for a look: correct spec.build, or set "
            "spec.build.keepFailed to false, and it is destroyed"
        )
        return Trouble(where=copy.node, reason=build.failure or "", message=message[:1000])
    if (
        spec is None
        or copy.state not in ("Creating", "Building", "Converting")
        or there.is_template
        or not there.complete
    ):
        return discard(each, there)
    if build is None:
        if there.running:
            return discard(each, there)
        return failure(copy.node, each.failed) if each.failed else BuildOn(copy=copy, phase="Seeding")
    if (failed := _failed(facts, each, there, spec)) is not None:
        return failed
    if each.failed is not None:
        return failure(copy.node, each.failed)
    return _next_phase(facts, each, there, build, spec) or progress(facts, copy)


def discard(each: CopyFacts, there: There) -> Next:
    """Have an unbuilt copy destroyed, which holds nothing. A running one is stopped only if its mark says draft."""
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


def _next_phase(
    facts: TemplateFacts, each: CopyFacts, there: There, build: CopyBuild, spec: Build
) -> BuildOn | None:
    """None while something is awaited. A call whose answer was lost is not repeated before it can have no effect."""
    copy, settling = each.copy, each.settles_at is not None and facts.now < each.settles_at
    again = None if settling else BuildOn(copy=copy, phase=build.phase)
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
            return again if there.running else BuildOn(copy=copy, phase="Stripping")
        case "Stripping":
            return again


def _next_step(each: CopyFacts, build: CopyBuild, spec: Build) -> BuildOn | None:
    copy, look = each.copy, each.look
    if look is None or look.state != "Ended":
        return BuildOn(copy=copy, phase="Running", step=build.step) if each.look_due else None
    if build.step > len(spec.steps):
        return BuildOn(copy=copy, phase="Stopping")
    return BuildOn(copy=copy, phase="Running", step=build.step + 1)


def _failed(facts: TemplateFacts, each: CopyFacts, there: There, spec: Build) -> FailBuild | None:
    """Why the build is over. Time is up only once the guest was asked, as the operator may have been away."""
    build, look = each.copy.build, each.look
    if build is None:
        return None
    name, over = step_name(spec, build.step), facts.now > build.begun + _timeout(spec)
    if there.running and build.phase in STOPPED_PHASES:
        return _fail(
            each, "BuildDisturbed", "it was started by somebody while it had to be off: leave it alone"
        )
    if build.phase == "Running" and not there.running:
        return _fail(
            each, "BuildGuestStopped", f"the guest powered off in {name}: steps must leave it running", look
        )
    if build.phase == "Running" and look is not None:
        match look.state:
            case "Ended" if look.code != 0:
                remedy = (
                    "correct it in spec.build.steps" if 0 < build.step <= len(spec.steps) else "try by hand"
                )
                return _fail(
                    each, "BuildStepFailed", f"{name} ended with exit code {look.code}: {remedy}", look
                )
            case "Rebooted":
                message = f"the guest rebooted in or before {name}: steps must leave it running"
                return _fail(each, "BuildGuestStopped", message)
            case "Refused":
                message = (
                    f"the guest agent runs no commands in {name}: allow guest-exec in the image (its option -b, or "
                    "--allow-rpcs)"
                )
                return _fail(each, "BuildAgentSilent", message, look)
            case "Silent" if over:
                install = (
                    "" if spec.network is not None else ", or set spec.build.network to have it installed"
                )
                message = (
                    f"the guest agent did not answer in {name} within spec.build.timeout ({spec.timeout}): have "
                    f"qemu-guest-agent in the image{install}"
                )
                return _fail(each, "BuildAgentSilent", message)
    asked = build.phase != "Running" or look is not None
    if over and asked and build.phase != "Stripping":
        where = name if build.phase == "Running" else f"phase {build.phase}"
        message = (
            f"{where} was not over within spec.build.timeout ({spec.timeout}): correct it, or allow more time"
        )
        return _fail(each, "BuildTimedOut", f"{message}{_hindrance(each)}", look)
    return None


def _hindrance(each: CopyFacts) -> str:
    return f" ({each.failed.message})" if each.failed is not None else ""


def _timeout(spec: Build) -> timedelta:
    return parse_duration(spec.timeout)


def _fail(each: CopyFacts, reason: str, what: str, look: Look | None = None) -> FailBuild:
    copy = each.copy
    said = f"; its last words: {look.output}" if look is not None and look.output else ""
    message = f"the build of copy {copy.vmid} on {copy.node} has failed: {what}{said}"
    return FailBuild(copy=copy, reason=reason, message=message)
