"""Devices of the host, validation beyond the schema, and what a node must have for a VM to start."""

from typing import Any

import pytest

from pvesim import PveSim
from pvesim.client import Api, ApiError

ONE = "/nodes/pve1/qemu/100"


@pytest.fixture
def mapped(sim: PveSim) -> PveSim:
    sim.add_mapping("pci", "gpu", ["pve1", "pve2"], live=True)
    sim.add_mapping("usb", "stick", ["pve2"])
    sim.add_vm(100)
    return sim


# ----------------------------------------------------------------------- mappings


def test_the_lists_of_mappings_say_what_is_where_and_what_is_missing_on_a_node(
    mapped: PveSim, api: Api
) -> None:
    [gpu] = api.get("/cluster/mapping/pci", **{"check-node": "pve1"})
    assert (gpu["id"], gpu["checks"], gpu["live-migration-capable"]) == ("gpu", [], 1)
    assert gpu["map"][0] == "id=10de:1eb8,node=pve1,path=0000:01:00.0"
    [stick] = api.get("/cluster/mapping/usb", **{"check-node": "pve1"})
    assert stick["errors"] == [{"severity": "warning", "message": "No mapping for node pve1."}]
    assert api.get("/cluster/mapping/usb/stick")["map"] == ["id=10de:1eb8,node=pve2"]


def test_the_lists_show_only_mappings_one_may_use_or_see(mapped: PveSim, api: Api) -> None:
    mapped.add_mapping("pci", "nic", ["pve1"])
    mapped.revoke(mapped.token_id, "/mapping/pci/nic")
    assert [entry["id"] for entry in api.get("/cluster/mapping/pci")] == ["gpu"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hostpci0": "host=0000:01:00.0"}, "500 only root can set 'hostpci0' config for non-mapped devices"),
        ({"usb0": "host=1234:5678"}, "500 only root can set 'usb0' config for real devices"),
        ({"serial0": "/dev/ttyS0"}, "500 only root can modify 'serial0' config for real devices"),
    ],
    ids=["PCI", "USB", "serial"],
)
def test_a_real_device_is_for_root_only_and_a_token_gets_a_500(
    mapped: PveSim, api: Api, change: dict[str, Any], text: str
) -> None:
    with pytest.raises(ApiError, match=text):
        api.set(100, **change)
    mapped.edit_config(100, **change)
    [key] = change
    assert key in api.config(100)


@pytest.mark.parametrize(
    "change", [{"hostpci0": "mapping=gpu"}, {"usb0": "mapping=stick"}], ids=["PCI", "USB"]
)
def test_a_mapped_device_needs_the_use_of_its_mapping(
    mapped: PveSim, api: Api, change: dict[str, Any]
) -> None:
    api.set(100, **change)
    [(key, value)] = change.items()
    assert api.config(100)[key] == value
    kind = "pci" if key == "hostpci0" else "usb"
    path = f"/mapping/{kind}/{value.partition('=')[2]}"
    mapped.revoke(mapped.token_id, path, ["Mapping.Use"])
    with pytest.raises(ApiError, match=f"403 .*{path}, Mapping.Use"):
        api.set(100, delete=key)


def test_a_spice_usb_device_needs_no_mapping(mapped: PveSim, api: Api) -> None:
    api.set(100, usb0="host=spice")
    assert api.config(100)["usb0"] == "host=spice"


# --------------------------------------------------------------------- validation


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        (
            {"cpu": "pentium9"},
            "cpu",
            "Built-in cputype 'pentium9' is not defined (missing 'custom-' prefix?)",
        ),
        ({"cpu": "custom-fast"}, "cpu", "Custom cputype 'fast' not found"),
        ({"delete": "cors"}, "delete", "unknown option 'cors'"),
        ({"revert": "cors"}, "revert", "unknown option 'cors'"),
        ({"net0": "virtio,bridge=vmbr0,tag=5000"}, "net0", "value must have a maximum value of 4094"),
        (
            {"scsi0": "local-lvm:vm-100-disk-0,cache=fast"},
            "scsi0",
            "does not have a value in the enumeration",
        ),
        ({"machine": "q36"}, "machine", "value does not match the regex pattern"),
        ({"tags": "ünïc"}, "tags", "invalid characters in tag"),
        ({"description": "x" * 8193}, "description", "value may only be 8192 characters long"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value.values()))[:20],
)
def test_this_value_is_a_field_error(
    mapped: PveSim, api: Api, change: dict[str, Any], field: str, text: str
) -> None:
    with pytest.raises(ApiError) as refused:
        api.set(100, **change)
    assert refused.value.status == 400
    assert text in refused.value.errors[field]


def test_cpuunits_are_clamped_to_what_the_cgroup_knows(mapped: PveSim, api: Api) -> None:
    api.set(100, cpuunits=50_000)
    assert api.config(100)["cpuunits"] == 10_000


@pytest.mark.parametrize(
    ("machine", "pinned"), [(None, "pc-i440fx-10.1"), ("q35", "pc-q35-10.1"), ("pc-q35-9.0", "pc-q35-9.0")]
)
def test_the_machine_of_a_windows_vm_is_pinned_at_create_and_when_it_becomes_one(
    sim: PveSim, api: Api, machine: str | None, pinned: str
) -> None:
    given: dict[str, Any] = {"machine": machine} if machine else {}
    api.ended(api.post("/nodes/pve1/qemu", vmid=101, ostype="win11", **given))
    assert api.config(101)["machine"] == pinned
    sim.add_vm(100, ostype="l26", **given)
    assert api.config(100).get("machine") == machine
    api.set(100, ostype="win11")
    assert api.config(100)["machine"] == pinned


def test_the_version_of_a_tpm_state_cannot_change(mapped: PveSim, api: Api) -> None:
    mapped.edit_config(100, tpmstate0="local-lvm:1,version=v2.0")
    with pytest.raises(ApiError, match="500 cannot change TPM state version after creation"):
        api.set(100, tpmstate0="local-lvm:vm-100-disk-1,version=v1.2")


# -------------------------------------------------------------------------- start


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"cores": 17}, "MAX 16 vcpus allowed per VM on this node"),
        ({"vcpus": 2}, "start failed: QEMU exited with code 1"),
        ({"hotplug": "memory", "memory": "2048"}, "NUMA needs to be enabled for memory hotplug"),
        ({"hotplug": "memory", "numa": 1}, "minimum memory must be 1024MB"),
        ({"hostpci0": "mapping=nic"}, "PCI device mapping not found for 'nic'"),
        ({"usb0": "mapping=stick"}, "USB device mapping not found for 'stick'"),
    ],
    ids=[
        "too many cores",
        "more vcpus than cores",
        "no NUMA",
        "little memory",
        "no PCI device",
        "no USB device",
    ],
)
def test_this_vm_does_not_start_on_this_node(
    mapped: PveSim, api: Api, config: dict[str, Any], text: str
) -> None:
    mapped.edit_config(100, **config)
    assert api.ended(api.post(f"{ONE}/status/start")) == text
