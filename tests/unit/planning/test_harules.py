"""Rules of the HA manager: what is wanted of them, what is ours, and which one is written next."""

from typing import Any

import pytest

from proxmox_operator.api import HARule
from proxmox_operator.planning.harules import DropRule, PutRule, Rule, RuleFacts, RuleProblem, next_rule
from unit.planning.make import a_vm, made

OWNER = "proxmox-operator k8s-1"
NODES = frozenset({"pve1", "pve2", "pve3"})
NEAR = {"nodeAffinity": {"nodes": [{"name": "pve1", "priority": 2}, {"name": "pve2"}], "strict": True}}
NEAR_RULE = Rule(
    id="pvm-10000-nodes",
    type="node-affinity",
    resources=frozenset({"vm:10000"}),
    comment=f"{OWNER} shop/web-1",
    nodes=frozenset({("pve1", 2), ("pve2", 0)}),
    strict=True,
)


def group(affinity="Apart", name="db"):
    return {"resourceAffinity": {"group": name, "affinity": affinity}}


def of(rule: dict[str, Any] | None):
    """A VM with this rule."""
    availability: dict[str, Any] = {"ha": True} | ({} if rule is None else {"rule": rule})
    return a_vm(status=made(), availability=availability)


def there(*rules, peers=None, **changes):
    usual: dict[str, Any] = {
        "supported": True,
        "owner": OWNER,
        "found": {rule.id: rule for rule in rules},
        "digest": "d1",
        "peers": peers or {},
        "nodes": NODES,
    }
    return RuleFacts(**(usual | changes))


def step(rule, given):
    vm = of(rule)
    return next_rule(vm, vm.spec.availability.rule, given)


BOTH = {10000: "Apart", 10001: "Apart"}
MADE = step(group(), there(peers=BOTH))
assert isinstance(MADE, PutRule)
GROUP_RULE = MADE.rule


def changed(rule: Rule, **changes):
    return Rule(**{**rule.__dict__, **changes})


def test_a_node_affinity_is_made_brought_up_to_date_and_removed():
    assert step(NEAR, there()) == PutRule(rule=NEAR_RULE, digest=None)
    assert step(NEAR, there(NEAR_RULE)) is None
    for other in (
        changed(NEAR_RULE, strict=False),
        changed(NEAR_RULE, disabled=True),
        changed(NEAR_RULE, nodes=frozenset({("pve1", 0)})),
        changed(NEAR_RULE, resources=frozenset({"vm:10000", "vm:500"})),
    ):
        assert step(NEAR, there(other)) == PutRule(rule=NEAR_RULE, digest="d1")
    assert step(None, there(NEAR_RULE)) == DropRule(id="pvm-10000-nodes")


def test_a_rule_of_the_same_name_that_somebody_else_made_is_not_touched():
    foreign = changed(NEAR_RULE, comment="by hand")
    assert step(NEAR, there(foreign)).reason == "RuleConflict"
    assert step(None, there(foreign)) is None
    other_cluster = changed(GROUP_RULE, comment="proxmox-operator k8s-2 lab shop group db")
    assert isinstance(step(group(), there(other_cluster, peers=BOTH)), RuleProblem)


def test_proxmox_allows_one_node_affinity_for_a_vm():
    other = Rule(id="by-hand", type="node-affinity", resources=frozenset({"vm:10000", "vm:500"}))
    problem = step(NEAR, there(other))
    assert problem.reason == "RuleConflict"
    assert "by-hand" in problem.message
    assert isinstance(step(NEAR, there(changed(other, disabled=True))), PutRule)


def test_a_node_that_does_not_exist_is_named():
    problem = step({"nodeAffinity": {"nodes": [{"name": "pve9"}]}}, there())
    assert (problem.reason, "pve9" in problem.message) == ("RuleConflict", True)


def test_a_group_has_one_rule_from_its_second_member_on():
    assert step(group(), there(peers={10000: "Apart"})) is None
    assert GROUP_RULE.resources == {"vm:10000", "vm:10001"}
    assert (GROUP_RULE.type, GROUP_RULE.affinity) == ("resource-affinity", "negative")
    assert GROUP_RULE.id.startswith("pvm-db-")
    assert MADE.digest is None
    assert step(group(), there(GROUP_RULE, peers=BOTH)) is None
    together = step(group("Together"), there(peers={10000: "Together", 10001: "Together"}))
    assert together.rule.affinity == "positive"


def test_members_come_and_go_under_the_digest_and_the_last_but_one_takes_the_rule_along():
    three = BOTH | {10002: "Apart"}
    grown = step(group(), there(GROUP_RULE, peers=three))
    assert (grown.rule.resources, grown.digest) == ({"vm:10000", "vm:10001", "vm:10002"}, "d1")
    shrunk = step(group(), there(grown.rule, peers=BOTH))
    assert (shrunk.rule, shrunk.digest) == (GROUP_RULE, "d1")
    assert step(group(), there(GROUP_RULE, peers={10000: "Apart"})) == DropRule(id=GROUP_RULE.id)


def test_a_vm_that_is_not_managed_at_present_is_not_put_into_the_rule_and_not_taken_out() -> None:
    stands_by = frozenset({10001})
    assert step(group(), there(peers=BOTH, bystanders=stands_by)) is None
    assert step(group(), there(GROUP_RULE, peers=BOTH, bystanders=stands_by)) is None
    grown = step(group(), there(GROUP_RULE, peers=BOTH | {10002: "Apart"}, bystanders=stands_by))
    assert grown.rule.resources == {"vm:10000", "vm:10001", "vm:10002"}
    disagrees = {10000: "Apart", 10001: "Together", 10002: "Apart"}
    made_without = step(group(), there(peers=disagrees, bystanders=stands_by))
    assert made_without.rule.resources == {"vm:10000", "vm:10002"}


def test_a_vm_that_names_another_group_leaves_the_old_one():
    three = changed(GROUP_RULE, resources=frozenset({"vm:10000", "vm:10001", "vm:10002"}))
    left = step(group(name="other"), there(three, peers={10000: "Apart"}))
    assert (left.rule.id, left.rule.resources, left.digest) == (GROUP_RULE.id, {"vm:10001", "vm:10002"}, "d1")
    assert step(None, there(GROUP_RULE)) == DropRule(id=GROUP_RULE.id)
    vm = of(group())
    assert next_rule(vm, None, there(GROUP_RULE, peers={10001: "Apart"})) == DropRule(id=GROUP_RULE.id)


def test_rules_of_others_that_the_vm_is_in_are_left_alone():
    by_hand = Rule(
        id="by-hand",
        type="resource-affinity",
        resources=frozenset({"vm:10000", "vm:500"}),
        comment="keep them apart",
        affinity="negative",
    )
    other_namespace = changed(by_hand, id="pvm-db-1", comment=f"{OWNER} lab bank group db")
    other_kubernetes = changed(by_hand, id="pvm-db-2", comment="proxmox-operator k8s-2 lab shop group db")
    other_object = changed(by_hand, id="pvm-db-3", comment=f"{OWNER} lab-2 shop group db")
    assert step(None, there(by_hand, other_namespace, other_kubernetes, other_object)) is None


def test_a_group_that_does_not_agree_is_told_and_not_written():
    problem = step(group(), there(GROUP_RULE, peers={10000: "Apart", 10001: "Together"}))
    assert problem.reason == "RuleConflict"
    assert "10001 (Together)" in problem.message


def test_more_vms_than_nodes_cannot_be_kept_apart():
    many = dict.fromkeys(range(10000, 10004), "Apart")
    assert "3 nodes" in step(group(), there(peers=many)).message
    assert isinstance(step(group("Together"), there(peers=dict.fromkeys(many, "Together"))), PutRule)


def test_groups_of_the_same_name_in_other_namespaces_and_clusters_have_rules_of_their_own():
    elsewhere = step(group(), there(peers=BOTH, owner="proxmox-operator k8s-2"))
    assert elsewhere.rule.id != GROUP_RULE.id
    vm = a_vm(status=made(cluster="lab-2"), availability={"ha": True, "rule": group()})
    other_object = next_rule(vm, HARule.model_validate(group()), there(GROUP_RULE, peers=BOTH))
    assert isinstance(other_object, PutRule)
    assert other_object.digest is None
    assert other_object.rule.id != GROUP_RULE.id


def test_on_version_8_there_are_no_rules_and_the_rest_works():
    problem = step(NEAR, there(supported=False))
    assert problem.reason == "RulesNotSupported"
    assert "groups of Proxmox VE 8 are not managed" in problem.message
    assert step(None, there(supported=False)) is None


@pytest.mark.parametrize("rule", [NEAR | group(), group() | NEAR])
def test_one_rule_in_the_way_does_not_keep_the_other_from_being_written(rule):
    foreign = changed(NEAR_RULE, comment="by hand")
    change = step(rule, there(foreign, peers=BOTH))
    assert isinstance(change, PutRule)
    assert change.rule == GROUP_RULE
    assert step(rule, there(foreign, GROUP_RULE, peers=BOTH)).reason == "RuleConflict"
