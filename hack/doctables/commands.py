"""What each command of ``proxmox-operator`` says with ``--help``."""

import contextlib
import io
import os
import re

from proxmox_operator.cli import USAGE, main

WIDTH = "100"


def commands() -> str:
    """The command's own usage, then that of each subcommand with options, but of ``run``: they are the settings."""
    names = [name for name in re.findall(r"^  ([a-z]+) ", USAGE, re.MULTILINE) if name != "run"]
    parts = [f"```\n{USAGE}```\n"]
    for name in names:
        if (text := _help(name)) is not None:
            parts.append(f"## {name}\n\n```\n{text}```\n")
    return "\n" + "\n".join(parts)


def _help(name: str) -> str | None:
    """None for a command that takes no options and ignores this one."""
    told, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    try:
        with (
            contextlib.redirect_stdout(told),
            contextlib.redirect_stderr(told),
            contextlib.suppress(SystemExit),
        ):
            main([name, "--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    text = told.getvalue()
    return text if text.startswith("usage:") else None
