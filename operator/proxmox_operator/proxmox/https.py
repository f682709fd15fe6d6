"""A Transport over proxmoxer: HTTPS sessions, trust, tickets, and what the failures of requests mean."""

import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.client import RemoteDisconnected
from typing import Any

import requests
from proxmoxer import ProxmoxAPI
from proxmoxer.backends.https import ProxmoxHTTPAuthBase
from proxmoxer.core import ResourceException
from requests.adapters import HTTPAdapter
from urllib3 import HTTPSConnectionPool
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import NewConnectionError

from proxmox_operator.errors import Transient

from .credentials import Credentials, Endpoint, PasswordCredentials, TLSSettings, TokenCredentials
from .form import Form
from .request import Request, wire_params
from .transport import CONNECT_TIMEOUT, READ_TIMEOUT, Lost, NotSent, Refused

IDLE_LIMIT = 4.0
"""pveproxy closes a connection after 5 s without a request; a write never reuses one that is nearly that
old.
"""

TICKET_LIFE = 7000.0
"""Seconds; a ticket lives for two hours."""


def quieten() -> None:
    """Keep proxmoxer, requests and urllib3 from printing parameters, whatever the root level is."""
    for name in (
        "proxmoxer",
        "proxmoxer.core",
        "proxmoxer.backends.https",
        "requests",
        "urllib3.connectionpool",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("urllib3.connection").setLevel(logging.ERROR)  # warns with URLs


class _Unproven(NewConnectionError):
    """A certificate that was not shown before: another machine, perhaps of another cluster. Nothing is sent to it."""


class _Adapter(HTTPAdapter):
    """Uses our SSLContext alone: requests would add its own public CAs to what the user chose to trust.

    ``peer`` is the certificate shown on the last connection. Where ``proven`` is not empty, a connection that shows
    another one than these is given up before anything is sent.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.peer: bytes | None = None
        self._connection: HTTPSConnection | None = None
        self.proven: frozenset[bytes] = frozenset()
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        adapter = self

        class Connection(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                adapter._connection = self
                adapter.peer = (
                    self.sock.getpeercert(binary_form=True) if isinstance(self.sock, ssl.SSLSocket) else None
                )
                if adapter.proven and adapter.peer not in adapter.proven:
                    raise _Unproven(self, "another certificate than before")

            def request(self, *args: Any, **kwargs: Any) -> None:
                """urllib3 reads what a server says that takes no more of a body only after this error."""
                try:
                    super().request(*args, **kwargs)
                except ssl.SSLError as error:
                    raise BrokenPipeError from error

        class Pool(HTTPSConnectionPool):
            ConnectionCls = Connection

        self.poolmanager.pool_classes_by_scheme = {"https": Pool}

    def allow(self, seconds: float) -> None:
        """How long the sending of what comes next of a body may take."""
        if self._connection is not None and self._connection.sock is not None:
            self._connection.sock.settimeout(seconds)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        host, pool = super().build_connection_pool_key_attributes(request, verify, cert)
        decided_by_context = ("cert_reqs", "ca_certs", "ca_cert_dir")
        return host, {key: value for key, value in pool.items() if key not in decided_by_context}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing to set: verification is decided by the context."""


class _TicketAuth(ProxmoxHTTPAuthBase):  # type: ignore[misc]
    """A ticket shared by all threads of an endpoint; proxmoxer's own class fetches one per session, past
    our TLS.
    """

    def __init__(self, fetch: Callable[[], tuple[str, str]], timeout: tuple[float, float]) -> None:
        super().__init__(timeout=timeout, verify_ssl=True)
        self._fetch = fetch
        self._lock = threading.Lock()
        self._ticket: tuple[str, str] | None = None
        self._born = 0.0

    def get_tokens(self) -> tuple[str, str]:
        """Ticket and CSRF token; raises NotSent when there is none."""
        with self._lock:
            if self._ticket is None or time.monotonic() - self._born > TICKET_LIFE:
                raise NotSent("no valid ticket yet: the next read fetches one")
            return self._ticket

    def refresh(self) -> None:
        """Fetch a ticket when there is none or it is half-way through its life. Reads do this, writes
        never: the fence was asked for one call's time only.
        """
        with self._lock:
            if self._ticket is None or time.monotonic() - self._born > TICKET_LIFE / 2:
                self._ticket = self._fetch()
                self._born = time.monotonic()

    def get_cookies(self) -> dict[str, str]:
        return {"PVEAuthCookie": self.get_tokens()[0]}

    def forget(self, ticket: str) -> None:
        """Drop the ticket that was refused, unless another thread has replaced it by now."""
        with self._lock:
            if self._ticket is not None and self._ticket[0] == ticket:
                self._ticket = None

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        if prepared.method != "GET":
            prepared.headers["CSRFPreventionToken"] = self.get_tokens()[1]
        return prepared


class _Session:
    """proxmoxer's session of one thread; keeps the last response: proxmoxer drops the body's message."""

    def __init__(self, api: ProxmoxAPI, http: requests.Session, adapter: _Adapter) -> None:
        self.api = api
        self.http = http
        self.adapter = adapter
        self.last: requests.Response | None = None
        self.used = time.monotonic()

    def keep(self, response: requests.Response, *_: Any, **__: Any) -> None:
        self.last = response


class ProxmoxerTransport:
    """One endpoint over proxmoxer: one HTTPS session per worker thread, no proxy or netrc from the
    environment, no redirects, and no retry but one: a GET on a kept-alive connection that the server had
    closed meanwhile.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials,
        tls: TLSSettings,
        *,
        timeout: tuple[float, float] = (CONNECT_TIMEOUT, READ_TIMEOUT),
    ) -> None:
        quieten()
        self._endpoint = endpoint
        self._credentials = credentials
        self._context = tls.context()
        self._timeout = timeout
        self._local = threading.local()
        self._sessions: list[_Session] = []
        self._guard = threading.Lock()
        self._tickets = (
            _TicketAuth(self._fetch_ticket, timeout) if isinstance(credentials, PasswordCredentials) else None
        )

    def send(self, request: Request) -> Any:
        """The ``data`` of the answer; raises NotSent, Lost or Refused."""
        if self._tickets is None:
            return self._exchange(request)
        if not request.mutating:
            self._tickets.refresh()
        ticket, _ = self._tickets.get_tokens()
        try:
            return self._exchange(request)
        except Refused as refused:
            if refused.status != 401:
                raise
            # A ticket can die before its time (clock jump, changed key). Refused means not executed, so
            # sending anew is safe. A second 401 goes to the caller, who never repeats it hot: the server
            # delays each by 3 s.
            self._tickets.forget(ticket)
            if request.mutating:
                raise NotSent(
                    f"{self._endpoint}: the ticket has expired, the next read fetches one"
                ) from None
            self._tickets.refresh()
            return self._exchange(request)

    def peer(self) -> bytes | None:
        """The certificate that answered the last request of this thread."""
        return self._session().adapter.peer

    def close(self) -> None:
        """Drop all connections; a call under way in another thread ends with an error."""
        with self._guard:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.http.close()

    def _exchange(self, request: Request) -> Any:
        session = self._session()
        if request.mutating and time.monotonic() - session.used > IDLE_LIMIT:
            session.adapter.close()
        try:
            return self._once(session, request)
        except _Dropped as dropped:
            if request.mutating:
                raise Lost(str(dropped)) from None
        try:
            return self._once(session, request)
        except _Dropped as dropped:
            raise Lost(str(dropped)) from None

    def _once(self, session: _Session, request: Request) -> Any:
        resource = session.api(request.path)
        params = wire_params(request.params)
        adapter, session.last = session.adapter, None
        adapter.proven = request.peers
        if request.peers and adapter.peer is not None and adapter.peer not in request.peers:
            adapter.close()
        try:
            if request.stream is not None:
                answer = self._stream(session, request)
            elif request.method == "GET":
                answer = resource.get(**params)
            elif request.method == "DELETE":
                answer = resource.delete(**params)
            elif request.method == "POST":
                answer = resource.post(**params)
            else:
                answer = resource.put(**params)
        except ResourceException as error:
            raise self._refused(error, session.last) from None
        except requests.TooManyRedirects:
            raise Refused(
                310, f"{self._endpoint} redirects elsewhere: give the address of Proxmox itself"
            ) from None
        except requests.RequestException as error:
            raise self._failure(error) from None
        except (AttributeError, KeyError, TypeError):
            if session.last is None:
                raise
            raise self._not_proxmox() from None
        finally:
            session.used = time.monotonic()
        if isinstance(answer, dict) and isinstance(answer.get("errors"), bytes):
            raise self._not_proxmox()
        return answer

    def _stream(self, session: _Session, request: Request) -> Any:
        """proxmoxer has a file whole in memory. What ends before Proxmox has all of it has had no effect."""
        assert request.stream is not None  # noqa: S101 - narrowed by the caller
        form = Form(wire_params(request.params), *request.stream, session.adapter.allow)
        try:
            response = requests.Session.request(
                session.http,
                request.method,
                f"{self._endpoint}/api2/json{request.target}",
                data=form,
                headers={"Content-Type": form.content_type},
                cookies=self._tickets.get_cookies() if self._tickets is not None else None,
                timeout=self._timeout,
            )
        except requests.RequestException as error:
            if form.complete or isinstance(self._failure(error), NotSent):
                raise
            raise Transient(
                f"{self._endpoint} ended the upload in the middle: see whether there is room in /var/tmp of it; tried "
                "again",
                reason="UploadCut",
            ) from None
        if response.status_code >= 400:
            raise ResourceException(response.status_code, response.reason, response.reason)
        try:
            return response.json()["data"]
        except ValueError:
            raise self._not_proxmox() from None

    def _not_proxmox(self) -> Lost:
        return Lost(f"{self._endpoint} answered with something that is not the Proxmox API's JSON")

    def _session(self) -> _Session:
        session: _Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = self._connect()
            with self._guard:
                self._sessions.append(session)
        return session

    def _connect(self) -> _Session:
        """A proxmoxer session of our making: building one sends nothing."""
        credentials = self._credentials
        token_id, secret = (
            (credentials.token_id, credentials.secret)
            if isinstance(credentials, TokenCredentials)
            else (f"{credentials.username}!none", "")
        )
        user, _, name = token_id.partition("!")
        api = ProxmoxAPI(
            self._endpoint.host,
            port=self._endpoint.port,
            user=user,
            token_name=name,
            token_value=secret,
            verify_ssl=True,
            timeout=self._timeout,
        )
        http: requests.Session = api._store["session"]  # the only handle proxmoxer 2.x gives to its session
        if self._tickets is not None:
            http.auth = self._tickets
        session = _Session(api, http, self._prepare(http))
        http.hooks["response"].append(session.keep)
        return session

    def _prepare(self, http: requests.Session) -> _Adapter:
        adapter = _Adapter(self._context)
        http.trust_env = False
        http.max_redirects = 0
        http.mount("https://", adapter)
        return adapter

    def _fetch_ticket(self) -> tuple[str, str]:
        """POST /access/ticket: proves who we are and changes nothing."""
        assert isinstance(self._credentials, PasswordCredentials)  # noqa: S101
        with requests.Session() as http:
            self._prepare(http)
            try:
                answer = http.post(
                    f"{self._endpoint}/api2/json/access/ticket",
                    data={"username": self._credentials.username, "password": self._credentials.password},
                    timeout=self._timeout,
                )
            except requests.RequestException as error:
                failure = self._failure(error)
                raise failure if isinstance(failure, NotSent) else NotSent(str(failure)) from None
            if answer.status_code != 200:
                raise Refused(answer.status_code, answer.reason or "authentication failure")
            try:
                data = answer.json()["data"]
            except (ValueError, KeyError, TypeError):
                raise NotSent(f"{self._endpoint} does not answer as Proxmox VE does: is it one?") from None
            if data.get("NeedTFA"):
                raise Refused(401, "this user needs a second factor: use an API token instead")
            return data["ticket"], data["CSRFPreventionToken"]

    def _refused(self, error: ResourceException, response: requests.Response | None) -> Refused:
        """The whole message where the body has it (PVE 8.4 on), else the reason phrase: its first line."""
        message = str(error.content or error.status_message or "")
        fields = error.errors
        if response is not None:
            fields = None
            try:
                body = json.loads(response.content)
            except ValueError:
                body = None
            if isinstance(body, dict):
                message = str(body.get("message") or message)
                fields = body.get("errors")
        texts = {str(k): str(v).strip() for k, v in fields.items()} if isinstance(fields, dict) else {}
        return Refused(int(error.status_code), message.strip(), texts)

    def _failure(self, error: requests.RequestException) -> Exception:
        """What a failure of requests means. Its text is ours: the library's may quote URLs and parameters."""
        causes = list(_causes(error))
        for cause in causes:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return NotSent(
                    f"{self._endpoint}: certificate not trusted ({cause.verify_message})", tls=True
                )
        if isinstance(error, requests.ConnectTimeout):
            return NotSent(f"{self._endpoint}: no connection within {self._timeout[0]:g} s")
        for cause in causes:
            if isinstance(cause, _Unproven):
                return NotSent(
                    f"{self._endpoint}: its certificate has changed, so it is asked anew who it is"
                )
            if isinstance(cause, NewConnectionError):
                return NotSent(f"{self._endpoint}: {_plain(cause)}")
            if isinstance(cause, ssl.SSLError) and cause.reason in _HANDSHAKE:
                return NotSent(f"{self._endpoint}: TLS handshake failed ({cause.reason})")
        if isinstance(error, requests.ReadTimeout):
            return Lost(f"{self._endpoint}: no answer within {self._timeout[1]:g} s")
        for cause in causes:
            if isinstance(cause, RemoteDisconnected | ConnectionResetError | BrokenPipeError):
                return _Dropped(f"{self._endpoint}: connection closed before the answer")
        return Lost(f"{self._endpoint}: {type(error).__name__}")


_HANDSHAKE = {
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNSUPPORTED_PROTOCOL",
    "TLSV1_ALERT_PROTOCOL_VERSION",
    "NO_SHARED_CIPHER",
}


class _Dropped(Exception):
    """The server closed a connection that was kept alive, or died before it answered."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The chain of exceptions that requests and urllib3 wrap in args, ``reason`` and ``__cause__``."""
    seen: set[int] = set()
    queue: list[object] = [error]
    while queue:
        current = queue.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        queue += [*current.args, getattr(current, "reason", None), current.__cause__, current.__context__]


def _plain(error: BaseException) -> str:
    """``Connection refused`` out of urllib3's sentence with addresses of objects in it."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    return "no connection"
