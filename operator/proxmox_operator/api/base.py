"""What all resource models share: names on the wire, validation rules, lenient reading of a status.

A model is the one source of a type: the operator reads objects with it and the CRD's schema is made from it
(``api.structural``). Reading checks types, bounds and patterns; rules over several fields are CEL and belong
to the API server alone. Not here: anything that knows a kind.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

VALIDATIONS = "x-kubernetes-validations"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A CEL rule and what a person reads when it fails: the field, and the remedy.

    In ``Annotated`` it is put on the value, in a model's ``rules`` on the object; ``field`` then is the path
    below the object that the error is reported at (``.minimum``).
    """

    cel: str
    message: str
    field: str | None = None

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        json_schema = handler(schema)
        json_schema.setdefault(VALIDATIONS, []).append(self.as_schema())
        return json_schema

    def as_schema(self) -> dict[str, Any]:
        """As it stands in a CRD."""
        schema = {"rule": self.cel, "message": self.message}
        return schema if self.field is None else schema | {"fieldPath": self.field}


@dataclass(frozen=True, kw_only=True)
class Matches:
    """A pattern whose failure a person can read.

    A CEL rule for the API server and the same expression for us, so it must mean the same in RE2 and in
    Python: no look-around, no back-references. ``also`` is CEL that must hold as well.
    """

    pattern: str
    message: str
    also: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        cel = f"self.matches(r'{self.pattern}')" + (f" && {self.also}" if self.also else "")
        return Rule(cel=cel, message=self.message).__get_pydantic_json_schema__(schema, handler)

    def _check(self, value: str) -> str:
        if re.fullmatch(self.pattern, value) is None:
            raise PydanticCustomError("format", "{reason}", {"reason": self.message})
        return value


@dataclass(frozen=True)
class ListMap:
    """A list whose items are told apart by ``key``, so that several appliers can own an item each."""

    key: str

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        extensions = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [self.key]}
        return handler(schema) | extensions


class Wire(BaseModel):
    """Base of everything that is part of a stored object: frozen, camelCase outside, snake_case inside.

    Unknown fields are ignored: after a rollback, objects hold fields of a newer version.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        serialize_by_alias=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler, /
    ) -> JsonSchemaValue:
        json_schema = handler(schema)
        if cls.rules:
            handler.resolve_ref_schema(json_schema)[VALIDATIONS] = [rule.as_schema() for rule in cls.rules]
        return json_schema


class Status(Wire):
    """Base of a status. It never fails to be read: what does not fit, an older or newer version wrote.

    An ill-typed optional field is dropped, a list item that cannot be read is dropped whole.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _drop_what_does_not_fit(cls, value: Any, handler: ModelWrapValidatorHandler["Status"]) -> "Status":
        if isinstance(value, cls):
            return value
        kept = _thawed(value) if isinstance(value, Mapping) else {}
        while True:
            try:
                return handler(kept)
            except ValidationError as error:
                # Each round removes something, and an empty status is always valid.
                if not _remove(kept, _culprit(error.errors()[0])):
                    kept = {}

    def dump(self) -> dict[str, Any]:
        """JSON-able, camelCase, without fields that say nothing (None, empty, or their default)."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _thawed(value: Any) -> Any:
    """A deep copy of JSON in plain dicts and lists."""
    if isinstance(value, Mapping):
        return {key: _thawed(item) for key, item in value.items()}
    return [_thawed(item) for item in value] if isinstance(value, list | tuple) else value


def _culprit(error: Any) -> tuple[int | str, ...]:
    """What to remove for an error: the value itself, or what lacks a required field."""
    loc: tuple[int | str, ...] = error["loc"]
    return loc[:-1] if error["type"] == "missing" else loc


def _remove(tree: Any, loc: tuple[int | str, ...]) -> bool:
    """Delete the deepest existing part of ``loc`` below ``tree``; False where there is none."""
    parents: list[tuple[Any, int | str]] = []
    node = tree
    for part in loc:
        inside = isinstance(node, dict) and part in node
        inside = inside or (isinstance(node, list) and isinstance(part, int) and part < len(node))
        if not inside:
            break
        parents.append((node, part))
        node = node[part]
    if parents:
        container, part = parents[-1]
        del container[part]
    return bool(parents)
