"""The one seam through which every Proxmox call passes.

A Transport sends one request to one endpoint, synchronously, in a worker thread, and says which of three
things went wrong: nothing was sent, it was refused, or the answer was lost. What follows from that is the
client's business; https.py has the implementation.
"""

from typing import Any, Protocol

from .request import Request

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 40.0
CALL_TIMEOUT = CONNECT_TIMEOUT + READ_TIMEOUT
"""Seconds after which a call has ended for us; the fence must outlast it before a write is sent."""


class NotSent(Exception):
    """No connection: certain that Proxmox never saw the request. ``tls``: the certificate was not trusted."""

    def __init__(self, message: str, *, tls: bool = False) -> None:
        super().__init__(message)
        self.tls = tls


class Lost(Exception):
    """The request may have been sent and no complete answer came."""


class Refused(Exception):
    """Proxmox answered with an error: HTTP status, full message, and messages per parameter."""

    def __init__(self, status: int, message: str, errors: dict[str, str] | None = None) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message
        self.errors = errors or {}


class Transport(Protocol):
    """Sends one request to one endpoint, blocking; raises NotSent, Lost or Refused. Called from many
    threads.
    """

    def send(self, request: Request) -> Any: ...

    def close(self) -> None: ...
