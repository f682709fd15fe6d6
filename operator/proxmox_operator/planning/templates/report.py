"""What a person sees of a VMTemplate: its conditions and counts.

Ready says that ProxmoxVMs can be made from the current version, Distributed that each node that is to have a copy has
one. Nothing here decides anything.
"""

from collections.abc import Sequence
from datetime import datetime

from proxmox_operator.api import Condition, set_condition
from proxmox_operator.planning.placement import grouped
from proxmox_operator.planning.report import Verdict, summarise
from proxmox_operator.planning.templates.facts import Plan, TemplateFacts, Trouble


def verdict(facts: TemplateFacts, plan: Plan) -> Verdict:
    """The summary: usable, and how far it is from being as its spec says."""
    busy = bool(plan.steps or plan.working)
    hindering = hindrances(plan)
    if facts.template.metadata.deletion_timestamp is not None:
        first = plan.troubles[0] if plan.troubles else None
        doing = plan.working[0] if plan.working else "its copies are being removed"
        reason, message = ("Deleting", doing) if first is None else (first.reason, first.message)
        stuck = first is not None and not first.waits
        return Verdict(False, reason, message, progressing=not stuck, stalled=stuck)
    waits = any(each.waits for each in hindering)
    stalled = bool(hindering) and not busy and not waits
    if is_usable(facts, plan):
        message = f"version {facts.version}: {counted(facts, plan)} copies are ready{_notes(plan)}"
        return Verdict(True, "Ready", message, progressing=busy or waits, stalled=stalled)
    if hindering and not busy:
        reason = hindering[0].reason
        ready = None if hindering[0].unknown else False
        return Verdict(ready, reason, _told(hindering), progressing=waits, stalled=stalled)
    doing = "; ".join(plan.working[:3]) or "the first copy is being made"
    return Verdict(False, "Making", doing, progressing=True, stalled=False)


def hindrances(plan: Plan) -> list[Trouble]:
    """What stands in the way of more copies; that an old one must stay does not."""
    return [each for each in plan.troubles if each.reason != "InUse"]


def is_usable(facts: TemplateFacts, plan: Plan) -> bool:
    """Whether a ProxmoxVM that asks for it gets a copy: there is one, or all that is needed to make one on demand."""
    if any(each.copy.state == "Ready" for each in facts.current):
        return True
    idle = not facts.current and not plan.troubles and not facts.asked
    return facts.template.spec.distribution == "OnDemand" and not facts.shared and idle


def counted(facts: TemplateFacts, plan: Plan) -> str:
    """Copies of the current version that are ready, and how many there are to be."""
    ready = sum(each.copy.state == "Ready" for each in facts.current)
    return f"{ready}/{ready + len(plan.missing)}"


def conditions(
    before: Sequence[Condition], facts: TemplateFacts, plan: Plan, *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """All conditions after a pass that has these facts."""
    result = summarise(before, verdict(facts, plan), generation=generation, now=now)
    if facts.template.metadata.deletion_timestamp is not None:
        return result
    found = {"Distributed": _distributed(facts, plan)}
    if facts.file is not None:
        found["Downloaded"] = _downloaded(facts, plan)
    for name, (state, reason, message) in found.items():
        result = set_condition(result, name, state, reason, message, generation=generation, now=now)
    if facts.file is None:
        result = tuple(condition for condition in result if condition.type != "Downloaded")
    return result


def _distributed(facts: TemplateFacts, plan: Plan) -> tuple[bool, str, str]:
    if not plan.missing and not facts.current and (hindering := hindrances(plan)):
        return False, hindering[0].reason, _told(hindering)
    if not plan.missing:
        nodes = ", ".join(sorted(each.copy.node for each in facts.current if each.copy.state == "Ready"))
        where = f"the copies of version {facts.version} are on {nodes}" if nodes else "no copy is wanted yet"
        return True, "Distributed", where
    troubles = {each.where: each.message for each in hindrances(plan)}
    waits = {node: troubles.get(node, "its copy is being made") for node in plan.missing}
    reason = next((each.reason for each in plan.troubles if each.where in plan.missing), "Making")
    return False, reason, grouped(waits)[:1000]


def _downloaded(facts: TemplateFacts, plan: Plan) -> tuple[bool, str, str]:
    """The image is wanted only where a copy is still to be made."""
    assert facts.file is not None  # noqa: S101 - narrowed by the caller
    failed = {each.name: str(each.failed) for each in facts.nodes.values() if each.failed is not None}
    if failed:
        reason = next(each.failed.reason for each in facts.nodes.values() if each.failed is not None)
        return False, reason, grouped(failed)[:1000]
    lacking = [
        node for node in plan.missing if facts.nodes.get(node) is None or facts.nodes[node].image is not True
    ]
    if lacking:
        return False, "Downloading", f"{facts.file.name} is not on {', '.join(lacking)} yet"
    return True, "Downloaded", f"{facts.file.volume} is where it is needed, with the checksum of the spec"


def _told(troubles: Sequence[Trouble]) -> str:
    return "; ".join(dict.fromkeys(each.message for each in troubles))[:1000]


def _notes(plan: Plan) -> str:
    return f" ({_told(plan.troubles)})" if plan.troubles else ""
