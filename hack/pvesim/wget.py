"""What `wget` does for a node: it fetches a URL, follows redirects, goes on where a connection broke, and gives up with
the texts that end in a task's exit status.

Facts: GNU wget 1.21 (20 tries, waits of 1 to 10 s between them, 900 s without a byte, 20 redirects; refused
connections, TLS and HTTP errors are final), and PVE::Cmd::run of pve-common 9.2.1, which reports the last line of
stderr. wget ends its output with an empty line when it has given up or the server's status was an error; then the exit
status is only a number, and the reason stands in the log.
"""

import ssl
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from fakepve.model import PveError

from .core import die
from .tasks import Tasks

TRIES = 20
LONGEST_WAIT = 10
READ_TIMEOUT = 900
REDIRECTS = 20
CHUNK = 256 * 1024


class Wget(Tasks):
    """Downloads of the nodes. `trusted_cas` are PEM texts that the nodes trust besides the usual ones."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.trusted_cas: list[str] = []
        self.download_tries = TRIES

    def client_tls(self, *, verify: bool) -> ssl.SSLContext:
        """How a node checks the certificates of web servers."""
        context = ssl.create_default_context()
        for pem in self.trusted_cas:
            context.load_verify_locations(cadata=pem)
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def fetched(self, url: str, *, verify: bool) -> AsyncGenerator[bytes]:
        """The bytes behind a URL, in pieces.

        :raises PveError: `download failed: ...`, as the task ends.
        """
        got = 0
        timeout = aiohttp.ClientTimeout(total=None, sock_read=self.scaled(READ_TIMEOUT))
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session:
            for attempt in range(1, self.download_tries + 1):
                headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={got}-"} if got else {})
                try:
                    async with session.get(
                        url, ssl=self.client_tls(verify=verify), headers=headers, max_redirects=REDIRECTS
                    ) as response:
                        if response.status >= 400:
                            self.say(f"ERROR {response.status}: {response.reason}.")
                            raise die("download failed: exit code 8")
                        # A server that ignores the range sends everything again.
                        known = 0 if response.status == 206 else got
                        async for chunk in response.content.iter_chunked(CHUNK):
                            piece = chunk[known:]
                            known -= len(chunk) - len(piece)
                            got += len(piece)
                            if piece:
                                yield piece
                        return
                except (aiohttp.ClientConnectorError, aiohttp.TooManyRedirects) as error:
                    raise _final(error, url) from error
                except (aiohttp.ClientError, TimeoutError):
                    self.say(f"Connection closed at byte {got}. Retrying.")
                await self.pause(min(attempt, LONGEST_WAIT))
        self.say(f"Connection closed at byte {got}. Giving up.")
        raise die("download failed: exit code 4")


def _final(error: aiohttp.ClientError, url: str) -> PveError:
    """The last line of wget where it does not try again."""
    match error:
        case aiohttp.TooManyRedirects():
            line = f"{REDIRECTS} redirections exceeded."
        case aiohttp.ClientConnectorCertificateError():
            line = f"ERROR: The certificate of '{urlsplit(url).hostname}' doesn't have a known issuer."
        case aiohttp.ClientConnectorSSLError():
            line = "Unable to establish SSL connection."
        case aiohttp.ClientConnectorDNSError():
            line = f"wget: unable to resolve host address '{error.host}'"
        case aiohttp.ClientConnectorError():
            line = f"Connecting to {error.host}:{error.port}... failed: Connection refused."
        case _:
            raise error
    return die(f"download failed: {line}")
