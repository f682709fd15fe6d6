"""The command ``proxmox-operator``: run the operator, or print what it needs.

Exit codes: 0 in order, 1 failed, 2 wrong usage, 3 the Lease was lost, 130 interrupted.
"""

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from proxmox_operator import __version__
from proxmox_operator.api import crds
from proxmox_operator.engine import logs
from proxmox_operator.engine.settings import Settings
from proxmox_operator.errors import LeadershipLost, OperatorError

USAGE = """\
usage: proxmox-operator COMMAND [OPTIONS]

commands:
  run      run the operator
  check    ask Proxmox VE whether a ProxmoxCluster would work, before it is applied
  crds     print the CustomResourceDefinitions, or write them with --output DIR
  release  drop the finalizers of all objects, without touching a VM, before an uninstallation
  version  print the version

Options: proxmox-operator COMMAND --help.
Exit codes: 0 in order, 1 failed, 2 wrong usage, 3 the Lease was lost, 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments.pop(0) if arguments else "--help"
    commands: dict[str, Callable[[list[str]], int]] = {
        "run": _run,
        "check": _check,
        "crds": _crds,
        "release": _release,
        "version": _version,
        "--version": _version,
        "--help": _help,
        "-h": _help,
    }
    if command not in commands:
        print(f"proxmox-operator: there is no command {command!r}\n\n{USAGE}", file=sys.stderr, end="")
        return 2
    try:
        return commands[command](arguments)
    except KeyboardInterrupt:
        return 130


def _run(arguments: list[str]) -> int:
    settings = Settings.from_args(arguments)
    logs.configure(level=settings.log_level, format=settings.log_format)
    from proxmox_operator.handlers import (
        serve,
    )  # kopf takes a second to import; --version need not wait for it

    try:
        asyncio.run(serve(settings))
    except OperatorError as error:
        print(f"proxmox-operator: {error.message}", file=sys.stderr)
        return 1
    except LeadershipLost as error:
        print(f"proxmox-operator: {error}; ending, so that the new leader is alone", file=sys.stderr)
        return 3
    return 0


def _check(arguments: list[str]) -> int:
    from proxmox_operator.cli.check import check  # as above

    return check(arguments)


def _release(arguments: list[str]) -> int:
    from proxmox_operator.cli.release import release  # as above

    return release(arguments)


def _crds(arguments: list[str]) -> int:
    if not arguments:
        print("---\n".join(crds.files().values()), end="")
        return 0
    if len(arguments) != 2 or arguments[0] != "--output":
        print("usage: proxmox-operator crds [--output DIR]", file=sys.stderr)
        return 2
    crds.write(Path(arguments[1]))
    return 0


def _version(_: list[str]) -> int:
    print(__version__)
    return 0


def _help(_: list[str]) -> int:
    print(USAGE, end="")
    return 0
