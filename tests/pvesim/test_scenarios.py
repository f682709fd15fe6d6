"""What other people do to the cluster: migrations, backups, stubs, edits, slowness."""

import time
from pathlib import Path

import pytest

import pvesim.endpoints
from pvesim import PveSim
from pvesim.client import Api, ApiError, eventually


def test_a_migration_locks_the_vm_and_takes_its_local_disks_along(sim: PveSim, api: Api) -> None:
    sim.server.task_seconds = 0.8
    sim.add_vm(100, running=True)
    upid = sim.migrate(100, "pve2", wait=False)
    assert api.config(100)["lock"] == "migrate"
    assert api.ended(upid) == "OK"
    assert "lock" not in api.config(100, "pve2")
    assert sim.vm(100).status == "running"
    assert [(volume.node, volume.name) for volume in sim.world().volumes] == [("pve2", "vm-100-disk-0")]
    with pytest.raises(ApiError, match="does not exist"):
        api.config(100)


def test_a_backup_locks_the_config_for_its_time(sim: PveSim, api: Api) -> None:
    sim.add_vm(100)
    upid = sim.backup(100, 1.0)
    with pytest.raises(ApiError, match=r"VM is locked \(backup\)"):
        api.set(100, cores=2)
    assert api.ended(upid) == "OK"
    api.set(100, cores=2)


def test_an_edit_in_the_gui_changes_the_digest_and_can_delete(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, description="with a mark")
    before = api.config(100)["digest"]
    sim.edit_config(100, delete="description", cores=4)
    after = api.config(100)
    assert after["digest"] != before
    assert "description" not in after
    assert after["cores"] == 4


def test_a_vm_removed_in_the_gui_is_gone_whatever_it_was(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, protection=1)
    sim.remove_vm(100)
    assert sim.world().vmids == []
    assert api.get("/cluster/nextid", vmid=100) == "100"


@pytest.mark.parametrize("lock", ["clone", "destroyed"])
def test_a_token_cannot_remove_a_stub(sim: PveSim, api: Api, lock: str) -> None:
    sim.add_stub(100, lock=lock)
    assert api.ended(api.delete("/nodes/pve1/qemu/100")) == f"VM is locked ({lock})"
    with pytest.raises(ApiError) as refused:
        api.delete("/nodes/pve1/qemu/100", skiplock=1)
    assert refused.value.errors == {"skiplock": "Only root may use this option."}
    sim.set_lock(100, None)
    assert api.ended(api.delete("/nodes/pve1/qemu/100")) == "OK"


def test_a_vm_of_a_node_that_went_down_is_off_when_the_node_is_back(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, node="pve2", running=True)
    sim.node_down("pve2")
    sim.node_up("pve2")
    assert api.get("/nodes/pve2/qemu/100/status/current")["status"] == "stopped"


def test_a_slow_api_answers_late(sim: PveSim, api: Api) -> None:
    sim.slow_api(0.2)
    started = time.monotonic()
    api.get("/version")
    assert time.monotonic() - started >= 0.2


def test_a_hung_guest_neither_answers_nor_shuts_down(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True, agent="1")
    sim.agent(100).hang()
    with pytest.raises(ApiError, match="QEMU guest agent is not running"):
        api.post("/nodes/pve1/qemu/100/agent/ping")
    upid = api.post("/nodes/pve1/qemu/100/status/shutdown", timeout=1)
    assert api.ended(upid) == "VM quit/powerdown failed - got timeout"
    sim.agent(100).resume()
    assert api.ended(api.post("/nodes/pve1/qemu/100/status/shutdown")) == "OK"


def test_an_idle_connection_is_closed_by_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pvesim.endpoints.IDLE_SECONDS == 5.0
    monkeypatch.setattr(pvesim.endpoints, "IDLE_SECONDS", 0.1)
    with PveSim(nodes=1) as sim, Api(sim, tmp_path) as api:
        api.get("/version")
        assert sim.server.listeners["pve1"].connections == 1
        eventually(lambda: sim.server.listeners["pve1"].connections == 0)
        api.get("/version")


def test_two_clusters_live_side_by_side(tmp_path: Path, sim: PveSim) -> None:
    with PveSim(nodes=["alpha"], cluster="second") as other, Api(other, tmp_path, node="alpha") as api:
        other.add_vm(100, node="alpha")
        assert sim.world().vmids == []
        assert api.get("/cluster/status")[0]["name"] == "second"


def test_an_edit_in_the_gui_is_a_task_of_the_one_who_made_it_and_one_in_a_shell_is_none(
    sim: PveSim, api: Api
) -> None:
    sim.add_vm(100)
    sim.edit_config(100, cores=2)
    assert sim.tasks("qmconfig") == []
    sim.edit_config(100, cores=4, by="alice@pve")
    [listed] = api.get("/nodes/pve1/tasks", vmid=100, typefilter="qmconfig")
    assert (listed["user"], listed["status"]) == ("alice@pve", "OK")
    assert api.log(listed["upid"])[0] == "update VM 100: -cores 4"


def test_what_people_do_in_the_gui_carries_their_names(sim: PveSim) -> None:
    sim.add_vm(100)
    sim.start(100, by="alice@pve")
    sim.migrate(100, "pve2", by="bob@pve")
    sim.stop(100)
    assert [(task.type, task.user) for task in sim.tasks()] == [
        ("qmstart", "alice@pve"), ("qmigrate", "bob@pve"), ("qmstop", "root@pam"),
    ]  # fmt: skip


def test_snapshots_moves_and_growth_in_the_gui_are_what_the_api_does(sim: PveSim, api: Api) -> None:
    sim.add_storage("fast", "lvmthin")
    sim.add_vm(100)
    sim.snapshot(100, "one")
    sim.resize_disk(100, "scsi0", "+1G")
    sim.rollback(100, "one")
    assert "size=4G" in api.config(100)["scsi0"]
    sim.delete_snapshot(100, "one")
    sim.move_disk(100, "scsi0", "fast")
    assert [(volume.storage, volume.name) for volume in sim.world().volumes] == [("fast", "vm-100-disk-0")]


def test_a_backup_in_stop_mode_has_the_vm_off_for_a_while(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    upid = sim.backup(100, 0.6, mode="stop")
    assert (sim.vm(100).status, sim.vm(100).lock) == ("stopped", "backup")
    eventually(lambda: sim.vm(100).status == "running")
    assert sim.vm(100).lock == "backup"
    assert api.ended(upid) == "OK"


def test_a_stopall_can_be_watched_while_it_runs(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    with sim.hold("stopall:stopping") as hold:
        upid = sim.stop_all("pve1")
        assert hold.reached.wait(5)
        [running] = api.get("/nodes/pve1/tasks", source="active")
        assert (running["type"], running["user"]) == ("stopall", "root@pam")
        assert sim.vm(100).status == "running"
    assert api.ended(upid) == "OK"
    assert sim.vm(100).status == "stopped"


def test_a_bulk_migration_is_a_task_of_root_with_one_migration_for_each_vm(sim: PveSim, api: Api) -> None:
    sim.add_vm(100, running=True)
    sim.add_vm(101)
    sim.migrate_all("pve1", "pve2")
    assert [vm.node for vm in sim.world().vms] == ["pve2", "pve2"]
    assert [(task.type, task.user) for task in sim.tasks()] == [
        ("migrateall", "root@pam"), ("qmigrate", "root@pam"), ("qmigrate", "root@pam"),
    ]  # fmt: skip


def test_a_cut_off_node_answers_with_what_it_knew_and_refuses_to_write(sim: PveSim, tmp_path: Path) -> None:
    sim.add_vm(100, running=True)
    sim.endpoints["pve2"].cut_off()
    sim.migrate(100, "pve3")
    with Api(sim, tmp_path, node="pve2") as lonely:
        [vm] = lonely.get("/cluster/resources", type="vm")
        assert (vm["node"], vm["status"]) == ("pve1", "running")
        assert lonely.get("/cluster/status")[0]["quorate"] == 0
        with pytest.raises(ApiError, match="500 cluster not ready - no quorum"):
            lonely.post("/nodes/pve2/qemu", vmid=200)
        with pytest.raises(ApiError, match="500 cluster not ready - no quorum"):
            lonely.post("/cluster/ha/resources", sid="vm:100")
