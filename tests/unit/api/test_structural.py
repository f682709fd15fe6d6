"""From model to structural schema: each thing pydantic writes that Kubernetes would not take."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import AwareDatetime, ConfigDict, Field

from proxmox_operator.api.base import ListMap, Matches, Rule, Wire
from proxmox_operator.api.structural import NotStructural, structural


class Inner(Wire):
    """What an inner block is for."""

    grace_period: str = "3m"
    """How long it may take."""
    note: str | None = None


class Outer(Wire):
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(cel="self.number > 0", message="raise number", field=".number"),
    )

    inner: Inner = Inner()
    """What it is here."""
    other: Inner = Inner(grace_period="1m")
    number: int
    items: Annotated[tuple[Inner, ...], Field(min_length=1, max_length=3), ListMap("note")] = ()
    labels: Annotated[Mapping[str, str], Field(max_length=4)] | None = None
    mode: Literal["On", "Off"] = "On"
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    name: Annotated[str, Field(max_length=8), Matches(pattern="^a+$", message="name must be a")] | None = None
    since: AwareDatetime | None = None


SCHEMA = structural(Outer)
PROPERTIES = SCHEMA["properties"]


def test_references_are_written_out_and_what_is_said_beside_one_wins():
    assert "$defs" not in SCHEMA
    assert PROPERTIES["inner"]["type"] == "object"
    assert PROPERTIES["inner"]["description"] == "What it is here."
    assert PROPERTIES["other"]["description"] == "What an inner block is for."


def test_names_on_the_wire_are_in_camel_case():
    assert set(PROPERTIES["inner"]["properties"]) == {"gracePeriod", "note"}


def test_an_optional_field_is_its_type_without_null_and_without_a_default():
    assert PROPERTIES["port"] == {"type": "integer", "minimum": 1, "maximum": 65535}


def test_titles_are_left_out():
    assert "title" not in str(SCHEMA)


def test_an_object_with_defaults_inside_defaults_to_an_empty_one_so_that_they_apply():
    assert PROPERTIES["inner"]["default"] == {}
    assert PROPERTIES["inner"]["properties"]["gracePeriod"]["default"] == "3m"


def test_a_default_that_differs_from_the_ones_inside_is_written_out():
    assert PROPERTIES["other"]["default"] == {"gracePeriod": "1m"}


def test_an_empty_list_is_no_default():
    assert "default" not in PROPERTIES["items"]


def test_items_of_lists_have_no_defaults():
    assert "default" not in PROPERTIES["items"]["items"]["properties"]["gracePeriod"]


def test_a_status_has_no_defaults_at_all():
    assert "default" not in str(structural(Outer, defaults=False))


def test_bounds_enums_maps_and_times_are_kept():
    assert (PROPERTIES["items"]["minItems"], PROPERTIES["items"]["maxItems"]) == (1, 3)
    assert PROPERTIES["labels"] == {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "maxProperties": 4,
    }
    assert PROPERTIES["mode"] == {"type": "string", "enum": ["On", "Off"], "default": "On"}
    assert PROPERTIES["since"] == {"type": "string", "format": "date-time"}
    assert SCHEMA["required"] == ["number"]


def test_a_list_whose_items_have_a_key_is_a_map():
    assert PROPERTIES["items"]["x-kubernetes-list-type"] == "map"
    assert PROPERTIES["items"]["x-kubernetes-list-map-keys"] == ["note"]


def test_rules_stand_where_they_were_declared():
    rule = {"rule": "self.number > 0", "message": "raise number", "fieldPath": ".number"}
    assert SCHEMA["x-kubernetes-validations"] == [rule]
    pattern = {"rule": "self.matches(r'^a+$')", "message": "name must be a"}
    assert PROPERTIES["name"]["x-kubernetes-validations"] == [pattern]
    assert PROPERTIES["name"]["maxLength"] == 8


def test_several_rules_on_one_value_are_kept_in_order():
    class Model(Wire):
        text: Annotated[str, Rule(cel="a", message="1"), Rule(cel="b", message="2")]

    rules = structural(Model)["properties"]["text"]["x-kubernetes-validations"]
    assert [rule["rule"] for rule in rules] == ["a", "b"]


class Tree(Wire):
    children: tuple["Tree", ...] = ()


class Union(Wire):
    value: int | str


class Pair(Wire):
    value: tuple[int, str]


class Unordered(Wire):
    value: frozenset[str]


class Constant(Wire):
    value: Literal["only"]


class Exclusive(Wire):
    value: Annotated[int, Field(gt=0)]


class Anything(Wire):
    value: Any


class Closed(Wire):
    model_config = ConfigDict(extra="forbid")
    value: int


@pytest.mark.parametrize(
    ("model", "where_and_what"),
    [
        (Tree, r"Tree\.children\[\]: Tree contains itself"),
        (Union, r"Union\.value: a union"),
        (Pair, r"Pair\.value: a tuple of fixed length"),
        (Unordered, r"Unordered\.value: a set"),
        (Constant, r"Constant\.value: a constant"),
        (Exclusive, r"Exclusive\.value: gt: use ge"),
        (Anything, r"Anything\.value: no type"),
        (Closed, r"Closed: an open or closed model"),
    ],
)
def test_what_a_structural_schema_cannot_hold_is_refused_with_its_path(
    model: type[Wire], where_and_what: str
):
    with pytest.raises(NotStructural, match=where_and_what):
        structural(model)
