"""The native cloud-init keys and the instance-id that is computed from them."""

import hashlib

from pvesim import PveSim
from pvesim.client import Api

ONE = "/nodes/pve1/qemu/100"


def started(sim: PveSim, api: Api) -> str:
    """The instance-id after a cold start."""
    api.ended(api.post(f"{ONE}/status/stop"))
    api.ended(api.post(f"{ONE}/status/start"))
    return str((sim.vm(100).seed or {})["instance_id"])


def test_the_instance_id_is_the_hash_of_user_and_network_data(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, ide2="local-lvm:cloudinit", ipconfig0="ip=dhcp", ciuser="me")
    instance_id = started(sim, api)
    user, network, meta = (
        api.get(f"{ONE}/cloudinit/dump", type=kind) for kind in ("user", "network", "meta")
    )
    assert meta == f"instance-id: {instance_id}\n"
    assert hashlib.sha1((user + network).encode(), usedforsecurity=False).hexdigest() == instance_id
    assert "user: me" in user
    assert started(sim, api) == instance_id


def test_name_nic_and_keys_change_the_instance_id_at_the_next_start_only(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, ide2="local-lvm:cloudinit", ipconfig0="ip=dhcp")
    seen = {started(sim, api)}
    for change in ({"name": "other"}, {"net0": "virtio,bridge=vmbr0"}, {"ciuser": "you"}):
        before = (sim.vm(100).seed or {})["instance_id"]
        api.set(100, **change)
        assert (sim.vm(100).seed or {})["instance_id"] == before
        seen.add(started(sim, api))
    assert len(seen) == 4


def test_without_a_nameserver_the_nodes_own_dns_is_in_the_instance_id(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, ide2="local-lvm:cloudinit", ipconfig0="ip=dhcp")
    before = started(sim, api)
    sim.server.node_info["pve1"].nameservers = ("192.0.2.54",)
    assert started(sim, api) != before
    api.set(100, nameserver="192.0.2.1", searchdomain="example.org")
    pinned = started(sim, api)
    sim.server.node_info["pve1"].nameservers = ("192.0.2.55",)
    assert started(sim, api) == pinned


def test_a_regeneration_on_request_rebuilds_the_seed_of_a_running_vm(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, ide2="local-lvm:cloudinit", ipconfig0="ip=dhcp")
    before = started(sim, api)
    api.set(100, ciuser="you")
    api.put(f"{ONE}/cloudinit")
    assert (sim.vm(100).seed or {})["instance_id"] != before


def test_what_has_changed_since_the_iso_was_made_is_listed_until_it_is_made_again(
    sim: PveSim, api: Api
) -> None:
    sim.add_vm(
        100, ide2="local-lvm:cloudinit", ciuser="old", nameserver="192.0.2.1", searchdomain="a.invalid"
    )
    sim.start(100)
    api.set(100, ciuser="new", ipconfig0="ip=dhcp", delete="searchdomain")
    listed = {item.pop("key"): item for item in api.get(f"{ONE}/cloudinit")}
    assert listed == {
        "ciuser": {"value": "old", "pending": "new"},
        "nameserver": {"value": "192.0.2.1"},
        "ipconfig0": {"pending": "ip=dhcp"},
        "searchdomain": {"delete": 1},
    }
    api.put(f"{ONE}/cloudinit")
    assert {item["key"] for item in api.get(f"{ONE}/cloudinit") if "value" not in item} == set()
