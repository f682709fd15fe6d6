"""Fetching an image: its size first, then its bytes as they come.

The URL is another's choice, and so are the redirects of its server. TLS is verified; https is not left for http; no
credentials of the environment are sent; and no address is spoken to at which a cloud tells a machine its secrets.
Proxies and CAs are those of the usual environment variables (HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE); behind a proxy
it is the proxy that decides which addresses are spoken to. Blocks: for worker threads.
"""

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from time import monotonic
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, ReadTimeoutError

from proxmox_operator.errors import NeedsHuman, OperatorError, Transient

CONNECT_TIMEOUT = 10.0
ANSWER_TIMEOUT = 20.0
"""Seconds until the first byte."""

BEGIN_WITHIN = 60.0
"""Seconds until the body begins, all redirects included."""

STALL = 4.0
"""Seconds without a byte after which it is given up; pveproxy cuts an upload that rests for 5 s."""

LEAST, SPAN = 1024 * 1024, 60.0
"""So many bytes come in so many seconds of waiting for them, or it is given up: an upload holds one of few places."""

REDIRECTS = 10
CHUNK = 256 * 1024

_METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")))
"""Where EC2 (IPv6), Alibaba Cloud and Azure tell machines about themselves, besides link-local addresses."""

_PASSING = frozenset({408, 425, 429})
"""Statuses below 500 that may be another one soon."""


class _Forbidden(Exception):
    """An address that is not spoken to; nothing was sent."""


class Fetched:
    """An answer whose body is an image of ``size`` bytes. Close it in the thread that reads; ``Wire.cut`` ends it from
    any other.
    """

    def __init__(
        self, session: requests.Session, response: requests.Response, wire: "Wire", size: int
    ) -> None:
        self._session = session
        self._response = response
        self._wire = wire
        self.size = size

    def pieces(self) -> Iterator[bytes]:
        """The bytes, all of them; raises Transient (DownloadFailed) where the server ends or rests before."""
        left, waited, came = self.size, 0.0, 0
        self._wire.patience(STALL)
        while left > 0:
            began = monotonic()
            try:
                piece = self._response.raw.read1(CHUNK, decode_content=False)
            except (ReadTimeoutError, TimeoutError):
                raise failed(f"the server sent nothing for {STALL:g} s", passing=True) from None
            except (HTTPError, OSError, ValueError, AttributeError):  # the last two: closed meanwhile
                piece = b""
            if not piece:
                got = self.size - left
                raise failed(f"the connection ended after {got} of {self.size} bytes", passing=True)
            left -= len(piece)
            waited, came = waited + monotonic() - began, came + len(piece)
            if came >= LEAST:
                waited, came = 0.0, 0
            elif waited > SPAN:
                raise failed(f"the server sent less than {LEAST} bytes in {SPAN:g} s", passing=True)
            yield piece

    def close(self) -> None:
        """Let go of the connection."""
        self._wire.cut()
        self._response.close()
        self._session.close()


def fetch(url: str, wire: "Wire | None" = None) -> Fetched:
    """Ask for a file and return when the answer begins; ``wire`` can be cut meanwhile, and afterwards.

    Raises NeedsHuman or, where it may pass, Transient: DownloadFailed; NeedsHuman (ImageSizeUnknown) for an answer
    without Content-Length.
    """
    for name in ("urllib3.connection", "urllib3.connectionpool"):  # warn with URLs, which may hold secrets
        logging.getLogger(name).setLevel(logging.ERROR)
    session, wire = _Session(), wire or Wire()
    session.auth = _nobody
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "proxmox-operator"})
    session.mount("https://", wire)
    session.mount("http://", wire)
    limit = threading.Timer(BEGIN_WITHIN, wire.cut)
    limit.start()
    try:
        response = _final(session, url, wire)
        size = response.headers.get("Content-Length", "")
        if size.isdigit():
            return Fetched(session, response, wire, int(size))
        response.close()
        message = (
            "spec.image.url: the server does not tell the size of the file (Content-Length), and Proxmox takes no "
            "upload of unknown size: have it served as a plain file, or set spec.image.via to Proxmox"
        )
        raise NeedsHuman(message, reason="ImageSizeUnknown")
    except BaseException:
        wire.cut()
        session.close()
        raise
    finally:
        limit.cancel()


class _Session(requests.Session):
    def resolve_redirects(self, *_: Any, **__: Any) -> Iterator[Any]:
        """None: to tell the next one, requests reads the whole body of a redirect into memory."""
        return iter(())


def _final(session: requests.Session, url: str, wire: "Wire") -> requests.Response:
    """The answer at the end of all redirects."""
    for _ in range(REDIRECTS + 1):
        host = urlsplit(url).hostname or ""
        try:
            response = session.get(
                url, stream=True, allow_redirects=False, timeout=(CONNECT_TIMEOUT, ANSWER_TIMEOUT)
            )
            target = session.get_redirect_target(response)
        except (requests.RequestException, _Forbidden, ValueError) as error:
            raise (_late(host) if wire.is_cut else _explained(error, host)) from None
        if wire.is_cut:  # what came of the headers passes for all of them
            response.close()
            raise _late(host)
        if target is None and response.status_code == 200:
            return response
        response.close()
        if target is None:
            passing = response.status_code >= 500 or response.status_code in _PASSING
            raise failed(f"the server answers {response.status_code}", passing=passing)
        following = urljoin(url, target)
        if urlsplit(following).scheme not in {"https", urlsplit(url).scheme}:
            raise failed("the server redirects to a URL that is not https")
        url = following
    raise failed(f"the server redirects more than {REDIRECTS} times")


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Authentication that adds nothing: without any, requests takes what a .netrc has for that host."""
    return request


def failed(why: str, *, passing: bool = False) -> OperatorError:
    """The error for a file that was not fetched."""
    message = f"spec.image.url: the operator could not download it: {why}"
    if passing:
        return Transient(f"{message}; tried again", reason="DownloadFailed")
    return NeedsHuman(f"{message}: check the URL, and that the operator reaches it", reason="DownloadFailed")


def _late(host: str) -> OperatorError:
    return failed(f"{host} did not answer within {BEGIN_WITHIN:g} s", passing=True)


def _explained(error: Exception, host: str) -> OperatorError:
    """What a failure means, in our words: the library's have the whole URL, and a redirect's may hold a secret."""
    cause: Any = getattr(error.args[0] if error.args else None, "reason", None)
    inner = cause.args[0] if isinstance(error, requests.exceptions.SSLError) and cause is not None else None
    if isinstance(error, _Forbidden):
        return failed(f"{host} has an address at which clouds keep secrets, which is not asked")
    if isinstance(inner, ssl.SSLCertVerificationError):
        return failed(f"the certificate of {host} is not trusted ({inner.verify_message})")
    if isinstance(error, requests.ReadTimeout):
        return failed(f"{host} did not answer within {ANSWER_TIMEOUT:g} s", passing=True)
    if isinstance(error, requests.ConnectionError):
        known = cause.__cause__ if isinstance(getattr(cause, "__cause__", None), OSError) else None
        why = known.strerror if known is not None and known.strerror else type(cause or error).__name__
        return failed(f"no connection to {host} ({why})", passing=True)
    return failed(f"{host} cannot be asked ({type(error).__name__})")


class Wire(HTTPAdapter):
    """The connection of one fetch; knows its socket, which requests does not tell."""

    def __init__(self) -> None:
        self.is_cut = False
        self._guard = threading.Lock()
        self._line: socket.socket | None = None
        self._reader: socket.socket | None = None
        super().__init__(max_retries=0)

    def patience(self, seconds: float) -> None:
        """How long a read may take from now on."""
        if self._reader is not None:
            self._reader.settimeout(seconds)

    def cut(self) -> None:
        """End it, for good, from any thread; waits for nothing."""
        with self._guard:
            self.is_cut = True
            self._drop()

    def _drop(self) -> None:
        if self._line is not None:
            with contextlib.suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)
            self._line.close()
            self._line = None

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools()

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._pools()
        return manager

    def _pools(self) -> dict[str, Any]:
        wire = self

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return wire._connected(self, super()._new_conn())

            def connect(self) -> None:
                super().connect()
                wire._reader = self.sock

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return wire._connected(self, super()._new_conn())

            def connect(self) -> None:
                super().connect()
                wire._reader = self.sock

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        return {"http": PlainPool, "https": SecurePool}

    def _connected(self, connection: HTTPConnection, line: socket.socket) -> socket.socket:
        """Look at who it really is, whatever its name says now; nothing was sent to it yet.

        A duplicate is kept: it reaches the connection below whatever layers of TLS are put around the socket.
        """
        if connection.proxy is None and is_forbidden(line.getpeername()[0]):
            line.close()
            raise _Forbidden
        with self._guard:
            self._drop()
            if self.is_cut:
                line.close()
                raise ConnectionAbortedError
            self._line = line.dup()
        return line


def is_forbidden(address: str) -> bool:
    """Whether an IP address is one at which a cloud tells a machine its secrets."""
    found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.is_link_local or found in _METADATA
