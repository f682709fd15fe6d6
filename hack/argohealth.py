"""Writes Argo CD's health checks in both ways of configuring it, from manifests/argocd/*.lua: ``make argocd``.

Not here: what they say (the Lua), and that it is right (tests/gitops).
"""

from pathlib import Path
from typing import Any

import yaml

from proxmox_operator.kube.resources import OWN_KINDS

FOLDER = Path(__file__).resolve().parents[1] / "manifests" / "argocd"
HEADER = "# Generated from *.lua in this folder by `make argocd`. Do not edit.\n"


class _Dumper(yaml.SafeDumper):
    """Writes scripts as they are, line by line."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def checks() -> dict[str, str]:
    """The script of each kind, by its key in Argo CD's configuration."""
    ours = (FOLDER / "health.lua").read_text(encoding="utf-8")
    scripts = {f"{resource.group}_{kind}": ours for kind, resource in OWN_KINDS.items()}
    scripts["argoproj.io_Application"] = (FOLDER / "application.lua").read_text(encoding="utf-8")
    return {f"resource.customizations.health.{kind}": script for kind, script in scripts.items()}


def files() -> dict[str, str]:
    """Name and text of each file: a patch of the ConfigMap, and values of the argo-cd chart."""
    patch = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm"}, "data": checks()}
    return {"argocd-cm.yaml": _yaml(patch), "values.yaml": _yaml({"configs": {"cm": checks()}})}


def _yaml(value: Any) -> str:
    return HEADER + yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=1000)


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
