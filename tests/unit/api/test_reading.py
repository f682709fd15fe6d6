"""Reading stored objects: of this version, of an older or newer one, and broken ones."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.constraints import Json
from admission.server import manifests
from proxmox_operator import errors
from proxmox_operator.api import (
    ClusterStatus,
    InvalidObject,
    ProxmoxCluster,
    ProxmoxVM,
    Resource,
    VMStatus,
    VMTemplate,
)

GOOD = manifests("good")
BAD = manifests("bad")
KINDS: dict[str, type[Resource]] = {kind.kind: kind for kind in (ProxmoxCluster, ProxmoxVM, VMTemplate)}
NOW = "2026-11-23T12:00:00Z"
STATUS: Json = {
    "observedGeneration": 3,
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "Running", "message": "", "lastTransitionTime": NOW}
    ],
    "cluster": "lab",
    "vmid": 10001,
    "uuid": "5f1c7a52-6a0f-4d24-9b5e-0f6c2f3d9a10",
    "node": "pve1",
    "provisioning": {"sourceNode": "pve1", "sourceVmid": 9000, "full": False, "since": NOW},
    "task": {
        "action": "clone",
        "upid": "UPID:pve1:0",
        "node": "pve1",
        "since": "2026-11-23T12:00:00.250000Z",
    },
    "started": True,
    "addresses": ["10.0.20.11"],
    "disks": [{"name": "data", "slot": "scsi1", "volume": "ceph:vm-10001-disk-1", "size": "100Gi"}],
    "plan": ["cores: 2 -> 4"],
}


def vm(**changes: Any) -> Json:
    return copy.deepcopy(GOOD["vm-minimal"][0]) | changes


def test_an_object_is_read_with_its_metadata_defaults_and_status():
    metadata = {
        "name": "web-1",
        "namespace": "shop",
        "uid": "1234",
        "generation": 3,
        "resourceVersion": "42",
        "deletionTimestamp": NOW,
        "finalizers": ["a"],
        "annotations": {"b": "c"},
        "labels": {"d": "e"},
        "managedFields": [{}],
    }
    read = ProxmoxVM.parse(vm(metadata=metadata, status=STATUS))
    assert (read.metadata.namespace, read.metadata.name, read.metadata.resource_version) == (
        "shop",
        "web-1",
        "42",
    )
    assert read.metadata.deletion_timestamp is not None
    assert (read.metadata.finalizers, read.metadata.annotations, read.metadata.labels) == (
        ("a",),
        {"b": "c"},
        {"d": "e"},
    )
    assert (read.spec.wanted_power, read.spec.shutdown.grace_period) == ("Running", "3m")
    assert (read.status.vmid, read.status.started) == (10001, True)


def test_a_cluster_scoped_object_has_an_empty_namespace():
    assert ProxmoxCluster.parse(GOOD["cluster-minimal"][0]).metadata.namespace == ""


def test_what_is_left_out_of_an_item_of_a_list_has_proxmoxs_default():
    spec = vm()["spec"] | {"disks": [{"name": "data", "size": "1Gi"}], "networks": [{"name": "net0"}]}
    read = ProxmoxVM.parse(vm(spec=spec)).spec
    assert (read.disks[0].backup, read.disks[0].discard, read.disks[0].cache) == (True, False, None)
    assert (read.networks[0].model, read.networks[0].connected, read.networks[0].firewall) == (
        "VirtIO",
        True,
        False,
    )


def test_fields_of_a_newer_version_are_ignored():
    spec = vm()["spec"] | {"availability": {"ha": True}}
    read = ProxmoxVM.parse(vm(spec=spec, status=STATUS | {"security": {"score": 9}}))
    assert read.status == VMStatus.model_validate(STATUS)


def test_a_source_of_a_newer_version_is_no_source_and_says_so():
    with pytest.raises(InvalidObject, match=r"spec\.source: no source that this version"):
        ProxmoxVM.parse(vm(spec={"source": {"blank": {"iso": "local:iso/x.iso"}}}))


def test_a_malformed_object_is_refused_with_every_field_named_and_no_value_repeated():
    spec = {
        "source": {"clone": {"vmid": 5}},
        "power": "secret-a",
        "disks": [{"name": "data", "size": "secret-b"}, {"size": "1Gi"}],
        "memory": "secret-c",
    }
    with pytest.raises(InvalidObject) as caught:
        ProxmoxVM.parse(vm(spec=spec))
    assert isinstance(caught.value, errors.NeedsHuman)
    assert caught.value.reason == "InvalidSpec"
    fields = (
        "spec.source.clone.vmid: ",
        "spec.power: ",
        "spec.disks[0].size: ",
        "spec.disks[1].name: ",
        "spec.memory: ",
    )
    assert all(field in caught.value.message for field in fields)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("raw", [{}, {"metadata": {"name": "a"}}, {"metadata": {"name": "a"}, "spec": []}])
def test_an_object_without_a_spec_is_refused(raw: Json):
    with pytest.raises(InvalidObject, match="spec: "):
        ProxmoxVM.parse(raw)


def test_a_wrong_pattern_is_refused_on_reading_as_it_is_at_admission():
    """A storage or bridge name ends up in a property string, so it is checked on both ways in."""
    for name in ("vm-disk-storage-with-an-option-smuggled-in", "vm-bridge-with-an-option-smuggled-in"):
        with pytest.raises(InvalidObject, match=r"spec\.(disks|networks)\[0\]\.(storage|bridge): "):
            ProxmoxVM.parse(BAD[name][0])


def test_a_pattern_matches_the_whole_text_as_it_does_at_admission():
    spec = vm()["spec"] | {"disks": [{"name": "data\n", "size": "1Gi"}]}
    with pytest.raises(InvalidObject, match=r"spec\.disks\[0\]\.name"):
        ProxmoxVM.parse(vm(spec=spec))


@pytest.mark.parametrize("name", GOOD)
def test_every_right_manifest_can_be_read(name: str):
    for manifest in GOOD[name]:
        assert KINDS[manifest["kind"]].parse(manifest).metadata.name == manifest["metadata"]["name"]


def test_a_status_field_that_does_not_fit_is_dropped_and_the_others_stay():
    broken = STATUS | {"vmid": "many", "power": "Dancing", "disks": {"data": "scsi1"}}
    kept = {key: value for key, value in STATUS.items() if key not in ("vmid", "disks")}
    assert ProxmoxVM.parse(vm(status=broken)).status == VMStatus.model_validate(kept)


def test_an_entry_of_a_status_list_that_does_not_fit_is_dropped_alone():
    broken = STATUS | {
        "conditions": [{"type": "Old"}, *STATUS["conditions"], 7],
        "addresses": [1, "10.0.0.1"],
    }
    status = ProxmoxVM.parse(vm(status=broken)).status
    assert [condition.type for condition in status.conditions] == ["Ready"]
    assert status.addresses == ("10.0.0.1",)


def test_an_optional_field_inside_a_block_is_dropped_without_the_block():
    task = STATUS["task"] | {"upid": 5}
    assert ProxmoxVM.parse(vm(status=STATUS | {"task": task})).status.task.upid is None


def test_a_block_that_lacks_a_required_field_is_dropped_whole():
    status = ProxmoxVM.parse(vm(status=STATUS | {"task": {"action": "clone"}})).status
    assert status.task is None
    assert status.vmid == 10001


@pytest.mark.parametrize("status", [None, [], "x", 5, {}, {"conditions": None}])
def test_a_status_that_is_none_at_all_is_an_empty_one(status: Any):
    assert ProxmoxVM.parse(vm(status=status)).status == VMStatus()


def test_a_status_is_written_as_it_was_read():
    assert VMStatus.model_validate(STATUS).dump() == STATUS


def test_what_says_nothing_is_left_out_of_a_status():
    assert VMStatus(started=False, tags=(), plan=(), node=None).dump() == {}
    assert ClusterStatus(cluster_name="").dump() == {"clusterName": ""}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(NOW),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    [*STATUS, "power", "networks", "tags", "passwordFrom", "password_from", "protectionSet", "new"]
)


@st.composite
def damaged_statuses(draw: st.DrawFn) -> Json:
    """A right status with anything put in places of it, some of them deep inside."""
    status = copy.deepcopy(STATUS)
    for _ in range(draw(st.integers(1, 4))):
        place: Any = status
        key: Any = draw(fields)
        while isinstance(place.get(key) if isinstance(place, dict) else place[key], dict | list):
            inside = place[key]
            if not inside or draw(st.booleans()):
                break
            place, key = inside, draw(st.sampled_from(list(inside) if isinstance(inside, dict) else [0]))
        place[key] = draw(json_values)
    return status


@given(damaged_statuses())
def test_no_status_whatever_can_keep_an_object_from_being_read(status: Json):
    read = ProxmoxVM.parse(vm(status=status)).status
    assert VMStatus.model_validate(read.dump()) == read
    for field, value in STATUS.items():
        if status.get(field) == value:
            assert read.dump()[field] == value


@given(json_values)
def test_no_value_whatever_raises_anything_but_invalid_object(value: Any):
    for raw in (
        {"metadata": value, "spec": value, "status": value},
        {"metadata": {"name": "a"}, "spec": value},
    ):
        for kind in (ProxmoxVM, ProxmoxCluster):
            with pytest.raises(InvalidObject):
                kind.parse(raw)
