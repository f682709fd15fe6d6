"""Rules of Proxmox VE 9's HA manager: what the spec wants of them, and the next one that has to be written.

A VM has a node-affinity rule of its own; the VMs of a group share one resource-affinity rule, which each of them keeps
up to date. A rule is ours by its comment: one of the same name that somebody else made is not touched. Facts:
PVE::API2::HA::Rules and PVE::HA::Rules of pve-ha-manager 5.2: a resource may be in one node-affinity rule, a
resource-affinity rule needs two resources, a negative one no more than there are nodes, and all of them must be
under HA. Proxmox VE 8 has groups instead, which are not managed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from proxmox_operator.api import HARule, ProxmoxVM

_AFFINITIES = {"Together": "positive", "Apart": "negative"}
NODE, RESOURCE = "node-affinity", "resource-affinity"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule. ``resources`` are service ids such as ``vm:100``; ``nodes`` are (name, priority)."""

    id: str
    type: str
    resources: frozenset[str]
    comment: str = ""
    nodes: frozenset[tuple[str, int]] = frozenset()
    strict: bool = False
    affinity: str | None = None
    disabled: bool = False


@dataclass(frozen=True, kw_only=True)
class RuleFacts:
    """What the rules of a VM depend on.

    ``supported``: whether the cluster has rules (Proxmox VE 9). ``found`` are all of its rules by id, read under
    ``digest``; ``owner`` is how the comments of ours begin. ``peers`` are the VMs of the group that are under HA, this
    one included while it stays, with the affinity that each wants; ``bystanders`` are those of them that are not
    managed at present: one stays in the rule if it is there, and is not put into it. ``nodes`` are the cluster's.
    """

    supported: bool
    owner: str
    found: Mapping[str, Rule]
    digest: str
    peers: Mapping[int, str]
    nodes: frozenset[str]
    bystanders: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class RuleProblem:
    """Why a rule that the spec asks for is not in force."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class PutRule:
    """Make the rule (``digest`` None), or bring the existing one to this under the digest of what was read."""

    rule: Rule
    digest: str | None


@dataclass(frozen=True, kw_only=True)
class RefusedRule:
    """A rule that Proxmox has refused a moment ago, and what it said."""

    rule: Rule
    message: str


@dataclass(frozen=True, kw_only=True)
class DropRule:
    """Remove a rule of ours."""

    id: str


def comment_of(owner: str, vm: ProxmoxVM) -> str:
    """The comment that marks what belongs to one VM as ours."""
    return f"{owner} {vm.metadata.namespace}/{vm.metadata.name}"


def next_rule(
    vm: ProxmoxVM, wish: HARule | None, facts: RuleFacts
) -> PutRule | DropRule | RuleProblem | None:
    """The next rule to write, else why one that is wanted is not in force; ``wish`` None: the VM is to be in none."""
    if not facts.supported:
        return None if wish is None else _not_supported()
    vmid = vm.status.vmid or 0
    changes = (_nodes(vm, vmid, wish, facts), _group(vm, wish, facts), _left_group(vm, vmid, wish, facts))
    return next((change for change in changes if isinstance(change, PutRule | DropRule)), None) or next(
        (change for change in changes if change is not None), None
    )


def _not_supported() -> RuleProblem:
    return RuleProblem(
        reason="RulesNotSupported",
        message=(
            "the VM is under HA, but spec.availability.rule needs Proxmox VE 9: the HA groups of Proxmox VE 8 are not "
            "managed; the rule takes effect once all nodes are upgraded"
        ),
    )


def _nodes(
    vm: ProxmoxVM, vmid: int, wish: HARule | None, facts: RuleFacts
) -> PutRule | DropRule | RuleProblem | None:
    affinity = wish.node_affinity if wish is not None else None
    name, comment, sid = f"pvm-{vmid}-nodes", comment_of(facts.owner, vm), f"vm:{vmid}"
    found = facts.found.get(name)
    if affinity is None:
        return DropRule(id=name) if found is not None and found.comment == comment else None
    if found is not None and found.comment != comment:
        return _foreign(name)
    unknown = sorted(node.name for node in affinity.nodes if node.name not in facts.nodes)
    if unknown:
        message = f"spec.availability.rule.nodeAffinity: there is no node {', '.join(unknown)} in the cluster"
        return RuleProblem(reason="RuleConflict", message=message)
    others = [
        rule.id
        for rule in facts.found.values()
        if rule.type == NODE and sid in rule.resources and rule.id != name and not rule.disabled
    ]
    if others:
        message = (
            f"VM {vmid} is in HA rule {others[0]} already, and Proxmox allows one node affinity for each VM: remove it "
            "there, or remove spec.availability.rule.nodeAffinity"
        )
        return RuleProblem(reason="RuleConflict", message=message)
    nodes = frozenset((node.name, node.priority) for node in affinity.nodes)
    wanted = Rule(
        id=name,
        type=NODE,
        resources=frozenset({sid}),
        comment=comment,
        nodes=nodes,
        strict=affinity.strict,
    )
    return PutRule(rule=wanted, digest=None if found is None else facts.digest) if found != wanted else None


def _group(vm: ProxmoxVM, wish: HARule | None, facts: RuleFacts) -> PutRule | DropRule | RuleProblem | None:
    """The rule of the group that the VM names; the last but one to leave it takes it along."""
    affinity = wish.resource_affinity if wish is not None else None
    if affinity is None:
        return None
    comment = _group_comment(facts.owner, vm, affinity.group)
    name = f"pvm-{affinity.group}-{sha256(comment.encode()).hexdigest()[:10]}"
    found = facts.found.get(name)
    if found is not None and found.comment != comment:
        return _foreign(name)
    there = found.resources if found is not None else frozenset()
    peers = {
        vmid: wanted
        for vmid, wanted in facts.peers.items()
        if vmid not in facts.bystanders or f"vm:{vmid}" in there
    }
    if len(set(peers.values())) > 1:
        message = (
            f"spec.availability.rule.resourceAffinity: the VMs of group {affinity.group} do not agree on affinity: "
            "VMs "
            + ", ".join(f"{vmid} ({wanted})" for vmid, wanted in sorted(peers.items())[:10])
            + "; give all of them the same"
        )
        return RuleProblem(reason="RuleConflict", message=message)
    if len(peers) < 2:
        return DropRule(id=name) if found is not None else None
    if affinity.affinity == "Apart" and len(peers) > len(facts.nodes):
        message = (
            f"spec.availability.rule.resourceAffinity: group {affinity.group} has {len(peers)} VMs, and the "
            f"cluster {len(facts.nodes)} nodes to keep them apart on: use several groups"
        )
        return RuleProblem(reason="RuleConflict", message=message)
    wanted = Rule(
        id=name,
        type=RESOURCE,
        resources=frozenset(f"vm:{vmid}" for vmid in peers),
        comment=comment,
        affinity=_AFFINITIES[next(iter(peers.values()))],
    )
    return PutRule(rule=wanted, digest=None if found is None else facts.digest) if found != wanted else None


def _left_group(vm: ProxmoxVM, vmid: int, wish: HARule | None, facts: RuleFacts) -> PutRule | DropRule | None:
    """A group's rule of ours in which the VM still is, though it does not name the group any more."""
    affinity = wish.resource_affinity if wish is not None else None
    stays = _group_comment(facts.owner, vm, affinity.group) if affinity is not None else None
    sid, ours = f"vm:{vmid}", _group_comment(facts.owner, vm, "")
    for rule in facts.found.values():
        if (
            sid not in rule.resources
            or rule.type != RESOURCE
            or not rule.comment.startswith(ours)
            or rule.comment == stays
        ):
            continue
        left = rule.resources - {sid}
        if len(left) < 2:
            return DropRule(id=rule.id)
        return PutRule(
            rule=Rule(
                id=rule.id,
                type=RESOURCE,
                resources=left,
                comment=rule.comment,
                affinity=rule.affinity,
                disabled=rule.disabled,
            ),
            digest=facts.digest,
        )
    return None


def _group_comment(owner: str, vm: ProxmoxVM, group: str) -> str:
    """Two ProxmoxClusters may be one cluster in Proxmox; their groups of the same name are two."""
    return f"{owner} {vm.status.cluster} {vm.metadata.namespace} group {group}"


def _foreign(name: str) -> RuleProblem:
    return RuleProblem(
        reason="RuleConflict",
        message=f"HA rule {name} exists and was not made for this VM, so it is not touched: remove it in Proxmox",
    )
