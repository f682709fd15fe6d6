"""What the API server itself lets through and refuses, by our CRDs alone: the operator does not run here.

Each wrong manifest must be refused for one cause only, and each constraint of the schema must be that cause for
one of them. So the manifest passes once the constraint is gone, and a test fails. For rules over several
fields that is tried out as well.
"""

import itertools
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from admission.constraints import (
    Cause,
    Constraint,
    Json,
    constraints,
    is_because_of,
    recorded,
    violation,
    without,
)
from admission.server import Server, expected_refusal, manifests
from controlplane import Cluster
from proxmox_operator.api import crds
from proxmox_operator.api.names import VERSION

CRDS = {crd["spec"]["names"]["kind"]: crd for crd in map(yaml.safe_load, crds.files().values())}
ALL = recorded()
EXAMPLES = Path(__file__).resolve().parents[2] / "manifests" / "examples"
GOOD, BAD = manifests("good"), manifests("bad")

NOW = "2026-11-23T12:00:00Z"
READY = {"type": "Ready", "status": "True", "reason": "Running", "message": "", "lastTransitionTime": NOW}
WHOLE: dict[str, Json] = {
    "ProxmoxVM": GOOD["vm-everything"][0]
    | {
        "status": {
            "conditions": [READY],
            "provisioning": {"sourceNode": "pve1", "sourceVmid": 9000, "full": True, "since": NOW},
            "task": {"action": "clone", "node": "pve1", "since": NOW},
            "power": "Running",
            "networks": [{"name": "net0", "mac": "BC:24:11:0A:1B:2C"}],
            "disks": [
                {
                    "name": "data",
                    "slot": "scsi1",
                    "volume": "ceph:vm-10500-disk-1",
                    "size": "100Gi",
                    "onRemove": "Delete",
                }
            ],
            "detachedDisks": [{"name": "old", "volume": "ceph:vm-10500-disk-2"}],
            "restart": {"cause": "token=1", "phase": "Stopping", "since": NOW},
            "seed": {
                "volume": "local:iso/pvm-seed-10500-1b2c3d4e.iso",
                "node": "pve1",
                "phase": "Uploaded",
                "since": NOW,
                "madeFrom": "5e3f",
            },
            "template": {"name": "debian-12", "version": "0123456789", "linked": True},
        }
    },
    "VMTemplate": GOOD["template-everything"][0]
    | {
        "status": {
            "conditions": [READY],
            "copies": [
                {
                    "node": "pve1",
                    "vmid": 10000,
                    "uuid": "6a1c9c53-3f0e-4c7d-9d0b-1f6f5a0c7e11",
                    "version": "0123456789",
                    "storage": "ceph",
                    "state": "Building",
                    "since": NOW,
                    "build": {"phase": "Running", "begun": NOW},
                }
            ],
            "images": [{"node": "pve1", "volume": "local:import/debian-12-0123456789abcdef.qcow2"}],
        }
    },
    "ProxmoxCluster": GOOD["cluster-everything"][0]
    | {"status": {"conditions": [READY], "nodes": [{"name": "pve1", "online": True}]}},
}
"""A right object of each kind with a status in which every field that has a constraint is set."""

RIGHT = sorted(
    (documents[0] for documents in GOOD.values() if len(documents) == 1), key=lambda each: len(str(each))
)
RIGHT += WHOLE.values()
GENERATED = {
    constraint: wrong
    for constraint in ALL
    if (wrong := violation(constraint, (each for each in RIGHT if each["kind"] == constraint.kind)))
    is not None
}


CROSS_FIELD = [constraint for constraint in ALL if constraint not in GENERATED]
VERSIONS = {rule: f"v{number}" for number, rule in enumerate(CROSS_FIELD, start=1)}
VERSIONS_OF_A_CRD = 20
"""What is stored as one object in etcd, which takes 1.5 MiB."""


@pytest.fixture(scope="module")
def server(control_plane: Cluster) -> Iterator[Server]:
    namespace = f"admission-{uuid.uuid4().hex[:8]}"
    control_plane.create_namespace(namespace)
    server = Server.connect(control_plane.kubeconfig, namespace)
    yield server
    server.close()
    control_plane.delete_namespace(namespace)


@pytest.fixture(scope="module")
def refusals(server: Server) -> dict[str | Constraint, tuple[Cause, ...]]:
    """What each wrong manifest, written or generated, is refused for."""
    found: dict[str | Constraint, tuple[Cause, ...]] = {}
    for name, documents in BAD.items():
        found[name] = server.ask_all(documents)
    for constraint, manifest in GENERATED.items():
        if constraint.in_status:
            found[constraint] = server.ask_status(WHOLE[constraint.kind], manifest["status"])
        else:
            found[constraint] = server.ask(manifest)
    return found


def kind_of(wrong: str | Constraint) -> str:
    """The kind that a wrong manifest is of."""
    return wrong.kind if isinstance(wrong, Constraint) else str(BAD[wrong][0]["kind"])


def test_the_committed_crds_are_served_and_structural(control_plane: Cluster, server: Server):
    for crd in CRDS.values():
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{crd['metadata']['name']}"
        _, stored = server.send("GET", path)
        conditions = {entry["type"]: entry["status"] for entry in stored["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}


@pytest.mark.parametrize("name", GOOD)
def test_a_right_manifest_is_accepted(server: Server, name: str):
    assert server.ask_all(GOOD[name]) == ()


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_an_example_is_accepted(server: Server, name: str):
    for manifest in yaml.safe_load_all((EXAMPLES / name).read_text(encoding="utf-8")):
        if manifest["kind"] in CRDS:
            assert server.ask(manifest) == ()


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_manifest_is_refused_with_the_field_and_the_remedy(
    refusals: dict[str | Constraint, tuple[Cause, ...]], name: str
):
    field, fragment = expected_refusal(name)
    (cause,) = refusals[name]
    assert cause.field == field
    assert fragment in cause.message


@pytest.mark.parametrize("constraint", GENERATED, ids=str)
def test_a_constraint_refuses_the_value_that_breaks_only_it(
    refusals: dict[str | Constraint, tuple[Cause, ...]], constraint: Constraint
):
    (cause,) = refusals[constraint]
    assert is_because_of(cause, constraint), cause


def test_the_record_of_constraints_is_that_of_the_schema():
    """A change that is meant is recorded with `PYTHONPATH=operator:tests python -m admission.constraints`."""
    found = [constraint.record for crd in CRDS.values() for constraint in constraints(crd)]
    assert found == [constraint.record for constraint in ALL]


def test_every_constraint_is_the_one_cause_of_a_refusal(refusals: dict[str | Constraint, tuple[Cause, ...]]):
    causes = [(kind_of(wrong), found[0]) for wrong, found in refusals.items() if len(found) == 1]
    unproven = [
        str(constraint)
        for constraint in ALL
        if not any(kind == constraint.kind and is_because_of(cause, constraint) for kind, cause in causes)
    ]
    assert unproven == []


@pytest.fixture(scope="module")
def mutants(server: Server) -> Iterator[dict[Constraint, Server]]:
    """For each rule over several fields an API that lacks just that rule."""
    groups: dict[Constraint, str] = {}
    for kind, crd in CRDS.items():
        rules = [rule for rule in CROSS_FIELD if rule.kind == kind]
        for some in itertools.batched(rules, VERSIONS_OF_A_CRD):
            group = f"without-{uuid.uuid4().hex[:8]}.proxmox-operator.test"
            schemas = {VERSIONS[rule]: without(crd, rule) for rule in some}
            server.variant(group, VERSION).install(crd, schemas)
            groups |= dict.fromkeys(some, group)
    yield {rule: server.variant(group, VERSIONS[rule]) for rule, group in groups.items()}
    for kind, group in {(rule.kind, group) for rule, group in groups.items()}:
        server.variant(group, VERSION).uninstall(kind)


@pytest.mark.timeout(300)  # the first one waits for all the APIs
@pytest.mark.parametrize("rule", CROSS_FIELD, ids=str)
def test_without_the_rule_its_wrong_manifest_passes(
    refusals: dict[str | Constraint, tuple[Cause, ...]], mutants: dict[Constraint, Server], rule: Constraint
):
    wrong = [name for name in BAD if kind_of(name) == rule.kind and is_because_of(refusals[name][0], rule)]
    assert wrong
    for name in wrong:
        assert mutants[rule].ask_all(BAD[name]) == ()
