"""A web server of disk images on a loopback port, and the smallest file that passes for a qcow2 image.

    with ImageServer() as images:                         # tls=True: https, trusted through `images.ca_pem`
        url = images.serve("/debian.qcow2", qcow2(3 * GIB))
        images.serve("/cut.qcow2", data, cut=100, times=1)  # the first answer ends after 100 bytes, the next is whole
        images.serve("/slow.qcow2", data, stall=100)        # 100 bytes, then nothing until the server stops
        images.serve("/gone.qcow2", status=404)
        images.redirect("/latest", "/debian.qcow2")
        assert images.count("/debian.qcow2") == 1

What is not served is 404. It knows nothing of Proxmox VE, and ranges are not supported: a client that asks for the
rest of a file gets the whole of it.
"""

import struct
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from pvesim import pki

GIB = 1024**3
QCOW2_CLUSTER_BITS = 16


def qcow2(virtual_size: int, salt: bytes = b"") -> bytes:
    """A qcow2 file of version 3 without any data, 512 bytes and the ``salt``, which makes the checksum another.

    ``qemu-img info`` reads it. Source of the layout: QEMU's docs/interop/qcow2.txt.

    :param virtual_size: bytes, as the guest sees them.
    """
    cluster = 1 << QCOW2_CLUSTER_BITS
    l1_entries = -(-virtual_size // (cluster * cluster // 8))
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb", 3, 0, 0, QCOW2_CLUSTER_BITS, virtual_size, 0, l1_entries, 3 * cluster, cluster, 1, 0, 0,
        0, 0, 0, 4, 104,
    )  # fmt: skip
    return header.ljust(512, b"\0") + salt


@dataclass
class _Reply:
    """What a path answers; ``times`` of a faulty answer counts down to the whole one, None never does."""

    body: bytes = b""
    status: int = 200
    location: str = ""
    cut: int | None = None
    stall: int | None = None
    times: int | None = None
    content_type: str = "application/octet-stream"
    sized: bool = True


class ImageServer:
    """Serves bytes at paths; use as a context manager."""

    def __init__(self, *, tls: bool = False) -> None:
        self.ca_pem = pki.authority("images", key_usage=True).pem
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self._replies: dict[str, _Reply] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        if tls:
            context = pki.server_context("images", "images", key_usage=True)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="images", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def serve(
        self,
        path: str,
        body: bytes = b"",
        *,
        status: int = 200,
        cut: int | None = None,
        stall: int | None = None,
        times: int | None = None,
        content_type: str = "application/octet-stream",
        sized: bool = True,
    ) -> str:
        """From now on ``path`` answers this; the URL.

        :param cut: the connection ends after so many bytes of the body.
        :param stall: nothing comes after so many bytes of the body, and the connection stays.
        :param times: how many answers are cut or stall before one is whole; None: all of them.
        :param sized: whether the answer tells its length; one that does not ends with the connection.
        """
        self._replies[path] = _Reply(body, status, "", cut, stall, times, content_type, sized)
        return self.url + path

    def redirect(self, path: str, to: str) -> str:
        """``path`` answers 302 with the location ``to``, a path or a URL; the URL."""
        self._replies[path] = _Reply(status=302, location=to)
        return self.url + path

    def count(self, path: str) -> int:
        """How often ``path`` was asked for (GET)."""
        return self.requests.count(("GET", path))

    def _take(self, method: str, path: str) -> tuple[_Reply, int, bool]:
        """The reply to a request, how much of its body is sent, and whether the connection hangs then."""
        with self._lock:
            self.requests.append((method, path))
            reply = self._replies.get(path, _Reply(status=404))
            faulty = reply.times is None or reply.times > 0
            if reply.times and method == "GET":
                reply.times -= 1
        end = reply.cut if reply.cut is not None else reply.stall
        whole = end is None or not faulty
        return reply, len(reply.body) if whole or end is None else end, not whole and reply.stall is not None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._start(server._take("HEAD", self.path)[0])

            def do_GET(self) -> None:
                server.headers.append(dict(self.headers))
                reply, length, hangs = server._take("GET", self.path)
                self._start(reply)
                self.wfile.write(reply.body[:length])
                if hangs:
                    self.wfile.flush()
                    server._stopping.wait()

            def _start(self, reply: _Reply) -> None:
                self.send_response(reply.status)
                if reply.sized:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.send_header("Content-Type", reply.content_type)
                if reply.location:
                    self.send_header("Location", reply.location)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Quiet: the tests look at `requests`."""

        return Handler
