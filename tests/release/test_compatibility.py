"""Which changes of a CRD break objects that are there, and which do not."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest

from proxmox_operator.api import crds
from releasing.compatibility import breaks

Schema = dict[str, Any]

FIELD: Schema = {"type": "string", "maxLength": 10, "enum": ["a", "b"]}
BASE: Schema = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"type": "string", "pattern": "^a"},
                "power": FIELD,
                "count": {"type": "integer", "minimum": 1, "maximum": 5, "default": 2},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "disks": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "properties": {"name": {"type": "string"}}},
                },
            },
        }
    },
}


def crd(schema: Mapping[str, Any], **changes: Any) -> Schema:
    versions = [{"name": "v1", "served": True, "schema": {"openAPIV3Schema": schema}}]
    spec = {"scope": "Namespaced", "names": {"kind": "Thing"}, "versions": versions, **changes}
    return {"metadata": {"name": "things.example.org"}, "spec": spec}


def changed(path: str, **keywords: Any) -> Schema:
    """BASE with keywords of the field instead; None takes one away. A path into properties, ``[]`` and ``{}``."""
    schema = copy.deepcopy(BASE)
    here = schema["properties"]["spec"]
    for part in filter(None, path.replace("[]", ".items").replace("{}", ".additionalProperties").split(".")):
        here = (
            here[part]
            if part in ("items", "additionalProperties")
            else here["properties"].setdefault(part, {})
        )
    for name, value in keywords.items():
        name = name.replace("list_", "x-kubernetes-list-").replace("map_keys", "map-keys")
        here.pop(name, None)
        if value is not None:
            here[name] = value
    return schema


PROPERTIES: Schema = BASE["properties"]["spec"]["properties"]


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (
            changed("", properties={key: value for key, value in PROPERTIES.items() if key != "power"}),
            "spec.power: the field is gone",
        ),
        (changed("", required=["name", "power"]), "spec.power: the field is required, and was not"),
        (changed("disks[]", required=["name"]), "spec.disks[].name: the field is required, and was not"),
        (changed("disks[]", properties={}), "spec.disks[].name: the field is gone"),
        (changed("power", enum=["a"]), "spec.power: no longer one of its values: b"),
        (changed("name", enum=["a"]), "spec.name: it may only be one of a now"),
        (changed("count", type="string"), "spec.count: type was integer and is string"),
        (changed("name", pattern="^b"), "spec.name: pattern was ^a and is ^b"),
        (changed("power", pattern="^a"), "spec.power: pattern was not there and is ^a"),
        (changed("power", maxLength=9), "spec.power: maxLength was 10 and is 9"),
        (changed("name", maxLength=9), "spec.name: maxLength was not there and is 9"),
        (changed("count", minimum=2), "spec.count: minimum was 1 and is 2"),
        (changed("count", default=3), "spec.count: its default was 2 and is 3"),
        (changed("labels", additionalProperties=None), "spec.labels{}: the field is gone"),
        (changed("labels{}", maxLength=3), "spec.labels{}: maxLength was not there and is 3"),
        (changed("disks", list_type="set"), "spec.disks: x-kubernetes-list-type was map and is set"),
        (
            changed("disks", list_map_keys=["serial"]),
            "spec.disks: x-kubernetes-list-map-keys was ['name'] and is ['serial']",
        ),
    ],
)
def test_what_is_gone_or_narrower_is_told_with_its_path(schema: Schema, told: str) -> None:
    assert [str(each) for each in breaks([crd(BASE)], [crd(schema)])] == [f"Thing {told}"]


@pytest.mark.parametrize(
    "schema",
    [
        BASE,
        changed("size", type="integer"),
        changed("size", type="object", required=["unit"], properties={"unit": {"type": "string"}}),
        changed("", required=["name", "count"]),  # it has a default
        changed("", required=[]),
        changed("power", enum=["a", "b", "c"]),
        changed("power", enum=None),
        changed("power", maxLength=11),
        changed("power", maxLength=None),
        changed("count", minimum=0, maximum=9),
        changed("name", pattern=None),
        changed("name", description="What it is called."),
        changed("name", default="a"),
    ],
)
def test_what_is_new_or_wider_is_harmless(schema: Schema) -> None:
    assert list(breaks([crd(BASE)], [crd(schema)])) == []


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ([], "the CustomResourceDefinition is gone"),
        ([crd(BASE, scope="Cluster")], "its scope was Namespaced and is Cluster"),
        ([crd(BASE, names={"kind": "Item"})], "the kind is called Item"),
        ([crd(BASE, versions=[])], "version v1 is no longer served"),
        (
            [crd(BASE, versions=[{"name": "v1", "served": False, "schema": {"openAPIV3Schema": BASE}}])],
            "version v1 is no longer served",
        ),
    ],
)
def test_a_kind_must_stay_what_it_is(new: list[Schema], told: str) -> None:
    assert [str(each) for each in breaks([crd(BASE)], new)] == [f"Thing: {told}"]


def test_our_crds_fit_themselves_and_a_field_that_is_taken_away_is_seen() -> None:
    ours = [crds.custom_resource_definition(each) for each in crds.DEFINITIONS]
    assert list(breaks(ours, ours)) == []
    new = copy.deepcopy(ours)
    [schema] = [
        each["spec"]["versions"][0]["schema"]
        for each in new
        if "ProxmoxVM" in str(each["spec"]["names"]["kind"])
    ]
    del schema["openAPIV3Schema"]["properties"]["spec"]["properties"]["disks"]["items"]["properties"]["size"]
    assert [str(each) for each in breaks(ours, new)] == ["ProxmoxVM spec.disks[].size: the field is gone"]
