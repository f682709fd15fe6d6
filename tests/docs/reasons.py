"""Finds in the operator's source each reason that a condition, an Event or the audit record can show.

Reasons are words in CamelCase. Where one is written decides that it is one: what is passed as ``reason=``, what stands
beside a message, a class's ``default_reason``. ``unaccounted`` is the net under that: a word in CamelCase that is
neither a reason found so, nor part of the API, nor the name of a class, has to be named below.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OPERATOR = ROOT / "operator" / "proxmox_operator"

WORD = re.compile(r"[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*")
KEYWORDS = {"reason", "event"}
ATTRIBUTES = {"default_reason", "reason"}
POSITIONS = {
    "Outlook": 1,
    "Verdict": 1,
    "_event": 1,
    "_fail": 1,
    "_rule": 2,
    "_tell": 1,
    "_upload": 3,
    "_waits": 0,
    "_working": 0,
    "event": 0,
    "next": 1,
    "normal": 1,
    "set_condition": 3,
    "warning": 1,
}
"""Functions that take a reason as the argument of this position."""

NO_REASONS = {
    "API server": {
        "APIGroupList",
        "APIResourceList",
        "DeleteOptions",
        "Event",
        "Lease",
        "List",
        "Namespace",
        "Normal",
        "Reconcile",
        "Secret",
        "Warning",
    },
    "headers and log-in": {"Accept", "Authorization", "BearerToken", "CSRFPreventionToken", "NeedTFA"}
    | {"PVEAuthCookie"},
    "privileges of Proxmox VE": {"Cloudinit", "HWType", "Migrate", "Options", "PowerMgmt"},
    "units": {"Gi", "Ki", "Mi"},
    "outcomes of a task": {"Error", "Ok", "Warnings"},
    "whether a VM exists": {"Absent", "Exists"},
    "how a step of a build stands": {"Ended", "Rebooted", "Refused", "Silent"},
    "names of unions": {"Existence", "Standing"},
}
"""Other words in CamelCase, by what they are. One that is a reason as well is found as a reason all the same."""


POWERS = {"Running", "Stopped", "Paused"}
"""A settled VM shows its power as the reason of Ready, whatever ``status.power`` is (Unknown is not settled)."""


@cache
def reasons() -> dict[str, set[str]]:
    """Each reason with the files, relative to the package, that can give it."""
    found = {power: {"planning/lifecycle/living.py"} for power in POWERS}
    for path, tree in _trees():
        for node in ast.walk(tree):
            for word in _written_as_reason(node):
                found.setdefault(word, set()).add(path)
    return found


def composed() -> list[str]:
    """Where a reason is made by formatting, which this search could not find."""
    return [
        f"{path}:{node.value.lineno}"
        for path, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.keyword) and node.arg in KEYWORDS
        if isinstance(node.value, ast.JoinedStr | ast.BinOp)
    ]


def unaccounted() -> dict[str, set[str]]:
    """Words in CamelCase of which nothing says what they are."""
    known = set(reasons()) | _of_the_api() | _classes() | set().union(*NO_REASONS.values())
    found: dict[str, set[str]] = {}
    for path, tree in _trees():
        for word in (word for node in ast.walk(tree) for word in _words(node)):
            if word not in known:
                found.setdefault(word, set()).add(path)
    return found


@cache
def _trees() -> tuple[tuple[str, ast.Module], ...]:
    return tuple(
        (str(path.relative_to(OPERATOR)), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(OPERATOR.rglob("*.py"))
    )


def _words(node: ast.AST | None) -> Iterator[str]:
    """The word itself, or those of either branch of a choice."""
    match node:
        case ast.Constant(value=str(text)) if WORD.fullmatch(text):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*_words(body), *_words(orelse))
        case ast.BoolOp(values=values):
            yield from (word for value in values for word in _words(value))


def _written_as_reason(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.keyword(arg=name, value=value) if name in KEYWORDS:
            yield from _words(value)
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in ATTRIBUTES:
            yield from _words(value)
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if name in ATTRIBUTES:
            yield from _words(value)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args) if name in POSITIONS:
            if len(args) > POSITIONS[name]:
                yield from _words(args[POSITIONS[name]])
        case ast.Assign(targets=[ast.Name(id="_WORKING")], value=ast.Dict(keys=keys)):
            for key in keys:
                yield from _words(key)
        case ast.Tuple(elts=[ast.Constant(value=True | False | None), word, _]):
            yield from _words(word)
        case ast.Tuple(elts=[ast.Constant(value=str(word)), text]) if WORD.fullmatch(word) and _is_message(
            text
        ):
            yield word


def _is_message(node: ast.AST) -> bool:
    """A sentence, or a variable that holds one."""
    match node:
        case ast.Constant(value=str(text)):
            return " " in text
        case ast.JoinedStr() | ast.Name():
            return True
        case _:
            return False


def _of_the_api() -> set[str]:
    """Kinds, values of enumerations, types of conditions: all words in CamelCase that the CRDs hold."""
    texts = (path.read_text(encoding="utf-8") for path in (ROOT / "crds").glob("*.yaml"))
    return {word for text in texts for word in re.findall(rf"\b{WORD.pattern}\b", text)}


def _classes() -> set[str]:
    """Our own, and others' that are imported: a type may be named in quotation marks."""
    nodes = [node for _, tree in _trees() for node in ast.walk(tree)]
    own = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    return own | {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
