"""Tokens, tickets, privileges and the texts of 401 and 403."""

import time
from pathlib import Path
from typing import Any

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError

ONE = "/nodes/pve1/qemu/100"


def test_without_credentials_the_answer_is_401_no_ticket_without_a_body(sim: PveSim, api: Api) -> None:
    del api.session.headers["Authorization"]
    response = api.session.get(f"{api.url}/api2/json/version", timeout=5)
    assert (response.status_code, response.reason, response.content) == (401, "No ticket", b"")


@pytest.mark.parametrize("header", ["PVEAPIToken=operator@pve!operator=wrong", "PVEAPIToken=nobody@pve!x=y"])
def test_wrong_and_unknown_tokens_get_the_same_401(api: Api, header: str) -> None:
    api.session.headers["Authorization"] = header
    with pytest.raises(ApiError, match="401 Authentication failed!"):
        api.get("/version")


def test_a_401_is_late(tmp_path: Path) -> None:
    with PveSim(nodes=1, auth_delay=0.2) as sim, Api(sim, tmp_path, secret="wrong") as api:
        started = time.monotonic()
        with pytest.raises(ApiError, match="401"):
            api.get("/version")
        assert time.monotonic() - started >= 0.2


def test_a_deleted_and_an_expired_token_are_refused(sim: PveSim, api: Api) -> None:
    sim.server.tokens[sim.token_id].expire = int(time.time()) - 1
    with pytest.raises(ApiError, match="401"):
        api.get("/version")
    sim.server.tokens[sim.token_id].expire = 0
    api.get("/version")
    sim.remove_token(sim.token_id)
    with pytest.raises(ApiError, match="401"):
        api.get("/version")


def test_a_user_logs_in_with_a_password_and_writes_with_a_csrf_token(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    del api.session.headers["Authorization"]
    with pytest.raises(ApiError, match="401 authentication failure"):
        api.post("/access/ticket", username=sim.user, password="wrong")
    login = api.post("/access/ticket", username=sim.user, password=sim.password)
    api.session.headers["Cookie"] = f"PVEAuthCookie={login['ticket']}"
    api.get("/version")
    with pytest.raises(ApiError, match="401 Permission denied - invalid csrf token"):
        api.set(100, cores=2)
    api.session.headers["CSRFPreventionToken"] = login["CSRFPreventionToken"]
    api.set(100, cores=2)


def test_permissions_are_listed_by_path(sim: PveSim, api: Api) -> None:
    held = api.get("/access/permissions")
    assert held["/"]["VM.Clone"] == 1
    sim.revoke(sim.token_id, "/storage/local-lvm", ["Datastore.AllocateSpace"])
    held = api.get("/access/permissions")
    assert "Datastore.AllocateSpace" not in held["/storage/local-lvm"]
    assert "Datastore.AllocateSpace" in held["/storage"]
    asked = api.request("GET", "/access/permissions", params={"path": "/vms/7"})
    assert asked == {"/vms/7": held["/vms"]}


def test_a_privilege_separated_token_has_no_more_than_its_user(sim: PveSim, api: Api) -> None:
    sim.revoke(sim.user, "/", ["VM.Clone"])
    assert "VM.Clone" not in api.get("/access/permissions")["/"]


def test_an_entry_on_a_deeper_path_replaces_what_is_inherited(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.grant(sim.token_id, "/vms/100", ["VM.Audit"])
    api.config(100)
    with pytest.raises(ApiError, match="403"):
        api.set(100, cores=2)


def test_a_token_of_root_is_not_root(sim: PveSim, tmp_path: Path) -> None:
    sim.add_token("root@pam!ci", "root-token")
    sim.add_vm(100)
    refusal = r"403 Permission check failed \(/vms/100, VM.Audit\)"
    with (
        Api(sim, tmp_path, token="root@pam!ci", secret="root-token") as ci,
        pytest.raises(ApiError, match=refusal),
    ):
        ci.config(100)


CALLS: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("POST", "/nodes/pve1/qemu/9000/clone", {"newid": 200}, "/vms/9000", "VM.Clone"),
    ("POST", "/nodes/pve1/qemu/9000/clone", {"newid": 200}, "/storage/local-lvm", "Datastore.AllocateSpace"),
    ("POST", "/nodes/pve1/qemu/9000/clone", {"newid": 200}, "/sdn/zones/localnetwork/vmbr0", "SDN.Use"),
    ("PUT", ONE + "/config", {"cores": 2}, "/vms/100", "VM.Config.CPU"),
    ("PUT", ONE + "/config", {"memory": "1024"}, "/vms/100", "VM.Config.Memory"),
    ("PUT", ONE + "/config", {"name": "x"}, "/vms/100", "VM.Config.Options"),
    ("PUT", ONE + "/config", {"tags": "x"}, "/vms/100", "VM.Config.Options"),
    (
        "PUT",
        ONE + "/config",
        {"smbios1": "uuid=11111111-2222-4333-8444-555555555555"},
        "/vms/100",
        "VM.Config.HWType",
    ),
    ("PUT", ONE + "/config", {"scsi1": "local-lvm:1"}, "/vms/100", "VM.Config.Disk"),
    ("PUT", ONE + "/config", {"scsi1": "local-lvm:1"}, "/storage/local-lvm", "Datastore.AllocateSpace"),
    ("PUT", ONE + "/config", {"ide2": "none,media=cdrom"}, "/vms/100", "VM.Config.CDROM"),
    (
        "PUT",
        ONE + "/config",
        {"net1": "virtio,bridge=vmbr1,tag=9"},
        "/sdn/zones/localnetwork/vmbr1/9",
        "SDN.Use",
    ),
    ("PUT", ONE + "/config", {"startup": "order=1"}, "/", "Sys.Modify"),
    ("PUT", ONE + "/resize", {"disk": "scsi0", "size": "+1G"}, "/vms/100", "VM.Config.Disk"),
    ("POST", ONE + "/status/start", {}, "/vms/100", "VM.PowerMgmt"),
    ("POST", ONE + "/status/suspend", {}, "/vms/100", "VM.PowerMgmt"),
    ("POST", ONE + "/status/resume", {}, "/vms/100", "VM.PowerMgmt"),
    ("GET", ONE + "/migrate", {}, "/vms/100", "VM.Migrate"),
    ("POST", ONE + "/migrate", {"target": "pve2"}, "/vms/100", "VM.Migrate"),
    ("POST", ONE + "/move_disk", {"disk": "scsi0", "storage": "local"}, "/vms/100", "VM.Config.Disk"),
    ("PUT", ONE + "/unlink", {"idlist": "scsi0"}, "/vms/100", "VM.Config.Disk"),
    ("POST", ONE + "/snapshot", {"snapname": "one"}, "/vms/100", "VM.Snapshot"),
    ("DELETE", ONE + "/snapshot/one", {}, "/vms/100", "VM.Snapshot"),
    ("GET", ONE + "/feature", {"feature": "snapshot"}, "/vms/100", "VM.Audit"),
    ("PUT", ONE + "/cloudinit", {}, "/vms/100", "VM.Config.Cloudinit"),
    ("GET", "/cluster/ha/resources", {}, "/", "Sys.Audit"),
    ("GET", "/cluster/ha/status/current", {}, "/", "Sys.Audit"),
    ("POST", "/cluster/ha/resources", {"sid": "vm:100"}, "/", "Sys.Console"),
    ("PUT", "/cluster/ha/resources/vm:100", {"state": "stopped"}, "/", "Sys.Console"),
    ("DELETE", ONE, {}, "/vms/100", "VM.Allocate"),
    ("GET", ONE + "/config", {}, "/vms/100", "VM.Audit"),
    ("GET", ONE + "/status/current", {}, "/vms/100", "VM.Audit"),
    ("GET", "/cluster/status", {}, "/", "Sys.Audit"),
    ("GET", "/nodes/pve1/status", {}, "/nodes/pve1", "Sys.Audit"),
]


@pytest.mark.parametrize(
    ("method", "path", "values", "where", "privilege"), CALLS, ids=[f"{row[1]} {row[4]}" for row in CALLS]
)
def test_this_call_needs_this_privilege_on_this_path(
    sim: PveSim, api: Api, method: str, path: str, values: dict[str, Any], where: str, privilege: str
) -> None:
    sim.add_vm(100)
    sim.add_template()
    before = sim.world()
    sim.revoke(sim.token_id, where, [privilege])
    send = "params" if method in ("GET", "DELETE") else "data"
    with pytest.raises(ApiError) as refused:
        api.request(method, path, **{send: values})
    assert (refused.value.status, refused.value.reason) == (
        403,
        f"Permission check failed ({where}, {privilege})",
    )
    assert sim.world() == before


def test_a_clone_needs_vm_allocate_on_the_new_vm_or_on_its_pool(sim: PveSim, api: Api) -> None:
    sim.add_template()
    sim.add_pool("shop")
    sim.revoke(sim.token_id, "/vms", ["VM.Allocate"])
    sim.grant(sim.token_id, "/pool/shop", ["VM.Allocate"])
    with pytest.raises(ApiError, match="403 Permission check failed"):
        api.clone(9000, 100)
    assert api.ended(api.clone(9000, 100, pool="shop")) == "OK"


def test_a_pool_that_does_not_exist_is_a_403(sim: PveSim, api: Api) -> None:
    sim.add_template()
    with pytest.raises(ApiError, match=r"403 Permission check failed \(pool 'nope' does not exist\)"):
        api.clone(9000, 100, pool="nope")


@pytest.mark.parametrize(
    ("pve", "needed"), [(8, "VM.Monitor"), (9, "VM.GuestAgent.Audit|VM.GuestAgent.Unrestricted")]
)
def test_the_agents_privilege_depends_on_the_version(tmp_path: Path, pve: int, needed: str) -> None:
    with PveSim(nodes=1, pve=pve) as sim, Api(sim, tmp_path) as api:
        sim.add_vm(100, running=True, agent="1")
        api.post(f"{ONE}/agent/ping")
        sim.revoke(sim.token_id, "/vms/100", needed.split("|"))
        with pytest.raises(ApiError) as refused:
            api.post(f"{ONE}/agent/ping")
        assert refused.value.reason.startswith("Permission check failed (/vms/100, VM.")


def test_a_token_that_loses_vm_audit_gets_403_and_not_missing(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.revoke(sim.token_id, "/vms/100")
    with pytest.raises(ApiError, match=r"403 Permission check failed \(/vms/100, VM.Audit\)"):
        api.config(100)
