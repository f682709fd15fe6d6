"""What the guest is told and what it tells: agent, addresses, cloud-init, passwords."""

import base64
import json
import logging
from collections.abc import Callable
from urllib.parse import unquote

import pytest

from harness.operator import NAMESPACE
from harness.world import World
from proxmox_operator.engine import logs
from proxmox_operator.kube.resources import SECRETS
from proxmox_operator.proxmox.breaker import Breaker

PASSWORD = "correct-horse-Battery9"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB me@laptop"


@pytest.fixture(autouse=True)
def impatient_with_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent agent is asked again after tenths of a second, not after 10 s and up to 5 min."""

    def breaker(clock: Callable[[], float], **_: float) -> Breaker:
        return Breaker(clock, threshold=1, base=0.1, ceiling=0.2)

    monkeypatch.setattr("proxmox_operator.proxmox.agent.Breaker", breaker)
    monkeypatch.setattr("proxmox_operator.controllers.vm.agent.MAX_DELAY", 0.2)


def test_ready_waits_for_the_agent_only_where_it_is_asked_to(world: World) -> None:
    world.sim.add_template(vmid=9401, agent=False)
    indifferent = world.make(source={"clone": {"vmid": 9401}}, agent=True)
    world.wait_ready(indifferent)
    name = world.make(source={"clone": {"vmid": 9401}}, agent=True, readiness={"agent": True})
    vmid = world.vmid(name)
    condition = world.wait_reason(name, "AgentNotConnected")
    assert condition.status == "False"
    assert "guest agent" in condition.message
    agent = world.condition(name, "AgentConnected")
    assert agent is not None
    assert (agent.status, agent.reason) == ("False", "AgentNotConnected")
    assert world.sim.vm(vmid).status == "running"
    world.sim.agent(vmid).agent = True
    assert world.wait_ready(name) == vmid
    agent = world.condition(name, "AgentConnected")
    assert agent is not None
    assert agent.status == "True"


def test_addresses_are_those_the_agent_reports_and_gone_when_the_vm_is_off(world: World) -> None:
    name = world.make(
        agent=True, readiness={"agent": True}, networks=[{"name": "net0", "mac": "BC:24:11:00:00:01"}]
    )
    vmid = world.vmid(name)
    with world.sim.hold("start:qemu") as hold:
        assert hold.reached.wait(10)
        world.sim.agent(vmid).addresses = {"BC:24:11:00:00:01": ["10.9.8.7", "fe80::1", "127.0.0.1"]}
    world.wait_ready(name)
    assert world.status(name)["addresses"][0] == "10.9.8.7"
    assert "127.0.0.1" not in world.status(name)["addresses"]
    world.edit(name, power="Stopped")
    world.wait_ready(name)
    assert world.status(name).get("addresses", []) == []


def test_static_addresses_are_shown_without_an_agent(world: World) -> None:
    networks = [
        {
            "name": "net0",
            "ipv4": {"address": "10.0.0.5/24", "gateway": "10.0.0.1"},
            "ipv6": {"address": "auto"},
        }
    ]
    name = world.make(networks=networks)
    vmid = world.wait_ready(name)
    assert world.status(name)["addresses"] == ["10.0.0.5"]
    config = world.sim.vm(vmid).config
    assert set(str(config["ipconfig0"]).split(",")) == {"ip=10.0.0.5/24", "gw=10.0.0.1", "ip6=auto"}


def test_the_mac_of_the_template_is_not_kept_and_ours_stays_through_changes(world: World) -> None:
    name = world.make(networks=[{"name": "net0"}])
    vmid = world.wait_ready(name)
    mac = world.status(name)["networks"][0]["mac"]
    assert mac not in str(world.sim.vm(9000).config["net0"])
    world.edit(name, networks=[{"name": "net0", "vlan": 20}])
    world.wait_until(lambda: "tag=20" in str(world.sim.vm(vmid).config["net0"]), "the VLAN is set", name)
    world.wait_ready(name)
    assert mac in str(world.sim.vm(vmid).config["net0"])


def test_cloud_init_is_written_before_the_first_boot(world: World) -> None:
    dns = {"servers": ["10.0.0.53"], "searchDomains": ["example.org"]}
    name = world.make(cloudInit={"user": "debian", "sshKeys": [KEY], "dns": dns, "upgradePackages": False})
    vmid = world.wait_ready(name)
    config = world.sim.vm(vmid).config
    assert (config["ciuser"], config["nameserver"], config["searchdomain"]) == (
        "debian",
        "10.0.0.53",
        "example.org",
    )
    assert unquote(str(config["sshkeys"])).strip() == KEY
    assert str(config["ciupgrade"]) == "0"
    assert KEY.split()[1] in (world.sim.vm(vmid).seed or {})["user"]
    world.forget_writes()
    world.passes(name, 3)
    assert world.writes() == []


def test_a_missing_secret_is_said_before_anything_is_made_and_the_vm_is_made_once_it_is_there(
    world: World,
) -> None:
    before = world.sim.world()
    name = world.make(cloudInit={"user": "debian", "passwordSecretRef": {"name": "absent"}})
    condition = world.wait_reason(name, "SecretNotFound")
    assert f"spec.cloudInit.passwordSecretRef: Secret {world.namespace}/absent" in condition.message
    assert "create it" in condition.message
    assert "vmid" not in world.status(name)
    assert before.diff(world.sim.world()) == []
    world.set_secret(name="absent", namespace=world.namespace, password=PASSWORD)
    vmid = world.wait_ready(name)
    assert world.sim.vm(vmid).config.get("cipassword")


def test_a_secret_without_the_key_is_named_with_it(world: World) -> None:
    world.set_secret(name="other-key", namespace=world.namespace, passwd=PASSWORD)
    name = world.make(cloudInit={"user": "debian", "passwordSecretRef": {"name": "other-key"}})
    condition = world.wait_reason(name, "SecretKeyMissing")
    assert f"Secret {world.namespace}/other-key" in condition.message
    assert "'password'" in condition.message
    assert "vmid" not in world.status(name)
    world.edit(name, cloudInit={"passwordSecretRef": {"name": "other-key", "key": "passwd"}})
    world.wait_ready(name)


def test_a_secret_of_another_namespace_is_out_of_reach(world: World) -> None:
    world.set_secret(name="elsewhere", namespace=NAMESPACE, password=PASSWORD)
    try:
        name = world.make(cloudInit={"user": "debian", "passwordSecretRef": {"name": "elsewhere"}})
        assert f"Secret {world.namespace}/elsewhere" in world.wait_reason(name, "SecretNotFound").message
    finally:
        world.kube.delete(SECRETS, "elsewhere", NAMESPACE)


def test_the_password_reaches_the_vm_and_nobody_else(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.handler.setFormatter(logs.JSONFormatter() if hasattr(logs, "JSONFormatter") else None)
    world.set_secret(name="login", namespace=world.namespace, password=PASSWORD)
    name = world.make(cloudInit={"user": "debian", "passwordSecretRef": {"name": "login"}})
    vmid = world.wait_ready(name)
    assert world.sim.vm(vmid).config.get("cipassword")
    world.edit(name, tags=["later"])
    world.wait_until(lambda: world.tags(vmid) == "later", "a later change", name)
    world.wait_ready(name)
    sent = [call for call in world.writes(vmid) if "cipassword" in call.params]
    assert len(sent) == 1
    records = [
        json.dumps({key: str(value) for key, value in vars(record).items()}) for record in caplog.records
    ]
    audited = [record for record in records if "proxmox_operator.audit" in record]
    assert any("cipassword" in record for record in audited)
    hidden = (PASSWORD, base64.b64encode(PASSWORD.encode()).decode())
    told = [*records, caplog.text, json.dumps(world.raw(name)), *(said.note for said in world.events(name))]
    assert [text for text in told if any(secret in text for secret in hidden)] == []


def test_a_password_that_changes_is_sent_again_when_the_reference_does(world: World) -> None:
    for number in (1, 2):
        world.set_secret(name=f"login-{number}", namespace=world.namespace, password=f"{PASSWORD}-{number}")
    name = world.make(cloudInit={"user": "debian", "passwordSecretRef": {"name": "login-1"}})
    vmid = world.wait_ready(name)
    world.edit(name, cloudInit={"passwordSecretRef": {"name": "login-2"}})
    world.wait_until(
        lambda: world.status(name).get("passwordFrom") == "login-2/password", "the new one is recorded", name
    )
    assert len([call for call in world.writes(vmid) if "cipassword" in call.params]) == 2


def test_a_change_that_needs_a_cold_boot_is_said_and_nothing_restarts(world: World) -> None:
    name = world.make(cpu={"cores": 1})
    vmid = world.wait_ready(name)
    world.forget_writes()
    world.edit(name, cpu={"cores": 2})
    condition = world.wait_reason(name, "PendingChanges", kind="RestartRequired")
    assert "cores" in condition.message
    world.wait_ready(name)
    assert [call.path.rpartition("/")[2] for call in world.writes(vmid)] == ["config"]
    world.sim.stop(vmid)
    world.wait_until(
        lambda: (world.condition(name, "RestartRequired") or ("",))[0] == "False",
        "nothing waits any more",
        name,
    )
    assert str((world.sim.vm(vmid).qemu or {})["cores"]) == "2"
