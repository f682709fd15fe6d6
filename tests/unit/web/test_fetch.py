"""Fetching an image from a stranger's server: what is followed, what is refused, and what is said then."""

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imageserver import ImageServer
from proxmox_operator.errors import NeedsHuman, OperatorError, Transient
from proxmox_operator.web import fetch as web
from proxmox_operator.web.fetch import Wire, fetch, is_forbidden

DATA = bytes(range(256)) * 4096


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[ImageServer]:
    with ImageServer() as server:
        yield server


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageServer]:
    """By https, with a CA that the environment names."""
    with ImageServer(tls=True) as server:
        (tmp_path / "ca.pem").write_text(server.ca_pem)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
        yield server


def whole(url: str) -> bytes:
    fetched = fetch(url)
    try:
        return b"".join(fetched.pieces())
    finally:
        fetched.close()


def refused(url: str, kind: type[OperatorError], reason: str = "DownloadFailed") -> str:
    with pytest.raises(kind) as caught:
        whole(url)
    assert caught.value.reason == reason
    assert "spec.image.url" in caught.value.message
    return caught.value.message


@contextlib.contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Answers each connection so, byte by byte if need be; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(65536)
                        answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def drip(connection: socket.socket) -> None:
    """For as long as somebody listens."""
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def test_the_size_is_known_before_the_bytes_come(server: ImageServer) -> None:
    fetched = fetch(server.serve("/x", DATA))
    assert fetched.size == len(DATA)
    pieces = list(fetched.pieces())
    assert b"".join(pieces) == DATA
    assert max(map(len, pieces)) <= web.CHUNK
    fetched.close()


def test_an_answer_without_a_size_is_refused_with_the_ways_out(server: ImageServer) -> None:
    message = refused(server.serve("/x", DATA, sized=False), NeedsHuman, "ImageSizeUnknown")
    assert "Content-Length" in message
    assert "spec.image.via" in message


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NeedsHuman), (403, NeedsHuman), (204, NeedsHuman), (429, Transient), (503, Transient)],
)
def test_a_status_is_told_and_tried_again_where_it_may_pass(
    server: ImageServer, status: int, kind: type[OperatorError]
) -> None:
    assert str(status) in refused(server.serve("/x", status=status), kind)


def test_a_server_that_ends_too_early_or_rests_is_given_up(
    server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"after 100 of {len(DATA)} bytes" in refused(server.serve("/cut", DATA, cut=100), Transient)
    monkeypatch.setattr(web, "STALL", 0.2)
    assert "nothing for 0.2 s" in refused(server.serve("/rests", DATA, stall=100), Transient)


def test_nobody_listens_or_the_name_is_unknown(server: ImageServer) -> None:
    assert "127.0.0.1 (Connection refused)" in refused("http://127.0.0.1:1/x", Transient)
    assert "no connection to images.invalid" in refused("http://images.invalid/x", Transient)


@pytest.mark.parametrize("way", ["http", "https", "https to the proxy"])
def test_a_cut_ends_a_read_in_another_thread(
    server: ImageServer, secure: ImageServer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(web, "STALL", 600.0)
    path = "/rests"
    if way == "https to the proxy":
        monkeypatch.setenv("http_proxy", secure.url)
        path = "http://images.invalid/rests"
    url = (server if way == "http" else secure).serve(path, DATA, stall=100)
    wire = Wire()
    fetched = fetch(path if way == "https to the proxy" else url, wire)
    pieces, ended = fetched.pieces(), threading.Event()
    assert len(next(pieces)) <= 100

    def read() -> None:
        with pytest.raises(Transient):
            for _ in pieces:
                pass
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    wire.cut()
    assert ended.wait(30)
    reader.join()
    fetched.close()


def test_a_cut_ends_what_has_not_begun(server: ImageServer) -> None:
    wire = Wire()
    wire.cut()
    with pytest.raises(Transient):
        fetch(server.serve("/x", DATA), wire)
    assert server.requests == []


def test_a_server_that_sends_hardly_anything_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "SPAN", 0.2)

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        drip(connection)

    with raw_server(answer) as url:
        assert "less than 1048576 bytes" in refused(f"{url}/x", Transient)


def test_headers_that_never_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BEGIN_WITHIN", 0.3)

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        drip(connection)

    with raw_server(answer) as url:
        assert "within 0.3 s" in refused(f"{url}/x", Transient)


@pytest.mark.parametrize(
    "head", [b"404 Not Found\r\nContent-Length: 9", b"503 Busy\r\nContent-Length: 9", b"200 OK"]
)
def test_no_connection_stays_open_as_long_as_its_error_is_remembered(head: bytes) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    left = threading.Event()

    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 " + head + b"\r\n\r\n")
        connection.settimeout(30)
        assert connection.recv(1) == b""
        connection.close()
        left.set()

    with raw_server(answer) as url:
        before = open_files()
        with pytest.raises(OperatorError) as kept:
            fetch(f"{url}/x")
        assert left.wait(30)
        assert open_files() == before
        assert kept.value.reason


# Redirects


def test_redirects_are_followed_so_many_times(server: ImageServer) -> None:
    server.serve("/0", DATA)
    for number in range(1, web.REDIRECTS + 2):
        server.redirect(f"/{number}", f"/{number - 1}")
    assert whole(f"{server.url}/{web.REDIRECTS}") == DATA
    assert "more than 10 times" in refused(f"{server.url}/{web.REDIRECTS + 1}", NeedsHuman)


def test_https_is_never_left(server: ImageServer, secure: ImageServer) -> None:
    server.serve("/x", DATA)
    assert "not https" in refused(secure.redirect("/x", f"{server.url}/x"), NeedsHuman)
    assert server.requests == []
    secure.serve("/y", DATA)
    assert whole(server.redirect("/y", f"{secure.url}/y")) == DATA


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x"])
def test_a_redirect_to_something_else_is_not_followed(server: ImageServer, to: str) -> None:
    refused(server.redirect("/x", to), NeedsHuman)


def test_what_a_redirect_holds_is_told_to_nobody(server: ImageServer) -> None:
    message = refused(server.redirect("/x", "http://user:hunter2@127.0.0.1:1/x?signature=hunter3"), Transient)
    assert "hunter" not in message


def test_a_header_that_cannot_be_read_does_not_put_the_url_into_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nno header\r\nX: y\r\n\r\n")

    with raw_server(answer) as url, caplog.at_level(logging.DEBUG):
        refused(f"{url}/x?signature=hunter2", NeedsHuman)
    assert "hunter2" not in caplog.text


def test_the_body_of_a_redirect_is_not_read(server: ImageServer) -> None:
    server.serve("/x", DATA)
    taken, done = [0], threading.Event()

    def answer(connection: socket.socket) -> None:
        head = f"HTTP/1.1 302 Found\r\nLocation: {server.url}/x\r\nContent-Length: {10**11}\r\n\r\n"
        connection.sendall(head.encode())
        try:
            while taken[0] < 64:
                connection.sendall(bytes(1024 * 1024))
                taken[0] += 1
        finally:
            done.set()

    with raw_server(answer) as url:
        assert whole(f"{url}/x") == DATA
        assert done.wait(30)
    assert taken[0] < 64, "it left, and did not take what came"


# Trust


def test_the_certificate_must_be_trusted(secure: ImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    url = secure.serve("/x", DATA)
    assert whole(url) == DATA
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert "certificate of 127.0.0.1 is not trusted" in refused(url, NeedsHuman)


def test_the_proxy_of_the_environment_is_used(server: ImageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a proxy is asked for the whole URL, the server that plays one answers for that."""
    monkeypatch.setenv("http_proxy", server.url)
    server.serve("http://images.invalid/x", DATA)
    assert whole("http://images.invalid/x") == DATA
    monkeypatch.setenv("no_proxy", "images.invalid")
    refused("http://images.invalid/x", Transient)


def test_no_password_of_the_environment_is_sent(
    server: ImageServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login operator password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert whole(server.serve("/x", DATA)) == DATA
    assert [headers.get("Authorization") for headers in server.headers] == [None]


# Addresses at which clouds keep secrets


@pytest.mark.parametrize(
    ("address", "forbidden"),
    [
        ("169.254.169.254", True),
        ("169.254.0.1", True),
        ("fe80::1", True),
        ("fe80::1%eth0", True),
        ("::ffff:169.254.169.254", True),
        ("fd00:ec2::254", True),
        ("100.100.100.200", True),
        ("168.63.129.16", True),
        ("10.0.0.5", False),
        ("127.0.0.1", False),
        ("fd00::5", False),
        ("192.0.2.1", False),
        ("::1", False),
    ],
)
def test_which_addresses_are_not_asked(address: str, forbidden: bool) -> None:
    assert is_forbidden(address) is forbidden


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_an_address_is_looked_at_when_it_is_connected_to_whatever_its_name_said(
    server: ImageServer, secure: ImageServer, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    target = secure if tls else server
    url = target.serve("/x", DATA)
    assert whole(url) == DATA
    target.requests.clear()
    asked: list[str] = []

    def forbid(address: str) -> bool:
        asked.append(address)
        return True

    monkeypatch.setattr(web, "is_forbidden", forbid)
    assert "clouds keep secrets" in refused(url, NeedsHuman)
    assert asked == ["127.0.0.1"]
    assert target.requests == []
