"""What the operator tells of its work: a trace for each pass, with its calls and writes, and figures of all objects."""

import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controlplane import Cluster
from harness.otlp import Collector, Span, collector
from harness.world import World

PASSWORD = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def traced_world(control_plane: Cluster) -> Iterator[tuple[World, Collector]]:
    """A world whose operator sends traces."""
    with (
        collector() as kept,
        World(control_plane, sim={"task_seconds": 0.05}, operator={"tracing_endpoint": kept.url}) as world,
    ):
        yield world, kept


@contextmanager
def traced(world: World, kept: Collector) -> Iterator[None]:
    """Around what is to be traced; afterwards everything has arrived."""
    with world.fresh():
        kept.spans.clear()
        yield
        world.restart()


def passes(kept: Collector, name: str) -> list[tuple[Span, list[Span]]]:
    """The passes over one VM."""
    found = kept.traces("reconcile ProxmoxVM")
    return [(root, calls) for root, calls in found if root.attributes["k8s.object.name"] == name]


def test_a_create_is_a_trace_for_each_pass_with_every_write_as_a_span(traced_world):
    world, kept = traced_world
    with traced(world, kept):
        world.set_secret(name="login", namespace=world.namespace, password=PASSWORD)
        cloud_init = {"user": "debian", "passwordSecretRef": {"name": "login"}}
        name = world.make(cpu={"cores": 2}, cloudInit=cloud_init)
        vmid = world.wait_ready(name)
        written = [(call.method, call.path.rsplit("/", 1)[-1]) for call in world.writes(vmid)]
    seen = passes(kept, name)
    assert {root.attributes["k8s.namespace.name"] for root, _ in seen} == {world.namespace}
    assert {root.attributes["k8s.object.generation"] for root, _ in seen} == {1}
    assert len({root.trace for root, _ in seen}) == len(seen), "each pass is a trace of its own"
    calls = list(chain.from_iterable(calls for _, calls in seen))
    told = [
        (call.attributes["http.request.method"], str(call.attributes["url.template"]).rsplit("/", 1)[-1])
        for call in calls
        if call.attributes.get("http.request.method", "GET") != "GET"
    ]
    assert told == written
    assert ("POST", "clone") in told
    assert ("POST", "start") in told
    [clone] = [call for call in calls if call.name == "POST clone"]
    assert str(clone.attributes["proxmox.upid"]).startswith("UPID:pve")
    assert ":qmclone:9000:" in str(clone.attributes["proxmox.upid"])
    assert clone.attributes["http.response.status_code"] == 200
    assert (clone.attributes["proxmox.cluster"], clone.attributes["proxmox.result"]) == (world.cluster, "ok")
    statuses = [call for call in calls if call.name == "replace proxmoxvms.proxmox-operator.io"]
    assert statuses, "the intent is written before the clone"
    assert statuses[0].ended <= clone.started
    for secret in (PASSWORD, world.sim.token_secret):
        assert not any(secret.encode() in body for body in kept.bodies)
    for root, children in seen:
        assert all(root.started <= call.started <= call.ended <= root.ended for call in children)


def test_a_call_that_proxmox_refuses_is_a_failed_span_with_its_status(traced_world):
    world, kept = traced_world
    with traced(world, kept):
        world.sim.fail(
            "POST", "/qemu/9000/clone", status=403, message="Permission check failed (/vms/9000, VM.Clone)"
        )
        name = world.make()
        world.wait_reason(name, "PermissionDenied")
    clones = [call for _, calls in passes(kept, name) for call in calls if call.name == "POST clone"]
    assert clones
    assert all(call.failed for call in clones)
    assert {call.attributes["http.response.status_code"] for call in clones} == {403}
    assert {call.attributes["proxmox.result"] for call in clones} == {"PermissionDenied"}
    assert not any("proxmox.upid" in call.attributes for call in clones)
    assert not any(b"VM.Clone" in body for body in kept.bodies), "error texts are not for collectors"


def test_the_figures_of_objects_and_limits_are_served(traced_world):
    world, _ = traced_world
    with world.fresh():
        ready, bad = world.make(), world.make(source={"clone": {"vmid": 8999}})
        world.wait_ready(ready)
        world.wait_until(lambda: world.condition(bad, "Stalled").status == "True", "it needs a person", bad)
        assert world.operator is not None
        assert world.operator.manager is not None
        port = world.operator.manager.health.port

        def figures() -> dict[tuple[str, ...], float]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
            return {
                (
                    sample.name.removeprefix("proxmox_operator_"),
                    *(sample.labels[key] for key in sorted(sample.labels)),
                ): (sample.value)
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }

        world.wait_until(lambda: figures()["objects", "ProxmoxVM"] == 2, "both are counted")
        told = figures()
    assert told["object_conditions", "Ready", "ProxmoxVM", "settled", "True"] == 1
    assert told["object_conditions", "Stalled", "ProxmoxVM", "stalled", "True"] == 1
    assert told["object_conditions", "Reachable", "ProxmoxCluster", "settled", "True"] == 1
    assert told["objects", "VMTemplate"] == 0
    assert told["leader",] == 1, "one without an election leads, too"
    assert told["endpoints", world.cluster, "usable"] == len(world.sim.urls)
    assert told["limit", world.cluster, "calls_per_node"] == 4
    assert told["limit", world.cluster, "allocations_per_storage"] == 2
    assert told["limit_waiting", world.cluster, "calls_per_node"] == 0
    assert told["inventory_age_seconds", world.cluster] < 5
