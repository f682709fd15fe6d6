"""A VM made as from a vendor's cloud image - imported, grown, configured by cloud-init - and booted once."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import guest
from harness.inside import BOOT_SECONDS, Inside, ssh
from pvesim import PveSim
from pvesim.client import Api, ApiError, eventually

WWN = "0x5000c500a1b2c3d4"
ONE = "/nodes/pve1/qemu/100"


@pytest.fixture(scope="module")
def web(sim: PveSim, api: Api, key: Path) -> Inside:
    """VM 100, whose agent answers."""
    sim.put_file("local", "pve1", "import", "debian-12.qcow2", guest.image())
    config: dict[str, Any] = {
        "name": "web",
        "cores": 1,
        "memory": 1024,
        "agent": 1,
        "ostype": "l26",
        "scsihw": "virtio-scsi-single",
        "scsi0": "local-lvm:0,import-from=local:import/debian-12.qcow2",
        "ide2": "local-lvm:cloudinit",
        "boot": "order=scsi0",
        "net0": "virtio,bridge=vmbr0",
        "ciuser": "ops",
        "cipassword": "correct horse",
        "sshkeys": quote(key.with_suffix(".pub").read_text(), safe=""),
        "ipconfig0": "ip=10.20.0.5/24,gw=10.20.0.1",
        "searchdomain": "example.org",
    }
    assert api.ended(api.post("/nodes/pve1/qemu", vmid=100, **config)) == "OK"
    assert api.ended(api.put(f"{ONE}/resize", disk="scsi0", size="6G")) == "OK"
    assert api.ended(api.post(f"{ONE}/status/start")) == "OK"
    inside = Inside(api, 100)
    inside.wait_first_boot()
    return inside


def test_cloud_init_ends_without_an_error(web: Inside) -> None:
    assert "status: done" in web.read("cloud-init status --long")


def test_the_name_is_the_hostname_and_the_search_domain_makes_it_full(web: Inside) -> None:
    assert web.read("hostname -f") == "web.example.org"


def test_the_agent_reports_the_address_of_ipconfig(web: Inside, api: Api) -> None:
    mac = api.config(100)["net0"].partition("=")[2].partition(",")[0].lower()
    interfaces = web.agent("GET", "network-get-interfaces")["result"]
    [nic] = [item for item in interfaces if item["hardware-address"] == mac]
    assert [item["ip-address"] for item in nic["ip-addresses"] if item["ip-address-type"] == "ipv4"] == [
        "10.20.0.5"
    ]
    assert web.read("ip -4 route show default").startswith("default via 10.20.0.1")


def test_the_agent_reports_the_disk_of_the_root_file_system(web: Inside) -> None:
    [root] = [item for item in web.agent("GET", "get-fsinfo")["result"] if item["mountpoint"] == "/"]
    assert [disk["serial"] for disk in root["disk"]] == ["0QEMU_QEMU_HARDDISK_drive-scsi0"]


def test_the_user_logs_in_from_the_host_with_the_key(sim: PveSim, web: Inside, key: Path) -> None:
    done = ssh("ops", sim.door(100).ssh_ports["net0"], key, "id -un; hostname")
    assert (done.stdout.split(), done.stderr, done.returncode) == (["ops", "web"], "", 0)


def test_the_password_is_set(web: Inside) -> None:
    check = (
        "import crypt, spwd; h = spwd.getspnam('ops').sp_pwdp; print(crypt.crypt('correct horse', h) == h)"
    )
    assert web.read(f'python3 -W ignore -c "{check}"') == "True"


def test_the_root_file_system_has_grown_to_the_disk(web: Inside) -> None:
    assert int(web.read("df --output=size --block-size=1M / | tail -1")) > 5_500


def test_a_guest_reaches_nothing(web: Inside) -> None:
    assert web.run("timeout 3 bash -c '</dev/tcp/10.20.0.1/22'").code != 0


def test_the_console_shows_the_login_prompt(sim: PveSim, web: Inside) -> None:
    log = sim.door(100).console_log
    eventually(lambda: "web login:" in log.read_text(errors="replace"), seconds=60)


def test_a_finished_command_is_told_once(web: Inside) -> None:
    pid = web.start("/bin/true")
    eventually(lambda: web.status(pid)["exited"], seconds=60)
    with pytest.raises(ApiError) as refused:
        web.status(pid)
    assert (refused.value.status, refused.value.reason) == (500, "Agent error: Invalid parameter 'pid'")


def test_a_command_gets_its_input_and_reports_code_and_both_outputs(web: Inside) -> None:
    done = web.run("cat; echo problem >&2; exit 3", stdin="secret")
    assert (done.code, done.out, done.err) == (3, "secret", "problem\n")


def test_output_bytes_are_characters_of_the_same_number(web: Inside) -> None:
    assert web.read("printf 'gr\\303\\274n'").encode("latin-1").decode() == "grün"


def test_input_beyond_latin_1_is_refused(web: Inside) -> None:
    with pytest.raises(ApiError, match="Wide character"):
        web.start("/bin/cat", stdin="€")


def test_input_may_have_64_kib_and_no_more(web: Inside) -> None:
    assert web.run("wc -c", stdin="x" * 65536).out.strip() == "65536"
    with pytest.raises(ApiError) as refused:
        web.start("/bin/cat", stdin="x" * 65537)
    assert (refused.value.status, list(refused.value.errors)) == (400, ["input-data"])


def test_a_file_is_written_and_read_back(web: Inside) -> None:
    web.agent("POST", "file-write", file="/run/note", content="grün")
    assert web.agent("GET", "file-read", file="/run/note") == {"content": "grün", "bytes-read": 4}
    with pytest.raises(ApiError) as refused:
        web.agent("POST", "file-write", file="/run/note", content="x" * 61441)
    assert (refused.value.status, list(refused.value.errors)) == (400, ["content"])


def test_a_missing_file_is_an_error_of_the_agent(web: Inside) -> None:
    with pytest.raises(ApiError, match="Agent error: failed to open file '/nowhere'"):
        web.agent("GET", "file-read", file="/nowhere")


def test_a_disk_is_plugged_grown_and_unplugged_while_the_guest_runs(
    sim: PveSim, api: Api, web: Inside
) -> None:
    link = f"/dev/disk/by-id/wwn-{WWN}"
    api.set(100, scsi1=f"local-lvm:1,serial=data,wwn={WWN}")
    assert api.pending(100) == {}
    eventually(lambda: web.has(link), seconds=60)
    assert web.read(f"blockdev --getsize64 {link}") == str(1024**3)
    assert api.ended(api.put(f"{ONE}/resize", disk="scsi1", size="+1G")) == "OK"
    eventually(lambda: web.read(f"blockdev --getsize64 {link}") == str(2 * 1024**3), seconds=60)
    api.set(100, delete="scsi1")
    eventually(lambda: not web.has(link), seconds=60)
    assert api.config(100)["unused0"] == "local-lvm:vm-100-disk-1"


def test_a_second_nic_is_plugged_and_unplugged_while_the_guest_runs(
    sim: PveSim, api: Api, web: Inside
) -> None:
    def sees() -> bool:
        """Whatever the device is called: udev may rename it meanwhile, of which cat complains."""
        return "bc:24:11:00:00:77" in web.run("cat /sys/class/net/*/address").out

    api.set(100, net1="virtio=BC:24:11:00:00:77,bridge=vmbr0")
    eventually(sees, seconds=60)
    assert set(sim.door(100).ssh_ports) == {"net0", "net1"}
    api.set(100, delete="net1")
    eventually(lambda: not sees(), seconds=60)


def test_a_shutdown_through_the_api_lets_the_guest_end_in_order(sim: PveSim, api: Api, web: Inside) -> None:
    """The last test here: the guest is gone after it."""
    log = sim.door(100).console_log
    upid = api.post(f"{ONE}/status/shutdown", timeout=300)
    assert api.ended(upid, seconds=BOOT_SECONDS) == "OK"
    assert sim.vm(100).status == "stopped"
    assert "Power down" in log.read_text(errors="replace")
