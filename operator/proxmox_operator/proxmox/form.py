"""A multipart form whose file is sent as it comes, with a length that is known beforehand.

Proxmox reads the fields ``content``, ``checksum-algorithm`` and ``checksum`` in this order, and only before the file;
it takes no chunked request, and drops a file whose closing delimiter never came (``file_upload_multipart`` of
PVE::APIServer::AnyEvent).
"""

import secrets
from collections.abc import Callable, Iterator, Mapping

from .request import Stream, WireValue
from .transport import CONNECT_TIMEOUT, READ_TIMEOUT, Lost

_ORDER = ("content", "checksum-algorithm", "checksum")


class Form:
    """What requests takes for the body of a request: ``len`` is its Content-Length.

    ``complete``: its end may have been sent, so that Proxmox may act. ``allow`` is told how many seconds the next piece
    may take.
    """

    def __init__(
        self, fields: Mapping[str, WireValue], key: str, stream: Stream, allow: Callable[[float], None]
    ) -> None:
        self.complete = False
        self._allow = allow
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        begin = f'--{boundary}\r\nContent-Disposition: form-data; name="'
        parts = [f'{begin}{name}"\r\n\r\n{fields[name]}\r\n' for name in _ORDER if name in fields]
        file = f'{begin}{key}"; filename="{stream.name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        self._head = "".join([*parts, file]).encode()
        self._stream = stream
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self.len = len(self._head) + stream.size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        """The closing delimiter comes last: without it Proxmox does nothing.

        As a disk that is busy lets a node pause, the others may take as long as an answer does; that one, of which the
        fence knows, no longer than a call has for its beginning.
        """
        self._allow(READ_TIMEOUT)
        yield self._head
        left = self._stream.size
        for piece in self._stream.pieces:
            left -= len(piece)
            yield piece
        if left != 0:
            raise Lost("it had begun before, and is begun anew")
        self._allow(CONNECT_TIMEOUT)
        self.complete = True
        yield self._tail
