"""What cloud-init in the guest says of its first boot: the question, and how its answers are read.

Asking changes nothing in the guest, so a question whose answer was lost is asked again. Source: ``cloud-init status``;
JSON from version 22.3 on, words before. Not here: when to ask, and through what.
"""

import json
import re
from typing import Any

from proxmox_operator.planning.firstboot import DONE, FirstBoot
from proxmox_operator.proxmox.agent import ExecResult

QUESTION = ("cloud-init", "status", "--format", "json")
PLAIN_QUESTION = ("cloud-init", "status", "--long")
"""For a cloud-init that does not know the other."""

MOST_ERRORS = 300
"""Characters of cloud-init's own errors that a message may carry."""

_MODULE = re.compile(r"\('([a-z_-]+)', ")
"""How an error of a module begins. What comes later in it may be user data."""


def read_answer(result: ExecResult, *, secret: bool) -> FirstBoot | None:
    """What an answer says; None where it is not JSON. ``secret``: nothing that may quote the user data is shown."""
    try:
        answer = json.loads(result.out)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    errors = [str(error) for error in _list(answer.get("errors"))]
    return _found(str(answer.get("status")), errors or [str(answer.get("detail") or "")], secret=secret)


def read_plain_answer(result: ExecResult, *, secret: bool) -> FirstBoot:
    """The same for the plain answer, in which the errors are the lines below the status."""
    status, _, rest = result.out.strip().partition("\n")
    if not status.startswith("status:"):
        message = f"cloud-init in the guest gave no answer that is understood (exit status {result.code})"
        return FirstBoot(state="Unknown", reason="NotUnderstood", message=message)
    detail = " ".join((rest.partition("detail:")[2] or rest).split())
    return _found(status.removeprefix("status:").strip(), [detail], secret=secret)


def _found(status: str, errors: list[str], *, secret: bool) -> FirstBoot:
    if status == "done":
        return DONE
    if status == "error":
        text = "; ".join(errors)
        if secret:
            begun = (_MODULE.match(error) for error in errors)
            modules = ", ".join(dict.fromkeys(match[1] for match in begun if match is not None))
            text = f"modules {modules}" if modules else "what failed may quote a Secret and is not shown"
        shown = text if len(text) <= MOST_ERRORS else f"{text[: MOST_ERRORS - 1]}…"
        message = f"cloud-init failed in the guest ({shown}): look at `cloud-init status --long` there"
        return FirstBoot(state="Failed", reason="CloudInitFailed", message=message)
    if status == "disabled":
        message = "cloud-init is disabled in the guest: enable it in the template, or set readiness.cloudInit to false"
        return FirstBoot(state="Failed", reason="CloudInitDisabled", message=message)
    message = "cloud-init is at work in the guest" if status == "running" else "cloud-init has not begun yet"
    return FirstBoot(state="Running", reason="CloudInitRunning", message=message)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
