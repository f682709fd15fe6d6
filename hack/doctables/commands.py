"""What each command of ``proxmox-operator`` says with ``--help``."""

import contextlib
import io
import os
import re

from proxmox_operator.cli import main

WIDTH = "100"


def commands() -> str:
    """The command's own usage, then that of each subcommand with options, but of ``run``: they are the settings."""
    usage = _help()
    parts = [f"```\n{usage}```\n"]
    for name in re.findall(r"^  ([a-z]+) ", usage, re.MULTILINE):
        text = _help(name)
        if name != "run" and text.startswith("usage:"):
            parts.append(f"## {name}\n\n```\n{text}```\n")
    return "\n" + "\n".join(parts)


def _help(*command: str) -> str:
    """What is printed for ``--help``; something else by a command that takes no options and ignores this one."""
    told, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    try:
        with (
            contextlib.redirect_stdout(told),
            contextlib.redirect_stderr(told),
            contextlib.suppress(SystemExit),
        ):
            main([*command, "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return told.getvalue()
