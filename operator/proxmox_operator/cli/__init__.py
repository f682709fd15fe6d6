"""The command ``proxmox-operator``: which commands there are, and what their errors print and return.

A command raises what it cannot mend, and is told apart here: nobody sees a traceback, except of a bug. Not here: what a
command does, and its options.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from proxmox_operator import __version__
from proxmox_operator.cli.parsing import PROG
from proxmox_operator.errors import LeadershipLost, OperatorError

COMMANDS = {
    "run": "run the operator, until it is told to end",
    "check": "ask Proxmox VE whether a ProxmoxCluster would work",
    "crds": "print the CustomResourceDefinitions, or write them to a folder",
    "release": "let all objects go without touching a VM, to uninstall",
    "version": "print the version",
}
"""Each is a function of this name in a module of this name, which is imported only for it: kopf takes a second."""

DESCRIPTION = """\
Virtual machines of Proxmox VE as Kubernetes objects.

commands:
"""
EXIT_CODES = """\
Options of a command: proxmox-operator COMMAND --help.

exit codes:
  0    done, or told to end
  1    failed; for check: something that is needed is missing
  2    wrong usage: of the options, the settings, or manifests for check
  3    another process took over the Lease
  130  interrupted (Ctrl-C)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit code, or raises SystemExit as argparse does."""
    parser, words = _parser(), sys.argv[1:] if argv is None else argv
    if not words:
        parser.print_help(sys.stderr)
        return 2
    given = parser.parse_args(words)
    prog = f"{PROG} {given.command}"
    command: Callable[[list[str]], int | None] = getattr(
        importlib.import_module(f"proxmox_operator.cli.{given.command}"), given.command
    )
    try:
        code = command(given.options) or 0
        sys.stdout.flush()
    except OperatorError as error:
        print(f"{prog}: {error.message}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever reads our output has enough. Python would try to write the rest once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except LeadershipLost as error:
        print(f"{prog}: {error}; ending, so that the new leader is alone", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<8} {told}" for name, told in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog=PROG,
        usage=f"%(prog)s {{{','.join(COMMANDS)}}} [OPTIONS]",
        description=DESCRIPTION + listed,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS, help=argparse.SUPPRESS)
    parser.add_argument("options", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser
