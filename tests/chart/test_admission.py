"""The ValidatingAdmissionPolicies of the chart, on a real API server: who may write what, and what is not deleted."""

import uuid
from typing import Any

import pytest
import yaml

from chart.conftest import NAMESPACE, Helm
from chartfiles import CHART
from controlplane import ControlPlane
from harness.account import ACCOUNT

INTERNAL = "internal.proxmox-operator.io/note"
AS_OPERATOR = ("--as", f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}", "--as-group", "system:masters")
"""The operator by name; the group is for kubectl, which reads before it writes."""


@pytest.fixture(scope="module")
def guarded(helm: Helm, server: ControlPlane) -> ControlPlane:
    helm(
        "install", "proxmox-operator", str(CHART), "-n", NAMESPACE, "--create-namespace",
        "--set", "admissionPolicy.enabled=true", cluster=server,
    )  # fmt: skip
    server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s", check=True)
    server.kubectl("create", "-f", "-", input=vm("probe", protection=True), check=True)
    # A policy is enforced a moment after it is made.
    annotated = vm("another", annotations={INTERNAL: "x"})
    said = ""
    for _ in range(200):
        said = server.kubectl("create", "--dry-run=server", "-f", "-", input=annotated).stderr
        said += server.kubectl("delete", "--dry-run=server", "pvm", "probe").stderr
        if "internal.proxmox-operator.io" in said and "is protected" in said:
            return server
    pytest.fail(f"the policies are not enforced: {said}")


def vm(name: str, *, annotations: dict[str, str] | None = None, **spec: Any) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "proxmox-operator.io/v1alpha1",
            "kind": "ProxmoxVM",
            "metadata": {"name": name, "namespace": "default", "annotations": annotations or {}},
            "spec": {"source": {"clone": {"vmid": 9000}}, **spec},
        }
    )


@pytest.fixture
def name() -> str:
    return f"vm-{uuid.uuid4().hex[:8]}"


@pytest.mark.parametrize("step", ["create", "add", "change", "remove"])
def test_a_person_cannot_write_the_operators_annotations(guarded: ControlPlane, name: str, step: str):
    if step == "create":
        done = guarded.kubectl("create", "-f", "-", input=vm(name, annotations={INTERNAL: "x"}))
    else:
        guarded.kubectl("create", "-f", "-", input=vm(name, annotations={"mine": "1"}), check=True)
        if step != "add":
            guarded.kubectl("annotate", "pvm", name, f"{INTERNAL}=x", *AS_OPERATOR, check=True)
        wanted = {"add": f"{INTERNAL}=y", "change": f"{INTERNAL}=y", "remove": f"{INTERNAL}-"}[step]
        done = guarded.kubectl("annotate", "--overwrite", "pvm", name, wanted)
    assert done.returncode != 0
    assert "annotations under internal.proxmox-operator.io/ are the operator's to write" in done.stderr


def test_a_person_can_change_everything_else_beside_them(guarded: ControlPlane, name: str):
    guarded.kubectl("create", "-f", "-", input=vm(name), check=True)
    guarded.kubectl("annotate", "pvm", name, f"{INTERNAL}=x", *AS_OPERATOR, check=True)
    guarded.kubectl("annotate", "pvm", name, "mine=1", check=True)
    guarded.kubectl("label", "pvm", name, "mine=1", check=True)
    guarded.kubectl("delete", "pvm", name, check=True)


def test_a_protected_vm_is_not_deleted_and_the_remedy_is_told(guarded: ControlPlane, name: str):
    guarded.kubectl("create", "-f", "-", input=vm(name, protection=True), check=True)
    done = guarded.kubectl("delete", "pvm", name)
    assert done.returncode != 0
    assert f"ProxmoxVM {name} is protected: set spec.protection to false first" in done.stderr
    guarded.kubectl("patch", "pvm", name, "--type=merge", "-p", '{"spec": {"protection": false}}', check=True)
    guarded.kubectl("delete", "pvm", name, check=True)


@pytest.mark.parametrize(
    "spec",
    [
        {"deletionPolicy": "Retain"},
        {"management": "Observe", "source": {"adopt": {"vmid": 104}}},
        {"source": {"adopt": {"vmid": 104}}},
    ],
    ids=["Retain", "Observe", "adopted"],
)
def test_a_protected_vm_that_would_stay_anyway_can_be_let_go(
    guarded: ControlPlane, name: str, spec: dict[str, Any]
):
    guarded.kubectl("create", "-f", "-", input=vm(name, protection=True, **spec), check=True)
    guarded.kubectl("delete", "pvm", name, check=True)


def test_an_adopted_vm_that_would_be_destroyed_is_protected_too(guarded: ControlPlane, name: str):
    text = vm(name, protection=True, source={"adopt": {"vmid": 104}}, deletionPolicy="Delete")
    guarded.kubectl("create", "-f", "-", input=text, check=True)
    assert "is protected" in guarded.kubectl("delete", "pvm", name).stderr
