"""The fields of a kind, from its CRD: a section for each object in it, with a table of its fields.

Not here: what a kind does, which its own page tells.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from doctables.markdown import plain, table, told

CRDS = Path(__file__).resolve().parents[2] / "crds"

Schema = dict[str, Any]


def fields(plural: str) -> str:
    """Sections for ``spec`` and ``status`` of the kind, and columns that ``kubectl get`` shows."""
    definition = yaml.safe_load((CRDS / f"{plural}.yaml").read_text(encoding="utf-8"))["spec"]
    names, version = definition["names"], definition["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    selectable = (f"`{each['jsonPath'][1:]}`" for each in version.get("selectableFields", ()))
    head = [
        ("API version", f"`{definition['group']}/{version['name']}`"),
        ("kind", f"`{names['kind']}`"),
        ("short name", f"`{names['shortNames'][0]}`"),
        ("scope", "namespace" if definition["scope"] == "Namespaced" else "cluster"),
        ("`kubectl get` by field", ", ".join(selectable)),
    ]
    columns = [
        (column["name"], plain(column["description"]), "with `-o wide`" if column.get("priority") else "")
        for column in version["additionalPrinterColumns"]
    ]
    parts = [
        table(("", ""), [row for row in head if row[1]]),
        *(_section(name, schema["properties"][name]) for name in ("spec", "status")),
        "## Columns\n\n" + table(("column", "meaning", ""), columns),
    ]
    return "\n" + "\n".join(parts)


def _section(path: str, schema: Schema) -> str:
    """An object: its text, its fields, the rules over several of them; then the objects in it."""
    rows = [_row(path, name, field, schema) for name, field in schema["properties"].items()]
    rules = "".join(f"- {plain(rule['message'])}\n" for rule in _rules(schema))
    parts = [
        f"{'##' if '.' not in path else '###'} {path}\n\n{plain(told(schema['description'])[0])}\n",
        table(("field", "type", "default", "meaning"), rows),
    ]
    if rules:
        parts.append(f"Refused otherwise:\n\n{rules}")
    inner = ((name, _inner(field)) for name, field in schema["properties"].items())
    parts += [
        _section(f"{path}.{name}{suffix}", found) for name, (suffix, found) in inner if found is not None
    ]
    return "\n".join(parts)


def _row(path: str, name: str, field: Schema, parent: Schema) -> tuple[str, str, str, str]:
    text, default = told(field.get("description", ""))
    suffix, inner = _inner(field)
    kind = _type(field)
    if inner is not None:
        kind = f"[{kind}](#{_anchor(f'{path}.{name}{suffix}')})"
    elif name in parent.get("required", ()):
        default = "required"
    meaning = [plain(text)] + [f"*{plain(rule['message'])}*" for rule in _field_rules(field)]
    return f"`{name}`", kind, plain(default), "<br>".join(meaning)


def _inner(field: Schema) -> tuple[str, Schema | None]:
    """The object in a field, or in the items of a list, with what is put behind its name."""
    if "properties" in field:
        return "", field
    if "properties" in field.get("items", {}):
        return "[]", {"description": field.get("description", ""), **field["items"]}
    return "", None


def _type(field: Schema) -> str:
    if "enum" in field:
        return "<br>".join(f"`{value}`" for value in field["enum"])
    match field.get("type"):
        case "array":
            return f"list of {_type(field['items'])}"
        case "object" if "additionalProperties" in field:
            return f"map of {_type(field['additionalProperties'])}"
        case None:
            return "integer or string"
        case kind:
            return str(kind)


def _rules(schema: Schema) -> list[dict[str, str]]:
    return list(schema.get("x-kubernetes-validations", ()))


def _field_rules(field: Schema) -> Iterator[dict[str, str]]:
    """Rules of the field itself and of the items of a list; an object's own are told in its section."""
    if "properties" not in field:
        yield from _rules(field)
    items = field.get("items", {})
    if "properties" not in items:
        yield from _rules(items)


def _anchor(path: str) -> str:
    """As the site and GitHub make it of a heading."""
    return re.sub(r"[^\w-]", "", path.lower())
