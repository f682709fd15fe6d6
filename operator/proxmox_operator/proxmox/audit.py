"""One structured record per mutating Proxmox call: who asked, what was called, what came of it.

Keys only, never values: a parameter may be a secret. Written by the worker thread that sent the call, so it
exists even when nobody waits for the answer any more.
"""

import logging
import re
from contextvars import ContextVar
from dataclasses import dataclass

from .request import Request

logger = logging.getLogger("proxmox_operator.audit")

_UPID = re.compile(r"^UPID:[\w.-]+:[0-9A-Fa-f]+:[0-9A-Fa-f]+:[0-9A-Fa-f]+:[^:\s]*:[^:\s]*:[^:\s]+:\Z")


@dataclass(frozen=True, slots=True)
class Actor:
    """The object on whose behalf a call is made."""

    kind: str
    namespace: str
    name: str
    uid: str = ""
    generation: int = 0

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}" if self.namespace else f"{self.kind}/{self.name}"


current_actor: ContextVar[Actor | None] = ContextVar("proxmox_operator_actor", default=None)
"""Set by the reconciler around its work; copied into each task started there."""


def is_upid(value: object) -> bool:
    """Whether an answer is a task id (UPID) and not data."""
    return isinstance(value, str) and _UPID.match(value) is not None


def record(
    request: Request, *, cluster: str, actor: Actor | None, result: str, answer: object, milliseconds: float
) -> None:
    """Write the audit record of one mutating call; ``result`` is ``ok`` or the reason of its error."""
    fields = {
        "cluster": cluster,
        "actor": str(actor) if actor else "operator",
        "actor_uid": actor.uid if actor else "",
        "actor_generation": actor.generation if actor else 0,
        "method": request.method,
        "path": request.target,
        "parameters": sorted(key for key, value in request.params.items() if value is not None),
        "result": result,
        "upid": answer if is_upid(answer) else "",
        "duration_ms": round(milliseconds, 1),
    }
    logger.info("%s %s: %s", request.method, request.target, result, extra=fields)
