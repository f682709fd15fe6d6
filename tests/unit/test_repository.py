"""What the repository promises to whoever clones it: layout, wheel, lock files, CI, no trace of a machine."""

import operator
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOT_OURS = {".git", ".venv", ".venv-uv", ".logs", ".kind", ".hypothesis", "build", "dist", "__pycache__"}
TOOL_CACHES = re.compile(r"\.\w+_cache")


def files() -> Iterator[Path]:
    for folder, names, found in os.walk(ROOT):
        names[:] = [name for name in names if name not in NOT_OURS and not TOOL_CACHES.fullmatch(name)]
        yield from (
            Path(folder, name) for name in found if name not in NOT_OURS
        )  # .git is a file in a work tree


def test_the_source_root_operator_is_no_package_so_the_stdlib_keeps_its_module():
    assert [path.name for path in (ROOT / "operator").glob("*.py")] == []
    assert Path(operator.__file__).parent == Path(sysconfig.get_path("stdlib"))
    assert not (ROOT / "tests" / "operator").exists()


def test_the_wheel_holds_our_one_package_and_nothing_else(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"proxmox_operator"}
    assert {"proxmox_operator/__init__.py", "proxmox_operator/py.typed"} <= set(names)
    [metadata] = [name for name in names if name.endswith("/METADATA")]
    text = zipfile.ZipFile(wheel).read(metadata).decode()
    assert "License-Expression: Apache-2.0" in text
    assert "fakepve" not in text


def test_no_file_names_a_folder_of_a_machine_or_a_package_registry():
    # Written apart, so that this file passes its own test.
    words = ["/ho" + "me/", "/ro" + "ot/", "/wo" + "rk/", "/Us" + "ers/", "py" + "pi.", "pythonh" + "osted"]
    words += [
        "proxy.gol" + "ang",
        "registry.np" + "mjs",
        "deb.deb" + "ian",
        "crat" + "es.io",
        "/opt/wh" + "eels",
    ]
    pattern = re.compile("|".join(map(re.escape, words)))
    seen = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert seen == []


@pytest.mark.parametrize("name", ["runtime", "dev", "build"])
def test_every_locked_package_is_pinned_and_has_hashes(name: str):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = [
        entry for entry in re.split(r"^(?=[a-zA-Z0-9])", text, flags=re.M) if entry and entry[0] != "#"
    ]
    assert len(entries) > 5
    assert [
        entry.split("\n")[0] for entry in entries if "==" not in entry or "--hash=sha256:" not in entry
    ] == []


def test_the_lock_files_cover_every_declared_dependency_and_dev_covers_the_others():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locked = {name: pins(ROOT / "requirements" / f"{name}.txt") for name in ("runtime", "dev", "build")}
    assert declared(project["project"]["dependencies"]) <= locked["runtime"].keys()
    for group in ("dev", "build"):
        assert declared(project["dependency-groups"][group]) <= locked[group].keys()
    assert locked["runtime"].items() | locked["build"].items() <= locked["dev"].items()


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ;\\]+)", path.read_text(), re.M))


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[; ]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


def test_ci_runs_lint_and_all_tests_and_stops_at_the_first_failure():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert lines.index("make lint") < lines.index("make test")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_every_make_target_sets_itself_up_and_says_what_it_is_for():
    makefile = (ROOT / "Makefile").read_text()
    targets = dict(re.findall(r"^([a-z-]+):(.*)$", makefile, re.M))
    wanted = {"demo", "test", "test-unit", "test-integration", "test-contract", "test-guest", "lint"}
    wanted |= {
        "fmt",
        "crds",
        "docs-tables",
        "bench",
        "lock",
        "kind",
        "clean",
        "image",
        "sbom",
        "test-image",
        "test-node",
    }
    assert wanted <= targets.keys()
    for name in wanted:
        assert "## " in targets[name], f"{name} has no line in `make help`"
        if name not in ("kind", "clean"):
            assert targets[name].split()[0] == "bootstrap", f"{name} does not set itself up"


PRETENDS = """\
#!/bin/sh
echo "$*" >>"$0.log"
case "$*" in
    *--ignore*) exit $ALL_OTHERS ;;
    *"controlplane build"*) exit 0 ;;
    *"$SUITE build"*) exit $BUILD ;;
    *" build"*) exit 3 ;;
    *tests/$SUITE*) exit $TESTS ;;
esac
"""


OPTIONAL = ["image", "node", "guest"]
"""Suites of their own, which not every machine can run."""


@pytest.mark.parametrize("suite", OPTIONAL)
@pytest.mark.parametrize(
    ("others", "build", "tests", "ran", "passed"),
    [
        (0, 0, 0, True, True),
        (1, 0, 0, True, False),
        (0, 0, 1, True, False),
        (0, 3, 0, False, True),
        (1, 3, 0, False, False),
        (0, 1, 0, False, False),
    ],
)
def test_make_test_runs_each_suite_whatever_went_before_and_fails_with_any(
    tmp_path: Path, suite: str, others: int, build: int, tests: int, ran: bool, passed: bool
):
    done, calls = pretended(tmp_path, suite, others, build, tests)
    did = any(f"tests/{suite}" in call and "--ignore" not in call for call in calls)
    assert (did, done.returncode == 0) == (ran, passed), done.stdout + done.stderr
    assert (f"SKIPPED: tests/{suite}" in done.stdout) == (build == 3)


@pytest.mark.parametrize("suite", OPTIONAL)
@pytest.mark.parametrize(
    ("others", "build", "tests", "passed"),
    [(0, 0, 5, True), (5, 0, 0, True), (5, 0, 5, False), (5, 3, 0, False), (5, 0, 1, False)],
)
def test_what_args_selects_may_be_in_one_of_all_runs_and_must_be_in_one(
    tmp_path: Path, suite: str, others: int, build: int, tests: int, passed: bool
):
    done, _ = pretended(tmp_path, suite, others, build, tests, "ARGS=-k typo")
    assert (done.returncode == 0) == passed, done.stdout + done.stderr


def pretended(
    folder: Path, suite: str, others: int, build: int, tests: int, *arguments: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """`make test` with these exit statuses, where the suites but one can not be run; and what it called."""
    python = folder / "python"
    python.write_text(PRETENDS)
    python.chmod(0o755)
    # Under `make test ARGS=...` make would hand these on to the one below.
    outside = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    environment = outside | {
        "ALL_OTHERS": str(others),
        "SUITE": suite,
        "BUILD": str(build),
        "TESTS": str(tests),
    }
    command = ["make", "-C", str(ROOT), "test", f"PY={python}", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done, Path(f"{python}.log").read_text().splitlines()


@pytest.mark.parametrize(
    ("suite", "lacks", "ci", "status"),
    [
        ("guest", "qemu-system-x86", "", 3),
        ("guest", "qemu-system-x86", "true", 1),
        ("image", "buildah", "", 3),
        ("image", "buildah", "true", 1),
        ("node", "containerd", "", 3),
        ("node", "containerd", "true", 3),
    ],
)
def test_a_machine_that_cannot_run_a_suite_is_told_what_it_lacks_and_ci_may_only_lack_a_node(
    suite: str, lacks: str, ci: str, status: int
):
    environment = {"PATH": "/nowhere", "PYTHONPATH": str(ROOT / "hack"), "CI": ci, "BASE": "another"}
    command = [sys.executable, "-m", suite, "build"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert lacks in done.stderr


TESTS_THAT_HIDE = """
import pytest
def test_calls_skip(): pytest.skip("no time")
@pytest.mark.skip(reason="some day")
def test_is_marked(): pass
@pytest.mark.xfail(reason="known bug")
def test_is_known_to_fail(): assert False
def test_passes(): pass
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_skipped_or_expectedly_failing_test_fails_the_session(tmp_path: Path, workers: str):
    run = session(tmp_path, workers, TESTS_THAT_HIDE)
    assert run.returncode != 0
    assert "2 failed, 1 passed, 1 error" in run.stdout
    for reason in ("no time", "some day", "known bug"):
        assert f"no test here may be: {reason}" in run.stdout.replace("Skipped: ", "")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_module_that_skips_itself_fails_the_session(tmp_path: Path, workers: str):
    run = session(tmp_path, workers, "import pytest\npytest.importorskip('no_such_module')\n")
    assert run.returncode != 0
    assert "no test here may be" in run.stdout
    assert "1 error" in run.stdout


def session(folder: Path, workers: str, tests: str) -> subprocess.CompletedProcess[str]:
    """A pytest run of the given tests under our conftest.py."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    (folder / "test_it.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-n", workers, "-p", "no:cacheprovider", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "hack")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
