"""Every constraint of our CRDs, one by one, and for the mechanical ones a value that breaks just that one.

They are recorded in ``constraints.jsonl``, and what is tested is the record: a constraint that vanishes from a
schema is missed. After a wanted change write it anew with ``PYTHONPATH=operator:tests python -m
admission.constraints``. Not here: rules over several fields; their wrong manifests are written by hand in ``bad/``.
"""

import copy
import functools
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

from proxmox_operator.api import crds

Json = dict[str, Any]

ITEM, VALUE = "[]", "{}"
"""Path steps into a list's items and a map's values."""

PLAIN = (
    "enum",
    "format",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
)
KNOWN = frozenset(
    {
        *PLAIN,
        "type",
        "description",
        "default",
        "properties",
        "items",
        "additionalProperties",
        "required",
        "x-kubernetes-validations",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
    }
)


@dataclass(frozen=True, eq=False)
class Constraint:
    """One thing that can refuse a manifest: where, by which keyword, and the keyword's value.

    ``required`` and ``unique`` name the field; ``rule`` holds CEL, message and field path.
    """

    kind: str
    path: tuple[str, ...]
    keyword: str
    value: Any

    def __str__(self) -> str:
        what = "" if isinstance(self.value, dict | list) else f" {self.value}"
        return ".".join((self.kind, *self.path)).replace(".[]", "[]") + f" {self.keyword}{what}"

    @property
    def record(self) -> str:
        """One line of the record."""
        return json.dumps([self.kind, ".".join(self.path), self.keyword, self.value])

    @property
    def in_status(self) -> bool:
        return self.path[:1] == ("status",)


@dataclass(frozen=True)
class Cause:
    """One reason that the API server gives for a refusal, as in ``status.details.causes``."""

    reason: str
    field: str
    message: str


RECORD = Path(__file__).with_name("constraints.jsonl")


def recorded() -> list[Constraint]:
    """The constraints that there must be."""
    entries = [json.loads(line) for line in RECORD.read_text(encoding="utf-8").splitlines()]
    return [
        Constraint(kind, tuple(path.split(".")) if path else (), keyword, value)
        for kind, path, keyword, value in entries
    ]


def constraints(crd: Json) -> Iterator[Constraint]:
    """Everything in the CRD's schema by which the API server can refuse a value, types excepted."""
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    yield from _constraints(crd["spec"]["names"]["kind"], (), schema)


def _constraints(kind: str, path: tuple[str, ...], schema: Json) -> Iterator[Constraint]:
    assert schema.keys() <= KNOWN, f"{kind} {path}: the test does not know {schema.keys() - KNOWN}"
    for keyword in PLAIN:
        if keyword in schema:
            yield Constraint(kind, path, keyword, schema[keyword])
    for name in schema.get("required", ()):
        yield Constraint(kind, path, "required", name)
    for key in schema.get("x-kubernetes-list-map-keys", ()):
        yield Constraint(kind, path, "unique", key)
    for rule in schema.get("x-kubernetes-validations", ()):
        yield Constraint(kind, path, "rule", rule)
    for name, inner in schema.get("properties", {}).items():
        yield from _constraints(kind, (*path, name), inner)
    for step, inner in ((ITEM, schema.get("items")), (VALUE, schema.get("additionalProperties"))):
        if inner is not None:
            yield from _constraints(kind, (*path, step), inner)


def violation(constraint: Constraint, right: Iterable[Json]) -> Json | None:
    """The first of the right objects that has the value, changed so that it breaks just this constraint.

    None for rules over several fields. Raises ``AssertionError`` where no right object has the value.
    """
    change = _change(constraint)
    if change is None:
        return None
    for manifest in right:
        holder: Json = {"object": copy.deepcopy(manifest)}
        place = _find(holder, constraint)
        if place is not None:
            parent, key = place
            parent[key] = change(parent[key])
            return cast(Json, holder["object"])
    raise AssertionError(f"no right manifest has {constraint}")


def _change(constraint: Constraint) -> Callable[[Any], Any] | None:
    if constraint.keyword != "rule":
        return functools.partial(_BREAK[constraint.keyword], constraint.value)
    if constraint.value["rule"] == "self.start <= self.end":
        return lambda value: value | {"start": value["end"] + 1}
    if constraint.value["rule"].startswith(("self.matches(", "isIP(self)")):
        return lambda _: "!.raw"  # of which another rule for URLs thinks well
    return None


def _find(holder: Json, constraint: Constraint) -> tuple[Any, Any] | None:
    """Where the constrained value is: its container and its key; None where the object lacks it, or it is empty."""
    parent: Any = holder
    key: Any = "object"
    for step in constraint.path:
        parent = parent[key]
        key = 0 if step == ITEM else next(iter(parent)) if step == VALUE else step
        if (isinstance(parent, dict) and key not in parent) or parent == [] or parent[key] == []:
            return None
    return parent, key


def _without(name: str, value: Json) -> Json:
    return {key: item for key, item in value.items() if key != name}


def _too_many(limit: int, items: list[Any]) -> list[Any]:
    """One item too many; the items of a map keep different keys."""
    first = items[0]
    named = isinstance(first, dict) and "name" in first
    return [first | {"name": str(number)} if named else first for number in range(limit + 1)]


def _too_many_entries(limit: int, entries: Json) -> Json:
    value = next(iter(entries.values()))
    return {f"key-{number}": value for number in range(limit + 1)}


_BREAK: dict[str, Callable[[Any, Any], Any]] = {
    "enum": lambda _, __: "Bogus",
    "format": lambda _, __: "yesterday",
    "minimum": lambda limit, _: limit - 1,
    "maximum": lambda limit, _: limit + 1,
    "maxLength": lambda limit, value: value + "a" * (limit + 1 - len(value)),
    "minItems": lambda limit, items: items[: limit - 1],
    "maxItems": _too_many,
    "maxProperties": _too_many_entries,
    "required": _without,
    "unique": lambda _, items: [*items, items[0]],
}


def is_because_of(cause: Cause, constraint: Constraint) -> bool:
    """Whether this constraint, and no other, gives this cause."""
    if constraint.keyword == "rule":
        path = (*constraint.path, *constraint.value.get("fieldPath", "").split(".")[1:])
        return _is_at(cause, path) and cause.message.endswith(constraint.value["message"])
    path = constraint.path
    if constraint.keyword == "required":
        path = (*path, constraint.value)
    if constraint.keyword == "unique":
        path = (*path, ITEM)
    reason, text = _CAUSES[constraint.keyword]
    return _is_at(cause, path) and cause.reason == reason and text.format(constraint.value) in cause.message


_CAUSES = {
    "enum": ("FieldValueNotSupported", "Unsupported value"),
    "format": ("FieldValueTypeInvalid", "must be of type {}"),
    "minimum": ("FieldValueInvalid", "should be greater than or equal to {}"),
    "maximum": ("FieldValueInvalid", "should be less than or equal to {}"),
    "maxLength": ("FieldValueTooLong", "may not be more than {} bytes"),
    "minItems": ("FieldValueInvalid", "should have at least {} items"),
    "maxItems": ("FieldValueTooMany", "must have at most {} items"),
    "maxProperties": ("FieldValueTooMany", "must have at most {} items"),
    "required": ("FieldValueRequired", "Required value"),
    "unique": ("FieldValueDuplicate", "Duplicate value"),
}


def _is_at(cause: Cause, path: tuple[str, ...]) -> bool:
    """Whether the cause is at this path of the schema: indices and keys of maps are of no matter."""
    found = cause.field.replace("[", ".[").split(".") if cause.field not in ("", "<nil>") else []
    steps = itertools.zip_longest(found, path, fillvalue="")
    return all(step in (VALUE, part) or (step == ITEM and part.startswith("[")) for part, step in steps)


def without(crd: Json, rule: Constraint) -> Json:
    """The schema of the CRD with one rule taken out, and without descriptions, which make it large."""
    schema: Json = copy.deepcopy(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    place = schema
    for step in rule.path:
        place = place["items"] if step == ITEM else place["properties"][step]
    place["x-kubernetes-validations"].remove(rule.value)
    return _without_descriptions(schema)


def _without_descriptions(schema: Json) -> Json:
    result = _without("description", schema)
    if "properties" in result:
        result["properties"] = {
            name: _without_descriptions(value) for name, value in result["properties"].items()
        }
    for keyword in ("items", "additionalProperties"):
        if keyword in result:
            result[keyword] = _without_descriptions(result[keyword])
    return result


if __name__ == "__main__":
    found = [each for text in crds.files().values() for each in constraints(yaml.safe_load(text))]
    RECORD.write_text("".join(f"{each.record}\n" for each in found), encoding="utf-8")
