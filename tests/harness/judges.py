"""What the tools of others say of an object: Argo CD by our Lua, Flux by its own library.

Argo CD runs Lua 5.1 without the libraries of strings, numbers and files. So does this, and without that of times, which
is another one there. kstatus is the real one, as a program (hack/gotools/kstatus).
"""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from lupa.lua51 import LuaRuntime

import argohealth
import gotools

_NOT_IN_ARGO = """
getmetatable("").__index = nil
string, math, io, os, debug, coroutine, python = nil
"""


class Health(NamedTuple):
    """A word of Argo CD's, and what it shows beside it."""

    status: str
    message: str


def argocd(raw: dict[str, Any]) -> Health:
    """How Argo CD judges an object, by the script that its configuration has for the kind."""
    key = f"resource.customizations.health.{raw['apiVersion'].partition('/')[0]}_{raw['kind']}"
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False, register_builtins=False)
    lua.execute(_NOT_IN_ARGO)
    lua.globals().obj = lua.table_from(raw, recursive=True)
    found = lua.execute(argohealth.checks()[key])
    return Health(found["status"], found["message"])


def flux(raw: dict[str, Any]) -> str:
    """How Flux judges an object: Current, InProgress, Failed or Terminating."""
    answer = subprocess.run([_kstatus()], input=json.dumps([raw]), capture_output=True, text=True, check=True)
    [found] = json.loads(answer.stdout)
    return str(found["status"])


@cache
def _kstatus() -> Path:
    return gotools.locate("kstatus")
