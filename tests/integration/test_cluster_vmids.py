"""VMIDs from a cluster's range: upwards only, through restarts and a wiped status, and a word when none is left."""

from collections.abc import Iterator

import pytest

from controlplane import Cluster
from harness.clusters import Estate, Site
from proxmox_operator.kube.resources import PROXMOX_CLUSTERS


@pytest.fixture(scope="module")
def shared_estate(control_plane: Cluster) -> Iterator[Estate]:
    with Estate(control_plane, operator={"slow_retry": 30.0}) as estate:
        yield estate


@pytest.fixture
def estate(shared_estate: Estate) -> Iterator[Estate]:
    with shared_estate.fresh():
        yield shared_estate


def made_and_deleted(site: Site) -> int:
    """A VM that has come and gone; its VMID."""
    name, vmid = site.ready()
    site.world.delete(name)
    site.world.wait_gone(name)
    assert vmid not in site.sim.world().vmids
    return vmid


def wipe_status(site: Site) -> None:
    """What `kubectl replace` of an old export does."""
    raw = site.raw()
    raw["status"] = {}
    site.kube.replace(PROXMOX_CLUSTERS, raw, subresource="status")


def test_vmids_of_deleted_vms_are_not_given_out_again(estate: Estate) -> None:
    site = estate.site()
    assert [made_and_deleted(site) for _ in range(3)] == [10000, 10001, 10002]
    assert site.status()["vmidCursor"] > 10002


def test_a_restart_does_not_give_a_vmid_out_again(estate: Estate) -> None:
    site = estate.site()
    last = made_and_deleted(site)
    estate.world.restart()
    site.until(lambda: connected(site), "the new operator is connected")
    assert made_and_deleted(site) > last


def connected(site: Site) -> bool:
    member = site.world.operator.manager.fleet.get(site.name)
    return member is not None and member.connected


def test_in_a_small_range_a_restart_skips_nothing(estate: Estate) -> None:
    site = estate.site(vmidRange={"start": 500, "end": 504})
    assert made_and_deleted(site) == 500
    estate.world.restart()
    site.until(lambda: connected(site), "the new operator is connected")
    assert [made_and_deleted(site) for _ in range(4)] == [501, 502, 503, 504]


def test_a_wiped_status_loses_nothing_while_the_operator_runs(estate: Estate) -> None:
    site = estate.site()
    last = made_and_deleted(site)
    wipe_status(site)
    assert made_and_deleted(site) == last + 1


def test_a_cursor_lost_with_the_status_and_the_operator_is_rebuilt_above_what_exists(estate: Estate) -> None:
    site = estate.site()
    site.sim.add_vm(10041)
    name, vmid = site.ready()
    assert vmid < 10041
    estate.world.operator.stop()
    wipe_status(site)
    estate.world.start()
    site.until(lambda: connected(site), "the new operator is connected")
    site.wait("Ready")
    assert made_and_deleted(site) == 10042
    assert site.world.wait_ready(name) == vmid


def test_a_cursor_that_is_rebuilt_remembers_vms_that_are_gone_by_their_tasks(estate: Estate) -> None:
    site = estate.site()
    last = [made_and_deleted(site) for _ in range(3)][-1]
    estate.world.operator.stop()
    wipe_status(site)
    estate.world.start()
    site.until(lambda: connected(site), "the new operator is connected")
    assert made_and_deleted(site) > last


def test_a_cursor_that_is_rebuilt_remembers_volumes_that_were_left(estate: Estate) -> None:
    site = estate.unapplied()
    site.sim.add_vm(10777, storage="local-lvm", disk_gib=1)
    left = site.sim.vm(10777)
    site.sim.call(lambda: site.sim.server.vms.remove(left))
    assert site.sim.world().volumes_of(10777)
    site.good_secret()
    site.apply()
    site.wait("Ready")
    assert made_and_deleted(site) == 10778


def test_a_taken_vmid_within_the_range_is_stepped_over(estate: Estate) -> None:
    site = estate.site(vmidRange={"start": 600, "end": 610})
    site.sim.add_vm(600)
    site.until(lambda: 600 in inventory(site), "the inventory shows the foreign VM")
    before = site.sim.world()
    _, vmid = site.ready()
    assert vmid == 601
    assert [line for line in before.diff(site.sim.world()) if "600" in line] == []


def inventory(site: Site) -> set[int]:
    return set(site.world.operator.manager.fleet.get(site.name).session.inventory.current.guests)


def test_a_range_that_is_used_up_says_so_and_goes_on_when_it_is_widened(estate: Estate) -> None:
    site = estate.site(vmidRange={"start": 700, "end": 701})
    assert [made_and_deleted(site) for _ in range(2)] == [700, 701]
    before = site.sim.world()
    name = site.make()
    found = site.world.wait_reason(name, "VMIDRangeExhausted")
    assert (found.status, found.message) == (
        "False",
        f"ProxmoxCluster {site.name}: no VMID of 700-701 is left, as none is given twice and 702 would be next: let "
        "spec.vmidRange end above that",
    )
    assert before.diff(site.sim.world()) == []
    site.edit(vmidRange={"start": 700, "end": 705})
    assert site.world.wait_ready(name) == 702


def test_another_range_begins_at_its_own_start(estate: Estate) -> None:
    site = estate.site(vmidRange={"start": 5000, "end": 5999})
    assert made_and_deleted(site) == 5000
    site.edit(vmidRange={"start": 800, "end": 899})
    site.wait("Ready")
    assert [made_and_deleted(site) for _ in range(2)] == [800, 801]
    estate.world.restart()
    site.until(lambda: connected(site), "the new operator is connected")
    assert 801 < made_and_deleted(site) < 899
