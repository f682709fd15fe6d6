"""What the roles view, edit and admin of Kubernetes let people do with our kinds, once the chart is installed."""

from collections.abc import Iterator

import pytest

from chart.conftest import NAMESPACE, Helm
from chartfiles import CHART
from controlplane import ControlPlane
from harness.kubeapi import KubeApi
from harness.waiting import until
from proxmox_operator.api.names import GROUP
from proxmox_operator.kube.resources import Resource

REVIEWS = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", namespaced=False
)
KINDS = ("proxmoxvms", "vmtemplates", "proxmoxclusters")


@pytest.fixture(scope="module")
def peopled(helm: Helm, server: ControlPlane) -> Iterator[KubeApi]:
    """One person for each role, bound in one namespace and, as nothing forbids it, in the whole cluster."""
    helm("install", "proxmox-operator", str(CHART), "-n", NAMESPACE, "--create-namespace", cluster=server)
    for role in ("view", "edit", "admin"):
        for what in ("rolebinding", "clusterrolebinding"):
            person = f"{what}-{role}"
            server.kubectl("create", what, person, f"--clusterrole={role}", f"--user={person}", check=True)
    whole = [("view", "watch"), ("edit", "delete"), ("admin", "delete")]
    with KubeApi(server.kubeconfig) as kube:
        until(
            lambda: all(may(kube, f"rolebinding-{role}", verb, "proxmoxvms") for role, verb in whole),
            "the roles of Kubernetes are aggregated",
            seconds=20,
        )
        yield kube


def may(kube: KubeApi, person: str, verb: str, what: str) -> bool:
    """What `kubectl auth can-i --as` would say, without a process for each of a hundred questions."""
    kind, _, part = what.partition("/")
    wanted = {"group": GROUP, "resource": kind, "subresource": part, "verb": verb, "namespace": "default"}
    asked = {"user": person, "groups": ["system:authenticated"], "resourceAttributes": wanted}
    return bool(kube.create(REVIEWS, {"metadata": {}, "spec": asked})["status"]["allowed"])


@pytest.mark.parametrize("verb", ["get", "watch"])
@pytest.mark.parametrize("role", ["view", "edit", "admin"])
def test_whoever_may_look_at_a_namespace_may_look_at_its_vms(peopled: KubeApi, role: str, verb: str):
    assert may(peopled, f"rolebinding-{role}", verb, "proxmoxvms")


@pytest.mark.parametrize("verb", ["create", "patch", "delete"])
@pytest.mark.parametrize(("role", "allowed"), [("view", False), ("edit", True), ("admin", True)])
def test_whoever_may_edit_a_namespace_may_edit_its_vms(peopled: KubeApi, role: str, allowed: bool, verb: str):
    assert may(peopled, f"rolebinding-{role}", verb, "proxmoxvms") is allowed


@pytest.mark.parametrize("role", ["view", "edit", "admin"])
def test_nobody_is_granted_writes_to_what_belongs_to_the_whole_cluster_or_to_the_operator(
    peopled: KubeApi, role: str
):
    granted = [
        f"{verb} {kind}{part}"
        for kind in KINDS
        for part in ("", "/status")
        for verb in ("create", "update", "patch", "delete")
        if (kind, part) != ("proxmoxvms", "")
        and may(peopled, f"clusterrolebinding-{role}", verb, kind + part)
    ]
    assert granted == []
