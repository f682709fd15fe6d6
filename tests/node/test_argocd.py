"""The way of Argo CD, walked by a real one: one Application is applied by hand, all the rest comes from Git.

A person's own repositories are `manifests` and `charts` with what docs/gitops.md says to fill in. Argo CD's processes
are beside the node (see harness.argocd); the operator is the pod that Argo CD has installed.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from chartfiles import with_defaults
from harness.argocd import APPLICATIONS, NAMESPACE, ArgoCD, Git, State
from harness.conditions import condition_of, is_ready
from harness.kubeapi import KubeApi, Raw
from harness.operator import NAMESPACE as OPERATOR_NAMESPACE
from harness.waiting import until
from image import NAME
from imageserver import GIB, ImageServer, qcow2
from node import Node
from proxmox_operator import __version__
from proxmox_operator.kube.resources import PROXMOX_CLUSTERS, PROXMOX_VMS, SECRETS, VM_TEMPLATES
from pvesim import PveSim, VmState

ROOT = Path(__file__).resolve().parents[2]
APPS = "manifests/argocd/app-of-apps"
VMS = "manifests/gitops/vms"
REGISTRY = "registry.example.org"
FINALIZER = "resources-finalizer.argocd.argoproj.io"
WAVES = ("proxmox-operator", "proxmox-cluster", "proxmox-templates", "proxmox-vms")
DONE = State("Synced", "Healthy")
PATIENCE = 90.0


class Lab:
    """A person's Git, the cluster that follows it, and what they see of both."""

    def __init__(self, node: Node, sim: PveSim, kube: KubeApi, argo: ArgoCD, git: Git) -> None:
        self.node, self.sim, self.kube, self.argo, self.git = node, sim, kube, argo, git

    def read(self, path: str) -> Raw:
        raw: Raw = yaml.safe_load((self.git.folder / path).read_text())
        return raw

    def write(self, path: str, raw: Raw) -> None:
        (self.git.folder / path).write_text(yaml.safe_dump(raw))

    def commit(self, message: str, *apps: str) -> None:
        self.git.commit(message)
        for app in apps:
            self.argo.refresh(app)

    def apply_root(self) -> None:
        """The Application of all others, as it is in the newest commit."""
        root = self.git.folder / APPS / "root.yaml"
        self.node.kubectl("apply", "-n", NAMESPACE, "-f", str(root), check=True)

    def until_done(self) -> None:
        """All Applications."""
        for app in (*WAVES, "proxmox"):
            self.until_state(app, *DONE)

    def uids(self) -> dict[str, str]:
        """Of the objects of our kinds, by name."""
        kinds = (PROXMOX_CLUSTERS, VM_TEMPLATES, PROXMOX_VMS)
        metadata = [raw["metadata"] for kind in kinds for raw in self.kube.listed(kind)]
        return {each["name"]: each["uid"] for each in metadata}

    def until(self, look: Callable[[], bool], what: str) -> None:
        """As :func:`harness.waiting.until`; fails with what `kubectl get` shows."""
        shown = ("get", "applications,pods,pvec,pvt,pvm", "-A", "-o", "wide")
        until(look, what, seconds=PATIENCE, seen=lambda: self.node.kubectl(*shown).stdout)

    def until_state(self, app: str, *state: str) -> None:
        self.until(lambda: self.argo.state(app) == state, f"{app} is {' and '.join(state)}")

    def until_power(self, name: str, power: str) -> None:
        """In Proxmox, and as the ProxmoxVM tells."""

        def is_so() -> bool:
            raw, vm = self.kube.get(PROXMOX_VMS, name, "shop"), self.vm(name)
            told = raw is not None and is_ready(raw) and raw["status"]["power"] == power
            return told and vm is not None and vm.status == power.lower()

        self.until(is_so, f"{name} is {power}")

    def vm(self, name: str) -> VmState | None:
        """The VM of this name in Proxmox; None where there is none."""
        found = [state for state in self.sim.world().vms if state.name == name]
        assert len(found) <= 1
        return found[0] if found else None


@pytest.fixture(scope="module")
def lab(node: Node, sim: PveSim, kube: KubeApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    scratch = tmp_path_factory.mktemp("argocd")
    registry = NAME.partition("/")[0]
    repository = with_defaults({})["image"]["repository"]
    node.tag(f"{NAME}:{__version__}", f"{registry}/{repository}:{__version__}")
    argo = ArgoCD(node, kube, scratch)
    argo.start()
    with ImageServer() as images:
        checks = ROOT / "manifests/argocd/argocd-cm.yaml"
        patch = ("patch", "configmap", "argocd-cm", "-n", NAMESPACE, "--patch-file", str(checks))
        node.kubectl(*patch, check=True)
        platform, git = Git(scratch / "proxmox-operator.git"), Git(scratch / "infrastructure.git")
        shutil.copytree(ROOT / "charts", platform.folder / "charts")
        platform.commit("the chart")
        shutil.copytree(ROOT / "manifests", git.folder / "manifests")
        lab = Lab(node, sim, kube, argo, git)
        theirs = {
            "https://git.example.org/infrastructure.git": git.url,
            "https://git.example.org/proxmox-operator.git": platform.url,
            REGISTRY: registry,
        }
        for path in (git.folder / APPS).rglob("*.yaml"):
            text = path.read_text()
            for placeholder, own in theirs.items():
                text = text.replace(placeholder, own)
            path.write_text(text)
        fill_in(lab, images)
        git.commit("all of it")
        yield lab


def fill_in(lab: Lab, images: ImageServer) -> None:
    """What `manifests/gitops` leaves to a person: how to reach Proxmox, and an image."""
    cluster = lab.read("manifests/gitops/cluster/lab.yaml")
    cluster["spec"] |= {"endpoints": lab.sim.urls, "tls": {"caBundle": lab.sim.ca_pem}}
    lab.write("manifests/gitops/cluster/lab.yaml", cluster)
    image = qcow2(3 * GIB)
    template = lab.read("manifests/gitops/templates/debian-13.yaml")
    url = images.serve("/debian-13.qcow2", image)
    template["spec"]["image"] |= {"url": url, "checksum": f"sha256:{hashlib.sha256(image).hexdigest()}"}
    lab.write("manifests/gitops/templates/debian-13.yaml", template)


def test_one_application_brings_operator_cluster_template_and_vms_in_this_order_once_the_secret_is_there(
    lab: Lab,
) -> None:
    steps = ((PROXMOX_VMS, "web", "shop"), (VM_TEMPLATES, "debian-13", ""), (PROXMOX_CLUSTERS, "lab", ""))
    was_ready: set[str] = set()

    def in_order() -> bool:
        """Each is there only once the one after it in this row was Ready. That one is looked at later."""
        found = {name: lab.kube.get(kind, name, namespace) for kind, name, namespace in steps}
        was_ready.update(name for name, raw in found.items() if is_ready(raw))
        for later, earlier in (("web", "debian-13"), ("debian-13", "lab")):
            assert found[later] is None or earlier in was_ready, f"{later} did not wait for {earlier}"
        return len(was_ready) == len(steps)

    lab.apply_root()
    lab.until_state("proxmox-cluster", "Synced", "Degraded")
    metadata = {"name": "proxmox-credentials", "namespace": OPERATOR_NAMESPACE}
    data = {"tokenID": lab.sim.token_id, "tokenSecret": lab.sim.token_secret}
    lab.kube.apply(SECRETS, {"metadata": metadata, "stringData": data})
    lab.until(in_order, "all are Ready, one after the other")
    lab.until_done()
    for name in ("web", "database"):
        state = lab.vm(name)
        assert state is not None
        assert state.status == "running"


def test_nothing_drifts(lab: Lab) -> None:
    for app in ("proxmox", *WAVES):
        lab.argo.refresh(app)
        assert lab.argo.state(app) == DONE
        raw = lab.kube.get(APPLICATIONS, app, NAMESPACE)
        assert raw is not None
        assert {each["status"] for each in raw["status"]["resources"]} == {"Synced"}


def test_a_commit_is_carried_out_and_what_is_stopped_by_intent_is_healthy(lab: Lab) -> None:
    manifest = lab.read(f"{VMS}/web.yaml")
    for power in ("Stopped", "Running"):
        manifest["spec"]["power"] = power
        lab.write(f"{VMS}/web.yaml", manifest)
        lab.commit(f"web is to be {power}", "proxmox-vms")
        lab.until_power("web", power)
        lab.argo.refresh("proxmox-vms")  # it judges what is there now, not what was before the commit
        lab.until_state("proxmox-vms", *DONE)


def test_what_somebody_changes_by_hand_is_put_back(lab: Lab) -> None:
    lab.kube.merge(PROXMOX_VMS, "web", {"spec": {"cpu": {"cores": 3}}}, namespace="shop")

    def is_back() -> bool:
        raw = lab.kube.get(PROXMOX_VMS, "web", "shop")
        return raw is not None and raw["spec"]["cpu"]["cores"] == 2

    lab.until(is_back, "web has the cores of Git")
    lab.until_state("proxmox-vms", *DONE)


def test_a_paused_vm_is_suspended_and_no_difference(lab: Lab) -> None:
    for paused, health in (("true", "Suspended"), (None, "Healthy")):
        patch = {"metadata": {"annotations": {"proxmox-operator.io/paused": paused}}}
        lab.kube.merge(PROXMOX_VMS, "web", patch, namespace="shop")
        lab.until_state("proxmox-vms", "Synced", health)


def test_what_needs_a_person_is_degraded_until_git_is_mended(lab: Lab) -> None:
    manifest = lab.read(f"{VMS}/web.yaml")
    manifest["metadata"]["name"] = "mail"
    for template, health in (("debian-31", "Degraded"), ("debian-13", "Healthy")):
        manifest["spec"]["source"] = {"templateRef": {"name": template}}
        lab.write(f"{VMS}/mail.yaml", manifest)
        lab.commit(f"a VM from {template}", "proxmox-vms")
        lab.until_state("proxmox-vms", "Synced", health)
    lab.until_power("mail", "Running")


def test_taken_out_of_git_a_vm_stays_until_pruning_is_on(lab: Lab) -> None:
    before = lab.vm("mail")
    (lab.git.folder / VMS / "mail.yaml").unlink()
    lab.commit("without mail", "proxmox-vms")
    lab.until_state("proxmox-vms", "OutOfSync", "Healthy")
    assert lab.vm("mail") == before
    app = lab.read(f"{APPS}/apps/3-vms.yaml")
    app["spec"]["syncPolicy"]["automated"]["prune"] = True
    lab.write(f"{APPS}/apps/3-vms.yaml", app)
    lab.commit("with pruning", "proxmox")
    lab.until(lambda: lab.argo.prunes("proxmox-vms"), "it prunes")
    lab.argo.refresh("proxmox-vms")  # what it has tried at a commit it does not try again at the same
    lab.until(lambda: lab.vm("mail") is None, "mail is destroyed")
    lab.until_state("proxmox-vms", *DONE)


def test_with_pruning_a_vm_with_data_stays_and_another_goes(lab: Lab) -> None:
    kept = lab.vm("database")
    manifests = {name: lab.read(f"{VMS}/{name}.yaml") for name in ("web", "database")}
    for name in manifests:
        (lab.git.folder / VMS / f"{name}.yaml").unlink()
    lab.commit("without VMs", "proxmox-vms")
    lab.until(lambda: lab.vm("web") is None, "web is destroyed")
    lab.until_state("proxmox-vms", "OutOfSync", "Healthy")
    assert lab.vm("database") == kept
    for name, manifest in manifests.items():
        lab.write(f"{VMS}/{name}.yaml", manifest)
    lab.commit("with them", "proxmox-vms")
    lab.until_state("proxmox-vms", *DONE)
    assert lab.vm("database") == kept
    assert lab.vm("web") is not None


def test_deleted_the_applications_leave_all_that_they_brought_and_made_anew_they_take_it_over(
    lab: Lab,
) -> None:
    before, uids = lab.sim.world().vms, lab.uids()
    for app in ("proxmox", *WAVES):
        lab.kube.delete(APPLICATIONS, app, NAMESPACE)
    lab.until(lambda: lab.kube.listed(APPLICATIONS, NAMESPACE) == [], "the Applications are gone")
    lab.apply_root()
    lab.until_done()
    assert lab.uids() == uids
    assert lab.sim.world().vms == before


def test_with_the_finalizer_all_goes_backwards_through_the_waves_but_what_nobody_may_delete(lab: Lab) -> None:
    """docs/gitops.md, taking it away."""
    root = f"{APPS}/root.yaml"
    for path in (root, *(f"{APPS}/apps/{path.name}" for path in (lab.git.folder / APPS / "apps").iterdir())):
        manifest = lab.read(path)
        manifest["metadata"]["finalizers"] = [FINALIZER]
        lab.write(path, manifest)
    lab.commit("with the finalizer", "proxmox")
    lab.apply_root()
    lab.until_done()

    def have_it() -> bool:
        apps = lab.kube.listed(APPLICATIONS, NAMESPACE)
        return all(FINALIZER in app["metadata"].get("finalizers", ()) for app in apps)

    lab.until(have_it, "the Applications have it")
    kept = lab.vm("database")
    lab.kube.delete(APPLICATIONS, "proxmox", NAMESPACE)
    lab.until(lambda: lab.vm("web") is None, "web is destroyed")

    def is_in_use() -> bool:
        ready = condition_of(lab.kube.get(PROXMOX_CLUSTERS, "lab"), "Ready")
        return ready is not None and ready.reason == "InUse"

    lab.until(is_in_use, "the ProxmoxCluster waits for its last VM")
    assert lab.vm("database") == kept
    lab.kube.delete(PROXMOX_VMS, "database", "shop")
    lab.until(lambda: lab.kube.listed(APPLICATIONS, NAMESPACE) == [], "the Applications are gone")
    crds = lab.node.kubectl("get", "crds", "-o", "name").stdout.split()
    assert len([name for name in crds if name.endswith(".proxmox-operator.io")]) == 3
    assert lab.kube.listed(PROXMOX_CLUSTERS) == []
    released = lab.vm("database")
    assert released is not None
    assert released.status == "running"
