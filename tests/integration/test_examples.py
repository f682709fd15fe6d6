"""Every file under manifests/examples is taken by a real API server as it stands."""

from pathlib import Path

import pytest

from controlplane import Cluster

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "manifests" / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_admitted(path: Path, control_plane: Cluster, namespace: str) -> None:
    text = path.read_text().replace("namespace: proxmox-operator-system", f"namespace: {namespace}")
    assert_admitted(control_plane, namespace, text)


def test_the_manifest_in_the_readme_is_admitted(control_plane: Cluster, namespace: str) -> None:
    text = (ROOT / "README.md").read_text().partition("```yaml")[2].partition("```")[0]
    assert_admitted(control_plane, namespace, text.replace("namespace: shop", f"namespace: {namespace}"))


def assert_admitted(control_plane: Cluster, namespace: str, text: str) -> None:
    arguments = ("apply", "--dry-run=server", "--validate=strict", "-n", namespace, "-f", "-")
    answer = control_plane.kubectl(*arguments, input=text)
    assert answer.returncode == 0, answer.stderr
    assert "(server dry run)" in answer.stdout


def test_what_the_demo_wants_refused_is_refused_for_each_of_its_mistakes(
    control_plane: Cluster, namespace: str
) -> None:
    path = ROOT / "hack" / "demo" / "refused" / "mistakes.yaml"
    answer = control_plane.kubectl("apply", "--dry-run=server", "-n", namespace, "-f", str(path))
    assert answer.returncode != 0
    for field in ("spec.firmware.secureBoot", "spec.memory.size", "spec.networks[0].ipv4.gateway"):
        assert field in answer.stderr
