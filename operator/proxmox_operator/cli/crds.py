"""``proxmox-operator crds``: the CustomResourceDefinitions of this version."""

from pathlib import Path

from proxmox_operator.api.crds import files, write
from proxmox_operator.cli.parsing import parser
from proxmox_operator.errors import NeedsHuman

DESCRIPTION = """\
Print the CustomResourceDefinitions of this version, for `kubectl apply
--server-side -f -`, or write each to a file of its own.
"""


def crds(arguments: list[str]) -> None:
    """The command. Raises NeedsHuman for a folder that cannot be written to."""
    options = parser("crds", DESCRIPTION)
    options.add_argument(
        "--output", metavar="DIR", type=Path, help="Folder to write them to; made if need be."
    )
    folder = options.parse_args(arguments).output
    if folder is None:
        print("---\n".join(files().values()), end="")
        return
    try:
        write(folder)
    except OSError as error:
        raise NeedsHuman(f"--output {folder}: {error.strerror}") from None
