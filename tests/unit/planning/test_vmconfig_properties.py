"""What holds for every config diff: written once, it is done; and nothing is written that was not asked for."""

import random
import re

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.api.quantity import parse_quantity
from proxmox_operator.planning import disks
from proxmox_operator.planning.diskfacts import DiskFacts
from proxmox_operator.planning.identity import read_mark, user_text
from proxmox_operator.planning.propstring import parse_props
from proxmox_operator.planning.vmconfig import (
    PASSWORD_KEY,
    ConfigDiff,
    Put,
    Remove,
    Wanted,
    diff,
    disk_records,
    password_reference,
    recorded_networks,
)
from proxmox_operator.planning.vmconfig.effects import Effect
from unit.planning.generated import DISK, FLAG, HARDWARE, HARDWARE_CONFIG, MACS, NETWORK, hardware_keys, some
from unit.planning.make import MARK, UUID, a_vm, made, wanted
from unit.planning.proxmox_model import apply

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB me@x"
TAGS = st.lists(st.sampled_from(("web", "db", "prod", "a.b", "x_y")), unique=True, max_size=4)
TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=60)


@st.composite
def specs(draw):
    spec = draw(
        some(
            name=st.just("front"),
            description=TEXT,
            tags=TAGS,
            firmware=some(uefi=FLAG, tpm=FLAG),
            bootDisk=DISK.map(lambda options: {"size": "20Gi"} | options),
            cloudInit=some(
                user=st.just("debian"),
                sshKeys=st.just([KEY, KEY.replace("me@x", "a b")]),
                passwordSecretRef=st.just({"name": "login"}),
                upgradePackages=FLAG,
                dns=st.just({"servers": ["10.0.0.1", "10.0.0.2"], "searchDomains": ["example.org"]}),
            ),
        )
    ) | draw(HARDWARE)
    names = draw(st.lists(st.sampled_from(("data", "logs", "tmp")), unique=True))
    spec["disks"] = [{"name": name, "size": f"{draw(st.integers(5, 9))}Gi"} | draw(DISK) for name in names]
    nets = draw(st.lists(st.sampled_from(("net0", "net1", "net5")), unique=True))
    spec["networks"] = [{"name": name} | draw(NETWORK) for name in nets]
    return spec


@st.composite
def configs(draw):
    """A config as it may come from a template and from people who click in the GUI."""
    mac = draw(MACS)
    config = {
        "name": "debian-12",
        "boot": "order=scsi0;net0",
        "scsi0": "local-lvm:base-9000-disk-0/vm-10000-disk-0,discard=on,size=2252M",
        "scsihw": "virtio-scsi-single",
        "ostype": "l26",
        "smbios1": "uuid=11111111-2222-3333-4444-555555555555",
        "memory": "2048",
        **draw(
            some(
                description=TEXT.map(lambda text: f"{text}\n"),
                tags=st.sampled_from(("", "prod", "Prod;db", "web zoo", "old,web")),
                bios=st.sampled_from(("seabios", "ovmf")),
                ide2=st.sampled_from(("local-lvm:vm-10000-cloudinit,media=cdrom", "none,media=cdrom")),
                scsi1=st.sampled_from(
                    (
                        "ceph:vm-10000-disk-8,size=3G",
                        "local-lvm:vm-10000-disk-9,serial=data,size=5G,ssd=on,aio=native,mbps_rd=9.5,iops=0",
                    )
                ),
                virtio4=st.just("nfs:10000/vm-10000-disk-3.qcow2,backup=0,size=1T"),
                unused0=st.just("local-lvm:vm-10000-disk-5"),
                net0=st.sampled_from((f"virtio={mac},bridge=vmbr0", f"bridge=vmbr9,rate=5,i82551={mac}")),
                net3=st.just("model=e1000,macaddr=bc:24:11:bb:00:01,bridge=vmbr7"),
                ipconfig0=st.sampled_from(("ip=dhcp", "gw=10.0.0.1,ip=10.0.0.5/24", "ip6=auto,ip=dhcp")),
                ciuser=st.sampled_from(("debian", "root")),
                nameserver=st.just("9.9.9.9"),
                sshkeys=st.just("ssh-rsa%20AAAA%20x%0A"),
            )
        ),
        **draw(HARDWARE_CONFIG),
    }
    keys = [*config]
    random.Random(draw(st.integers(0, 99))).shuffle(keys)
    return {key: config[key] for key in keys}


def compared(vm: ProxmoxVM, config: dict[str, str]) -> Wanted:
    """What the config is compared with, of a VM on which nothing waits for a boot."""
    return wanted(vm, seen=DiskFacts(current=config))


CASES = st.tuples(specs(), configs(), st.booleans(), TAGS)


def the_diff(vm: ProxmoxVM, config: dict[str, str]) -> ConfigDiff:
    """The diff of a case that can be brought about by writing."""
    found = diff(compared(vm, config), config)
    assume(not found.problems)
    return found


def case(drawn) -> tuple[ProxmoxVM, dict[str, str]]:
    spec, config, started, our_tags = drawn
    if started:
        spec.pop("firmware", None)
        config["smbios1"] = f"uuid={UUID}"
    return a_vm(status=made(started=started, tags=our_tags), **spec), config


def recorded(vm: ProxmoxVM, config: dict[str, str], written: ConfigDiff) -> ProxmoxVM:
    """The object after the operator has noted down what it wrote."""
    changes: dict[str, object] = {
        "disks": disk_records(compared(vm, config), config).disks,
        "networks": recorded_networks(wanted(vm), config),
        "tags": vm.spec.tags,
    }
    if any(put.key == PASSWORD_KEY for put in written.puts):
        changes["password_from"] = password_reference(vm)
    return vm.model_copy(update={"status": vm.status.model_copy(update=changes)})


always = settings(deadline=None, max_examples=150)


@given(CASES)
@always
def test_what_is_written_once_needs_no_second_write(drawn):
    vm, config = case(drawn)
    written = the_diff(vm, config)
    after = apply(config, written)
    assert diff(compared(recorded(vm, after, written), after), after) == ConfigDiff()


@given(CASES)
@always
def test_a_second_look_without_a_record_finds_at_most_the_password(drawn):
    vm, config = case(drawn)
    after = apply(config, the_diff(vm, config))
    again = diff(compared(vm, after), after)
    assert {put.key for put in again.puts} <= {PASSWORD_KEY}
    assert (again.removes, again.grows, again.problems) == ((), (), ())


def allowed(vm: ProxmoxVM, config: dict[str, str]) -> set[str]:
    """The keys that the spec gives us the right to write."""
    spec, status = vm.spec, vm.status
    keys = {"name", "description", "tags"} | ({"smbios1"} if not status.started else set())
    keys |= hardware_keys(vm)
    keys |= {"bios", "efidisk0", "tpmstate0"} if spec.firmware is not None else set()
    keys |= {"scsi0"} if spec.boot_disk is not None else set()
    for disk in spec.disks:
        free = {f"scsi{number}" for number in range(1, 31)} - config.keys()
        slot = disks.slot_of(disk.name, config, None)
        keys |= free if slot is None else {slot}
    for network in spec.networks:
        keys.add(network.name)
        if network.ipv4 or network.ipv6:
            keys |= {network.name.replace("net", "ipconfig"), "ide0", "ide1", "ide2", "ide3"} - (
                {slot for slot in ("ide0", "ide1", "ide2", "ide3") if slot in config}
            )
    init = spec.cloud_init
    if init is not None:
        keys |= {"ide0", "ide1", "ide2", "ide3"} - config.keys()
        keys |= {"ciuser"} if init.user else set()
        keys |= {"sshkeys"} if init.ssh_keys else set()
        keys |= {"ciupgrade"} if init.upgrade_packages is not None else set()
        keys |= {"nameserver", "searchdomain"} if init.dns else set()
        keys |= {PASSWORD_KEY} if init.password_secret_ref else set()
    return keys


@given(CASES)
@always
def test_only_what_the_spec_lists_is_written(drawn):
    vm, config = case(drawn)
    found = diff(compared(vm, config), config)
    keys = {put.key for put in found.puts} | {removal.key for removal in found.removes}
    assert keys | {grow.slot for grow in found.grows} <= allowed(vm, config)
    assert {removal.key for removal in found.removes} <= {"tags", "balloon", "serial0"}


@given(CASES)
@always
def test_on_a_running_vm_nothing_is_written_that_must_wait_until_it_is_off(drawn):
    vm, config = case((drawn[0], drawn[1], True, drawn[3]))
    found = diff(wanted(vm, running=True), config)
    assume(not found.problems)
    changes: tuple[Put | Remove, ...] = (*found.puts, *found.removes)
    assert {change.effect for change in changes} <= {Effect.LIVE, Effect.REPLUG, Effect.RESTART}


@given(configs())
@always
def test_a_spec_that_lists_nothing_writes_the_name_the_mark_and_the_namespace_alone(config):
    vm = a_vm(status=made(), power="Unmanaged")
    found = diff(compared(vm, config), config)
    assert {put.key for put in found.puts} <= {"name", "description", "tags"}
    assert (found.removes, found.grows, found.problems) == ((), (), ())


@given(CASES)
@always
def test_no_volume_is_ever_replaced_or_shrunk(drawn):
    vm, config = case(drawn)
    found = the_diff(vm, config)
    before, after = disks.drives(config), disks.drives(apply(config, found))
    for slot, drive in before.items():
        assert after[slot].volume == drive.volume
        assert after[slot].size >= drive.size
    assert apply(config, found).get("unused0") == config.get("unused0")
    listed = {disk.name: parse_quantity(disk.size) for disk in vm.spec.disks}
    for name, size in listed.items():
        where = disks.slot_of(name, apply(config, found), None)
        assert where is not None
        assert after[where].size == size


def mac_of(nic: str) -> str | None:
    macs = [value for value in parse_props(nic, "model").values() if re.fullmatch("(?i)(..:){5}..", value)]
    return macs[0].upper() if macs else None


@given(CASES)
@always
def test_a_mac_stays_unless_the_spec_asks_for_another(drawn):
    vm, config = case(drawn)
    after = apply(config, the_diff(vm, config))
    asked = {network.name: network.mac for network in vm.spec.networks}
    for name, nic in config.items():
        if re.fullmatch("net[0-9]+", name):
            assert mac_of(after[name]) == (asked.get(name) or mac_of(nic) or "").upper()


@given(CASES)
@always
def test_tags_of_others_survive_and_ours_are_those_of_the_spec(drawn):
    vm, config = case(drawn)
    after = apply(config, the_diff(vm, config))
    before, now = (set(re.split("[;, ]", each.get("tags", ""))) - {""} for each in (config, after))
    ours = set(vm.status.tags)
    assert {tag for tag in before if tag.lower() not in ours} <= now
    listed = {*vm.spec.tags, "shop"}
    assert listed <= {tag.lower() for tag in now}
    assert {tag.lower() for tag in now} <= {tag.lower() for tag in before} | listed
    assert not (ours - listed) & {tag.lower() for tag in now}


@given(CASES)
@always
def test_the_mark_is_there_and_what_a_person_wrote_beside_it(drawn):
    vm, config = case(drawn)
    after = apply(config, the_diff(vm, config))
    assert read_mark(after["description"]) == MARK
    text = vm.spec.description if vm.spec.description is not None else config.get("description", "")
    assert user_text(after["description"]) == text.lstrip("\n").rstrip()


KEYS = (
    "name", "description", "tags", "cores", "sockets", "vcpus", "cpu", "cpulimit", "numa", "memory", "balloon",
    "shares", "onboot", "startup", "protection", "machine", "ostype", "vga", "serial0", "hotplug", "boot",
    "bootdisk", "agent", "bios", "efidisk0", "tpmstate0", "net0", "net1", "hostpci0", "usb0", "scsi0", "scsi1",
    "ide2", "unused0", "ipconfig0", "sshkeys", "ciuser", "ciupgrade", "smbios1",
)  # fmt: skip
GARBAGE = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.from_regex(r"[a-z0-9=,;:.-]{0,25}", fullmatch=True),
)


@given(CASES, st.dictionaries(st.sampled_from(KEYS), GARBAGE, max_size=5), st.booleans())
@always
def test_whatever_a_config_says_there_is_an_answer(drawn, garbage, running):
    vm, config = case(drawn)
    config |= garbage
    everything = wanted(vm, running=running, seen=DiskFacts(current=config))
    assert diff(everything, config).sentences() is not None
    assert disk_records(everything, config) is not None
    assert recorded_networks(everything, config) is not None


@given(CASES)
@always
def test_a_sentence_is_one_line_and_holds_no_secret(drawn):
    vm, config = case(drawn)
    for sentence in diff(compared(vm, config), config).sentences():
        assert sentence.splitlines() == [sentence]
        assert len(sentence) < 200
