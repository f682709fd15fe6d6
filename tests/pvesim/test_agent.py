"""The guest agent: when it is not there, and what it says."""

import json
from typing import Any

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError, eventually

ONE = "/nodes/pve1/qemu/100"


def test_without_agent_in_the_config_it_is_not_configured(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    with pytest.raises(ApiError, match="500 No QEMU guest agent configured"):
        api.post(f"{ONE}/agent/ping")


def test_a_stopped_vm_has_no_agent(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, agent="1")
    with pytest.raises(ApiError, match="500 VM 100 is not running"):
        api.post(f"{ONE}/agent/ping")


@pytest.mark.parametrize("why", ["booting", "not installed", "hung", "pending"])
def test_an_agent_that_does_not_answer_a_ping_is_not_running(sim: PveSim, api: Api, why: str) -> None:
    config: dict[str, Any] = {} if why == "pending" else {"agent": "1"}
    sim.add_vm(100, running=True, **config)
    guest = sim.agent(100)
    guest.boot_seconds = 60 if why == "booting" else 0
    guest.agent = why != "not installed"
    guest.hung = why == "hung"
    if why == "pending":
        api.set(100, agent="1")
        sim.vm(100).config["agent"] = "1"
    with pytest.raises(ApiError, match="500 QEMU guest agent is not running"):
        api.post(f"{ONE}/agent/ping")


def test_the_agent_answers_once_the_guest_has_booted(sim: PveSim, api: Api) -> None:
    sim.server.boot_seconds = 1.0
    sim.add_vm(100, agent="1")
    api.ended(api.post(f"{ONE}/status/start"))
    with pytest.raises(ApiError):
        api.post(f"{ONE}/agent/ping")

    def answers() -> bool:
        return sim.call(lambda: sim.server.agent_answers(sim.vm(100)))

    eventually(answers)
    assert api.post(f"{ONE}/agent/ping") == {"result": {}}


def test_interfaces_are_lo_and_one_per_nic_with_the_addresses_of_the_seed(sim: PveSim, api: Api) -> None:
    sim.add_template(net1="virtio,bridge=vmbr1", net2="virtio,bridge=vmbr1")
    api.ended(api.clone(9000, 100))
    api.set(100, ipconfig0="ip=10.0.20.11/24,gw=10.0.20.1,ip6=2001:db8::5/64", ipconfig1="ip=dhcp")
    api.ended(api.post(f"{ONE}/status/start"))
    lo, eth0, eth1, eth2 = api.get(f"{ONE}/agent/network-get-interfaces")["result"]
    assert lo["name"] == "lo"
    mac = api.config(100)["net0"].partition(",")[0].removeprefix("virtio=")
    assert eth0["hardware-address"] == mac.lower()
    shown = [(item["ip-address"], item["prefix"], item["ip-address-type"]) for item in eth0["ip-addresses"]]
    assert shown[:2] == [("10.0.20.11", 24, "ipv4"), ("2001:db8::5", 64, "ipv6")]
    assert eth1["ip-addresses"][0]["ip-address"].startswith("10.77.")
    assert [item["ip-address"].startswith("fe80:") for item in eth2["ip-addresses"]] == [True]


def test_a_guest_without_a_seed_gets_a_lease_that_stays(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, agent="1")
    first = api.get(f"{ONE}/agent/network-get-interfaces")["result"][1]["ip-addresses"][0]
    api.ended(api.post(f"{ONE}/status/stop"))
    api.ended(api.post(f"{ONE}/status/start"))
    assert api.get(f"{ONE}/agent/network-get-interfaces")["result"][1]["ip-addresses"][0] == first


def test_a_clone_has_the_agent_of_its_template(sim: PveSim, api: Api) -> None:
    sim.add_template(agent=False)
    api.ended(api.clone(9000, 100))
    api.set(100, agent="1")
    api.ended(api.post(f"{ONE}/status/start"))
    with pytest.raises(ApiError, match="QEMU guest agent is not running"):
        api.post(f"{ONE}/agent/ping")


def test_get_osinfo_names_the_system(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, agent="1")
    assert api.get(f"{ONE}/agent/get-osinfo")["result"]["id"] == "debian"


def test_exec_is_refused_as_a_locked_down_agent_does(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, agent="1")
    with pytest.raises(ApiError, match="Agent error: The command guest-exec has been disabled"):
        api.post(f"{ONE}/agent/exec", command="id")


def test_exec_answers_for_cloud_init_and_tells_each_result_once(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, agent="1")
    sim.agent(100).cloud_init = {"status": "error", "errors": ["it broke"]}
    pid = api.post(f"{ONE}/agent/exec", command=["cloud-init", "status", "--format", "json"])["pid"]
    ended = api.get(f"{ONE}/agent/exec-status", pid=pid)
    assert (ended["exited"], ended["exitcode"]) == (1, 1)
    assert json.loads(ended["out-data"]) == {"status": "error", "errors": ["it broke"]}
    with pytest.raises(ApiError, match="Agent error: Invalid parameter 'pid'"):
        api.get(f"{ONE}/agent/exec-status", pid=pid)


def test_an_old_cloud_init_knows_words_only_and_a_guest_may_have_none(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, agent="1")
    sim.agent(100).old_cloud_init = True
    for command, code, told in (
        (["cloud-init", "status", "--format", "json"], 2, ""),
        (["cloud-init", "status", "--long"], 0, "status: done"),
    ):
        pid = api.post(f"{ONE}/agent/exec", command=command)["pid"]
        ended = api.get(f"{ONE}/agent/exec-status", pid=pid)
        assert ended["exitcode"] == code
        assert ended.get("out-data", "").startswith(told)
    sim.agent(100).cloud_init = None
    with pytest.raises(ApiError, match="Failed to execute child process"):
        api.post(f"{ONE}/agent/exec", command=["cloud-init", "status"])


# ------------------------------------------------------------------------- fsinfo


def fsinfo(api: Api) -> dict[str, dict[str, Any]]:
    """{mount point: what the agent says} of VM 100."""
    found = api.get("/nodes/pve1/qemu/100/agent/get-fsinfo")["result"]
    return {item["mountpoint"]: item for item in found}


def test_fsinfo_shows_the_system_and_what_is_mounted_but_no_other_disk(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, agent="1", scsi1="local-lvm:8", scsi2="local-lvm:1")
    sim.agent(100).mount("scsi1", "/srv/data", "xfs")
    found = fsinfo(api)
    assert list(found) == ["/", "/srv/data"]
    data = found["/srv/data"]
    assert (data["type"], data["total-bytes"], data["name"]) == ("xfs", 8 * 1024**3, "sdb")
    [disk] = data["disk"]
    assert (disk["bus-type"], disk["target"], disk["unit"], disk["dev"]) == ("scsi", 0, 1, "/dev/sdb")
    sim.agent(100).unmount("scsi1")
    assert list(fsinfo(api)) == ["/"]


@pytest.mark.parametrize(
    ("slot", "options", "machine", "serial"),
    [
        ("scsi1", "", "q35", "0QEMU_QEMU_HARDDISK_drive-scsi1"),
        ("scsi1", ",serial=abc", "q35", "0QEMU_QEMU_HARDDISK_drive-scsi1"),
        ("scsi1", ",serial=abc", "pc-q35-9.2", "0QEMU_QEMU_HARDDISK_abc"),
        ("scsi1", ",serial=abc,wwn=0x5000000000000002", "q35", "35000000000000002"),
        ("virtio1", ",serial=abc", "q35", "abc"),
        ("virtio1", "", "q35", None),
    ],
)
def test_the_serial_in_fsinfo_is_udevs_and_not_the_disks(
    sim: PveSim, api: Api, slot: str, options: str, machine: str, serial: str | None
) -> None:
    config: dict[str, Any] = {"machine": machine, "boot": "order=scsi0", slot: f"local-lvm:1{options}"}
    sim.add_vm(100, running=True, agent="1", **config)
    sim.agent(100).mount(slot, "/srv")
    assert fsinfo(api)["/srv"]["disk"][0].get("serial") == serial


def test_a_disk_that_is_pulled_out_while_mounted_is_torn(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, agent="1", boot="order=scsi0", scsi1="local-lvm:1", scsi2="local-lvm:1")
    sim.agent(100).mount("scsi1", "/srv/data")
    sim.agent(100).mount("scsi2", "/srv/more")
    sim.agent(100).unmount("scsi2")
    api.set(100, delete="scsi1,scsi2")
    assert list(fsinfo(api)) == ["/"]
    assert sim.agent(100).torn == ["/srv/data"]


def test_a_stopped_vm_loses_no_mounted_disk(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, agent="1", scsi1="local-lvm:1")
    sim.agent(100).mount("scsi1", "/srv/data")
    api.set(100, delete="scsi1")
    assert sim.agent(100).torn == []
