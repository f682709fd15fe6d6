"""Our kinds as people and the operator meet them on a real API server: defaults, kubectl, and what is read back."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from admission.constraints import Json
from admission.server import Server, manifests
from controlplane import Cluster
from proxmox_operator.api import (
    ClusterStatus,
    Condition,
    DetachedDisk,
    DiskStatus,
    NetworkStatus,
    NodeStatus,
    Provisioning,
    ProxmoxCluster,
    ProxmoxVM,
    Restart,
    SeedStatus,
    Task,
    TemplateCopy,
    TemplateImage,
    TemplateStatus,
    TemplateUsed,
    VMStatus,
    VMTemplate,
)

GOOD = manifests("good")
MINIMAL: dict[str, Json] = {
    "ProxmoxVM": GOOD["vm-minimal"][0],
    "ProxmoxCluster": GOOD["cluster-minimal"][0],
    "VMTemplate": GOOD["template-minimal"][0],
}
KINDS: dict[str, type[ProxmoxVM] | type[ProxmoxCluster] | type[VMTemplate]] = {
    "ProxmoxVM": ProxmoxVM,
    "ProxmoxCluster": ProxmoxCluster,
    "VMTemplate": VMTemplate,
}

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
numbers = st.integers(min_value=-(2**53), max_value=2**53)
times = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))


def filled(model: type[BaseModel], **fields: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Objects of a model whose optional fields may be left out."""
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    optional = {name: value for name, value in fields.items() if name not in required}
    given_fields = {name: value for name, value in fields.items() if name in required}
    return st.fixed_dictionaries(given_fields, optional=optional).map(lambda values: model(**values))


def listed(items: st.SearchStrategy[object], key: str | None = None) -> st.SearchStrategy[tuple[object, ...]]:
    unique = (lambda item: getattr(item, key)) if key else None
    return st.lists(items, max_size=3, unique_by=unique).map(tuple)


conditions = listed(
    filled(
        Condition,
        type=text,
        status=st.sampled_from(["True", "False", "Unknown"]),
        observed_generation=numbers,
        last_transition_time=times,
        reason=text,
        message=text,
    ),
    "type",
)
STATUSES = {
    "ProxmoxVM": filled(
        VMStatus,
        observed_generation=numbers,
        conditions=conditions,
        cluster=text,
        vmid=numbers,
        uuid=text,
        node=text,
        provisioning=filled(
            Provisioning, source_node=text, source_vmid=numbers, full=st.booleans(), storage=text, since=times
        ),
        task=filled(Task, action=text, upid=text, node=text, since=times),
        started=st.booleans(),
        power=st.sampled_from(["Running", "Stopped", "Paused", "Unknown"]),
        addresses=listed(text),
        networks=listed(filled(NetworkStatus, name=text, mac=text), "name"),
        disks=listed(filled(DiskStatus, name=text, slot=text, volume=text, size=text), "name"),
        detached_disks=listed(filled(DetachedDisk, name=text, volume=text), "name"),
        template=filled(TemplateUsed, name=text, version=text, linked=st.booleans()),
        seed=filled(
            SeedStatus,
            volume=text,
            node=text,
            phase=st.sampled_from(["Uploading", "Uploaded", "Emptying", "Emptied", "Removed"]),
            since=times,
            made_from=text,
        ),
        cloud_init_done=st.booleans(),
        restart=filled(Restart, cause=text, phase=st.sampled_from(["Stopping", "Starting"]), since=times),
        restarted_for=text,
        moved_to=text,
        managed=listed(text),
        tags=listed(text),
        protection_set=st.booleans(),
        password_from=text,
        plan=listed(text),
    ),
    "ProxmoxCluster": filled(
        ClusterStatus,
        observed_generation=numbers,
        conditions=conditions,
        version=text,
        cluster_name=text,
        ca_fingerprint=text,
        nodes=listed(filled(NodeStatus, name=text, online=st.booleans(), cpus=numbers, memory=text), "name"),
        node_count=numbers,
        vmid_cursor=numbers,
    ),
    "VMTemplate": filled(
        TemplateStatus,
        observed_generation=numbers,
        conditions=conditions,
        cluster=text,
        version=text,
        versions=listed(text),
        copies=listed(
            filled(
                TemplateCopy,
                node=text,
                vmid=numbers,
                uuid=text,
                version=text,
                storage=text,
                state=st.sampled_from(["Creating", "Converting", "Ready", "Removing"]),
                since=times,
                upid=text,
            ),
            "vmid",
        ),
        copies_ready=text,
        images=listed(filled(TemplateImage, node=text, volume=text)),
    ),
}


@pytest.fixture(scope="module")
def server(control_plane: Cluster) -> Iterator[Server]:
    namespace = f"crds-{uuid.uuid4().hex[:8]}"
    control_plane.create_namespace(namespace)
    server = Server.connect(control_plane.kubeconfig, namespace)
    yield server
    server.close()
    control_plane.delete_namespace(namespace)


@pytest.mark.parametrize("name", GOOD)
def test_what_is_read_and_written_again_is_the_same_to_the_api_server(server: Server, name: str):
    for manifest in GOOD[name]:
        kind = KINDS[manifest["kind"]]
        stored = server.dry_create(manifest)
        spec = kind.parse(stored).spec
        again = server.dry_create(manifest | {"spec": spec.model_dump(mode="json", exclude_none=True)})
        assert kind.parse(again).spec == spec
        bare = server.dry_create(manifest | {"spec": spec.model_dump(mode="json", exclude_defaults=True)})
        assert kind.parse(bare).spec == spec


@pytest.mark.parametrize("kind", STATUSES)
def test_every_status_that_can_be_written_is_accepted_and_read_back_as_it_was(server: Server, kind: str):
    manifest = MINIMAL[kind] | {"metadata": {"name": "told"}}
    server.store(manifest)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(STATUSES[kind])
    def check(status: VMStatus | ClusterStatus | TemplateStatus) -> None:
        answer = server.dry_status(manifest, status.dump())
        assert KINDS[kind].parse(answer).status == status
        assert answer.get("status", {}) == status.dump()

    check()
    server.delete(manifest)


def test_defaults_are_shown_where_they_apply_and_nowhere_else(server: Server):
    spec = server.dry_create(MINIMAL["ProxmoxVM"])["spec"]
    assert spec == {
        "source": {"clone": {"vmid": 9000}},
        "updates": {"restart": "Never"},
        "readiness": {"agent": False, "cloudInit": False},
        "shutdown": {"gracePeriod": "3m", "force": True},
        "detachedDisks": "Keep",
        "management": "Manage",
    }
    spec = server.dry_create(MINIMAL["ProxmoxCluster"])["spec"]
    assert spec == {
        "endpoints": ["https://pve1:8006"],
        "credentialsSecretRef": {"name": "lab-token"},
        "tls": {"insecureSkipVerify": False},
        "default": False,
        "vmidRange": {"start": 10000, "end": 19999},
        "limits": {
            "callsPerNode": 4,
            "allocationsPerStorage": 2,
            "configReadsPerSecond": 3,
            "pollInterval": "5s",
        },
        "lost": False,
    }


def test_items_of_lists_are_stored_as_they_were_written(server: Server):
    """Argo CD compares lists as a whole: a default in an item would be a difference for ever."""
    written = {"disks": [{"name": "data", "size": "1Gi"}], "networks": [{"name": "net0"}]}
    manifest = MINIMAL["ProxmoxVM"]
    stored = server.dry_create(manifest | {"spec": manifest["spec"] | written})["spec"]
    assert {field: stored[field] for field in written} == written


def test_kubectl_explains_each_field_in_a_sentence_with_unit_and_default(control_plane: Cluster):
    explained = control_plane.kubectl("explain", "proxmoxvm.spec.networks", check=True).stdout
    words = " ".join(explained.split())
    assert "VLAN tag of the traffic, 1 to 4094. Default: untagged." in words
    assert "Largest packet in bytes, 576 to 65520, or 1 for that of the bridge; VirtIO only." in words
    words = " ".join(control_plane.kubectl("explain", "pvm.spec.shutdown", check=True).stdout.split())
    assert "from 1s to 1h, such as 90s or 3m. Default: 3m." in words


def test_kubectl_refuses_a_misspelt_field(control_plane: Cluster):
    manifest = MINIMAL["ProxmoxVM"]
    wrong = json.dumps(manifest | {"spec": manifest["spec"] | {"memroy": {"size": "1Gi"}}})
    done = control_plane.kubectl("apply", "--dry-run=server", "-f", "-", input=wrong)
    assert done.returncode != 0
    assert 'unknown field "spec.memroy"' in done.stderr


def test_kubectl_shows_and_selects_virtual_machines_by_what_matters(control_plane: Cluster, server: Server):
    condition = {"type": "Ready", "status": "False", "reason": "Cloning", "message": "the source is cloned"}
    status = {
        "conditions": [condition | {"lastTransitionTime": "2026-11-23T12:00:00Z"}],
        "power": "Stopped",
        "node": "pve2",
        "vmid": 10042,
        "cluster": "lab",
        "addresses": ["10.0.20.11", "10.0.20.12"],
    }
    manifest = MINIMAL["ProxmoxVM"] | {"metadata": {"name": "shown"}, "status": status}
    server.store(manifest)
    get = ("get", "pvm", "-n", server.namespace)
    header, row = control_plane.kubectl(*get, check=True).stdout.splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "POWER", "NODE", "VMID", "IP", "AGE"]
    assert row.split()[:-1] == ["shown", "False", "Cloning", "Stopped", "pve2", "10042", "10.0.20.11"]
    wide = control_plane.kubectl(*get, "-o", "wide", check=True).stdout
    assert "lab" in wide
    assert "the source is cloned" in wide
    for selector, shown in {
        "status.node=pve2": True,
        "status.node=pve1": False,
        "status.vmid=10042": True,
    }.items():
        found = control_plane.kubectl(*get, "-o", "name", "--field-selector", selector, check=True).stdout
        assert ("shown" in found) is shown
    assert "shown" in control_plane.kubectl("get", "proxmox", "-n", server.namespace, check=True).stdout
    server.delete(manifest)


def test_kubectl_shows_clusters_by_what_matters(control_plane: Cluster, server: Server):
    condition = {"type": "Ready", "status": "True", "reason": "Connected", "message": "all is well"}
    status = {
        "conditions": [condition | {"lastTransitionTime": "2026-11-23T12:00:00Z"}],
        "version": "9.2.11",
        "nodeCount": 3,
    }
    manifest = MINIMAL["ProxmoxCluster"] | {"status": status}
    name = server.store(manifest)
    header, row = control_plane.kubectl("get", "pvec", name, check=True).stdout.splitlines()
    assert header.split() == ["NAME", "READY", "REASON", "VERSION", "NODES", "AGE"]
    assert row.split()[:-1] == [name, "True", "Connected", "9.2.11", "3"]
    server.delete(manifest)
