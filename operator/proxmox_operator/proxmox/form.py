"""A multipart form whose file is sent as it comes, with a length that is known beforehand.

Proxmox reads the fields ``content``, ``checksum-algorithm`` and ``checksum`` in this order, and only before the file;
it takes no chunked request, and drops a file whose closing delimiter never came (``file_upload_multipart`` of
PVE::APIServer::AnyEvent).
"""

import secrets
from collections.abc import Iterator, Mapping

from .request import Stream, WireValue
from .transport import Lost

_ORDER = ("content", "checksum-algorithm", "checksum")


class Form:
    """What requests takes for the body of a request: ``len`` is its Content-Length."""

    def __init__(self, fields: Mapping[str, WireValue], key: str, stream: Stream) -> None:
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
        """The closing delimiter comes last: without it Proxmox does nothing."""
        yield self._head
        left = self._stream.size
        for piece in self._stream.pieces:
            left -= len(piece)
            yield piece
        if left != 0:
            raise Lost("it had begun before, and is begun anew")
        yield self._tail
