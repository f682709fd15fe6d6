"""The names and labels of all metrics, and what is counted only when somebody asks."""

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import proxmox_operator
from proxmox_operator.engine.figures import CONDITIONS
from proxmox_operator.engine.metrics import Metrics
from proxmox_operator.proxmox.session import Figures
from proxmox_operator.proxmox.slots import Usage

NAMES = {
    "process_cpu_seconds_total": "counter",
    "process_max_fds": "gauge",
    "process_open_fds": "gauge",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "process_virtual_memory_bytes": "gauge",
    "proxmox_operator_build_info": "gauge version",
    "proxmox_operator_deleting_objects": "gauge kind",
    "proxmox_operator_drift_total": "counter kind handled",
    "proxmox_operator_endpoints": "gauge cluster state",
    "proxmox_operator_events_total": "counter result",
    "proxmox_operator_handler_bugs_total": "counter kind",
    "proxmox_operator_heartbeat_age_seconds": "gauge part",
    "proxmox_operator_inventory_age_seconds": "gauge cluster",
    "proxmox_operator_kube_call_seconds": "histogram verb resource result",
    "proxmox_operator_kube_writes_total": "counter verb resource",
    "proxmox_operator_leader": "gauge",
    "proxmox_operator_lease_remaining_seconds": "gauge",
    "proxmox_operator_limit": "gauge cluster limit",
    "proxmox_operator_limit_used": "gauge cluster limit",
    "proxmox_operator_limit_waiting": "gauge cluster limit",
    "proxmox_operator_loop_lag_seconds": "gauge",
    "proxmox_operator_object_conditions": "gauge kind condition status reason_class",
    "proxmox_operator_objects": "gauge kind",
    "proxmox_operator_oldest_deletion_seconds": "gauge kind",
    "proxmox_operator_oldest_not_ready_seconds": "gauge kind",
    "proxmox_operator_proxmox_call_seconds": "histogram cluster method call_class result",
    "proxmox_operator_proxmox_task_seconds": "histogram cluster type outcome",
    "proxmox_operator_proxmox_tasks_running": "gauge cluster",
    "proxmox_operator_queue_delayed": "gauge",
    "proxmox_operator_queue_depth": "gauge",
    "proxmox_operator_queue_oldest_running_seconds": "gauge",
    "proxmox_operator_queue_retries_total": "counter kind",
    "proxmox_operator_queue_running": "gauge",
    "proxmox_operator_queue_wait_seconds": "histogram kind",
    "proxmox_operator_reconcile_seconds": "histogram kind result",
    "proxmox_operator_silent_nodes": "gauge cluster",
    "proxmox_operator_trace_spans_total": "counter result",
    "proxmox_operator_writes_frozen": "gauge cluster",
}
"""A change here breaks people's dashboards and alerts: it belongs into the CHANGELOG."""


class Stored:
    """Objects as the store has them."""

    def __init__(self, **objects: list[dict[str, Any]]) -> None:
        self.objects = objects

    def list(self, kind: str) -> list[dict[str, Any]]:
        return self.objects.get(kind, [])


class Leader:
    """An elector whose Lease lasts for 40 s."""

    leading = True
    fence = property(lambda self: self)

    def remaining(self) -> float:
        return 40.0 if self.leading else float("-inf")


def ago(**times: int) -> str:
    return (datetime.now(UTC) - timedelta(**times)).strftime("%Y-%m-%dT%H:%M:%SZ")


def thing(*, since: str | None = None, deleted: str | None = None, **conditions: str) -> dict[str, Any]:
    metadata = {"name": "it", "creationTimestamp": ago(hours=1)}
    if deleted is not None:
        metadata["deletionTimestamp"] = deleted
    told = [
        {"type": name, "status": status, "lastTransitionTime": since or ago(hours=9)}
        for name, status in conditions.items()
    ]
    return {"metadata": metadata, "status": {"conditions": told}}


def rendered(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    """Every gauge with a value, without its prefix: label values (in the order of their names) to value."""
    return {
        family.name.removeprefix("proxmox_operator_"): {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for sample in family.samples
        }
        for family in text_string_to_metric_families(metrics.render().decode())
    }


def test_no_metric_changes_its_name_or_labels_unseen():
    told = {family.name: " ".join((family.type, *family.labels)) for family in Metrics().families()}
    assert told == NAMES


def test_what_prometheus_reads_are_just_these_metrics():
    metrics = Metrics()
    metrics.watch_objects(Stored(), ())
    text = metrics.render().decode()
    types = dict(line.split()[2:4] for line in text.splitlines() if line.startswith("# TYPE"))
    assert types == {name: told.split()[0] for name, told in NAMES.items()}


@pytest.mark.parametrize("family", Metrics().families(), ids=lambda family: family.name)
def test_a_name_follows_the_conventions_of_prometheus(family):
    """https://prometheus.io/docs/practices/naming: base units, `_total` for counters and for nothing else."""
    assert family.name.endswith("_total") == (family.type == "counter")
    assert family.name.startswith(("proxmox_operator_", "process_"))
    assert family.type != "histogram" or family.name.endswith("_seconds")
    assert not family.name.endswith(("_ms", "_milliseconds", "_percent", "_count", "_sum", "_bucket"))
    assert family.text.endswith(".")
    assert {"name", "namespace", "node", "vmid", "uid", "message", "path", "reason"}.isdisjoint(family.labels)


def test_objects_are_counted_by_condition_and_by_where_they_stand():
    metrics = Metrics()
    stored = Stored(
        ProxmoxVM=[
            thing(Ready="True", Reconciling="False", Stalled="False"),
            thing(Ready="True", Reconciling="False", Stalled="False"),
            thing(Ready="False", Reconciling="True", Stalled="False"),
            thing(Ready="False", Reconciling="False", Stalled="True", RestartRequired="True"),
            thing(Ready="Unknown", Paused="True", Stalled="True"),
            {"metadata": {"name": "new", "creationTimestamp": ago(minutes=1)}},
        ]
    )
    metrics.watch_objects(stored, ("ProxmoxVM", "VMTemplate"))
    found = rendered(metrics)
    assert found["objects"] == {("ProxmoxVM",): 6, ("VMTemplate",): 0}
    ready = {
        labels[2:]: count for labels, count in found["object_conditions"].items() if labels[0] == "Ready"
    }
    assert ready == {
        ("settled", "True"): 2,
        ("progressing", "False"): 1,
        ("stalled", "False"): 1,
        ("paused", "Unknown"): 1,
    }
    assert found["object_conditions"]["RestartRequired", "ProxmoxVM", "stalled", "True"] == 1


def test_each_condition_that_the_code_sets_is_a_label_value():
    code = "".join(path.read_text() for path in Path(proxmox_operator.__path__[0]).rglob("*.py"))
    spoken = r'set_condition\(\s*\w+,\s*"(\w+)"|found\["([A-Z]\w+)"\]|found = \{"([A-Z]\w+)"|"([A-Z]\w+)": _\w+\(facts'
    summary = r'\("(Ready|Reconciling|Stalled)", verdict\.|^(PAUSED) = "Paused"'
    told = {name for match in re.findall(f"{spoken}|{summary}", code, re.M) for name in match if name}
    assert {"Paused" if name == "PAUSED" else name for name in told} == CONDITIONS


def test_a_condition_that_somebody_invented_makes_no_label_value_of_its_own():
    metrics = Metrics()
    metrics.watch_objects(
        Stored(ProxmoxVM=[thing(**{f"Mine{number}": "True" for number in range(50)}, Odd="Maybe")]),
        ("ProxmoxVM",),
    )
    assert rendered(metrics)["object_conditions"] == {("Other", "ProxmoxVM", "settled", "True"): 50}


def test_the_longest_time_without_being_ready_leaves_out_what_is_paused_or_being_deleted():
    metrics = Metrics()
    stored = Stored(
        ProxmoxVM=[
            thing(Ready="True", since=ago(days=9)),
            thing(Ready="Unknown", Paused="True", since=ago(days=8)),
            thing(Ready="False", since=ago(days=7), deleted=ago(minutes=40)),
            thing(Ready="False", since=ago(days=7), deleted=ago(minutes=10)),
            thing(Ready="False", since=ago(minutes=20)),
        ],
        VMTemplate=[thing()],
    )
    metrics.watch_objects(stored, ("ProxmoxVM", "VMTemplate", "ProxmoxCluster"))
    found = rendered(metrics)
    assert found["deleting_objects"] == {("ProxmoxVM",): 2, ("VMTemplate",): 0, ("ProxmoxCluster",): 0}
    assert found["oldest_deletion_seconds"]["ProxmoxVM",] == pytest.approx(2400, abs=30)
    waiting = found["oldest_not_ready_seconds"]
    assert waiting["ProxmoxVM",] == pytest.approx(1200, abs=30)
    assert waiting["VMTemplate",] == pytest.approx(3600, abs=30), "without a condition: since it was made"
    assert waiting["ProxmoxCluster",] == 0


def test_only_the_leader_counts_objects_and_keys():
    class Queue:
        depth, delayed, running = 3, 2, 0

        def oldest_running(self) -> float:
            return 0.0

    metrics, leader = Metrics(), Leader()
    metrics.watch_objects(Stored(ProxmoxVM=[thing(Ready="True")]), ("ProxmoxVM",))
    metrics.watch_queue(Queue())
    metrics.watch_leader(leader)
    found = rendered(metrics)
    assert (found["leader"][()], found["lease_remaining_seconds"][()]) == (1, 40)
    assert (found["objects"]["ProxmoxVM",], found["queue_depth"][()], found["queue_delayed"][()]) == (1, 3, 2)
    leader.leading = False
    found = rendered(metrics)
    assert (found["leader"][()], found["lease_remaining_seconds"][()]) == (0, 0)
    assert (found["objects"], found["queue_depth"][()], found["queue_delayed"][()]) == ({}, 0, 0)


def test_a_cluster_tells_its_limits_and_circuits_until_it_is_forgotten():
    metrics = Metrics()
    figures = Figures(
        inventory_age=float("inf"),
        frozen=True,
        endpoints={"usable": 2, "silent": 1},
        silent_nodes=1,
        tasks=5,
        limits={"calls_per_node": Usage(4, 4, 7), "threads": Usage(8, 5, 0)},
    )
    metrics.watch_cluster("lab", lambda: figures)
    metrics.pve_call("lab", "GET", "cluster/resources", "ok", 0.1)
    metrics.pve_call("other", "GET", "cluster/resources", "ok", 0.1)
    metrics.task_ended("lab", "qmclone", "Ok", 2.0)
    found = rendered(metrics)
    assert found["inventory_age_seconds"] == {("lab",): float("inf")}
    assert found["endpoints"] == {("lab", "usable"): 2, ("lab", "silent"): 1}
    assert (found["writes_frozen"], found["silent_nodes"]) == ({("lab",): 1}, {("lab",): 1})
    assert found["proxmox_tasks_running"] == {("lab",): 5}
    assert found["limit"] == {("lab", "calls_per_node"): 4, ("lab", "threads"): 8}
    assert found["limit_used"] == {("lab", "calls_per_node"): 4, ("lab", "threads"): 5}
    assert found["limit_waiting"] == {("lab", "calls_per_node"): 7, ("lab", "threads"): 0}
    metrics.forget_cluster("lab")
    text = metrics.render().decode()
    assert '"lab"' not in text
    assert '"other"' in text


def test_the_first_bug_of_a_kind_is_an_increase():
    metrics = Metrics()
    metrics.watch_objects(Stored(), ("ProxmoxVM", "VMTemplate"))
    assert rendered(metrics)["handler_bugs"] == {("ProxmoxVM",): 0, ("VMTemplate",): 0}


def test_there_are_no_series_of_when_a_metric_was_created():
    metrics = Metrics()
    metrics.reconciled("ProxmoxVM", "done", 0.1)
    assert "_created" not in metrics.render().decode()


def test_counting_five_thousand_objects_takes_no_time_that_anybody_notices():
    """In processor time, with room for a busy machine: some 30 ms here."""
    metrics = Metrics()
    many = [
        thing(Ready="False", Reconciling="True", Stalled="False", Provisioned="True", Synced="True")
        for _ in range(5000)
    ]
    metrics.watch_objects(Stored(ProxmoxVM=many), ("ProxmoxVM",))
    began = time.process_time()
    metrics.render()
    assert time.process_time() - began < 0.5
