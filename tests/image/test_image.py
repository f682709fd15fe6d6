"""What is in the image, who it runs as, and how large it is."""

import ast
import re
import stat
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from image import Archive
from proxmox_operator import __version__

ROOT = Path(__file__).resolve().parents[2]
HOME = "opt/proxmox-operator"
UID = 65532
MEGABYTE = 1_000_000


def inside(root: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the image as its user, with nothing of this machine but the kernel."""
    command = ["chroot", f"--userspec={UID}:{UID}", str(root), *argv]
    environment = {"PATH": f"/{HOME}/bin:/usr/sbin:/usr/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def ours(root: Path) -> Iterator[Path]:
    """Everything that we have put there."""
    yield from (root / HOME).rglob("*")


def distributions(root: Path) -> dict[str, str]:
    """All Python packages anywhere in the image: name and version."""
    found = {}
    for metadata in root.rglob("*.dist-info/METADATA"):
        text = metadata.read_text()
        name, number = (re.findall(rf"^{key}: (\S+)$", text, re.M)[0] for key in ("Name", "Version"))
        found[re.sub(r"[-_.]+", "-", name).lower()] = number
    return found


def locked() -> dict[str, str]:
    """The lock file, less what it has for other systems only."""
    text = (ROOT / "requirements" / "runtime.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", text, re.M))


def test_the_operators_environment_holds_the_locked_packages_itself_and_no_other(root: Path) -> None:
    assert distributions(root / HOME) == locked() | {"proxmox-operator": __version__}


def test_nothing_under_the_agpl_and_no_development_tool_is_anywhere_in_it(root: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    development = {re.split(r"[<>= ]", entry)[0] for entry in project["dependency-groups"]["dev"]}
    everywhere = distributions(root).keys()
    assert everywhere & (development - locked().keys()) == set()
    said = "".join(path.read_text() for path in root.rglob("*.dist-info/METADATA"))
    licences = re.findall(r"^(?:License|License-Expression|Classifier: License.*): (.+)$", said, re.M)
    assert len(licences) > 10
    assert [licence for licence in licences if re.search("AGPL|Affero", licence)] == []


def test_the_files_that_only_building_takes_stay_behind(root: Path) -> None:
    assert [name for name in ("src", "build", "wheel") if (root / name).exists()] == []
    assert not list(root.rglob("hatchling*"))


def test_it_runs_as_a_user_that_has_a_name_and_no_rights(archive: Archive, root: Path) -> None:
    assert archive.config["User"] == f"{UID}:{UID}"
    told = inside(
        root, "python3", "-c", "import getpass, os; print(getpass.getuser(), os.getuid(), os.getgid())"
    )
    assert told.stdout.split() == ["operator", str(UID), str(UID)], told.stderr


def test_the_image_as_a_command_is_proxmox_operator_and_does_not_need_a_shell(archive: Archive) -> None:
    assert archive.config["Entrypoint"] == ["proxmox-operator"]
    assert archive.config["Cmd"] == ["run"]
    assert "Healthcheck" not in archive.config


@pytest.mark.parametrize("argument", ["--version", "version"])
def test_it_says_which_version_it_is(root: Path, argument: str) -> None:
    done = inside(root, "proxmox-operator", argument)
    assert (done.returncode, done.stdout.strip()) == (0, __version__), done.stderr


def test_its_labels_say_what_it_is_and_from_where(archive: Archive) -> None:
    labels = archive.config["Labels"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    said = {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()}
    assert said["title"] == project["name"]
    assert said["description"] == project["description"]
    assert said["licenses"] == project["license"]
    assert said["version"] == __version__
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", said["revision"])
    assert said["source"]


def test_nothing_of_ours_can_be_written_by_its_user_or_gives_rights(root: Path) -> None:
    for path in ours(root):
        status = path.lstat()
        if not path.is_symlink():
            assert (status.st_uid, status.st_gid) == (0, 0), path
            assert not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH | stat.S_ISUID | stat.S_ISGID), path


def test_only_places_for_temporary_files_can_be_written_by_everyone(root: Path) -> None:
    kept = [path for path in root.rglob("*") if path.is_file() or path.is_dir()]
    open_to_all = [path for path in kept if not path.is_symlink() and path.stat().st_mode & stat.S_IWOTH]
    assert [path for path in open_to_all if not path.stat().st_mode & stat.S_ISVTX] == []


def test_every_module_of_ours_can_be_imported_from_a_file_system_that_cannot_be_written(root: Path) -> None:
    script = (
        "import importlib, pkgutil, proxmox_operator as p;"
        "print(len([importlib.import_module(m.name) for m in pkgutil.walk_packages(p.__path__, 'proxmox_operator.')]))"
    )
    done = inside(root, "python3", "-c", script)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(list((ROOT / "operator").rglob("*.py"))) - 1  # the package itself


def test_every_module_is_compiled_as_nothing_can_be_written_at_run_time(root: Path) -> None:
    sources = [path for path in ours(root) if path.suffix == ".py" and "site-packages" in path.parts]
    assert len(sources) > 1000
    missing = [
        path for path in sources if not list(path.parent.glob(f"__pycache__/{path.stem}.cpython-313.pyc"))
    ]
    assert missing == []


def test_the_kubernetes_client_is_imported_at_the_top_of_modules_only() -> None:
    """The image lacks those of its classes that importing our modules does not load (hack/image/shrink.py)."""
    late = []
    for path in (ROOT / "operator").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                # Whole, it could be asked for any of its classes later.
                wrong = any(alias.name.split(".")[0] == "kubernetes" for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node not in tree.body:
                wrong = (node.module or "").split(".")[0] == "kubernetes"
            else:
                continue
            if wrong:
                late.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert late == []


def test_it_is_smaller_than_its_budget(
    archive: Archive, record_property: Callable[[str, object], None]
) -> None:
    unpacked, packed = archive.unpacked_size(), archive.packed_size
    record_property(
        "summary", f"image: {packed / MEGABYTE:.0f} MB packed, {unpacked / MEGABYTE:.0f} MB unpacked"
    )
    assert unpacked < 200 * MEGABYTE
    assert packed < 80 * MEGABYTE
