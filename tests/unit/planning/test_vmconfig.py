"""What is written into a VM's config, key by key, and what is left alone."""

from typing import Any
from urllib.parse import quote

import pytest

from proxmox_operator.planning.diskfacts import DiskFacts, Room
from proxmox_operator.planning.identity import read_mark, render_description, user_text
from proxmox_operator.planning.vmconfig import (
    PASSWORD_KEY,
    ConfigDiff,
    Put,
    diff,
    disk_records,
    recorded_networks,
)
from unit.planning.make import MARK, UUID, a_vm, made, wanted

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB me@x"
MAC = "BC:24:11:0A:1B:2C"
CONFIG = {
    "name": "web-1",
    "description": render_description(MARK, "") + "\n",
    "onboot": "1",
    "tags": "shop",
    "smbios1": f"uuid={UUID}",
    "boot": "order=scsi0;net0",
    "scsi0": "local-lvm:base-9000-disk-0/vm-10000-disk-0,iothread=1,size=20G",
    "scsihw": "virtio-scsi-single",
    "ide2": "local-lvm:vm-10000-cloudinit,media=cdrom,size=4M",
    "net0": f"virtio={MAC},bridge=vmbr0",
    "memory": "2048",
    "ostype": "l26",
}


STORAGES = {
    "local-lvm": Room(content=frozenset({"images"}), free=100 << 30),
    "ceph": Room(content=frozenset({"images", "rootdir"}), free=50 << 30),
    "iso": Room(content=frozenset({"iso"}), free=50 << 30),
    "tiny": Room(content=frozenset({"images"}), free=4 << 30),
}


def changes(spec, config=None, *, without=(), status=None, seen=None, snapshots=None, **options):
    """What is put into (or, as None, removed from) the config, and problems and growth by name."""
    vm = a_vm(status=made(**(status or {})), **spec)
    whole = {key: value for key, value in (CONFIG | (config or {})).items() if key not in without}
    known = {"current": whole, "snapshots": snapshots or {}, "storages": STORAGES} | (seen or {})
    found = diff(wanted(vm, seen=DiskFacts(**known), **options), whole)
    return (
        {put.key: put.value for put in found.puts}
        | dict.fromkeys((removal.key for removal in found.removes), None)
        | {f"grow {grow.slot}": grow.size >> 30 for grow in found.grows}
        | {f"move {move.slot}": move.storage for move in found.moves}
        | {held.reason: "held" for held in found.held}
        | {problem.reason: ... for problem in found.problems}
    )


DATA = {"name": "data", "size": "5Gi"}
DATA_AT = {"scsi1": "local-lvm:vm-10000-disk-1,serial=data,size=5G"}
ON_RECORD = {
    "disks": [{"name": "data", "slot": "scsi1", "volume": "local-lvm:vm-10000-disk-1", "size": "5Gi"}]
}
NET0 = {"name": "net0"}


@pytest.mark.parametrize(
    ("spec", "config", "expected"),
    [
        pytest.param({}, {}, {}, id="nothing asked, nothing written"),
        pytest.param(
            {}, {"cores": "8", "balloon": "0", "cpu": "host", "bios": "ovmf"}, {}, id="unset is unmanaged"
        ),
        pytest.param(
            {}, {"net1": "e1000=BC:24:11:00:00:01", "scsi5": "a:b,size=1G"}, {}, id="unlisted is not touched"
        ),
        pytest.param({"name": "front"}, {}, {"name": "front"}, id="the name"),
        pytest.param(
            {"power": "Stopped"}, {}, {"onboot": "0"}, id="a stopped VM does not start with its node"
        ),
        pytest.param(
            {"power": "Unmanaged"}, {"onboot": "0"}, {}, id="nor is that touched where power is not"
        ),
        pytest.param({"protection": True}, {}, {"protection": "1"}, id="protection is set"),
        pytest.param(
            {"protection": False}, {"protection": "1"}, {}, id="a person's protection is not taken away"
        ),
        pytest.param({"cpu": {"cores": 4}}, {"cores": "2"}, {"cores": "4"}, id="cores"),
        pytest.param({"cpu": {"cores": 1, "sockets": 1}}, {}, {}, id="one core is Proxmox's default"),
        pytest.param({"cpu": {"cores": 2}}, {"cores": "2", "sockets": "4"}, {}, id="sockets left out stay"),
        pytest.param(
            {"cpu": {"type": "host"}},
            {"cpu": "kvm64,flags=+aes"},
            {"cpu": "host,flags=+aes"},
            id="the CPU's type; its flags stay",
        ),
        pytest.param(
            {"cpu": {"type": "host"}}, {"cpu": "cputype=host,flags=+aes"}, {}, id="the type written out"
        ),
        pytest.param(
            {"memory": {"size": "2Gi"}}, {"memory": "current=2048"}, {}, id="memory as a property string"
        ),
        pytest.param({"memory": {"size": "4Gi"}}, {}, {"memory": "4096"}, id="memory"),
        pytest.param(
            {"memory": {"size": "2Gi", "minimum": "1Gi"}},
            {"balloon": "0"},
            {"balloon": "1024"},
            id="ballooning",
        ),
        pytest.param(
            {"agent": True},
            {"agent": "0,fstrim_cloned_disks=1"},
            {"agent": "1,fstrim_cloned_disks=1"},
            id="agent",
        ),
        pytest.param({"agent": True}, {"agent": "enabled=1,type=virtio"}, {}, id="the agent is there"),
        pytest.param({"agent": False}, {}, {}, id="no agent is the default"),
    ],
)
def test_general_and_hardware(spec, config, expected):
    assert changes(spec, config) == expected


@pytest.mark.parametrize(
    ("listed", "ours", "there", "then"),
    [
        pytest.param(["web"], [], "", "shop;web", id="added, and the namespace"),
        pytest.param(["web"], [], "prod;db;shop", "prod;db;shop;web", id="to those of others"),
        pytest.param(["web"], ["web"], "db web shop", ..., id="there already, however separated"),
        pytest.param(["web"], [], "Web;db;Shop", ..., id="there already, in capitals"),
        pytest.param(["web"], [], "Prod", "Prod;shop;web", id="others keep their spelling"),
        pytest.param([], ["web"], "db;web;shop", "db;shop", id="unlisted, and ours: removed"),
        pytest.param([], [], "db;web;shop", ..., id="unlisted, and never ours: stays"),
        pytest.param([], ["web"], "web", "shop", id="the last one but the namespace's"),
        pytest.param(["web"], ["old"], "old", "shop;web", id="one for another"),
        pytest.param([], ["web"], "db;shop", ..., id="taken away by somebody else"),
    ],
)
def test_tags(listed, ours, there, then):
    written = changes({"tags": listed}, {"tags": there}, status={"tags": ours})
    assert written == ({} if then is ... else {"tags": then})


@pytest.mark.parametrize(
    ("current", "spec", "text"),
    [
        pytest.param("my notes", {}, "my notes", id="a person's text stays when the mark comes back"),
        pytest.param("", {}, "", id="only the mark"),
        pytest.param(
            "<!-- proxmox-operator {} -->",
            {},
            "<!-- proxmox-operator {} -->",
            id="a lookalike is a person's text",
        ),
        pytest.param("old", {"description": "new"}, "new", id="the spec's text replaces the old one"),
        pytest.param("old", {"description": ""}, "", id="an empty one too"),
    ],
)
def test_the_description_holds_the_mark_and_the_right_text(current, spec, text):
    written = changes(spec, {"description": current})
    assert written.keys() == {"description"}
    assert read_mark(written["description"]) == MARK
    assert user_text(written["description"]) == text


def test_a_description_with_text_and_mark_is_left_as_it_is():
    assert changes({}, {"description": render_description(MARK, "a\n\n  b -- c") + "\n"}) == {}


@pytest.mark.parametrize(
    ("spec", "config", "expected"),
    [
        pytest.param(
            {},
            {"smbios1": "base64=1,serial=YQ=="},
            {"smbios1": f"base64=1,serial=YQ==,uuid={UUID}"},
            id="UUID",
        ),
        pytest.param({}, {"smbios1": f"uuid={UUID.upper()}"}, {}, id="the UUID in capitals"),
        pytest.param({"uefi": False}, {}, {}, id="SeaBIOS is the default"),
        pytest.param(
            {"uefi": True, "secureBoot": True},
            {},
            {"bios": "ovmf", "efidisk0": "local-lvm:1,efitype=4m,pre-enrolled-keys=1"},
            id="UEFI with Secure Boot, beside the boot disk",
        ),
        pytest.param(
            {"uefi": True},
            {"bios": "ovmf", "efidisk0": "local-lvm:vm-10000-disk-1,size=4M"},
            {},
            id="UEFI from the source",
        ),
        pytest.param({"tpm": True}, {}, {"tpmstate0": "local-lvm:1,version=v2.0"}, id="a TPM"),
        pytest.param(
            {"tpm": False}, {"tpmstate0": "local-lvm:vm-10000-disk-2"}, {}, id="a TPM is never taken out"
        ),
    ],
)
def test_firmware_before_the_first_start(spec, config, expected):
    whole = {"firmware": spec} if spec else {}
    assert changes(whole, config, status={"started": False}) == expected


def test_firmware_and_uuid_are_never_written_after_the_first_start():
    assert changes({"firmware": {"uefi": True, "tpm": True}}) == {"FirmwareImmutable": ...}
    assert changes({}, {"smbios1": "uuid=other"}) == {}


def test_firmware_disks_without_any_storage_are_a_problem_not_a_write():
    written = changes({"firmware": {"tpm": True}}, without=["scsi0"], status={"started": False}, storage=None)
    assert written == {"StorageNotChosen": ...}


@pytest.mark.parametrize(
    ("size", "there", "expected"),
    [
        pytest.param("20Gi", "20G", {}, id="as it is"),
        pytest.param("30Gi", "20G", {"grow scsi0": 30}, id="larger"),
        pytest.param("3Gi", "2252M", {"grow scsi0": 3}, id="larger than a cloud image"),
        pytest.param("10Gi", "20G", {"DiskShrinkRefused": ...}, id="never smaller"),
        pytest.param("1Ti", "1024G", {}, id="the same in another unit"),
    ],
)
def test_the_boot_disks_size(size, there, expected):
    assert (
        changes({"bootDisk": {"size": size}}, {"scsi0": f"local-lvm:vm-10000-disk-0,size={there}"})
        == expected
    )


@pytest.mark.parametrize(
    ("boot", "there", "expected"),
    [
        pytest.param({}, "cache=unsafe,ssd=1,mbps=5", ..., id="what is left out keeps its value"),
        pytest.param({"cache": "None"}, "cache=unsafe,ssd=1", "cache=none,ssd=1", id="the cache"),
        pytest.param({"cache": "None"}, "ssd=1", ..., id="which is Proxmox's default already"),
        pytest.param({"discard": True, "ssd": False}, "ssd=1", "ssd=0,discard=on", id="flags"),
        pytest.param({"discard": False, "backup": True}, "", ..., id="flags that are so by default"),
        pytest.param({"aio": "IOUring"}, "", "aio=io_uring", id="Proxmox's default depends on the storage"),
        pytest.param(
            {"iothread": True, "replicate": False, "limits": {"readIOPS": 90, "writeMBps": 5}},
            "iops=7,mbps_wr=5.0",
            "mbps_wr=5.0,iothread=1,replicate=0,iops_rd=90",
            id="throttles are a whole",
        ),
        pytest.param({"limits": {}}, "mbps=5,cache=unsafe", "cache=unsafe", id="none at all"),
    ],
)
def test_the_boot_disks_options(boot, there, expected):
    at = ",".join(filter(None, ("local-lvm:vm-10000-disk-0,size=20G", there)))
    written = changes({"bootDisk": boot}, {"scsi0": at})
    after = "local-lvm:vm-10000-disk-0,size=20G," + str(expected)
    assert written == ({} if expected is ... else {"scsi0": after})


def test_a_boot_disk_that_is_not_there():
    assert changes({"bootDisk": {"size": "5Gi"}}, without=["scsi0", "boot"]) == {"NoBootDisk": ...}


def test_the_remedy_for_a_disk_that_is_too_large_is_a_size_that_may_be_written():
    vm = a_vm(status=made(), bootDisk={"size": "2Gi"})
    found = diff(wanted(vm), CONFIG | {"scsi0": "local-lvm:vm-10000-disk-0,size=2252M"})
    assert "set 3Gi" in found.problems[0].message


@pytest.mark.parametrize(
    ("disk", "config", "status", "expected"),
    [
        pytest.param(
            {}, {}, {}, {"scsi1": "local-lvm:5,serial=data"}, id="a new one, in the first free slot"
        ),
        pytest.param(
            {}, {"scsi1": "x:y,size=1G"}, {}, {"scsi2": "local-lvm:5,serial=data"}, id="beside another"
        ),
        pytest.param({"storage": "ceph"}, {}, {}, {"scsi1": "ceph:5,serial=data"}, id="on its own storage"),
        pytest.param(
            {"cache": "WriteBack", "discard": True, "ssd": True, "iothread": True, "backup": False},
            {},
            {},
            {"scsi1": "local-lvm:5,serial=data,cache=writeback,discard=on,ssd=1,iothread=1,backup=0"},
            id="with everything",
        ),
        pytest.param({}, DATA_AT, {}, {}, id="there"),
        pytest.param({"size": "7Gi"}, DATA_AT, {}, {"grow scsi1": 7}, id="grown"),
        pytest.param({"size": "4Gi"}, DATA_AT, {}, {"DiskShrinkRefused": ...}, id="not shrunk"),
        pytest.param({"storage": "ceph"}, DATA_AT, {}, {"move scsi1": "ceph"}, id="moved"),
        pytest.param(
            {"ssd": True},
            {"scsi1": "local-lvm:vm-10000-disk-1,rerror=stop,discard=on,serial=data,size=5G"},
            {},
            {"scsi1": "local-lvm:vm-10000-disk-1,rerror=stop,serial=data,size=5G,ssd=1"},
            id="its own options are set and reset, others stay",
        ),
        pytest.param(
            {"backup": False},
            {"scsi1": "local-lvm:vm-10000-disk-1,cache=none,serial=data,size=5G,ssd=0"},
            {},
            {"scsi1": "local-lvm:vm-10000-disk-1,cache=none,serial=data,size=5G,ssd=0,backup=0"},
            id="a default stays as it is spelled",
        ),
        pytest.param(
            {"aio": "Native", "replicate": False},
            {"scsi1": "local-lvm:vm-10000-disk-1,serial=data,size=5G,aio=threads"},
            {},
            {"scsi1": "local-lvm:vm-10000-disk-1,serial=data,size=5G,aio=native,replicate=0"},
            id="input and output, replication",
        ),
        pytest.param(
            {"limits": {"readMBps": 100, "readMBpsBurst": 200, "writeIOPS": 500}},
            {"scsi1": "local-lvm:vm-10000-disk-1,serial=data,size=5G,mbps_rd=50,iops=70,bps_rd=9"},
            {},
            {
                "scsi1": "local-lvm:vm-10000-disk-1,serial=data,size=5G,mbps_rd=100,mbps_rd_max=200,iops_wr=500"
            },
            id="throttles, whole",
        ),
        pytest.param(
            {"limits": {"readMBps": 100}},
            {"scsi1": "local-lvm:vm-10000-disk-1,serial=data,size=5G,mbps_rd=100.0,iops_rd=0,replicate=on"},
            {},
            {},
            id="the same in another spelling",
        ),
        pytest.param(
            {},
            {"scsi1": "local-lvm:vm-10000-disk-1,serial=data,size=5G,mbps_wr_max=70,mbps_wr=50"},
            {},
            {"scsi1": "local-lvm:vm-10000-disk-1,serial=data,size=5G"},
            id="no throttles is what leaving them out says",
        ),
        pytest.param({}, {}, ON_RECORD, {"DiskMissing": ...}, id="once there, never replaced by a blank one"),
        pytest.param(
            {},
            {"unused0": "local-lvm:vm-10000-disk-1"},
            ON_RECORD,
            {"scsi1": "local-lvm:vm-10000-disk-1,serial=data"},
            id="detached by somebody: attached again",
        ),
        pytest.param(
            {},
            {"scsi4": "local-lvm:vm-10000-disk-1,size=5G"},
            ON_RECORD,
            {},
            id="attached in another slot by hand",
        ),
    ],
)
def test_a_listed_disk(disk, config, status, expected):
    assert changes({"disks": [DATA | disk]}, config, status=status) == expected


def test_two_new_disks_take_two_slots_and_avoid_that_of_a_missing_one():
    spec = {"disks": [DATA | {"name": name} for name in ("a", "b")]}
    assert changes(spec, status=ON_RECORD) == {
        "scsi2": "local-lvm:5,serial=a",
        "scsi3": "local-lvm:5,serial=b",
    }


def test_a_disk_needs_a_storage_and_a_slot():
    assert changes({"disks": [DATA]}, storage=None) == {"StorageNotChosen": ...}
    full = {f"scsi{number}": "a:b,size=1G" for number in range(31)}
    assert changes({"disks": [DATA]}, full) == {"NoFreeSlot": ...}


@pytest.mark.parametrize(
    ("network", "there", "expected"),
    [
        pytest.param({}, f"virtio={MAC},bridge=vmbr0", ..., id="as it is"),
        pytest.param(
            {}, f"bridge=vmbr0,virtio={MAC.lower()},firewall=0", ..., id="re-ordered, in small letters"
        ),
        pytest.param({}, f"model=virtio,macaddr={MAC.lower()},bridge=vmbr0", ..., id="written the long way"),
        pytest.param({}, None, "virtio,bridge=vmbr0", id="a new one gets its MAC from Proxmox"),
        pytest.param(
            {"mac": "bc:24:11:00:00:01"},
            None,
            "virtio=BC:24:11:00:00:01,bridge=vmbr0",
            id="or the one asked for",
        ),
        pytest.param(
            {"bridge": "vmbr1"},
            f"virtio={MAC},bridge=vmbr0",
            f"virtio={MAC},bridge=vmbr1",
            id="another bridge",
        ),
        pytest.param(
            {"vlan": 20}, f"virtio={MAC},bridge=vmbr0", f"virtio={MAC},bridge=vmbr0,tag=20", id="a VLAN"
        ),
        pytest.param(
            {}, f"virtio={MAC},bridge=vmbr0,tag=20,rate=5", f"virtio={MAC},bridge=vmbr0", id="owned whole"
        ),
        pytest.param(
            {"model": "E1000"}, f"virtio={MAC},bridge=vmbr0", f"e1000={MAC},bridge=vmbr0", id="another model"
        ),
        pytest.param(
            {},
            f"i82551={MAC},bridge=vmbr0",
            f"virtio={MAC},bridge=vmbr0",
            id="from a model that we do not offer",
        ),
        pytest.param(
            {"firewall": True, "connected": False, "mtu": 1, "queues": 4},
            f"virtio={MAC},bridge=vmbr0",
            f"virtio={MAC},bridge=vmbr0,mtu=1,queues=4,firewall=1,link_down=1",
            id="with everything",
        ),
    ],
)
def test_a_listed_network(network, there, expected):
    config = {} if there is None else {"net0": there}
    written = changes({"networks": [NET0 | network]}, config, without=["net0"] if there is None else [])
    assert written == ({} if expected is ... else {"net0": expected})


def test_a_network_removed_by_hand_comes_back_with_the_mac_on_record():
    status = {"networks": [{"name": "net0", "mac": MAC}]}
    written = changes({"networks": [NET0]}, without=["net0"], status=status)
    assert written == {"net0": f"virtio={MAC},bridge=vmbr0"}


def test_a_network_needs_a_bridge():
    assert changes({"networks": [NET0]}, bridge=None) == {"BridgeNotChosen": ...}


@pytest.mark.parametrize(
    ("init", "config", "expected"),
    [
        pytest.param({"user": "debian"}, {}, {"ciuser": "debian"}, id="user"),
        pytest.param({"sshKeys": [KEY]}, {}, {"sshkeys": KEY}, id="keys, plain: the call encodes them"),
        pytest.param(
            {"sshKeys": [KEY]}, {"sshkeys": quote(KEY + "\n", safe="")}, {}, id="keys as they come back"
        ),
        pytest.param(
            {"dns": {"servers": ["10.0.0.1", "10.0.0.2"], "searchDomains": ["example.org"]}},
            {},
            {"nameserver": "10.0.0.1 10.0.0.2", "searchdomain": "example.org"},
            id="DNS",
        ),
        pytest.param({"upgradePackages": True}, {}, {}, id="upgrading is Proxmox's default"),
        pytest.param({"upgradePackages": False}, {}, {"ciupgrade": "0"}, id="no upgrade"),
    ],
)
def test_cloud_init(init, config, expected):
    assert changes({"cloudInit": init}, config) == expected


@pytest.mark.parametrize(
    ("addresses", "there", "expected"),
    [
        pytest.param({"ipv4": {"address": "dhcp"}}, None, "ip=dhcp", id="dhcp"),
        pytest.param(
            {"ipv4": {"address": "10.0.0.5/24", "gateway": "10.0.0.1"}},
            "gw=10.0.0.1,ip=10.0.0.5/24",
            ...,
            id="the same, re-ordered",
        ),
        pytest.param(
            {"ipv6": {"address": "auto"}}, "ip=dhcp", "ip6=auto", id="listed addresses are all there are"
        ),
        pytest.param({}, "ip=dhcp", ..., id="none listed: unmanaged"),
    ],
)
def test_addresses(addresses, there, expected):
    config = {} if there is None else {"ipconfig0": there}
    written = changes({"networks": [NET0 | addresses]}, config)
    assert written == ({} if expected is ... else {"ipconfig0": expected})


def test_the_cloud_init_drive_is_added_where_the_source_has_none():
    for spec in ({"cloudInit": {"user": "x"}}, {"networks": [NET0 | {"ipv4": {"address": "dhcp"}}]}):
        assert changes(spec, without=["ide2"])["ide2"] == "local-lvm:cloudinit"
    taken = changes({"cloudInit": {"user": "x"}}, {"ide2": "local:iso/x.iso,media=cdrom"})
    assert taken["ide0"] == "local-lvm:cloudinit"
    assert "ide2" not in taken
    full = {f"ide{number}": "none,media=cdrom" for number in range(4)}
    assert "NoCloudInitDrive" in changes({"cloudInit": {"user": "x"}}, full)


def test_a_password_is_sent_once_for_each_reference_and_never_spelled_out():
    spec: dict[str, Any] = {"cloudInit": {"passwordSecretRef": {"name": "login"}}}
    vm = a_vm(status=made(), **spec)
    put = next(put for put in diff(wanted(vm), CONFIG).puts if put.key == PASSWORD_KEY)
    assert put.value is None
    assert put.sentence() == "cipassword: set from its Secret (re-runs cloud-init at the next boot)"
    assert changes(spec, status={"passwordFrom": "login/password"}) == {}
    assert changes(spec, status={"passwordFrom": "login/other"}) == {PASSWORD_KEY: None}


def test_what_is_recorded_is_what_is_attached_and_a_missing_disk_keeps_its_record():
    vm = a_vm(
        status=made(**ON_RECORD), disks=[DATA, DATA | {"name": "logs"}], networks=[NET0, {"name": "net1"}]
    )
    config = CONFIG | {"scsi2": "ceph:vm-10000-disk-4,serial=logs,size=7G"}
    records = disk_records(wanted(vm), config)
    shown = {disk.name: (disk.slot, disk.volume, disk.size) for disk in records.disks}
    assert shown == {
        "data": ("scsi1", "local-lvm:vm-10000-disk-1", "5Gi"),
        "logs": ("scsi2", "ceph:vm-10000-disk-4", "7Gi"),
    }
    assert [(net.name, net.mac) for net in recorded_networks(wanted(vm), config)] == [("net0", MAC)]


def test_sentences_say_what_was_and_what_will_be():
    vm = a_vm(status=made(), cpu={"cores": 4}, bootDisk={"size": "30Gi"}, description="x" * 200)
    found = diff(wanted(vm), CONFIG | {"cores": "2"})
    sentences = found.sentences()
    assert "cores: 2 -> 4" in sentences
    assert "scsi0: grow 20Gi -> 30Gi" in sentences
    assert f"description: (mark) -> {'x' * 57}..." in sentences


def test_a_lost_mark_alone_is_told_from_other_changes():
    mark = Put(key="description", value="m", was="")
    assert ConfigDiff(puts=(mark,)).only_mark()
    assert not ConfigDiff(puts=(mark, Put(key="cores", value="2"))).only_mark()
    assert not ConfigDiff().only_mark()


def test_a_disk_whose_size_proxmox_does_not_tell_is_not_grown_again_and_again():
    assert changes({"bootDisk": {"size": "20Gi"}}, {"scsi0": "local-lvm:vm-1000-disk-0"}) == {}


@pytest.mark.parametrize(("zone", "problem"), [("Mars/Olympus_Mons", {"UnknownTimeZone": ...}), ("UTC", {})])
def test_a_window_in_a_time_zone_that_does_not_exist_is_a_problem(zone, problem):
    window = {"start": "02:00", "end": "04:00", "timeZone": zone}
    spec = {"updates": {"restart": "Automatic", "window": window}}
    assert changes(spec, {"name": "web-1"}).keys() - changes({}, {"name": "web-1"}).keys() == problem.keys()
