"""Reading and writing a config: forms of values, digests, locks, pending changes of a stopped VM."""

from urllib.parse import quote

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJx1H3wq3mGm6f5zv0mUO6yYw1f3rVb8z2Xb7yK0yC9d me@host"
ONE = "/nodes/pve1/qemu/100"


def test_values_read_back_in_their_stored_forms(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    api.set(
        100, description="two lines\nhere  \n\n", tags="Web,db;web", memory="2048", onboot=1, cores=4,
        net0="virtio,tag=20,bridge=vmbr0,firewall=1",
    )  # fmt: skip
    config = api.config(100)
    assert config["description"] == "two lines\nhere"
    assert config["tags"] == "db;web"
    assert config["memory"] == "2048"
    assert config["onboot"] == 1
    assert config["cores"] == 4
    mac = config["net0"].partition(",")[0].removeprefix("virtio=")
    assert config["net0"] == f"virtio={mac},bridge=vmbr0,firewall=1,tag=20"
    assert mac.startswith("BC:24:11:")


def test_a_cloudinit_password_reads_back_masked(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    api.set(100, ciuser="me", cipassword="swordfish")
    assert api.config(100)["cipassword"] == "**********"
    assert "swordfish" not in str(sim.world())


def test_ssh_keys_are_validated_after_percent_decoding(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    api.set(100, sshkeys=quote(KEY, safe=""))
    assert api.config(100)["sshkeys"] == quote(KEY, safe="")
    with pytest.raises(ApiError, match="500 SSH public key validation error"):
        api.set(100, sshkeys=quote("ssh-ed25519 notakey", safe=""))


def test_a_digest_that_is_not_current_is_refused_before_and_in_the_worker(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    digest = api.config(100)["digest"]
    sim.edit_config(100, description="edited in the GUI")
    with pytest.raises(ApiError, match=r"500 checksum mismatch \(file change by other user\?\)"):
        api.post(f"{ONE}/config", cores=2, digest=digest)
    digest = api.config(100)["digest"]
    release = sim.hold_config_lock(100)
    upid = api.post(f"{ONE}/config", cores=2, digest=digest)
    sim.vm(100).config["onboot"] = 1
    release()
    assert api.ended(upid) == "checksum mismatch (file change by other user?)"


def test_the_digest_changes_with_pending_changes_too(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    before = api.config(100)["digest"]
    api.set(100, cores=4)
    assert api.config(100)["digest"] != before


def test_an_asynchronous_change_is_a_qmconfig_task_that_logs_what_it_sets(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    upid = api.post(f"{ONE}/config", cores=2, cipassword="swordfish")
    assert ":qmconfig:100:" in upid
    assert api.ended(upid) == "OK"
    assert api.log(upid)[0] == "update VM 100: -cipassword <hidden> -cores 2"


def test_with_background_delay_a_quick_change_answers_null(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    assert api.post(f"{ONE}/config", cores=2, background_delay=5) is None
    assert api.config(100)["cores"] == 2


def test_a_locked_config_is_refused_with_the_lock_in_the_text(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    sim.set_lock(100, "backup")
    with pytest.raises(ApiError, match=r"500 VM is locked \(backup\)"):
        api.post(f"{ONE}/config", cores=2)


def test_a_held_lock_file_ends_in_a_timeout(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    release = sim.hold_config_lock(100)
    text = "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout"
    with pytest.raises(ApiError) as refused:
        api.set(100, cores=2)
    assert (refused.value.status, refused.value.reason) == (500, text)
    assert api.ended(api.post(f"{ONE}/config", cores=2)) == text
    release()
    api.set(100, cores=2)


def test_a_missing_vm_and_a_vm_of_another_node_look_the_same(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, node="pve2")
    for vmid in (100, 101):
        with pytest.raises(ApiError) as missing:
            api.config(vmid)
        assert missing.value.status == 500
        assert (
            missing.value.reason == f"Configuration file 'nodes/pve1/qemu-server/{vmid}.conf' does not exist"
        )


def test_balloon_must_be_smaller_than_memory(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    with pytest.raises(ApiError, match="balloon value too large"):
        api.set(100, balloon=4096)


def test_a_boot_order_names_existing_devices_only(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    with pytest.raises(ApiError, match="invalid bootorder: device 'scsi9' does not exist'"):
        api.set(100, boot="order=scsi9")


def test_deleting_a_boot_disk_takes_it_out_of_the_boot_order(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, scsi1="local-lvm:1")
    api.set(100, boot="order=scsi1;scsi0")
    api.set(100, delete="scsi1")
    assert api.config(100)["boot"] == "order=scsi0"


def test_protection_keeps_disks(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, protection=1, scsi1="local-lvm:1")
    with pytest.raises(ApiError, match="can't remove drive 'scsi1' - protection mode enabled"):
        api.set(100, delete="scsi1")


def test_a_boolean_spelt_true_is_refused_with_the_real_text(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    with pytest.raises(ApiError) as refused:
        api.set(100, onboot="True")
    assert refused.value.errors == {"onboot": "type check ('boolean') failed - got 'True'"}


def test_keys_of_root_are_refused_to_a_token_with_a_500(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    with pytest.raises(ApiError, match="500 only root can set 'args' config"):
        api.set(100, args="-no-hpet")
    with pytest.raises(ApiError) as refused:
        api.set(100, cores=2, skiplock=1)
    assert refused.value.errors == {"skiplock": "Only root may use this option."}
