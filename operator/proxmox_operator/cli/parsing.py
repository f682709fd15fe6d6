"""What the commands' options have in common. Not here: the options of one command, which are beside what it does."""

import argparse

PROG = "proxmox-operator"


def parser(command: str, description: str, **more: str) -> argparse.ArgumentParser:
    """A parser for ``proxmox-operator COMMAND``. ``description`` is printed as it is, so in lines of 80 columns."""
    return argparse.ArgumentParser(
        prog=f"{PROG} {command}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **more,  # type: ignore[arg-type]
    )
