"""What keeps a checkout from being released is seen: in repositories of the tests' own, and in this one."""

import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

from proxmox_operator import __version__
from release.pvenode import ROOT
from releasing import changelog, checks, locks
from releasing.__main__ import GENERATED
from releasing.audit import verdict
from releasing.chart import filled, publish
from releasing.locks import Package

CHANGELOG = """\
# Changelog

## [Unreleased]

## [1.1.0] - 2026-11-26

### Added

- Something.

## [1.0.0] - 2026-10-01

- The first.
"""


class Repository:
    """A checkout with what a release is made of."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.git("init", "-q", "-b", "main")
        self.write("operator/proxmox_operator/__init__.py", '"""Doc."""\n\n__version__ = "1.1.0"\n')
        self.write("charts/proxmox-operator/Chart.yaml", "version: 1.1.0\nappVersion: 1.1.0\n")
        self.write("CHANGELOG.md", CHANGELOG)
        for path in (ROOT / "crds").glob("*.yaml"):
            self.write(f"crds/{path.name}", path.read_text())
        self.commit()

    def git(self, *arguments: str) -> None:
        who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        subprocess.run(["git", *who, *arguments], cwd=self.root, check=True, capture_output=True)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def commit(self, tag: str | None = None) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "a change")
        if tag:
            self.git("tag", tag)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_checkout_in_order_has_nothing_against_it(repository: Repository) -> None:
    repository.commit("v1.0.0")
    repository.commit()
    for question in (checks.consistent, checks.clean, checks.compatible):
        assert list(question(repository.root)) == []
    repository.git("tag", "v1.1.0")  # as in the workflow, which is started by this tag
    assert list(checks.consistent(repository.root)) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        (
            "charts/proxmox-operator/Chart.yaml",
            "appVersion: 1.1.0",
            "appVersion: 1.0.0",
            "appVersion of charts/",
        ),
        (
            "charts/proxmox-operator/Chart.yaml",
            "\nappVersion: 1.1.0",
            "\nappVersion: v1.1.0",
            "appVersion of charts/",
        ),
        ("CHANGELOG.md", "## [1.1.0] - 2026-11-26", "## [1.1.0]", "no section `## [1.1.0] - YEAR"),
        ("CHANGELOG.md", "### Added\n\n- Something.\n", "", "no section `## [1.1.0] - YEAR"),
        ("CHANGELOG.md", "## [Unreleased]\n", "## [Unreleased]\n\n- More.\n", "with nothing in it"),
        ("CHANGELOG.md", "## [Unreleased]\n", "", "must have a section `## [Unreleased]`"),
        ("operator/proxmox_operator/__init__.py", '"1.1.0"', '"1.1"', "must look like 1.2.3"),
    ],
)
def test_a_version_that_is_not_the_same_everywhere_is_told(
    repository: Repository, name: str, old: str, new: str, told: str
) -> None:
    repository.replace(name, old, new)
    assert told in "\n".join(checks.consistent(repository.root))


def test_a_version_that_is_another_commit_already_is_told(repository: Repository) -> None:
    repository.commit("v1.1.0")
    repository.commit()
    assert list(checks.consistent(repository.root)) == ["v1.1.0 is another commit already: raise __version__"]


def test_what_is_not_committed_is_named(repository: Repository) -> None:
    repository.write("new.txt", "")
    repository.replace("CHANGELOG.md", "Something", "Something else")
    assert set(checks.clean(repository.root)) == {"not committed: CHANGELOG.md", "not committed: new.txt"}


def test_a_generated_file_that_is_stale_or_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("old")
    (tmp_path / "b.yaml").write_text("same")
    wanted = {tmp_path / "a.yaml": "new", tmp_path / "b.yaml": "same", tmp_path / "c.yaml": "new"}
    assert list(checks.stale(wanted.items(), "make it")) == [
        "a.yaml is stale: make it",
        "c.yaml is stale: make it",
    ]


def test_a_field_that_is_gone_since_the_last_release_is_told_until_the_changelog_names_it(
    repository: Repository,
) -> None:
    repository.commit("v0.9.0")
    repository.replace("crds/proxmoxvms.yaml", "              hotplug:\n", "              hotPlug:\n")
    repository.commit()
    [told] = checks.compatible(repository.root)
    assert told.startswith("since v0.9.0: ProxmoxVM spec.hotplug: the field is gone. If it must be, say ")
    repository.replace(
        "CHANGELOG.md", "- Something.", "- Something.\n- `ProxmoxVM spec.hotplug` is now `hotPlug`."
    )
    assert list(checks.compatible(repository.root)) == []


def test_the_last_release_is_the_highest_before_this_one_that_is_part_of_it(repository: Repository) -> None:
    assert checks.last_release(repository.root) is None
    for tag in ("v1.0.0", "v1.1.0-rc.1", "v0.10.0", "v0.9.0", "v1.1.0", "nightly"):
        repository.git("tag", tag)
    repository.git("checkout", "-q", "-b", "other")
    repository.commit("v2.0.0")
    repository.git("checkout", "-q", "main")
    assert checks.last_release(repository.root) == "v1.1.0-rc.1"


def test_this_repository_has_one_version_and_a_changelog() -> None:
    assert checks.version(ROOT) == __version__
    assert [told for told in checks.consistent(ROOT) if "CHANGELOG" not in told] == []
    text = (ROOT / "CHANGELOG.md").read_text()
    assert changelog.unreleased(text) or changelog.section(text, __version__)


def test_wheel_and_sdist_of_this_repository_hold_our_package_alone() -> None:
    assert list(checks.built(ROOT)) == []


def test_what_does_not_belong_into_an_archive_is_named() -> None:
    wheel = ["proxmox_operator/cli/run.py", "proxmox_operator-1.dist-info/METADATA", "pvesim/sim.py"]
    assert list(checks.strangers("a.whl", wheel, "")) == ["a.whl holds pvesim/sim.py"]
    sdist = [
        "p-1/operator/proxmox_operator/errors.py",
        "p-1/LICENSE",
        "p-1/hack/pvesim/sim.py",
        "p-1/operator/x.py",
    ]
    assert list(checks.strangers("a.tar.gz", sdist, "operator")) == [
        "a.tar.gz holds p-1/hack/pvesim/sim.py",
        "a.tar.gz holds p-1/operator/x.py",
    ]


def test_the_locks_of_this_repository_are_up_to_date_and_free_of_agpl() -> None:
    assert list(checks.locked(ROOT)) == []


PACKAGES = {
    "web": Package(
        "2.0", ("wire>=1; python_version >= '3'", "fast; extra == 'speed'", "old; python_version < '3'")
    ),
    "wire": Package("1.5", (), ("License :: OSI Approved :: MIT License",)),
    "fast": Package("3.0"),
    "sim": Package("1.0", (), ("GNU Affero General Public License v3",)),
}


def lock(*names: str, **versions: str) -> str:
    found = {name: PACKAGES[name].version for name in names} | versions
    return "".join(
        f"{name}=={version} \\\n    --hash=sha256:00\n    # via -r x\n" for name, version in found.items()
    )


@pytest.mark.parametrize(
    ("declared", "text", "told"),
    [
        (["web"], lock("web", "wire"), []),
        (["web[speed]>=2"], lock("web", "wire", "fast"), []),
        (["web"], lock("web", "wire") + "only==1 ; sys_platform == 'win32' \\\n    --hash=sha256:00\n", []),
        (["web"], lock("web"), ['web needs wire>=1; python_version >= "3", which is not locked']),
        (["web", "fast"], lock("web", "wire"), ["pyproject.toml needs fast, which is not locked"]),
        (["web>=3"], lock("web", "wire"), ["pyproject.toml needs web>=3, and 2.0 is locked"]),
        (["web"], lock("web", "wire", "fast"), ["fast is locked, and nothing needs it"]),
        (["web"], lock("wire", web="2.1"), ["web==2.1 is locked, and 2.0 installed: make bootstrap"]),
        (["gone"], lock(gone="1"), ["gone==1 is locked, and not installed: make bootstrap"]),
    ],
)
def test_a_lock_that_the_requirements_do_not_lead_to_is_told(
    declared: Iterable[str], text: str, told: list[str]
) -> None:
    assert list(locks.stale(declared, text, PACKAGES.get)) == told


def test_what_is_under_the_agpl_is_named() -> None:
    assert list(locks.agpl(lock("web", "wire", "sim"), PACKAGES.get)) == ["sim is under the AGPL"]


def test_fakepve_is_seen_to_be_under_the_agpl() -> None:
    found = locks.installed("fakepve")
    assert found is not None
    assert list(locks.agpl(f"fakepve=={found.version} \\\n")) == ["fakepve is under the AGPL"]


KNOWN = {"name": "web", "version": "2.0", "vulns": [{"id": "X-1", "fix_versions": ["2.1", "3.0"]}]}
UNKNOWN = {"name": "wire", "skip_reason": "not found"}
FINE = {"name": "fast", "version": "1", "vulns": []}


@pytest.mark.parametrize(
    ("out", "err", "told"),
    [
        ({"dependencies": [FINE]}, "", []),
        ({"dependencies": [FINE, KNOWN]}, "", ["web 2.0: X-1, mended in 2.1, 3.0"]),
        (
            {"dependencies": [FINE, UNKNOWN]},
            "",
            ["the advisory service knows nothing of 1 of 2 packages: wire"],
        ),
        (
            {"dependencies": [UNKNOWN]},
            "",
            ["the advisory service knows no package at all: it cannot be reached from here"],
        ),
        (
            None,
            "Traceback\nConnectionError: nobody there\n",
            ["pip-audit could not ask its advisory service: ConnectionError: nobody there"],
        ),
    ],
)
def test_an_audit_passes_only_where_everything_was_looked_up(out: object, err: str, told: list[str]) -> None:
    assert list(verdict(json.dumps(out) if out else "", err)) == told


def test_the_published_chart_names_its_image_and_is_otherwise_the_same(tmp_path: Path) -> None:
    original = ROOT / "charts" / "proxmox-operator"
    digest = f"sha256:{'0' * 64}"
    copy = publish(
        original, tmp_path, registry="registry.example.org", repository="me/operator", digest=digest
    )
    before, after = (yaml.safe_load((chart / "values.yaml").read_text()) for chart in (original, copy))
    assert after["image"] == {
        **before["image"],
        "registry": "registry.example.org",
        "repository": "me/operator",
        "digest": digest,
    }
    assert {**after, "image": before["image"]} == before
    with pytest.raises(ValueError, match=r"no image\.digest"):
        filled("a: 1\nimage:\n  registry: ''\n  repository: x\n", {"registry": "r", "digest": digest})


def test_every_target_that_writes_files_of_the_repository_is_asked_about() -> None:
    makefile = (ROOT / "Makefile").read_text()
    writes = set(re.findall(r"^([a-z-]+): bootstrap  ## Write ", makefile, re.M)) - {
        "lock"
    }  # has a question of its own
    assert {f"make {target}" for target in writes} == GENERATED.keys()
