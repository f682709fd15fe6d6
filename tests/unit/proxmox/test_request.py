"""A request cannot become another URL than the one it names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests import Request as HttpRequest

from proxmox_operator.proxmox.request import File, Request, split_path, wire_params

BASE = "https://pve1:8006/api2/json"


@pytest.mark.parametrize(
    "part",
    ["..", "../cluster", "a..b", "a/b", "a?b=c", "a#b", "", " ", "a b", "a\n", "é", "%2e%2e", "-x", "a\\b"],
)
def test_a_part_that_could_lead_elsewhere_is_refused(part):
    with pytest.raises(ValueError, match="valid part"):
        Request("GET", ("nodes", part, "qemu"))


def test_an_empty_path_is_refused():
    with pytest.raises(ValueError, match="at least one part"):
        Request("GET", ())


@given(st.text(max_size=40))
def test_any_accepted_part_arrives_unchanged_in_the_url(part):
    try:
        request = Request("GET", ("nodes", part))
    except ValueError:
        return
    assert HttpRequest("GET", BASE + request.target).prepare().url == f"{BASE}/nodes/{part}"


@pytest.mark.parametrize(
    "part",
    [
        "pve1",
        "pve-1.example.com",
        "100",
        "UPID:pve1:000003E9:00001B5F:6B04B2F5:qmclone:9000:operator@pve!operator:",
    ],
)
def test_names_ids_and_task_ids_are_accepted(part):
    assert Request("GET", ("nodes", part)).target == f"/nodes/{part}"


def test_a_get_never_counts_as_a_write_and_other_methods_do_unless_said_otherwise():
    assert not Request("GET", ("version",)).mutating
    assert Request("POST", ("nodes", "pve1", "qemu", "100", "clone")).mutating
    assert not Request("POST", ("nodes", "pve1", "qemu", "100", "agent", "ping"), mutating=False).mutating


def test_the_repr_holds_no_parameter():
    assert "hunter2" not in repr(Request("POST", ("access", "ticket"), {"password": "hunter2"}))


@pytest.mark.parametrize(
    ("path", "node", "call_class"),
    [
        ("cluster/ha/resources/vm:100", None, "cluster/ha/resources"),
        ("cluster/ha/rules/pvm-100-nodes", None, "cluster/ha/rules"),
        ("nodes/pve1/qemu/100/clone", "pve1", "clone"),
        ("nodes/pve1/qemu/100/status/current", "pve1", "status/current"),
        ("nodes/pve1/qemu/100", "pve1", "qemu"),
        ("nodes/pve1/tasks/UPID:x/log", "pve1", "tasks/log"),
        ("nodes/localhost/certificates/info", None, "certificates/info"),
        ("cluster/resources", None, "cluster/resources"),
        ("cluster/nextid", None, "cluster/nextid"),
        ("nodes/pve1/storage/local/upload", "pve1", "storage/upload"),
        ("nodes/pve1/storage/local/content/local:iso/x.iso", "pve1", "storage/content"),
    ],
)
def test_a_request_knows_its_node_and_a_label_without_ids(path, node, call_class):
    request = Request("GET", split_path(path))
    assert request.node == node
    assert request.call_class == call_class


def test_parameters_are_written_as_proxmox_reads_them():
    params = {"full": True, "purge": False, "pool": None, "newid": 100, "vms": ("1", "2"), "name": "web"}
    assert wire_params(params) == {"full": 1, "purge": 0, "newid": 100, "vms": ["1", "2"], "name": "web"}


def test_a_file_goes_as_one_of_its_name_and_is_shown_to_nobody():
    request = Request(
        "POST", split_path("nodes/pve1/storage/local/upload"), {"filename": File("a.iso", b"hush")}
    )
    sent = wire_params(request.params)["filename"]
    assert (sent.name, sent.read()) == ("a.iso", b"hush")
    assert "hush" not in repr(request) + repr(request.params)
