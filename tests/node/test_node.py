"""What only a node shows: that the image runs in a pod as the chart has it, and that two of them make one VM."""

import os
import signal
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from harness.installed import PATIENCE, PODS, SERVICES, Installed
from harness.operator import NAMESPACE
from image import NAME
from proxmox_operator import __version__

UID = 65532
NEXT = "next"
COLD_START_SECONDS = 30
RSS_MEGABYTES = 200

Record = Callable[[str, object], None]


def get(address: str, path: str) -> str:
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with directly.open(f"http://{address}:8080{path}", timeout=10) as answer:
        return str(answer.read().decode())


def families(text: str) -> set[str]:
    """Without the times at which counters began, which are there only once they count something."""
    names = {family.name for family in text_string_to_metric_families(text)}
    return {name for name in names if not name.endswith("_created")}


def status_of(process: int) -> dict[str, str]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_both_pods_are_ready_soon_where_the_restricted_standard_is_enforced(
    installed: Installed, record_property: Record
) -> None:
    pods = installed.pods()
    assert installed.ready_pods() == pods.keys()
    assert len(pods) == 2
    took = []
    for raw in pods.values():
        [container] = raw["status"]["containerStatuses"]
        assert container["restartCount"] == 0
        [ready] = [each for each in raw["status"]["conditions"] if each["type"] == "Ready"]
        took.append(moment(ready["lastTransitionTime"]) - moment(container["state"]["running"]["startedAt"]))
    slowest = max(took).total_seconds()
    record_property("summary", f"node: a pod is Ready {slowest:.0f} s after its container has started")
    assert slowest <= COLD_START_SECONDS


def test_the_namespace_refuses_a_pod_that_asks_for_more(installed: Installed) -> None:
    overrides = '{"spec": {"hostNetwork": true}}'
    refused = installed.node.kubectl("run", "more", "-n", NAMESPACE, "--image=x", f"--overrides={overrides}")
    assert refused.returncode != 0
    assert 'violates PodSecurity "restricted' in refused.stderr


def test_the_process_has_no_rights_and_cannot_write(installed: Installed) -> None:
    for pod in installed.pods():
        status = status_of(installed.process(pod))
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(UID)}
        assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == 0
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        for place, written in (("/opt/proxmox-operator/x", False), ("/tmp/x", True)):
            said = installed.inside(pod, "python3", "-c", f"open({place!r}, 'w').close()")
            assert said == "" if written else "Read-only file system" in said


def test_a_proxmoxvm_becomes_ready(installed: Installed) -> None:
    vmid = installed.make("web")
    assert_made_once(installed, "web", vmid)
    state = installed.sim.world().vm(vmid)
    assert state is not None
    assert state.status == "running"


def test_metrics_can_be_scraped_of_each_pod_and_through_the_service(
    installed: Installed, record_property: Record
) -> None:
    service = installed.kube.get(SERVICES, "proxmox-operator-metrics", NAMESPACE)
    assert service is not None
    scraped = families(get(service["spec"]["clusterIP"], "/metrics"))
    resident = []
    for name, raw in installed.pods().items():
        address = raw["status"]["podIP"]
        assert families(get(address, "/metrics")) == scraped
        assert get(address, "/livez")
        resident.append(int(status_of(installed.process(name))["VmRSS"].split()[0]) / 1000)
    assert {name for name in scraped if name.startswith("proxmox_operator_")}
    record_property(
        "summary", f"node: resident memory of the pods {', '.join(f'{each:.0f} MB' for each in resident)}"
    )
    assert max(resident) < RSS_MEGABYTES


def test_when_the_leading_pod_is_deleted_during_a_create_the_other_one_ends_it(installed: Installed) -> None:
    leader = installed.leader()
    with installed.sim.hold("clone:copying") as clone:
        vmid = installed.make("handed-over")
        assert clone.reached.wait(PATIENCE)
        installed.node.kubectl("delete", "pod", "-n", NAMESPACE, leader, "--wait=false", check=True)
        assert installed.leader() != leader
    assert_made_once(installed, "handed-over", vmid)
    installed.until(lambda: len(installed.ready_pods()) == 2, "there are two pods again")


def test_a_rolling_upgrade_during_a_create_makes_no_second_vm_and_touches_no_other(
    installed: Installed,
) -> None:
    others, old = set(installed.sim.world().vms), installed.pods().keys()
    installed.node.tag(f"{NAME}:{__version__}", f"{NAME}:{NEXT}")
    with installed.sim.hold("clone:copying") as clone:
        vmid = installed.make("rolled")
        assert clone.reached.wait(PATIENCE)
        installed.upgrade(tag=NEXT)
        installed.until(lambda: not installed.pods().keys() & old, "all pods are new")
        assert installed.leader() not in old
    assert_made_once(installed, "rolled", vmid)
    assert others <= set(installed.sim.world().vms)
    images = {raw["spec"]["containers"][0]["image"] for raw in installed.pods().values()}
    assert images == {f"{NAME}:{NEXT}"}


def assert_made_once(installed: Installed, name: str, vmid: int) -> None:
    assert installed.wait_ready(name) == vmid
    assert [state.vmid for state in installed.sim.world().vms if state.name == name] == [vmid]
    assert [call.status for call in installed.clones() if call.params["newid"] == str(vmid)] == [200]


def test_a_pod_that_stands_still_is_found_by_its_probes_and_comes_back(installed: Installed) -> None:
    leader = installed.leader()
    [other] = installed.pods().keys() - {leader}
    process = installed.process(other)
    os.kill(process, signal.SIGSTOP)
    try:
        installed.until(lambda: other not in installed.ready_pods(), "the pod that stands still is not Ready")
        installed.until(
            lambda: "Liveness probe failed" in events(installed, other), "it is told that it stands still"
        )
    finally:
        os.kill(process, signal.SIGCONT)
    installed.until(lambda: other in installed.ready_pods(), "the pod is Ready again")
    raw = installed.kube.get(PODS, other, NAMESPACE)
    assert raw is not None
    assert raw["status"]["containerStatuses"][0]["restartCount"] == 0


def events(installed: Installed, pod: str) -> str:
    return installed.node.kubectl("events", "-n", NAMESPACE, "--for", f"pod/{pod}").stdout
