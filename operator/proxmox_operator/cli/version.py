"""``proxmox-operator version``."""

from proxmox_operator import __version__
from proxmox_operator.cli.parsing import parser


def version(arguments: list[str]) -> None:
    """The command."""
    parser("version", "Print the version.").parse_args(arguments)
    print(__version__)
