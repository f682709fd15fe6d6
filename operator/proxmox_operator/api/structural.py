"""From a pydantic model to the structural schema that a CustomResourceDefinition asks for.

Pydantic writes JSON Schema 2020-12; Kubernetes takes OpenAPI v3.0 without references, unions or unknown
keywords. What is not known to be expressible is refused with its path, never dropped. Not here: names,
columns and files (``api.crds``).
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from proxmox_operator.api.base import VALIDATIONS

Schema = dict[str, Any]

_COPIED = (
    "type",
    "format",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    VALIDATIONS,
)
_HANDLED = ("title", "description", "default", "properties", "items", "additionalProperties")


class NotStructural(Exception):
    """A model uses something that a structural schema cannot hold; the message says where, and what to do."""


_INSTEAD = {
    "prefixItems": "a tuple of fixed length: use a model with named fields, or tuple[X, ...]",
    "uniqueItems": "a set: use tuple[X, ...] with a CEL rule",
    "allOf": "a combination of schemas: use one model",
    "oneOf": "a union: use a model with optional fields and a CEL rule for exactly one of them",
    "const": "a constant: use Literal with several values, or leave the field out",
    "exclusiveMinimum": "gt: use ge",
    "exclusiveMaximum": "lt: use le",
}


def structural(model: type[BaseModel], *, defaults: bool = True) -> Schema:
    """The schema of a model. Without ``defaults`` it has none, as in a status, which nobody but us writes.

    Items of lists have no defaults either: Argo CD compares a list as a whole and would show each as a
    difference for ever. The model fills them in when an object is read. Raises :class:`NotStructural`.
    """
    schema = model.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})
    return _Converter(definitions).convert(schema, path=model.__name__, within=(), defaults=defaults)


class _Converter:
    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def convert(self, raw: Schema, *, path: str, within: tuple[str, ...], defaults: bool) -> Schema:
        schema, within = self._resolved(raw, path, within)
        for keyword in schema:
            if keyword not in _COPIED and keyword not in _HANDLED:
                raise NotStructural(f"{path}: {_INSTEAD.get(keyword, f'keyword {keyword!r}')}")
        result: Schema = {}
        if "description" in schema:
            result["description"] = " ".join(schema["description"].split())
        if "type" not in schema:
            raise NotStructural(f"{path}: no type; write one that says what is stored")
        result["type"] = schema["type"]
        if "items" in schema:
            result["items"] = self.convert(schema["items"], path=f"{path}[]", within=within, defaults=False)
        if isinstance(schema.get("additionalProperties"), dict):
            values = schema["additionalProperties"]
            result["additionalProperties"] = self.convert(
                values, path=f"{path}{{}}", within=within, defaults=False
            )
        elif "additionalProperties" in schema:
            raise NotStructural(
                f"{path}: an open or closed model; leave extra='ignore', the API server prunes"
            )
        if "properties" in schema:
            result["properties"] = {
                name: self.convert(value, path=f"{path}.{name}", within=within, defaults=defaults)
                for name, value in schema["properties"].items()
            }
        result |= {keyword: schema[keyword] for keyword in _COPIED if keyword in schema}
        if defaults and (default := _default(schema.get("default"), result)) is not None:
            result["default"] = default
        return result

    def _resolved(self, raw: Schema, path: str, within: tuple[str, ...]) -> tuple[Schema, tuple[str, ...]]:
        """Without references and ``| None``; what is said beside a reference wins over what it refers to."""
        schema = dict(raw)
        while "$ref" in schema or "anyOf" in schema:
            if "anyOf" in schema:
                choices = [choice for choice in schema.pop("anyOf") if choice != {"type": "null"}]
                if len(choices) != 1:
                    raise NotStructural(f"{path}: {_INSTEAD['oneOf']}")
                schema = {**choices[0], **schema}
            else:
                name = schema.pop("$ref").rpartition("/")[2]
                if name in within:
                    raise NotStructural(
                        f"{path}: {name} contains itself; bound the depth by models of their own"
                    )
                within = (*within, name)
                schema = {**self._definitions[name], **schema}
        return schema, within


def _default(value: Any, schema: Schema) -> Any:
    """The default to write, None for none: an object's is ``{}`` where the defaults inside it say the same."""
    if not isinstance(value, dict):
        return None if value == [] else value
    said = {name: item for name, item in value.items() if item not in (None, [], {})}
    inside = {
        name: item["default"] for name, item in schema.get("properties", {}).items() if "default" in item
    }
    if said == inside:
        return {} if inside else None
    return said
