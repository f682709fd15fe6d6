"""HA rules and where a service may run: node affinity, resource affinity, the choice of a node. Pure functions.

Facts: PVE::HA::Rules and select_service_node of pve-ha-manager 5.2.0. A rule that is not strict adds all other
nodes with the lowest priority; services in positive affinity share their node affinity; without a rule that
says otherwise a service stays where it is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Rule:
    """`node-affinity` (nodes with priorities, strict) or `resource-affinity` (affinity positive or negative)."""

    kind: str
    resources: set[str]
    nodes: dict[str, int] = field(default_factory=dict)
    strict: bool = False
    affinity: str = "positive"
    disable: bool = False
    comment: str | None = None


@dataclass
class Service:
    """A service as the manager sees it (`service_status`), and what its node has to say about the last order.

    `uid` changes with every order; `given` says that the node has taken up the order, `result` how it ended.
    """

    state: str
    node: str
    target: str | None = None
    timeout: int | None = None
    command: tuple[str, str] | None = None
    failed_nodes: list[str] = field(default_factory=list)
    running: bool = False
    maintenance_node: str | None = None
    uid: int = 0
    given: bool = False
    result: str | None = None

    def order(self, state: str, *, target: str | None = None, timeout: int | None = None) -> None:
        """change_service_state: a new state is a new order to the node."""
        self.state, self.target, self.timeout = state, target, timeout
        self.running = False
        self.renew()

    def renew(self) -> None:
        """The same order again."""
        self.uid += 1
        self.given, self.result = False, None


def wish_of(resource: Mapping[str, Any] | None) -> str:
    """The state that is asked for: `started` where a resource says nothing, `ignored` where there is none."""
    if resource is None:
        return "ignored"
    state = str(resource.get("state", "started"))
    return "started" if state == "enabled" else state


Rules = Mapping[str, Rule]
Services = Mapping[str, Service]


def companions(rules: Rules, sid: str) -> tuple[set[str], set[str]]:
    """(services that must be with `sid`, services that must not); positive rules that overlap are one."""
    active = [rule for rule in rules.values() if rule.kind == "resource-affinity" and not rule.disable]
    together = {sid}
    while True:
        joined = {
            other
            for rule in active
            if rule.affinity == "positive" and rule.resources & together
            for other in rule.resources
        }
        if joined <= together:
            break
        together |= joined
    separate = {
        other
        for rule in active
        if rule.affinity == "negative" and rule.resources & together
        for other in rule.resources
    }
    return together - {sid}, separate - together


def affinity(
    rules: Rules, sid: str, online: Iterable[str], nodes: Iterable[str]
) -> tuple[set[str], set[str]]:
    """(online nodes that are allowed, those of them with the highest priority)."""
    together, _ = companions(rules, sid)
    mine = [
        rule
        for rule in rules.values()
        if rule.kind == "node-affinity" and not rule.disable and rule.resources & ({sid} | together)
    ]
    if not mine:
        return set(online), set(online)
    rule = next((rule for rule in mine if sid in rule.resources), mine[0])
    priorities = ({} if rule.strict else dict.fromkeys(nodes, -1)) | rule.nodes
    allowed = {node: priorities[node] for node in online if node in priorities}
    highest = max(allowed.values(), default=0)
    return set(allowed), {node for node, priority in allowed.items() if priority == highest}


def select_node(
    rules: Rules,
    services: Services,
    sid: str,
    *,
    preference: str,
    failback: bool,
    online: Iterable[str],
    nodes: Iterable[str],
) -> str | None:
    """select_service_node: the node a service belongs on, None if there is none.

    `preference` is none (stay if possible), best-score, or try-next (not where it failed already).
    """
    service = services[sid]
    allowed, preferred = affinity(rules, sid, online, nodes)
    if not preferred:
        return None
    with_sids, without_sids = companions(rules, sid)
    together: dict[str, int] = {}
    for other in with_sids & set(services):
        node = services[other].target or services[other].node
        together[node] = together.get(node, 0) + 1
    separate = {
        node
        for other in without_sids & set(services)
        for node in (services[other].node, services[other].target)
        if node
    }
    here = service.node
    if (
        preference == "none"
        and not failback
        and here in allowed
        and (here in together or here not in separate)
    ):
        return here
    if preference == "try-next":
        preferred -= set(service.failed_nodes)
    preferred -= separate
    company = {node: count for node, count in together.items() if node in preferred}
    if company:
        preferred = {max(sorted(company), key=lambda node: company[node])}
    if service.maintenance_node in preferred:
        return service.maintenance_node
    if preference == "none" and here in preferred:
        return here
    load = {node: sum(other.node == node for other in services.values()) for node in preferred}
    ranked = sorted(preferred, key=lambda node: (load[node], node))
    if preference == "try-next" and here in ranked[:-1]:
        return ranked[ranked.index(here) + 1]
    return ranked[0] if ranked else None


def problems(rules: Rules, nodes: Iterable[str]) -> dict[str, list[str]]:
    """check_feasibility: {rule id: what is wrong with its resources}."""
    out: dict[str, list[str]] = {}
    active = {name: rule for name, rule in rules.items() if not rule.disable}
    count = len(list(nodes))
    for name, rule in active.items():
        found = []
        others = [other for key, other in active.items() if key != name]
        if rule.kind == "node-affinity":
            found += [
                f"resource '{sid}' is already used in another node affinity rule"
                for sid in sorted(rule.resources)
                if any(other.kind == rule.kind and sid in other.resources for other in others)
            ]
        elif len(rule.resources) < 2:
            found.append("rule is ineffective as there are less than two resources")
        elif rule.affinity == "negative" and len(rule.resources) > count:
            found.append("rule defines more resources than available nodes")
        if rule.kind == "resource-affinity" and any(
            other.kind == rule.kind
            and other.affinity != rule.affinity
            and len(other.resources & rule.resources) > 1
            for other in others
        ):
            opposite = "negative" if rule.affinity == "positive" else "positive"
            found.append(f"rule shares two or more resources with a {opposite} resource affinity rule")
        if found:
            out[name] = found
    return out
