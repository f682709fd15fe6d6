"""Specs and configs of a VM's hardware, generated: every key, in the words of people and of Proxmox."""

from hypothesis import strategies as st

from proxmox_operator.api import ProxmoxVM

FLAG = st.booleans()


def some(**fields):
    return st.fixed_dictionaries({}, optional=fields)


def several(*values):
    """Some of the values, each once, in any order."""
    return st.lists(st.sampled_from(values), unique=True)


RANGES = st.tuples(st.integers(1, 50), st.integers(0, 3)).map(
    lambda pair: {"start": pair[0], "end": pair[0] + pair[1]}
)
MACS = st.integers(0, 255).map(lambda last: f"BC:24:11:AA:00:{last:02X}")
NIC = some(
    bridge=st.sampled_from(("vmbr0", "vmbr1")),
    vlan=st.integers(1, 4094),
    trunks=st.lists(RANGES, max_size=3),
    mac=MACS.map(str.lower),
    rateLimit=st.integers(1, 500),
    firewall=FLAG,
    connected=FLAG,
    ipv4=st.sampled_from(({"address": "dhcp"}, {"address": "10.0.0.5/24", "gateway": "10.0.0.1"})),
    ipv6=st.sampled_from(({"address": "auto"}, {"address": "2001:db8::5/64"})),
)
NETWORK = st.one_of(
    st.builds(dict.__or__, NIC, some(mtu=st.sampled_from((1, 1500, 9000)), queues=st.integers(1, 4))),
    st.builds(dict.__or__, NIC, st.sampled_from(({"model": "E1000"}, {"model": "VMXNET3"}))),
)
LIMITS = some(
    readMBps=st.integers(1, 900), writeMBps=st.integers(1, 900), readIOPS=st.integers(10, 10_000_000)
)
DISK = some(
    cache=st.sampled_from(("None", "WriteBack", "Unsafe")),
    aio=st.sampled_from(("IOUring", "Native", "Threads")),
    discard=FLAG,
    ssd=FLAG,
    iothread=FLAG,
    backup=FLAG,
    replicate=FLAG,
    limits=LIMITS,
)
MEMORY = st.sampled_from(
    (
        {"size": "2Gi"},
        {"size": "3Gi", "minimum": "2Gi"},
        {"size": "4500Mi", "minimum": "4500Mi", "shares": 500},
        {"size": "4Gi", "ballooning": False},
        {"size": "8Gi", "ballooning": True, "shares": 0},
    )
)
HARDWARE = some(
    power=st.sampled_from(("Running", "Stopped", "Unmanaged")),
    cpu=some(
        cores=st.integers(4, 8),
        sockets=st.integers(1, 2),
        type=st.sampled_from(("host", "kvm64")),
        limit=st.sampled_from(("0.5", "2", "12.25")),
        units=st.sampled_from((1, 100, 10000)),
        vcpus=st.integers(1, 4),
        numa=FLAG,
    ),
    memory=MEMORY,
    agent=FLAG,
    protection=FLAG,
    machine=st.sampled_from(("pc", "q35", "pc-q35-9.0", "pc-q35-9.2+pve1", "pc-i440fx-8.1")),
    osType=st.sampled_from(("Linux", "Windows11", "Windows7", "Other")),
    display=st.sampled_from(
        (
            {"type": "Standard"},
            {"type": "QXL", "memory": 64},
            {"type": "None"},
            {"type": "VirtIO", "memory": 256},
        )
    ),
    serialConsole=FLAG,
    hotplug=several("Disk", "Network", "USB", "CPU", "CloudInit"),
    bootOrder=st.sampled_from(([], ["scsi0"])),
    startup=some(
        onBoot=FLAG, order=st.integers(0, 9), upDelay=st.integers(0, 90), downDelay=st.integers(0, 90)
    ).filter(bool),
    pciDevices=st.sampled_from(
        (
            [],
            [{"name": "hostpci0", "mapping": "gpu"}],
            [
                {"name": "hostpci1", "mapping": "gpu", "primaryGPU": True, "romBar": False},
                {"name": "hostpci0", "mapping": "nic"},
            ],
        )
    ),
    usbDevices=st.sampled_from(
        ([], [{"name": "usb0", "mapping": "dongle"}], [{"name": "usb2", "mapping": "dongle", "usb3": True}])
    ),
)
"""Fields of a spec. Those that would contradict each other (memory hotplug without NUMA) have tests of their own."""

HARDWARE_CONFIG = some(
    cpu=st.sampled_from(("host", "flags=+aes,cputype=kvm64")),
    cores=st.integers(4, 6).map(str),
    cpulimit=st.sampled_from(("2", "0.50")),
    cpuunits=st.sampled_from(("100", "512")),
    vcpus=st.integers(1, 4).map(str),
    numa=st.sampled_from(("0", "1")),
    balloon=st.sampled_from(("0", "1024", "2048")),
    shares=st.sampled_from(("0", "1000")),
    agent=st.sampled_from(("1", "0", "fstrim_cloned_disks=1,enabled=1")),
    onboot=st.sampled_from(("0", "1")),
    protection=st.sampled_from(("0", "1")),
    machine=st.sampled_from(("q35", "pc-q35-9.0", "type=pc-i440fx-9.2,viommu=virtio")),
    ostype=st.sampled_from(("l26", "win10", "other")),
    vga=st.sampled_from(("std", "qxl,memory=32", "clipboard=vnc,type=virtio")),
    serial0=st.just("socket"),
    hotplug=st.sampled_from(("0", "1", "usb,disk", "network,disk,cpu")),
    startup=st.sampled_from(("order=3", "7", "up=5,down=60")),
    hostpci0=st.sampled_from(("mapping=gpu,pcie=0", "mapping=old,x-vga=1,mdev=nvidia-1")),
    usb0=st.sampled_from(("mapping=dongle", "spice", "usb3=1,mapping=dongle")),
    usb1=st.just("host=1-2"),
)
"""Keys of a config as a template or a person in the GUI may have left them."""


def hardware_keys(vm: ProxmoxVM) -> set[str]:
    """The keys that these fields of the spec give us the right to write."""
    spec = vm.spec
    keys = {device.name for device in spec.pci_devices} | {device.name for device in spec.usb_devices}
    if spec.wanted_power != "Unmanaged" or (spec.startup is not None and spec.startup.on_boot is not None):
        keys.add("onboot")
    asked: list[tuple[object, str]] = [
        (spec.protection, "protection"),
        (spec.agent, "agent"),
        (spec.machine, "machine"),
        (spec.os_type, "ostype"),
        (spec.display, "vga"),
        (spec.serial_console, "serial0"),
        (spec.hotplug, "hotplug"),
        (spec.boot_order or None, "boot"),
    ]
    if (cpu := spec.cpu) is not None:
        asked += [
            (cpu.cores, "cores"),
            (cpu.sockets, "sockets"),
            (cpu.type, "cpu"),
            (cpu.limit, "cpulimit"),
            (cpu.units, "cpuunits"),
            (cpu.vcpus, "vcpus"),
            (cpu.numa, "numa"),
        ]
    if (memory := spec.memory) is not None:
        asked += [
            (memory, "memory"),
            (memory.minimum, "balloon"),
            (memory.ballooning, "balloon"),
            (memory.shares, "shares"),
        ]
    if (startup := spec.startup) is not None:
        asked += [(value, "startup") for value in (startup.order, startup.up_delay, startup.down_delay)]
    return keys | {key for value, key in asked if value is not None}
