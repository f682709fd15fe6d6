"""A stored object as the operator reads it: metadata, spec and status, or a clear refusal."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import AwareDatetime, ValidationError

from proxmox_operator.api.base import Wire
from proxmox_operator.errors import NeedsHuman


class InvalidObject(NeedsHuman):
    """A stored object that this version cannot read: made under another schema, or by going around it.

    The message names each field and what is wrong with it, never its value.
    """

    default_reason = "InvalidSpec"


class Metadata(Wire):
    """The part of ``metav1.ObjectMeta`` that is used; ``namespace`` is empty for cluster-scoped objects."""

    name: str
    namespace: str = ""
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    deletion_timestamp: AwareDatetime | None = None
    finalizers: tuple[str, ...] = ()
    annotations: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}


class Resource(Wire):
    """Base of the kinds. A kind adds ``spec`` and ``status``, whose docstrings become the schema's."""

    kind: ClassVar[str]
    metadata: Metadata

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Read an object as the API server returned it.

        Raises :class:`InvalidObject`. Unknown fields are ignored; what does not fit of a status is dropped.
        """
        try:
            return cls.model_validate(_parts(raw))
        except ValidationError as error:
            raise InvalidObject("; ".join(_problem(entry) for entry in error.errors())) from None

    @classmethod
    def unknown_fields(cls, raw: Mapping[str, Any]) -> list[str]:
        """The paths of what :meth:`parse` ignores of the spec, as this version has no such fields."""
        try:
            cls.model_validate(_parts(raw), extra="forbid", by_alias=True, by_name=False)
        except ValidationError as error:
            found = [entry for entry in error.errors() if entry["type"] == "extra_forbidden"]
            return [_path(entry) for entry in found if entry["loc"][0] == "spec"]
        return []


def _parts(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {name: raw[name] for name in ("metadata", "spec", "status") if raw.get(name) is not None}


def _path(error: Any) -> str:
    path = ""
    for part in error["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _problem(error: Any) -> str:
    text = error["msg"].removeprefix("Value error, ")
    return f"{_path(error) or 'object'}: {text[:1].lower()}{text[1:]}"
