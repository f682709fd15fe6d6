"""A log line is JSON and names its object, and no credential that is logged by mistake gets out."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from proxmox_operator.engine import logs
from proxmox_operator.engine.queue import Key

VM = Key("ProxmoxVM", "shop", "web")
SECRETS = [
    "Authorization: PVEAPIToken=root@pam!ci=12345678-1234-1234-1234-123456789abc",
    "PVEAuthCookie=PVE:root@pam:65A1B2C3::c2VjcmV0c2VjcmV0",
    "Authorization: Bearer eyJhbGciOi.JIUzI1NiJ9.c2VjcmV0",
    "data: {'cipassword': 'S3cr3t pass', 'memory': 2048}",
    'body {"password":"S3cr3t","username":"root@pam"}',
    "POST password=S3cr3t&username=root%40pam",
    "args cipassword=S3cr3t",
    "{'password': b'S3cr3t'}",
]
LEAKS = ["12345678-1234", "c2Vjcm", "S3cr3t"]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = [*root.handlers], root.level
    levels = {name: logging.getLogger(name).level for name in logs.PINNED}
    yield io.StringIO()
    root.handlers[:] = before
    root.setLevel(level)
    for name, known in levels.items():
        logging.getLogger(name).setLevel(known)


def lines(stream: io.StringIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_record_is_one_json_line_with_the_object_it_is_about(stream: io.StringIO):
    logs.configure(stream=stream)
    with logs.about(VM, uid="u-1"):
        logging.getLogger("proxmox_operator.x").info("cloned\nin %s s", 3, extra={"upid": "UPID:pve1"})
    logging.getLogger("proxmox_operator.x").warning("none")
    first, second = lines(stream)
    assert first.pop("ts")[:2] == "20"
    assert first == {
        "level": "INFO",
        "logger": "proxmox_operator.x",
        "message": "cloned\nin 3 s",
        "upid": "UPID:pve1",
        "kind": "ProxmoxVM",
        "namespace": "shop",
        "name": "web",
        "uid": "u-1",
    }
    assert "kind" not in second


def test_a_cluster_scoped_object_has_no_namespace_and_nesting_restores_the_outer_object(stream: io.StringIO):
    logs.configure(stream=stream)
    with logs.about(Key("ProxmoxCluster", "", "lab")):
        with logs.about(VM):
            logging.getLogger("x").info("in")
        logging.getLogger("x").info("out")
    assert [(line["kind"], line.get("namespace")) for line in lines(stream)] == [
        ("ProxmoxVM", "shop"),
        ("ProxmoxCluster", None),
    ]


def test_text_is_for_terminals(stream: io.StringIO):
    logs.configure(format="text", stream=stream)
    with logs.about(VM):
        logging.getLogger("x").info("started")
    assert "INFO    started  [ProxmoxVM shop/web]" in stream.getvalue()


@pytest.mark.parametrize("format", ["json", "text"])
@pytest.mark.parametrize("secret", SECRETS)
def test_a_credential_logged_by_mistake_is_blotted_out(stream: io.StringIO, secret: str, format: str):
    logs.configure(format=format, stream=stream)  # type: ignore[arg-type]
    log = logging.getLogger("x")
    log.info(secret)
    log.info("%s", secret)
    log.info("nested", extra={"request": {"headers": [secret]}})
    try:
        raise ValueError(secret)
    except ValueError:
        log.exception("failed")
    out = stream.getvalue()
    assert "***" in out
    assert [leak for leak in LEAKS if leak in out] == []


def test_a_field_named_password_is_blotted_out_whatever_it_holds(stream: io.StringIO):
    logs.configure(stream=stream)
    logging.getLogger("x").info("sent", extra={"params": {"cipassword": "abc", "cores": 2}})
    assert lines(stream)[0]["params"] == {"cipassword": "***", "cores": 2}


@pytest.mark.parametrize(
    "harmless",
    [
        "Secret shop/web has no value for 'password' (needed: 'username', 'password')",
        "spec.cloudInit.passwordSecretRef: not found",
        "UPID:pve1:0000F1A2:00C0FFEE:65A1B2C3:qmclone:100:root@pam!ci:",
    ],
)
def test_what_is_no_credential_stays_readable(harmless: str):
    assert logs.redact(harmless) == harmless


def test_debug_does_not_open_loggers_that_print_request_bodies(stream: io.StringIO):
    logs.configure(level="DEBUG", stream=stream)
    for name in ("proxmoxer.core", "urllib3.connectionpool", "kopf.objects"):
        logging.getLogger(name).debug("body")
        logging.getLogger(name).info("body")
    logging.getLogger("proxmox_operator").debug("ours")
    logging.getLogger("proxmoxer.core").warning("theirs")
    assert [line["message"] for line in lines(stream)] == ["ours", "theirs"]
