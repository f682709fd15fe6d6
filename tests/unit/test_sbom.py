"""The software bill of materials: whole, valid, and about what is installed."""

import json
import re
import tomllib
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import sbom
from proxmox_operator import __version__

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bom():
    sbom.main()
    return json.loads(sbom.SBOM.read_text())


def test_it_is_valid_cyclonedx(bom):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bom)) is None


def test_its_subject_is_the_operator_in_its_version(bom):
    subject = bom["metadata"]["component"]
    assert (subject["name"], subject["version"], subject["type"]) == (
        "proxmox-operator",
        __version__,
        "application",
    )
    assert subject["licenses"][0]["license"]["id"] == "Apache-2.0"


def test_it_lists_exactly_the_locked_packages_with_their_hashes(bom):
    text = (ROOT / "requirements" / "runtime.txt").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.M))
    assert {each["name"]: each["version"] for each in bom["components"]} == locked
    hashes = {h["content"] for each in bom["components"] for h in each["externalReferences"][0]["hashes"]}
    assert hashes == set(re.findall(r"--hash=sha256:([0-9a-f]{64})", text))


def test_every_package_is_there_for_us_or_for_another_one(bom):
    needs = {each["ref"]: each.get("dependsOn", []) for each in bom["dependencies"]}
    subject = bom["metadata"]["component"]["bom-ref"]
    names = {each["bom-ref"]: each["name"] for each in bom["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>= ]", entry)[0] for entry in project["dependencies"]}
    assert {names[reference] for reference in needs[subject]} == declared
    reached, to_visit = set(), [subject]
    while to_visit:
        reference = to_visit.pop()
        if reference not in reached:
            reached.add(reference)
            to_visit += needs[reference]
    assert reached == names.keys() | {subject}
