"""What is made from other files is as these files say."""

import json

import pytest
import yaml

import chartfiles
from proxmox_operator import __version__
from proxmox_operator.engine.settings import Settings


@pytest.fixture(scope="module")
def generated():
    return chartfiles.files()


def test_what_is_generated_is_committed(generated):
    stale = [
        str(path.relative_to(chartfiles.ROOT))
        for path, text in generated.items()
        if not path.exists() or path.read_text() != text
    ]
    assert not stale, f"run `make chart`: {stale}"


def test_no_crd_is_left_in_the_chart_that_the_operator_no_longer_has(generated):
    assert set((chartfiles.CHART / "files" / "crds").iterdir()) <= generated.keys()


def test_chart_and_operator_have_one_version():
    meta = yaml.safe_load((chartfiles.CHART / "Chart.yaml").read_text())
    assert (meta["version"], meta["appVersion"]) == (__version__, __version__)


def test_a_setting_can_be_given_unless_the_chart_decides_it():
    schema = json.loads((chartfiles.CHART / "values.schema.json").read_text())
    known = set(schema["properties"]["settings"]["properties"])
    assert len(known) == len(Settings.model_fields) - len(chartfiles.OF_THE_CHART)
    assert {"logLevel", "workers", "clusterId", "stopGrace"} <= known
    assert not known & {"leaderElection", "watchNamespaces", "healthPort"}


def test_the_plain_manifests_have_no_mark_of_helm_and_the_namespace_first():
    text = (chartfiles.MANIFESTS / "install" / "install.yaml").read_text()
    assert "Helm" not in text
    assert "helm.sh" not in text
    first = next(yaml.safe_load_all(text))
    assert first["kind"] == "Namespace"
    assert first["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
