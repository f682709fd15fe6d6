"""What the pages have people copy is right: manifests, values of the chart, names of files and targets."""

import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

import doctables
from chartfiles import with_defaults
from docs.reasons import ROOT
from proxmox_operator.api import ProxmoxCluster, ProxmoxVM, VMTemplate
from unit.test_examples import schema_of, unknown_fields

CHART = ROOT / "charts" / "proxmox-operator"
KINDS = {kind.kind: kind for kind in (ProxmoxCluster, ProxmoxVM, VMTemplate)}


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """The fenced blocks of a language, and the pages that they are on."""
    fence = re.compile(rf"^( *)```{language}\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    for page in doctables.pages():
        for _, text in fence.findall(page.read_text(encoding="utf-8")):
            yield str(page.relative_to(doctables.DOCS)), textwrap.dedent(text)


def documents() -> list[tuple[str, Any]]:
    return [(page, document) for page, text in blocks("yaml") for document in yaml.safe_load_all(text)]


def test_manifests_in_the_pages_are_what_the_api_takes():
    whole = [(page, raw) for page, raw in documents() if raw.get("kind") in KINDS]
    assert [page for page, _ in whole] == ["index.md"]
    for _, raw in whole:
        KINDS[raw["kind"]].parse(raw)
        assert unknown_fields(raw["spec"], schema_of(raw["kind"]), "spec") == []


@pytest.mark.parametrize("page", ["cluster.md", "operations.md"])
def test_pieces_of_a_cluster_in_the_pages_are_what_the_api_takes(page: str):
    pieces = [raw["spec"] for name, raw in documents() if name == page and set(raw) == {"spec"}]
    assert pieces
    needed = {"endpoints": ["https://pve1.example.org"], "credentialsSecretRef": {"name": "a"}}
    for piece in pieces:
        ProxmoxCluster.parse({"metadata": {"name": "lab"}, "spec": needed | piece})
        assert unknown_fields(piece, schema_of("ProxmoxCluster"), "spec") == []


def test_values_in_the_pages_are_what_the_chart_takes():
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = [raw for page, raw in documents() if page == "operations.md" and "image" in raw]
    applications = [raw for _, raw in documents() if raw.get("kind") == "Application"]
    values += [raw["spec"]["source"]["helm"]["valuesObject"] for raw in applications]
    assert len(values) == 2
    for each in values:
        jsonschema.validate(with_defaults(each), schema)


def test_files_and_targets_that_the_pages_name_are_there():
    texts = [page.read_text(encoding="utf-8") for page in doctables.pages()]
    files = {name for text in texts for name in re.findall(r"(?:manifests|charts)/[\w./-]+\w", text)}
    assert len(files) > 5
    assert sorted(name for name in files if not (ROOT / name).exists()) == []
    targets = {name for text in texts for name in re.findall(r"\bmake ([a-z-]+)\b(?=`|$|\n)", text)}
    assert {"demo", "docs-tables"} <= targets
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert sorted(name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)) == []
