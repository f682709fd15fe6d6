"""``proxmox-operator run``: the operator itself, with its settings."""

import asyncio

from proxmox_operator.engine import logs
from proxmox_operator.engine.settings import Settings
from proxmox_operator.handlers import serve


def run(arguments: list[str]) -> None:
    """The command. Returns when the operator was told to end. Raises what ``serve`` raises."""
    settings = Settings.from_args(arguments)
    logs.configure(level=settings.log_level, format=settings.log_format)
    asyncio.run(serve(settings))
