"""Whether objects that one version of the CRDs accepts are accepted by the next, and mean the same there.

Pure. Not here: rules in CEL, which cannot be compared; the API server lets stored objects keep what an added rule
forbids as long as it is not changed.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Schema = Mapping[str, Any]

AT_MOST = ("maximum", "maxLength", "maxItems", "maxProperties")
AT_LEAST = ("minimum", "minLength", "minItems", "minProperties")
ALIKE = (
    "type",
    "format",
    "pattern",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-int-or-string",
)
"""What must not change, nor come or go, except that a format or pattern may go."""


class Break(NamedTuple):
    """What no longer fits; ``where`` is a kind and the path of a field, such as ``ProxmoxVM spec.cpu.cores``."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def breaks(old: Iterable[Schema], new: Iterable[Schema]) -> Iterator[Break]:
    """All that keeps an upgrade from the CustomResourceDefinitions ``old`` to ``new`` from being harmless."""
    after = {crd["metadata"]["name"]: crd for crd in new}
    for before in old:
        kind, name = before["spec"]["names"]["kind"], before["metadata"]["name"]
        if name not in after:
            yield Break(kind, "the CustomResourceDefinition is gone")
        else:
            yield from _of_crd(kind, before["spec"], after[name]["spec"])


def _of_crd(kind: str, old: Schema, new: Schema) -> Iterator[Break]:
    if old["scope"] != new["scope"]:
        yield Break(kind, f"its scope was {old['scope']} and is {new['scope']}")
    if kind != new["names"]["kind"]:
        yield Break(kind, f"the kind is called {new['names']['kind']}")
    versions = {version["name"]: version for version in new["versions"] if version["served"]}
    for version in old["versions"]:
        if not version["served"]:
            continue
        if version["name"] not in versions:
            yield Break(kind, f"version {version['name']} is no longer served")
            continue
        schemas = [each["schema"]["openAPIV3Schema"] for each in (version, versions[version["name"]])]
        yield from _of_schema(kind, "", *schemas)


def _of_schema(kind: str, path: str, old: Schema, new: Schema) -> Iterator[Break]:
    where = f"{kind} {path}".rstrip()
    yield from (Break(where, what) for what in _narrower(old, new))
    properties: Schema = new.get("properties", {})
    for name, schema in old.get("properties", {}).items():
        below = f"{path}.{name}".lstrip(".")
        if name in properties:
            yield from _of_schema(kind, below, schema, properties[name])
        else:
            yield Break(f"{kind} {below}", "the field is gone")
    for name in new.get("required", ()):
        if name not in old.get("required", ()) and "default" not in properties.get(name, {}):
            yield Break(f"{kind} {path}.{name}".replace(" .", " "), "the field is required, and was not")
    for keyword, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        before, after = old.get(keyword), new.get(keyword)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _of_schema(kind, f"{path}{suffix}", before, after)
        elif isinstance(before, Mapping):
            yield Break(f"{where}{suffix}", "the field is gone")


def _narrower(old: Schema, new: Schema) -> Iterator[str]:
    """What the values themselves may no longer be."""
    for keyword in ALIKE:
        before, after = old.get(keyword), new.get(keyword)
        widened = keyword in ("format", "pattern") and after is None
        if before != after and not widened:
            yield f"{keyword} was {_told(before)} and is {_told(after)}"
    if "enum" in new:
        gone = [value for value in old.get("enum", ()) if value not in new["enum"]]
        if gone:
            yield f"no longer one of its values: {', '.join(map(str, gone))}"
        elif "enum" not in old:
            yield f"it may only be one of {', '.join(map(str, new['enum']))} now"
    for keyword in AT_MOST:
        if keyword in new and (keyword not in old or new[keyword] < old[keyword]):
            yield f"{keyword} was {_told(old.get(keyword))} and is {new[keyword]}"
    for keyword in AT_LEAST:
        if keyword in new and (keyword not in old or new[keyword] > old[keyword]):
            yield f"{keyword} was {_told(old.get(keyword))} and is {new[keyword]}"
    if old.get("nullable") and not new.get("nullable"):
        yield "it may no longer be null"
    if old.get("x-kubernetes-preserve-unknown-fields") and not new.get(
        "x-kubernetes-preserve-unknown-fields"
    ):
        yield "unknown fields are no longer kept"
    if "default" in old and old["default"] != new.get("default"):
        yield f"its default was {_told(old['default'])} and is {_told(new.get('default'))}"


def _told(value: Any) -> str:
    return "not there" if value is None else str(value)
