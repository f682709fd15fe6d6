"""The config that a copy of a VMTemplate is made with."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.api import Hardware
from proxmox_operator.errors import NeedsHuman
from proxmox_operator.planning.identity import Mark, read_mark
from proxmox_operator.planning.templates import draft, marked_name
from proxmox_operator.planning.templates.draft import _as_vm
from proxmox_operator.planning.vmconfig import Wanted, diff
from unit.planning.generated import FLAG, MEMORY, some
from unit.planning.make import UUID
from unit.planning.making_templates import CURRENT, a_spec

VOLUME = "images:import/debian-12-a1b2c3d4e5f60718.qcow2"
MARK = Mark(
    cluster_id="k8s-1",
    namespace_uid="",
    namespace="",
    name=marked_name("debian-12", CURRENT),
    uid="uid-1",
    vmid=10000,
    uuid=UUID,
)
NAME = f"debian-12-{CURRENT}"
FIRMWARE = st.sampled_from(
    (
        {},
        {"uefi": False},
        {"uefi": True},
        {"uefi": True, "secureBoot": True},
        {"uefi": True, "tpm": True},
        {"tpm": True},
    )
)
HARDWARE = some(
    cpu=some(
        cores=st.integers(4, 8),
        sockets=st.integers(1, 2),
        type=st.sampled_from(("host", "kvm64")),
        limit=st.sampled_from(("0.5", "12.25")),
        units=st.sampled_from((1, 100)),
        numa=FLAG,
    ),
    memory=MEMORY,
    machine=st.sampled_from(("pc", "q35", "pc-q35-9.0")),
    firmware=FIRMWARE,
    osType=st.sampled_from(("Linux", "Windows11", "Other")),
    scsiController=st.sampled_from(("VirtIOSCSISingle", "VirtIOSCSI", "LSI")),
    agent=FLAG,
    serialConsole=FLAG,
    cloudInitDrive=FLAG,
)


def drafted(**spec):
    return draft(
        a_spec(**spec), template="debian-12", version=CURRENT, mark=MARK, storage="local-lvm", volume=VOLUME
    )


def test_by_default_it_is_a_vm_that_boots_a_cloud_image():
    config = drafted()
    assert read_mark(config.pop("description")) == MARK
    assert config == {
        "name": NAME,
        "scsihw": "virtio-scsi-single",
        "scsi0": f"local-lvm:0,import-from={VOLUME},discard=on,iothread=1",
        "boot": "order=scsi0",
        "ide2": "local-lvm:cloudinit",
        "cpu": "x86-64-v2-AES",
        "memory": "1024",
        "machine": "q35",
        "ostype": "l26",
        "agent": "1",
        "serial0": "socket",
        "smbios1": f"uuid={UUID}",
    }


@pytest.mark.parametrize(
    ("hardware", "keys"),
    [
        ({"cpu": {"cores": 4, "type": "host"}}, {"cores": "4", "cpu": "host"}),
        ({"cpu": {"cores": 2, "sockets": 2, "vcpus": 3}}, {"cores": "2", "sockets": "2", "vcpus": "3"}),
        ({"memory": {"size": "4Gi", "minimum": "2Gi"}}, {"memory": "4096", "balloon": "2048"}),
        ({"memory": {"size": "4Gi", "ballooning": False}}, {"memory": "4096", "balloon": "0"}),
        ({"machine": "pc-q35-9.2"}, {"machine": "pc-q35-9.2"}),
        ({"firmware": {"uefi": True}}, {"bios": "ovmf"}),
        ({"osType": "Windows11"}, {"ostype": "win11"}),
        ({"scsiController": "VirtIOSCSI"}, {"scsihw": "virtio-scsi-pci"}),
        ({"scsiController": "LSI"}, {"scsihw": "lsi"}),
    ],
    ids=str,
)
def test_hardware_is_written_in_the_words_of_proxmox(hardware, keys):
    config = drafted(hardware=hardware)
    assert {key: config[key] for key in keys} == keys


@pytest.mark.parametrize(
    ("hardware", "key"),
    [({"agent": False}, "agent"), ({"serialConsole": False}, "serial0"), ({"cloudInitDrive": False}, "ide2")],
    ids=str,
)
def test_what_is_switched_off_is_not_there(hardware, key):
    assert key in drafted()
    assert key not in drafted(hardware=hardware)


def test_only_one_controller_gives_each_disk_a_thread():
    for controller in ("VirtIOSCSI", "LSI"):
        assert "iothread" not in drafted(hardware={"scsiController": controller})["scsi0"]


def test_volumes_of_the_firmware_are_on_the_storage_of_the_template():
    config = drafted(hardware={"firmware": {"uefi": True, "secureBoot": True, "tpm": True}})
    assert config["efidisk0"].startswith("local-lvm:")
    assert "pre-enrolled-keys=1" in config["efidisk0"]
    assert config["tpmstate0"].startswith("local-lvm:")
    assert "v2.0" in config["tpmstate0"]


def test_tags_are_as_proxmox_keeps_them_and_none_is_added():
    assert drafted(tags=["golden", "debian"])["tags"] == "debian;golden"
    assert "tags" not in drafted()


def test_hardware_that_no_vm_can_have_is_refused_with_the_field():
    """Admission cannot see it where ``cores`` is left out: a ProxmoxVM would have those of its source."""
    with pytest.raises(NeedsHuman, match=r"spec\.hardware\.cpu\.vcpus to at most 1"):
        drafted(hardware={"cpu": {"vcpus": 2}})


@given(HARDWARE)
@settings(max_examples=200, deadline=None)
def test_of_a_drafted_config_nothing_is_left_to_write(hardware):
    """What a ProxmoxVM of this hardware would be compared with: the same functions read and write."""
    config = drafted(hardware=hardware)
    wanted = Wanted(
        vm=_as_vm(Hardware.model_validate(hardware), NAME),
        mark=MARK,
        started=False,
        storage="local-lvm",
        bridge=None,
    )
    left = diff(wanted, config)
    assert [put.key for put in left.puts if put.key != "tags"] == []
    assert (left.removes, left.moves, left.grows, left.problems) == ((), (), (), ())


def test_every_combination_of_switches_has_its_keys():
    for agent, console, drive in product((True, False), repeat=3):
        config = drafted(hardware={"agent": agent, "serialConsole": console, "cloudInitDrive": drive})
        found = ("agent" in config, "serial0" in config, "ide2" in config)
        assert found == (agent, console, drive)
