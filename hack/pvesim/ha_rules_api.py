"""The API of HA rules, version 9's.

Facts: PVE::API2::HA::Rules of pve-ha-manager 5.2.0. A rule names managed resources and existing nodes, and must
be feasible with the others; one that became infeasible later is listed with its errors. Which properties there
are depends on `type`, which a PUT needs as well.
"""

import hashlib
import json
import re
from typing import Any

from fakepve import schema
from fakepve.model import PveError

from .core import Values, die, param_error
from .ha_config import CONFLICT, HaConfig, parse_nodes
from .ha_rules import Rule, problems
from .validation import bad_booleans

NODE_AFFINITY = "node-affinity"
KINDS = (NODE_AFFINITY, "resource-affinity")


class HaRules(HaConfig):
    """/cluster/ha/rules."""

    def _table_ha_rules(self) -> list[tuple[str, str, Any]]:
        rules = "/cluster/ha/rules"
        return [
            ("GET", rules, self._rules_list),
            ("POST", rules, self._rule_add),
            ("GET", rules + "/{rule}", self._rule_read),
            ("PUT", rules + "/{rule}", self._rule_update),
            ("DELETE", rules + "/{rule}", self._rule_remove),
        ]

    def _rule_entry(self, name: str) -> Values:
        if name not in self.ha_rules:
            raise die(f"no such ha rule '{name}'")
        rule = self.ha_rules[name]
        out: Values = {
            "rule": name,
            "type": rule.kind,
            "resources": ",".join(sorted(rule.resources)),
            "order": list(self.ha_rules).index(name) + 1,
            "digest": self._rules_digest(),
        }
        if rule.kind == NODE_AFFINITY:
            nodes = [
                f"{node}:{rule.nodes[node]}" if rule.nodes[node] else node for node in sorted(rule.nodes)
            ]
            out |= {"nodes": ",".join(nodes), "strict": int(rule.strict)}
        else:
            out["affinity"] = rule.affinity
        out |= {"disable": 1} if rule.disable else {}
        out |= {"comment": rule.comment} if rule.comment else {}
        wrong = problems(self.ha_rules, self.nodes).get(name)
        return out | ({"errors": {"resources": wrong}} if wrong else {})

    def _rules_digest(self) -> str:
        rules = {
            name: vars(rule) | {"resources": sorted(rule.resources)} for name, rule in self.ha_rules.items()
        }
        blob = json.dumps(rules).encode()
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest()

    async def _rules_list(self, v: Values, user: str) -> list[Values]:
        return [
            self._rule_entry(name)
            for name, rule in self.ha_rules.items()
            if v.get("type") in (None, rule.kind)
            and (v.get("resource") is None or v["resource"] in rule.resources)
        ]

    async def _rule_read(self, v: Values, user: str) -> Values:
        return self._rule_entry(v["rule"])

    async def _rule_add(self, v: Values, user: str) -> None:
        v, name = checked("POST", v), v["rule"]
        if name in self.ha_rules:
            raise die(f"HA rule '{name}' already defined")
        self._store_rule(name, self._rule_of(Rule(v["type"], set()), v))

    async def _rule_update(self, v: Values, user: str) -> None:
        v = checked("PUT", v)
        if v.get("digest") and v["digest"] != self._rules_digest():
            raise die(CONFLICT)
        if v["rule"] not in self.ha_rules:
            raise die(f"HA rule '{v['rule']}' does not exist")
        cleared = {key: None for key in re.split(r"[,; ]+", v.get("delete") or "") if key}
        old = self.ha_rules[v["rule"]]
        self._store_rule(v["rule"], self._rule_of(old, cleared | v))

    async def _rule_remove(self, v: Values, user: str) -> None:
        self.ha_rules.pop(v["rule"], None)

    def _rule_of(self, old: Rule, v: Values) -> Rule:
        """A rule with what a request says of it; the rest stays."""
        resources = set(re.split(r"[,; ]+", v["resources"])) if v.get("resources") else old.resources
        nodes = parse_nodes(v["nodes"]) if v.get("nodes") else old.nodes
        unmanaged = sorted(sid for sid in resources if sid not in self.ha_resources)
        if unmanaged:
            raise die(f"cannot use unmanaged resource(s) {', '.join(unmanaged)}.")
        unknown = sorted(node for node in nodes if node not in self.nodes)
        if unknown:
            raise die(f"cannot use non-existent node(s) {', '.join(unknown)}.")
        return Rule(
            old.kind,
            resources,
            nodes,
            strict=_flag(v.get("strict", old.strict)),
            affinity=v.get("affinity") or old.affinity,
            disable=_flag(v.get("disable", old.disable)),
            comment=v.get("comment", old.comment),
        )

    def _store_rule(self, name: str, rule: Rule) -> None:
        wrong = problems(self.ha_rules | {name: rule}, self.nodes).get(name)
        if wrong:
            raise PveError(400, f"Rule '{name}' is invalid.", {"resources": ", ".join(wrong)})
        self.ha_rules[name] = rule


def checked(method: str, v: Values) -> Values:
    """The parameters of a rule as its type declares them; fakepve does not look into such a schema.

    :raises PveError: 400: no type, one that does not exist, or a property of another type.
    """
    kind = v.get("type")
    if kind is None:
        raise param_error(type="property is missing and it is not optional")
    if kind not in KINDS:
        raise param_error(
            type=f"value '{kind}' does not have a value in the enumeration '{', '.join(KINDS)}'"
        )
    path = "/cluster/ha/rules" if method == "POST" else f"/cluster/ha/rules/{v['rule']}"
    properties: Values = {"type": {"type": "string"}}
    for part in schema.load().match(path).methods[method]["parameters"]["allOf"]:
        properties |= part.get("properties", {})
        for option in part.get("oneOf", []):
            properties |= option["properties"] if option["instance-type"] == kind else {}
    if kind == NODE_AFFINITY:
        properties.pop("affinity", None)  # newer than the ha-manager that is simulated
    values, errors = schema.validate({"properties": properties, "additionalProperties": 0}, v)
    errors |= dict(bad_booleans(properties, v))
    if errors:
        raise param_error(**errors)
    out: Values = values
    return out


def _flag(value: Any) -> bool:
    return str(value) in ("1", "True", "true")
