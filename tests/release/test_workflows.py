"""The workflows give nobody more than is needed: actions are pinned, permissions are few, and no text of others is run.

A workflow can only be tried where it runs; what is run in it are the targets of the Makefile, which are.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from release.pvenode import ROOT

FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.y*ml"))
TRUSTED = re.compile(
    r"\$\{\{ (env|vars|secrets|needs|steps|github\.(sha|token|server_url|repository|actor|ref|workflow))\b"
)
"""What nobody outside can write, so it may stand in a workflow. In a script nothing may: it comes by `env`."""

WRITES = {
    ("release.yaml", "image"): {"packages", "id-token", "attestations"},
    ("release.yaml", "chart"): {"packages", "id-token", "attestations"},
    ("release.yaml", "page"): {"contents", "id-token", "attestations"},
}
"""The only jobs that may write anything."""


def load(path: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path in FILES:
        for name, job in load(path)["jobs"].items():
            yield path.name, name, job


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for file, name, job in jobs():
        for step in job.get("steps", ()):
            yield f"{file} {name}: {step.get('name') or step.get('uses') or step.get('run')}", step


def test_there_is_a_workflow_for_each_purpose() -> None:
    assert [path.name for path in FILES] == ["ci.yaml", "e2e.yaml", "release.yaml", "security.yaml"]
    runs = "\n".join(str(step.get("run", "")) for _, step in steps())
    for command in (
        ".ci/run",
        "make test-integration",
        "make audit",
        "make secrets",
        "make release-check",
        "make sbom",
    ):
        assert command in runs


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit_with_the_version_beside_it(path: Path) -> None:
    lines = [line.strip() for line in path.read_text().splitlines() if re.match(r"\s*(- )?uses:", line)]
    assert lines
    pinned = re.compile(
        r"(- )?uses: ([\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+|\./\.github/workflows/[\w.-]+)"
    )
    assert [line for line in lines if not pinned.fullmatch(line)] == []


def test_an_action_has_the_same_version_everywhere() -> None:
    found: dict[str, set[str]] = {}
    for path in FILES:
        for action, pin in re.findall(r"uses: ([\w.-]+/[\w.-]+)@(.*)", path.read_text()):
            found.setdefault(action, set()).add(pin)
    assert {action: pins for action, pins in found.items() if len(pins) > 1} == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_workflow_has_no_permission_and_a_job_those_it_needs(path: Path) -> None:
    assert load(path)["permissions"] == {}
    for name, job in load(path)["jobs"].items():
        wanted = dict.fromkeys(WRITES.get((path.name, name), set()), "write")
        assert job["permissions"] == {"contents": "read", **wanted}, f"{path.name} {name}"


def test_nothing_is_run_for_a_pull_request_with_the_rights_of_the_repository() -> None:
    for path in FILES:
        triggers = load(path)[True]  # `on` is a boolean in YAML 1.1
        assert not {"pull_request_target", "workflow_run", "issue_comment"} & set(triggers), path.name
    assert set(load(FOLDER / "release.yaml")[True]) == {"push"}


def test_a_checkout_leaves_no_credentials_behind() -> None:
    checkouts = [step for _, step in steps() if str(step.get("uses", "")).startswith("actions/checkout@")]
    assert len(checkouts) >= 6
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_no_script_has_an_expression_in_it() -> None:
    assert [where for where, step in steps() if "${{" in str(step.get("run", ""))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_that_others_can_write_is_used_at_all(path: Path) -> None:
    expressions = re.findall(r"\$\{\{.*?\}\}", path.read_text())
    harmless = {"${{ github.event_name == 'pull_request' }}"}
    assert [each for each in expressions if not TRUSTED.match(each) and each not in harmless] == []
    assert "github.head_ref" not in path.read_text()


def test_secrets_are_used_by_the_jobs_that_publish_alone_and_reach_no_argument() -> None:
    for file, name, job in jobs():
        if "secrets." in str(job):
            assert (file, name) in WRITES
            assert job["environment"] == "release"
    for where, step in steps():
        assert "secrets." not in str(step.get("with", "")), where
        if "TOKEN" in str(step.get("run", "")):
            logins = [line for line in step["run"].splitlines() if "TOKEN" in line]
            assert all(line.endswith('--password-stdin <<<"$TOKEN"') for line in logins), where


def test_every_job_ends_and_every_script_fails_with_its_first_command() -> None:
    for file, name, job in jobs():
        assert "timeout-minutes" in job or "uses" in job, f"{file} {name}"
        assert "continue-on-error" not in str(job), f"{file} {name}"
    for path in FILES:
        assert load(path)["defaults"] == {"run": {"shell": "bash"}}, path.name


def test_image_and_chart_are_published_after_ci_and_the_check_and_are_signed_with_provenance() -> None:
    release = load(FOLDER / "release.yaml")["jobs"]
    assert set(release["image"]["needs"]) == {"ci", "check"}
    assert release["chart"]["needs"] == "image"
    for name in ("image", "chart"):
        used = [str(step.get("uses", "")).partition("@")[0] for step in release[name]["steps"]]
        assert {"actions/attest", "sigstore/cosign-installer"} <= set(used)
        assert any("cosign sign --yes" in str(step.get("run")) for step in release[name]["steps"])
    [build] = [step for step in release["image"]["steps"] if step.get("id") == "build"]
    assert build["with"]["platforms"] == "linux/amd64,linux/arm64"
    assert (build["with"]["provenance"], build["with"]["sbom"]) == ("mode=max", True)


def test_no_registry_is_named() -> None:
    for path in FILES:
        assert not re.search(r"ghcr\.io|docker\.io|quay\.io", path.read_text()), path.name
