"""Log records as JSON lines (or text for terminals), each with the object it is about.

The redacting filter is a last net, never the reason why a secret is not logged: whoever holds one does not
log it.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

from proxmox_operator.engine.queue import Key

PINNED = ("proxmoxer", "urllib3", "requests", "kopf", "aiohttp", "kubernetes", "asyncio")
"""Loggers kept at WARNING whatever is asked for: below it, proxmoxer prints request bodies with passwords."""

_about: ContextVar[Mapping[str, str]] = ContextVar("proxmox_operator_about", default=MappingProxyType({}))

_SECRETS = (
    re.compile(r"(PVEAPIToken=[^!\s]+![^=\s]+=)[^\s'\",;\\]+"),
    re.compile(r"(PVE:[^\s:]+@[^\s:]+:)[^\s'\",;\\]+"),
    re.compile(r"(Bearer\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE),
    re.compile(
        r"(\b(?:ci)?password\\?['\"]?\s*[=:]\s*)(?:b?\\?'[^']*'|b?\\?\"[^\"]*\"|[^\s'\",;&}]+)", re.IGNORECASE
    ),
)
_SECRET_FIELDS = frozenset({"password", "cipassword", "authorization"})


@contextlib.contextmanager
def about(key: Key, uid: str | None = None) -> Iterator[None]:
    """Every record logged within names this object."""
    fields = {"kind": key.kind, "namespace": key.namespace, "name": key.name, "uid": uid or ""}
    token = _about.set({name: value for name, value in fields.items() if value})
    try:
        yield
    finally:
        _about.reset(token)


def redact(text: str) -> str:
    """The text without values that look like credentials."""
    for pattern in _SECRETS:
        text = pattern.sub(r"\1***", text)
    return text


def configure(
    *, level: str = "INFO", format: Literal["json", "text"] = "json", stream: TextIO | None = None
) -> None:
    """Send all records to `stream` (stderr by default). A later call replaces an earlier one."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json() if format == "json" else _Text())
    root = logging.getLogger()
    for old in [*root.handlers]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in PINNED:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


class _Json(JsonFormatter):
    """One line per record. `extra` fields appear as they are, the object of `about` beside them."""

    def __init__(self) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "logger"},
            json_ensure_ascii=False,
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        fields = _redact_all(super().process_log_record(log_data))
        return {"ts": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields, **_about.get()}


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        text = redact(super().format(record))
        fields = _about.get()
        if not fields:
            return text
        place = "/".join(fields[name] for name in ("namespace", "name") if name in fields)
        return f"{text}  [{fields['kind']} {place}]"


def _redact_all(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {
            name: "***" if str(name).lower() in _SECRET_FIELDS else _redact_all(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redact_all(item) for item in value]
    return value
