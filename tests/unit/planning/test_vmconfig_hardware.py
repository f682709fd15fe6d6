"""Processor, memory, machine, devices and networks: what is written, what means the same, and what cannot be."""

import pytest

from proxmox_operator.planning.vmconfig import ConfigDiff, Problem, Put, Remove, diff
from proxmox_operator.planning.vmconfig.effects import Effect
from proxmox_operator.planning.vmconfig.hardware import whole_dimms
from unit.planning.make import a_vm, made, wanted
from unit.planning.test_vmconfig import CONFIG, MAC, changes

NIC = f"virtio={MAC},bridge=vmbr0"
GPU = {"name": "hostpci0", "mapping": "gpu"}
KEY = {"name": "usb0", "mapping": "dongle"}


@pytest.mark.parametrize(
    ("cpu", "config", "expected"),
    [
        pytest.param({"limit": "1.5"}, {}, {"cpulimit": "1.5"}, id="limit"),
        pytest.param({"limit": "2"}, {"cpulimit": "2.0"}, {}, id="the same limit"),
        pytest.param({"units": 100}, {}, {}, id="Proxmox's weight"),
        pytest.param({"units": 200}, {}, {"cpuunits": "200"}, id="weight"),
        pytest.param({"numa": True}, {"numa": "0"}, {"numa": "1"}, id="NUMA"),
        pytest.param({"numa": False}, {}, {}, id="no NUMA is the default"),
        pytest.param({"vcpus": 2}, {"cores": "4"}, {"vcpus": "2"}, id="some of the cores"),
        pytest.param({"vcpus": 4, "cores": 4}, {"cores": "4"}, {}, id="all of the cores is the default"),
        pytest.param(
            {"vcpus": 4, "cores": 8}, {"cores": "4"}, {"cores": "8", "vcpus": "4"}, id="but not of more cores"
        ),
        pytest.param(
            {"vcpus": 4}, {"cores": "2"}, {"vcpus": "4", "TooManyVCPUs": ...}, id="more than there are"
        ),
        pytest.param(
            {"cores": 2}, {"cores": "4", "vcpus": "3"}, {"cores": "2", "TooManyVCPUs": ...}, id="or will be"
        ),
    ],
)
def test_processor(cpu, config, expected):
    assert changes({"cpu": cpu}, config) == expected


@pytest.mark.parametrize(
    ("memory", "config", "expected"),
    [
        pytest.param({"ballooning": False}, {}, {"balloon": "0"}, id="no balloon"),
        pytest.param({"ballooning": False}, {"balloon": "0"}, {}, id="there is none"),
        pytest.param({"ballooning": True}, {"balloon": "0"}, {"balloon": None}, id="a balloon again"),
        pytest.param({"ballooning": True}, {"balloon": "512"}, {}, id="its minimum is not ours"),
        pytest.param({"minimum": "2Gi"}, {}, {}, id="all of it as minimum is the default"),
        pytest.param({"shares": 1000}, {}, {}, id="Proxmox's weight"),
        pytest.param({"shares": 0}, {}, {"shares": "0"}, id="weight"),
        pytest.param({}, {"balloon": "4096"}, {"MinimumAboveMemory": ...}, id="less than somebody's minimum"),
        pytest.param({"size": "1Gi"}, {"memory": "1024"}, {}, id="as it is"),
        pytest.param(
            {"size": "4500Mi"}, {"memory": "4608", "hotplug": "memory", "numa": "1"}, {}, id="in DIMMs"
        ),
        pytest.param(
            {"size": "4500Mi"},
            {"memory": "4096", "hotplug": "memory", "numa": "1"},
            {"memory": "4500"},
            id="one more",
        ),
        pytest.param(
            {"size": "4500Mi"}, {"memory": "4608"}, {"memory": "4500"}, id="exactly, without hotplug"
        ),
        pytest.param(
            {"size": "512Mi"},
            {"hotplug": "memory", "numa": "1"},
            {"memory": "512", "MemoryTooSmall": ...},
            id="too little to plug",
        ),
    ],
)
def test_memory(memory, config, expected):
    assert changes({"memory": {"size": "2Gi"} | memory}, config) == expected


@pytest.mark.parametrize(
    ("wish", "becomes"),
    [(512, 1024), (1024, 1024), (1025, 1536), (17408, 17408), (17409, 18432), (65536, 66560)],
)
def test_memory_in_whole_dimms(wish, becomes):
    assert whole_dimms(wish) == becomes


@pytest.mark.parametrize(
    ("asked", "there", "started", "expected"),
    [
        pytest.param("q35", "pc-q35-9.0+pve1", True, {}, id="a version of it"),
        pytest.param("pc", None, True, {}, id="the default"),
        pytest.param("pc-q35-9.2", "q35", True, {"machine": "pc-q35-9.2"}, id="pinned"),
        pytest.param(
            "pc-q35-9.2",
            "pc-q35-9.0,viommu=virtio",
            True,
            {"machine": "pc-q35-9.2,viommu=virtio"},
            id="raised",
        ),
        pytest.param("q35", None, False, {"machine": "q35"}, id="another chipset before the first start"),
        pytest.param("q35", None, True, {"MachineImmutable": ...}, id="not after it"),
        pytest.param("pc-i440fx-9.2", "type=q35", True, {"MachineImmutable": ...}, id="nor the other way"),
    ],
)
def test_machine(asked, there, started, expected):
    config = {} if there is None else {"machine": there}
    assert changes({"machine": asked}, config, status={"started": started}) == expected


@pytest.mark.parametrize(
    ("spec", "config", "expected"),
    [
        pytest.param({"osType": "Windows11"}, {}, {"ostype": "win11"}, id="the guest's kind"),
        pytest.param({"osType": "Linux"}, {}, {}, id="it is that already"),
        pytest.param({"display": {"type": "Standard"}}, {}, {}, id="the usual display"),
        pytest.param(
            {"display": {"type": "QXL", "memory": 64}}, {}, {"vga": "qxl,memory=64"}, id="a display"
        ),
        pytest.param(
            {"display": {"type": "QXL"}}, {"vga": "memory=64,type=qxl"}, {"vga": "qxl"}, id="owned whole"
        ),
        pytest.param(
            {"display": {"type": "VirtIO"}},
            {"vga": "qxl,clipboard=vnc"},
            {"vga": "virtio,clipboard=vnc"},
            id="kept",
        ),
        pytest.param({"serialConsole": True}, {}, {"serial0": "socket"}, id="a serial console"),
        pytest.param({"serialConsole": True}, {"serial0": "socket"}, {}, id="there is one"),
        pytest.param({"serialConsole": False}, {"serial0": "socket"}, {"serial0": None}, id="taken out"),
        pytest.param({"serialConsole": False}, {"serial0": "/dev/ttyS0"}, {}, id="a real port is no console"),
        pytest.param(
            {"serialConsole": True}, {"serial0": "/dev/ttyS0"}, {"SerialPortTaken": ...}, id="nor replaced"
        ),
        pytest.param(
            {"serialConsole": False},
            {"serial0": "socket", "vga": "serial0"},
            {"serial0": None, "SerialConsoleNeeded": ...},
            id="the display needs it",
        ),
        pytest.param(
            {"serialConsole": True, "display": {"type": "Serial"}},
            {},
            {"serial0": "socket", "vga": "serial0"},
            id="as the display",
        ),
        pytest.param({"hotplug": ["USB", "Network", "Disk"]}, {}, {}, id="the usual hotplug"),
        pytest.param({"hotplug": ["Disk", "Network", "USB"]}, {"hotplug": "1"}, {}, id="in one word"),
        pytest.param({"hotplug": []}, {}, {"hotplug": "0"}, id="no hotplug"),
        pytest.param({"hotplug": []}, {"hotplug": "0"}, {}, id="there is none"),
        pytest.param({"hotplug": ["CPU", "CloudInit"]}, {}, {"hotplug": "cpu,cloudinit"}, id="hotplug"),
        pytest.param(
            {"hotplug": ["Memory"]},
            {},
            {"hotplug": "memory", "MemoryHotplugNeedsNUMA": ...},
            id="of memory, without NUMA",
        ),
        pytest.param({"bootOrder": ["scsi0", "net0"]}, {}, {}, id="the boot order"),
        pytest.param(
            {"bootOrder": ["net0", "scsi0"]}, {}, {"boot": "order=net0;scsi0"}, id="the other way round"
        ),
        pytest.param(
            {"bootOrder": ["scsi0"]}, {"boot": "cdn"}, {"boot": "order=scsi0"}, id="in the old words"
        ),
        pytest.param(
            {"bootOrder": ["net7"]}, {}, {"boot": "order=net7", "BootDeviceMissing": ...}, id="from nothing"
        ),
        pytest.param(
            {"bootOrder": ["net7"], "networks": [{"name": "net7"}]},
            {},
            {"boot": "order=net7", "net7": "virtio,bridge=vmbr0"},
            id="from a device that is made at once",
        ),
        pytest.param(
            {"startup": {"onBoot": False}}, {}, {"onboot": "0"}, id="not with its node, though it runs"
        ),
        pytest.param(
            {"startup": {"onBoot": True}, "power": "Stopped"}, {}, {}, id="with its node, though stopped"
        ),
        pytest.param(
            {"startup": {"onBoot": True}, "power": "Unmanaged"}, {"onboot": "0"}, {"onboot": "1"}, id="or any"
        ),
        pytest.param({"startup": {"order": 3}}, {"startup": "3"}, {}, id="the start order, in short"),
        pytest.param({"startup": {"order": 0}}, {}, {"startup": "order=0"}, id="the first to start"),
        pytest.param(
            {"startup": {"upDelay": 5}},
            {"startup": "down=9,order=3"},
            {"startup": "down=9,order=3,up=5"},
            id="a delay",
        ),
    ],
)
def test_machine_and_peripherals(spec, config, expected):
    assert changes(spec, config) == expected


@pytest.mark.parametrize(
    ("spec", "config", "expected"),
    [
        pytest.param({"pciDevices": [GPU]}, {}, {"hostpci0": "mapping=gpu"}, id="PCI"),
        pytest.param(
            {"pciDevices": [GPU]}, {"hostpci0": "rombar=1,pcie=0,mapping=gpu"}, {}, id="defaults spelled out"
        ),
        pytest.param(
            {"pciDevices": [GPU | {"primaryGPU": True, "romBar": False}]},
            {"hostpci0": "mapping=gpu,mdev=nvidia-1,pcie=1"},
            {"hostpci0": "mapping=gpu,mdev=nvidia-1,x-vga=1,rombar=0"},
            id="owned whole, but for what it has no words for",
        ),
        pytest.param(
            {"pciDevices": [GPU | {"pcie": True}]},
            {"machine": "pc-q35-9.2"},
            {"hostpci0": "mapping=gpu,pcie=1"},
            id="PCI Express",
        ),
        pytest.param(
            {"pciDevices": [GPU | {"pcie": True}]},
            {},
            {"hostpci0": "mapping=gpu,pcie=1", "PCIExpressNeedsQ35": ...},
            id="which i440fx has not",
        ),
        pytest.param(
            {"pciDevices": [GPU]}, {"hostpci0": "0000:01:00.0"}, {"DeviceSlotTaken": ...}, id="raw, root's"
        ),
        pytest.param(
            {"pciDevices": [GPU | {"mapping": "b1"}]},
            {"hostpci0": "mapping=gpu,romfile=x.rom"},
            {"DeviceSlotTaken": ...},
            id="a ROM file, root's",
        ),
        pytest.param({"usbDevices": [KEY]}, {}, {"usb0": "mapping=dongle"}, id="USB"),
        pytest.param(
            {"usbDevices": [KEY]}, {"usb0": "spice,usb3=1"}, {"usb0": "mapping=dongle"}, id="not SPICE"
        ),
        pytest.param(
            {"usbDevices": [KEY]}, {"usb0": "1234:5678"}, {"DeviceSlotTaken": ...}, id="a raw USB device"
        ),
        pytest.param({}, {"usb1": "host=1-2", "hostpci3": "0000:01:00"}, {}, id="unlisted is not touched"),
    ],
)
def test_passed_through_devices(spec, config, expected):
    assert changes(spec, config) == expected


@pytest.mark.parametrize(
    ("network", "there", "expected"),
    [
        pytest.param(
            {"trunks": [{"start": 7, "end": 9}, {"start": 2, "end": 2}], "rateLimit": 125},
            NIC,
            f"{NIC},trunks=2;7-9,rate=125",
            id="trunks and rate",
        ),
        pytest.param({"trunks": [{"start": 2, "end": 4}]}, f"{NIC},trunks=4;3;2", ..., id="the same VLANs"),
        pytest.param(
            {"trunks": [{"start": 2, "end": 4}, {"start": 5, "end": 5}]},
            f"{NIC},trunks=2-5",
            ...,
            id="merged",
        ),
        pytest.param({}, f"{NIC},trunks=2-5", NIC, id="no trunks any more"),
        pytest.param({"rateLimit": 5}, f"{NIC},rate=5.0", ..., id="the same rate"),
        pytest.param({"queues": 1}, NIC, ..., id="one queue is the default"),
        pytest.param(
            {"vlan": 7}, f"{NIC},queues=1", f"{NIC},queues=1,tag=7", id="a default stays as it is spelled"
        ),
        pytest.param(
            {"vlan": 7}, f"{NIC},new-part=1", f"{NIC},new-part=1,tag=7", id="what we have no word for stays"
        ),
    ],
)
def test_a_network_has_what_its_entry_says(network, there, expected):
    written = changes({"networks": [{"name": "net0"} | network]}, {"net0": there})
    assert written == ({} if expected is ... else {"net0": expected})


def test_a_problem_names_its_field_and_the_remedy():
    vm = a_vm(
        status=made(),
        machine="q35",
        bootOrder=["net9"],
        serialConsole=True,
        pciDevices=[GPU],
        cpu={"vcpus": 9},
    )
    config = CONFIG | {"serial0": "/dev/ttyS0", "hostpci0": "0000:01:00"}
    messages = [problem.message for problem in diff(wanted(vm), config).problems]
    for field, remedy in {
        "spec.machine": "or remove spec.machine",
        "spec.bootOrder": "remove it from the list, or add the device",
        "spec.serialConsole": "or set spec.serialConsole to false",
        "spec.pciDevices[hostpci0]": "choose another name",
        "spec.cpu": "set spec.cpu.vcpus to at most 1",
    }.items():
        (message,) = [text for text in messages if text.startswith(f"{field}:")]
        assert remedy in message


def test_a_sentence_says_when_the_change_takes_effect():
    vm = a_vm(
        status=made(),
        name="front",
        cpu={"cores": 4, "limit": "2"},
        networks=[{"name": "net0", "queues": 2}],
        serialConsole=False,
    )
    config = CONFIG | {"serial0": "socket"}
    running = diff(wanted(vm, running=True), config)
    assert running.sentences() == (
        "name: web-1 -> front (re-runs cloud-init at the next boot)",
        "cores: unset -> 4 (at the next cold boot)",
        "cpulimit: unset -> 2",
        f"net0: {NIC} -> {NIC},queues=2 (unplugs the device and plugs it in again)",
        "serial0: socket -> unset (at the next cold boot)",
    )
    assert {put.effect for put in running.puts} == {Effect.LIVE, Effect.REPLUG, Effect.RESTART}
    stopped = diff(wanted(vm), config)
    assert stopped.sentences()[1] == "cores: unset -> 4"
    assert {put.effect for put in stopped.puts} == {None}


def test_a_vm_that_was_never_started_runs_cloud_init_for_the_first_time_anyhow():
    vm = a_vm(status=made(started=False), name="front")
    assert diff(wanted(vm), CONFIG).sentences() == ("name: web-1 -> front",)


def test_nor_does_one_without_a_cloud_init_drive():
    vm = a_vm(status=made(), name="front")
    config = {key: value for key, value in CONFIG.items() if key != "ide2"}
    assert diff(wanted(vm), config).sentences() == ("name: web-1 -> front",)


def test_the_fields_that_need_a_privilege_beyond_the_vm_are_known():
    found = ConfigDiff(
        puts=(
            Put(key="startup", value="order=1"),
            Put(key="hostpci1", value="mapping=gpu,pcie=1"),
            Put(key="usb0", value="mapping=gpu-2"),
        ),
        removes=(Remove(key="balloon", was="0"),),
        problems=(Problem(reason="X", message="x"),),
    )
    assert found.needing("/") == "spec.startup.order, upDelay and downDelay"
    assert found.needing("/mapping/pci/gpu") == "spec.pciDevices[hostpci1]"
    assert found.needing("/mapping/usb/gpu-2") == "spec.usbDevices[usb0]"
    assert found.needing("/vms/100") == ""
    assert ConfigDiff().needing("/") == ""
