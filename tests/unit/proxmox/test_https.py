"""The transport over proxmoxer, against the simulator: trust, credentials, what the failures of a
connection mean.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from proxmox_operator.errors import Transient
from proxmox_operator.proxmox.credentials import Endpoint, PasswordCredentials, TLSSettings, TokenCredentials
from proxmox_operator.proxmox.https import ProxmoxerTransport
from proxmox_operator.proxmox.request import Request, Stream
from proxmox_operator.proxmox.transport import Lost, NotSent, Refused
from pvesim import Answer, DropAfter, DropBefore, PveSim
from pvesim.pki import node_certificate, server_context

VERSION = Request("GET", ("version",))
CONFIG = Request("GET", ("nodes", "pve1", "qemu", "9000", "config"))
START = Request("POST", ("nodes", "pve1", "qemu", "100", "status", "start"))


def transport_to(sim, *, tls=None, credentials=None, timeout=(5.0, 40.0), url=None):
    return ProxmoxerTransport(
        Endpoint.parse(url or sim.urls[0]),
        credentials or TokenCredentials(sim.token_id, sim.token_secret),
        tls or TLSSettings(sim.ca_pem),
        timeout=timeout,
    )


def with_password(sim):
    return transport_to(sim, credentials=PasswordCredentials(sim.user, sim.password))


def once(verdict, wanted):
    """An interceptor that gives the verdict to the first call of that method and path."""
    seen: list[object] = []

    def intercept(call):
        if f"{call.method} {call.path}".endswith(wanted) and not seen:
            seen.append(call)
            return verdict
        return None

    return intercept


# Trust


def test_the_given_ca_is_trusted_although_it_lacks_key_usage(sim):
    assert transport_to(sim).send(VERSION)["release"]


def test_a_certificate_of_another_ca_is_refused_before_anything_is_sent(sim):
    other = PveSim(cluster="other")
    sim.recorder.clear()
    with pytest.raises(NotSent, match="not trusted") as caught:
        transport_to(sim, tls=TLSSettings(other.ca_pem)).send(VERSION)
    assert caught.value.tls
    assert list(sim.recorder) == []


def test_only_the_given_ca_is_trusted_and_no_public_one(sim):
    transport = transport_to(sim)
    transport.send(VERSION)
    assert len(transport._context.get_ca_certs()) == 1


def test_verification_can_be_switched_off_and_only_on_purpose(sim):
    with pytest.raises(NotSent):
        transport_to(sim, tls=TLSSettings()).send(VERSION)
    assert transport_to(sim, tls=TLSSettings(insecure_skip_verify=True)).send(VERSION)["release"]


def test_chain_and_host_name_are_checked_but_not_as_strictly_as_python_313_would():
    context = TLSSettings().context()
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT


def test_a_node_s_own_certificate_may_be_trusted_by_itself(sim):
    leaf = node_certificate("pvesim", "pve1", key_usage=False).pem
    assert transport_to(sim, tls=TLSSettings(leaf)).send(VERSION)["release"]
    with pytest.raises(NotSent):
        transport_to(sim, tls=TLSSettings(leaf), url=sim.urls[1]).send(VERSION)


def test_a_bundle_that_is_no_certificate_is_refused_with_the_field():
    with pytest.raises(ValueError, match=r"tls\.caBundle"):
        TLSSettings("-----BEGIN NONSENSE-----").context()


def test_proxies_of_the_environment_are_ignored(sim, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert transport_to(sim).send(VERSION)["release"]


# Credentials


@pytest.mark.parametrize(
    "url", ["http://pve1:8006", "https://pve1:8006/api2", "https://u@pve1", "https://", "https://pve1?x=1"]
)
def test_an_endpoint_that_cannot_be_right_is_refused(url):
    with pytest.raises(ValueError, match="endpoint"):
        Endpoint.parse(url)


def test_an_endpoint_has_proxmox_port_unless_told_otherwise():
    assert str(Endpoint.parse("https://pve1.example.com")) == "https://pve1.example.com:8006"
    assert str(Endpoint.parse("https://[fd00::1]:443")) == "https://[fd00::1]:443"


def test_credentials_never_print_their_secret():
    for credentials in (TokenCredentials("a@pve!b", "hunter2"), PasswordCredentials("a@pve", "hunter2")):
        assert "hunter2" not in repr(credentials) + str(credentials)


def test_credentials_of_a_wrong_form_are_refused():
    with pytest.raises(ValueError, match="user@realm!name"):
        TokenCredentials("operator@pve", "x")
    with pytest.raises(ValueError, match="realm"):
        PasswordCredentials("operator", "x")


def test_a_wrong_token_is_refused_with_401_and_sent_once(sim):
    sim.recorder.clear()
    with pytest.raises(Refused) as caught:
        transport_to(sim, credentials=TokenCredentials(sim.token_id, "wrong")).send(VERSION)
    assert caught.value.status == 401
    assert len(list(sim.recorder)) == 1


def test_a_user_with_a_password_reads_and_writes_with_one_ticket(sim):
    sim.add_vm(100)
    transport = with_password(sim)
    transport.send(VERSION)
    assert transport.send(START).startswith("UPID:pve1:")
    assert transport.send(CONFIG)["template"] == 1
    assert [call.path for call in sim.recorder].count("/access/ticket") == 1


def test_threads_share_one_ticket(sim):
    transport = with_password(sim)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: transport.send(VERSION), range(30)))
    assert [call.path for call in sim.recorder].count("/access/ticket") == 1


def test_a_wrong_password_is_refused_with_401(sim):
    with pytest.raises(Refused) as caught:
        transport_to(sim, credentials=PasswordCredentials(sim.user, "wrong")).send(VERSION)
    assert caught.value.status == 401


def test_a_ticket_that_died_early_is_renewed_once_for_a_read(sim):
    transport = with_password(sim)
    transport.send(VERSION)
    sim.intercept = once(Answer(401, "permission denied - invalid PVE ticket"), "/config")
    assert transport.send(CONFIG)["template"] == 1
    sim.intercept = lambda call: Answer(401, "no") if call.path.endswith("/config") else None
    sim.recorder.clear()
    with pytest.raises(Refused) as caught:
        transport.send(CONFIG)
    assert caught.value.status == 401
    assert [call.path for call in sim.recorder].count("/nodes/pve1/qemu/9000/config") == 2


def test_a_write_whose_ticket_died_was_not_executed_and_the_next_read_renews_it(sim):
    sim.add_vm(100)
    transport = with_password(sim)
    transport.send(VERSION)
    sim.intercept = once(Answer(401, "permission denied - invalid PVE ticket"), "/status/start")
    with pytest.raises(NotSent):
        transport.send(START)
    with pytest.raises(NotSent):
        transport.send(START)
    assert sim.world().vm(100).status == "stopped"
    transport.send(VERSION)
    transport.send(START)
    assert sim.world().vm(100).status == "running"


# Failures


def test_nothing_listens(sim):
    sim.endpoints["pve1"].down()
    with pytest.raises(NotSent, match="refused"):
        transport_to(sim).send(START)


def test_an_unknown_host_name():
    transport = ProxmoxerTransport(
        Endpoint.parse("https://pve1.invalid"), TokenCredentials("a@pve!b", "c"), TLSSettings()
    )
    with pytest.raises(NotSent, match=r"pve1\.invalid"):
        transport.send(VERSION)


def test_a_read_survives_a_connection_that_the_server_closed(sim):
    transport = transport_to(sim)
    transport.send(VERSION)
    sim.intercept = once(DropBefore(), "/config")
    assert transport.send(CONFIG)["template"] == 1


def test_a_write_on_a_connection_that_was_cut_is_lost_whether_it_happened_or_not(sim):
    sim.add_vm(100)
    transport = transport_to(sim)
    for verdict, status in ((DropBefore(), "stopped"), (DropAfter(), "running")):
        sim.recorder.clear()
        sim.intercept = once(verdict, "/status/start")
        with pytest.raises(Lost):
            transport.send(START)
        assert sim.world().vm(100).status == status
        assert len(sim.recorder.matching("POST", "/status/start$")) == 1


def test_no_answer_in_time_is_a_lost_answer(sim):
    transport = transport_to(sim, timeout=(1.0, 0.2))
    sim.endpoints["pve1"].hang()
    try:
        with pytest.raises(Lost, match=r"no answer within 0\.2 s"):
            transport.send(VERSION)
    finally:
        sim.endpoints["pve1"].resume()


@contextlib.contextmanager
def node_that_ends_uploads(answer):
    """Takes some megabytes, answers this in the middle of the body, and closes; its URL."""
    context = server_context("pvesim", "pve1", key_usage=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                plain, _ = listener.accept()
                with context.wrap_socket(plain, server_side=True) as connection:
                    taken = 0
                    while taken < 3_000_000:
                        taken += len(connection.recv(65536))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def send_upload(sim, url):
    piece, count = b"x" * 262144, 200
    image = Stream("a.qcow2", len(piece) * count, iter([piece] * count))
    path = ("nodes", "pve1", "storage", "local", "upload")
    transport = transport_to(sim, url=url, tls=TLSSettings(insecure_skip_verify=True))
    transport.send(Request("POST", path, {"content": "import", "filename": image}))


def test_what_a_node_says_in_the_middle_of_an_upload_is_heard(sim):
    said = b"501 write to temporary file failed - No space left on device"
    answer = b"HTTP/1.1 " + said + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with node_that_ends_uploads(answer) as url, pytest.raises(Refused, match="No space left") as caught:
        send_upload(sim, url)
    assert caught.value.status == 501


def test_an_upload_that_ends_in_the_middle_has_had_no_effect(sim):
    with node_that_ends_uploads(b"") as url, pytest.raises(Transient, match="/var/tmp") as caught:
        send_upload(sim, url)
    assert caught.value.reason == "UploadCut"


def test_a_write_does_not_reuse_a_connection_that_was_idle_for_long(sim, monkeypatch):
    sim.add_vm(100)
    transport = transport_to(sim)
    transport.send(VERSION)
    adapter = transport._session().adapter
    closed = []
    monkeypatch.setattr(adapter, "close", lambda: closed.append(True))
    transport.send(START)
    assert closed == []
    monkeypatch.setattr("proxmox_operator.proxmox.https.IDLE_LIMIT", -1.0)
    transport.send(VERSION)
    assert closed == []
    transport.send(Request("POST", ("nodes", "pve1", "qemu", "100", "status", "stop")))
    assert closed == [True]


def test_all_lines_of_an_error_arrive_and_the_messages_of_each_parameter(sim):
    sim.fail("POST", "/status/start", 500, "start failed\nbecause of this\nand of that", times=1)
    sim.add_vm(100)
    transport = transport_to(sim)
    with pytest.raises(Refused) as caught:
        transport.send(START)
    assert caught.value.status == 500
    assert caught.value.message == "start failed\nbecause of this\nand of that"
    with pytest.raises(Refused) as caught:
        transport.send(Request("GET", ("cluster", "nextid"), {"vmid": 9000}))
    assert caught.value.status == 400
    assert caught.value.errors == {"vmid": "VM 9000 already exists"}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", Lost),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", Lost),
        (b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", Refused),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\n<html>", Refused),
    ],
)
async def test_what_is_not_proxmox_is_told_apart_from_an_answer_and_asked_once(answer, error):
    requests = []

    async def respond(reader, writer):
        while not reader.at_eof():
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()

    server = await asyncio.start_server(respond, "127.0.0.1", 0, ssl=server_context("lab", "pve1"))
    port = server.sockets[0].getsockname()[1]
    transport = ProxmoxerTransport(
        Endpoint("127.0.0.1", port), TokenCredentials("a@pve!b", "c"), TLSSettings(insecure_skip_verify=True)
    )
    try:
        with pytest.raises(error) as caught:
            await asyncio.to_thread(transport.send, VERSION)
        assert len(requests) == 1
        assert "html" not in str(caught.value)
    finally:
        transport.close()
        server.close()


# Manners


def test_booleans_lists_and_unset_values_are_written_as_proxmox_reads_them(sim):
    sim.recorder.clear()
    request = Request(
        "POST",
        ("nodes", "pve1", "qemu", "9000", "clone"),
        {"newid": 100, "full": True, "name": "web", "pool": None, "description": "ä <b>&\n"},
    )
    transport_to(sim).send(request)
    (call,) = sim.recorder.mutating
    assert {key: str(value) for key, value in call.params.items() if key in request.params} == {
        "newid": "100",
        "full": "1",
        "name": "web",
        "description": "ä <b>&\n",
    }


def test_no_parameter_is_ever_logged(sim, caplog):
    sim.add_vm(100)
    transport = transport_to(sim)
    with caplog.at_level(logging.DEBUG):
        config = Request("POST", ("nodes", "pve1", "qemu", "100", "config"), {"cipassword": "hunter2"})
        transport.send(config)
        with pytest.raises(Refused):
            transport.send(
                Request("POST", ("nodes", "pve1", "qemu", "777", "config"), {"cipassword": "hunter2"})
            )
    assert "hunter2" not in caplog.text
    assert sim.token_secret not in caplog.text


def test_closing_drops_every_connection_and_a_later_call_opens_a_new_one(sim):
    transport = transport_to(sim)
    done = threading.Event()

    def use():
        transport.send(VERSION)
        done.set()

    thread = threading.Thread(target=use)
    thread.start()
    thread.join(10)
    assert done.is_set()
    transport.close()
    assert transport.send(VERSION)["release"]
