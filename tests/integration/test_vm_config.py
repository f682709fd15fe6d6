"""A VM's config over the years: edited, re-ordered, added to in the GUI, handed back, refused - and never a reboot."""

from collections.abc import Iterator
from typing import Any

import pytest

from harness.world import World
from proxmox_operator.kube.resources import PROXMOX_VMS
from pvesim.model import SimVm
from pvesim.sim import TOKEN_ID


def writes(world: World) -> list[str]:
    """The last part of each mutating call's path."""
    return [call.path.rpartition("/")[2] for call in world.writes()]


def live(world: World, vmid: int) -> dict[str, Any]:
    """What QEMU runs with."""
    vm: SimVm = world.sim.vm(vmid)
    assert vm.qemu is not None
    return vm.qemu


def restart_required(world: World, name: str, *words: str) -> None:
    """Wait until RestartRequired names all of this."""

    def told() -> bool:
        found = world.condition(name, "RestartRequired")
        return found is not None and found.status == "True" and all(word in found.message for word in words)

    world.wait_until(told, f"RestartRequired names {words}", name)


def rename(world: World, name: str, to: str) -> None:
    world.kube.merge(PROXMOX_VMS, name, {"spec": {"name": to}}, namespace=world.namespace)


def test_a_memory_edit_on_a_running_vm_waits_for_a_boot_and_says_so(world: World) -> None:
    name = world.make(memory={"size": "2Gi"})
    vmid = world.wait_ready(name)
    pid = world.sim.vm(vmid).pid
    world.forget_writes()
    world.edit(name, memory={"size": "4Gi"})
    restart_required(world, name, "memory", "2048 -> 4096")
    assert world.wait_event(name, "ConfigChanged") == "memory: 2048 -> 4096 (at the next cold boot)"
    world.wait_ready(name)
    world.passes(name)
    assert writes(world) == ["config"]
    vm = world.sim.vm(vmid)
    assert (vm.pid, str(vm.config["memory"]), str(vm.pending["memory"])) == (pid, "2048", "4096")
    assert any("memory" in sentence for sentence in world.status(name)["plan"])


def test_what_takes_effect_at_once_needs_no_boot(world: World) -> None:
    name = world.make(cpu={"limit": "2"}, networks=[{"name": "net0"}])
    vmid = world.wait_ready(name)
    pid = world.sim.vm(vmid).pid
    world.edit(
        name,
        cpu={"limit": "1.5", "units": 200},
        networks=[{"name": "net0", "vlan": 7, "rateLimit": 50, "trunks": [{"start": 10, "end": 12}]}],
        description="now with limits",
    )
    world.wait_event(name, "ConfigChanged")
    world.wait_ready(name)
    running = live(world, vmid)
    assert (str(running["cpulimit"]), str(running["cpuunits"])) == ("1.5", "200")
    assert all(part in running["net0"].split(",") for part in ("tag=7", "rate=50", "trunks=10-12"))
    assert world.sim.vm(vmid).pending == {}
    assert world.sim.vm(vmid).pid == pid
    assert world.condition(name, "RestartRequired") is None


def test_processors_are_plugged_in_where_hotplug_allows_it(world: World) -> None:
    name = world.make(cpu={"cores": 4, "vcpus": 1}, hotplug=["Disk", "Network", "USB", "CPU"])
    vmid = world.wait_ready(name)
    world.edit(name, cpu={"vcpus": 3})
    world.wait_until(lambda: str(live(world, vmid).get("vcpus")) == "3", "three processors", name)
    world.wait_ready(name)
    assert world.sim.vm(vmid).pending == {}


def test_a_re_ordered_list_of_networks_changes_nothing(world: World) -> None:
    networks = [{"name": "net0"}, {"name": "net1", "vlan": 20}, {"name": "net2", "model": "E1000"}]
    name = world.make(networks=networks)
    world.wait_ready(name)
    macs = world.status(name)["networks"]
    before = world.sim.world()
    world.forget_writes()
    world.edit(name, networks=list(reversed(networks)))
    world.wait_ready(name)
    world.passes(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    by_name = {each["name"]: each["mac"] for each in world.status(name)["networks"]}
    assert by_name == {each["name"]: each["mac"] for each in macs}


def test_what_the_gui_adds_is_not_touched_also_when_the_spec_changes(world: World) -> None:
    name = world.make(networks=[{"name": "net0"}], disks=[{"name": "data", "size": "1Gi"}])
    vmid = world.wait_ready(name)
    world.sim.edit_config(
        vmid, net1="virtio,bridge=vmbr1", scsi7="local-lvm:2", usb3="host=1-2", hostpci2="mapping=x"
    )
    theirs = {key: world.sim.vm(vmid).config.get(key) for key in ("net1", "scsi7", "usb3")}
    world.passes(name)
    world.edit(name, cpu={"cores": 3}, networks=[{"name": "net0", "vlan": 9}])
    restart_required(world, name, "cores")
    world.passes(name)
    config = world.sim.vm(vmid).merged()
    assert {key: config.get(key) for key in theirs} == theirs
    assert config["hostpci2"] == "mapping=x"


def test_a_block_taken_out_of_the_spec_keeps_its_value_and_an_event_says_so(world: World) -> None:
    name = world.make(
        memory={"size": "3Gi", "minimum": "1Gi"}, cpu={"cores": 2, "limit": "1"}, networks=[{"name": "net0"}]
    )
    vmid = world.wait_ready(name)
    world.passes(name)
    assert "NoLongerManaged" not in {said.reason for said in world.events(name)}
    before = world.sim.world()
    world.forget_writes()
    world.edit(name, memory=None, cpu={"limit": None})
    assert (
        world.wait_event(name, "NoLongerManaged")
        == "spec.cpu.limit, spec.memory are no longer managed: the VM keeps cpulimit 1, memory 3072, balloon 1024"
    )
    world.wait_ready(name)
    world.sim.edit_config(vmid, shares=500)  # nor is anything else of it corrected any more
    world.passes(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == [f"VM {vmid} shares: None -> 500"]
    assert world.status(name)["managed"] == ["cpu.cores", "networks[net0]"]
    assert len([said for said in world.events(name) if said.reason == "NoLongerManaged"]) == 1


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(
            {"description": "Zeile 1: äöüß ☃ 日本\n\n<b>&amp;</b> -- --> %0A\t'\"\\"}, id="unicode and markup"
        ),
        pytest.param({"description": "ü" * 7000}, id="as long as it may be"),
        pytest.param({"description": "  \n leading and trailing \n\n "}, id="blanks"),
        pytest.param({"tags": ["a", "0", "_x+y.z-"]}, id="odd tags"),
    ],
)
def test_odd_values_are_written_once_and_then_left_alone(world: World, spec: dict[str, Any]) -> None:
    name = world.make(**spec)
    world.wait_ready(name)
    before = world.sim.world()
    world.forget_writes()
    world.passes(name, 3)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    assert "DriftCorrected" not in {said.reason for said in world.events(name)}


def test_tags_that_differ_only_in_case_are_the_same(world: World) -> None:
    name = world.make(tags=["web"])
    vmid = world.wait_ready(name)
    world.sim.vm(vmid).config["tags"] = f"Web;{world.namespace.upper()}"  # as with tag-style case-sensitive
    world.forget_writes()
    world.passes(name, 3)
    assert world.writes() == []


def test_a_foreign_vm_of_the_same_name_is_no_matter(world: World) -> None:
    world.sim.add_vm(777, name="twin", cores=1)
    foreign = dict(world.sim.vm(777).config)
    name = world.make(cpu={"cores": 2})
    vmid = world.wait_ready(name)
    rename(world, name, "twin")
    world.wait_until(lambda: world.sim.vm(vmid).config["name"] == "twin", "the new name", name)
    assert vmid != 777
    world.passes(name)
    assert world.sim.vm(777).config == foreign


def test_another_name_is_told_to_make_the_guest_run_cloud_init_again(world: World) -> None:
    name = world.make(cloudInit={"user": "debian"})
    world.wait_ready(name)
    rename(world, name, "renamed")
    assert (
        world.wait_event(name, "ConfigChanged")
        == f"name: {name} -> renamed (re-runs cloud-init at the next boot)"
    )


def test_an_impossible_change_is_refused_whole(world: World) -> None:
    name = world.make(cpu={"cores": 2}, tags=["old"])
    vmid = world.wait_ready(name)
    before = world.sim.world()
    world.forget_writes()
    world.edit(name, machine="q35", cpu={"cores": 4}, tags=["new"])
    condition = world.wait_reason(name, "MachineImmutable")
    assert "spec.machine: the VM was started as pc" in condition.message
    assert "set pc or a version of it, or remove spec.machine" in condition.message
    world.passes(name)
    assert world.writes() == []
    assert before.diff(world.sim.world()) == []
    world.edit(name, machine="pc")
    restart_required(world, name, "cores", "2 -> 4")
    assert "new" in str(world.sim.vm(vmid).config["tags"])


def test_pci_express_on_an_old_chipset_is_refused_before_anything_is_written(world: World) -> None:
    world.sim.add_mapping("pci", "gpu", ["pve1", "pve2", "pve3"])
    name = world.make(pciDevices=[{"name": "hostpci0", "mapping": "gpu", "pcie": True}])
    condition = world.wait_reason(name, "PCIExpressNeedsQ35")
    assert "spec.pciDevices[hostpci0].pcie" in condition.message
    world.edit(name, machine="q35")  # it was never started
    vmid = world.wait_ready(name)
    assert live(world, vmid)["hostpci0"] == "mapping=gpu,pcie=1"


def test_a_guest_that_keeps_its_network_device_gets_the_other_at_the_next_boot(world: World) -> None:
    name = world.make(networks=[{"name": "net0"}])
    vmid = world.wait_ready(name)
    world.sim.vm(vmid).guest_os.refuses_unplug = True
    world.forget_writes()
    world.edit(name, networks=[{"name": "net0", "model": "E1000"}])
    restart_required(world, name, "net0")
    world.wait_ready(name)
    world.passes(name)
    assert writes(world) == ["config"]
    assert "virtio=" in live(world, vmid)["net0"]


def restrict(world: World, *privileges: str) -> None:
    """The token holds everything on / but these."""
    held = set(world.sim.server.privileges) - set(privileges)
    world.sim.call(lambda: world.sim.server.set_acl(TOKEN_ID, "/", held))


@pytest.fixture
def restricted(world: World) -> Iterator[World]:
    """A token that may not change the cluster and use no mapping, as most should be."""
    restrict(world, "Sys.Modify", "Mapping.Use")
    yield world
    restrict(world)


def test_the_start_order_asks_for_its_privilege_only_where_it_is_listed(restricted: World) -> None:
    world = restricted
    name = world.make(startup={"onBoot": True})
    vmid = world.wait_ready(name)
    world.edit(name, startup={"order": 5, "upDelay": 30})
    condition = world.wait_reason(name, "PermissionDenied")
    assert "the credentials lack Sys.Modify on /" in condition.message
    assert "or remove spec.startup.order, upDelay and downDelay" in condition.message
    restrict(world)
    world.wait_ready(name)
    assert world.sim.vm(vmid).config["startup"] == "order=5,up=30"


def test_a_device_mapping_names_its_privilege(restricted: World) -> None:
    world = restricted
    world.sim.add_mapping("usb", "dongle", ["pve1", "pve2", "pve3"])
    name = world.make(usbDevices=[{"name": "usb0", "mapping": "dongle"}])
    condition = world.wait_reason(name, "PermissionDenied")
    assert "the credentials lack Mapping.Use on /mapping/usb/dongle" in condition.message
    assert "or remove spec.usbDevices[usb0]" in condition.message
    restrict(world)
    vmid = world.wait_ready(name)
    assert world.sim.vm(vmid).config["usb0"] == "mapping=dongle"


def test_a_windows_guest_with_a_serial_console_and_no_balloon(world: World) -> None:
    name = world.make(
        osType="Windows11",
        machine="q35",
        display={"type": "QXL", "memory": 32},
        serialConsole=True,
        memory={"size": "4Gi", "ballooning": False},
        bootOrder=["scsi0", "net0"],
        cpu={"cores": 2, "sockets": 2, "type": "host", "numa": True},
        agent=True,
    )
    vmid = world.wait_ready(name)
    world.passes(name)
    config = {key: str(value) for key, value in live(world, vmid).items()}
    asked = {
        "ostype": "win11",
        "vga": "qxl,memory=32",
        "serial0": "socket",
        "memory": "4096",
        "balloon": "0",
        "boot": "order=scsi0;net0",
        "cores": "2",
        "sockets": "2",
        "cpu": "host",
        "numa": "1",
    }
    assert {key: config[key] for key in asked} == asked
    assert "q35" in config["machine"]
    world.forget_writes()
    world.passes(name, 3)
    assert world.writes() == []
