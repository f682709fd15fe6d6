"""Writes what is made from other files in charts/ and manifests/: ``make chart``. A test says when that is due.

The chart gets the CRDs, the version and the names of the settings from the code, and its README from its values, by
helm-docs; ``manifests/`` is the chart, rendered with its defaults but without the CRDs: to delete these by one command
with a running operator would be to destroy every VM. Not here: tests of the chart (tests/chart).
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BeforeValidator

from gotools import GoBuildError, locate
from proxmox_operator import __version__
from proxmox_operator.api import crds
from proxmox_operator.engine.settings import DEFAULT_NAMESPACE, Settings

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "charts" / "proxmox-operator"
MANIFESTS = ROOT / "manifests"
RELEASE = "proxmox-operator"
EXAMPLE_NAMESPACE = "team-a"
"""The namespace that the overlay ``namespaced`` is written for; people put theirs in its place."""

OF_THE_CHART = {
    "namespace", "watch_namespaces", "kubeconfig", "leader_election", "lease_name", "health_address", "health_port",
}  # fmt: skip
"""Settings that the chart decides, so that nobody can break the Lease, the probes or the RBAC by one of them."""

_NAMESPACE = f"""\
apiVersion: v1
kind: Namespace
metadata:
  name: {DEFAULT_NAMESPACE}
  labels:
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/warn: restricted
"""
_HEAD = "# Generated from charts/proxmox-operator by `make chart`; do not edit.\n"
_OF_HELM = re.compile(r"^(# Source: .*| +app\.kubernetes\.io/managed-by: .*| +helm\.sh/chart: .*)\n", re.M)


def files() -> dict[Path, str]:
    """Everything that is generated, as it should be. Raises GoBuildError where helm cannot be had."""
    chart = {
        **{CHART / "files" / "crds" / name: text for name, text in crds.files().items()},
        CHART / "Chart.yaml": _chart(),
        CHART / "values.schema.json": _schema(),
    }
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / CHART.name
        shutil.copytree(CHART, copy)
        for path, text in chart.items():
            (copy / path.relative_to(CHART)).write_text(text)
        everywhere = rendered(copy, "--set", "crds.enabled=false")
        narrow = rendered(copy, "--set", f"crds.enabled=false,watchNamespaces={{{EXAMPLE_NAMESPACE}}}")
        readme = _run(locate("helm-docs"), "--dry-run", "--log-level", "error", "--chart-search-root", folder)
    apart = [text for text in narrow if text not in everywhere and "kind: Deployment" not in text]
    return chart | {
        CHART / "README.md": readme.strip() + "\n",
        MANIFESTS / "install" / "install.yaml": _HEAD + "---\n".join([_NAMESPACE, *everywhere]),
        MANIFESTS / "overlays" / "namespaced" / "rbac.yaml": _HEAD + "---\n".join(apart),
    }


def rendered(chart: Path, *options: str) -> list[str]:
    """The manifests of the chart as people would write them by hand: without the marks of Helm."""
    text = _run(locate("helm"), "template", RELEASE, str(chart), "-n", DEFAULT_NAMESPACE, *options)
    return [part.strip() + "\n" for part in _OF_HELM.sub("", text).split("---\n") if part.strip()]


def with_defaults(values: dict[str, Any], default: dict[str, Any] | None = None) -> dict[str, Any]:
    """Values as Helm completes them: mappings are merged, however deep."""
    known = yaml.safe_load((CHART / "values.yaml").read_text()) if default is None else default
    return known | {
        name: with_defaults(value, known[name])
        if isinstance(value, dict) and isinstance(known.get(name), dict)
        else value
        for name, value in values.items()
    }


def settings() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each setting that values may hold, as it is called there, with its schema; durations may be texts such as 5m."""
    for name, whole in Settings.model_json_schema()["properties"].items():
        if name in OF_THE_CHART:
            continue
        first, *others = name.split("_")
        kind = next(each for each in whole.get("anyOf", [whole]) if each.get("type") != "null")
        kept = {key: kind[key] for key in ("type", "enum", "minimum", "maximum", "pattern") if key in kind}
        read = [each for each in Settings.model_fields[name].metadata if isinstance(each, BeforeValidator)]
        if kept["type"] == "number" and read:  # a duration
            kept["type"] = ["number", "string"]
        yield (
            first + "".join(part.capitalize() for part in others),
            kept | {"description": whole["description"]},
        )


def _chart() -> str:
    text = (CHART / "Chart.yaml").read_text()
    return re.sub(r"^(version|appVersion): .*$", rf"\1: {__version__}", text, flags=re.M)


def _schema() -> str:
    schema = json.loads((CHART / "values.schema.json").read_text())
    schema["properties"]["settings"]["properties"] = dict(settings())
    _require(schema, yaml.safe_load((CHART / "values.yaml").read_text()))
    return json.dumps(schema, indent=2) + "\n"


def _require(schema: dict[str, Any], values: dict[str, Any]) -> None:
    """What has a default can only be missing because somebody wrote null, which templates do not expect."""
    schema["required"] = [name for name in schema["properties"] if name in values]
    for name in schema["required"]:
        inner = schema["properties"][name]
        if inner.get("properties") and name != "settings":
            _require(inner, values[name])


def _run(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise GoBuildError(f"{Path(command[0]).name} failed: {done.stderr.strip()}")
    return done.stdout


def main() -> int:
    try:
        for path, text in files().items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    except GoBuildError as error:
        print(f"chart: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
