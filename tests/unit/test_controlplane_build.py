"""Where the control plane's binaries come from, in which order, and what is said when they are nowhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane import ControlPlaneError, build

HACK = Path(build.__file__).resolve().parents[1]
GO_THAT_BUILDS = """#!/bin/sh
echo "$@" >> "$GO_CALLS"
while [ "$1" != -o ]; do shift; done
sleep 0.3
printf '#!/bin/sh\\n' > "$2"
chmod +x "$2"
"""


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has nothing: an empty cache, no assets, and only what `program` puts on PATH."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_assets_come_before_the_cache_and_the_cache_before_path(bare: Path, monkeypatch: pytest.MonkeyPatch):
    on_path = program(bare / "bin" / "kubectl")
    assert build.locate("kubectl") == {"kubectl": on_path}
    cached = program(build.cache_dir() / "kubectl")
    assert build.locate("kubectl") == {"kubectl": cached}
    given = program(bare / "assets" / "kubectl")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(bare / "assets"))
    assert build.locate("kubectl") == {"kubectl": given}


def test_assets_that_lack_a_binary_are_completed_from_the_cache(bare: Path, monkeypatch: pytest.MonkeyPatch):
    etcd = program(bare / "assets" / "etcd")
    manager = program(build.cache_dir() / "kube-controller-manager")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(bare / "assets"))
    found = build.locate("etcd", "kube-controller-manager")
    assert found == {"etcd": etcd, "kube-controller-manager": manager}


def test_a_server_on_path_is_not_taken_because_its_version_is_anyones(bare: Path):
    program(bare / "bin" / "etcd")
    with pytest.raises(ControlPlaneError, match="etcd not found"):
        build.locate("etcd")


def test_without_go_one_line_names_every_way_out():
    with pytest.raises(ControlPlaneError) as raised:
        build.locate("etcd", "kube-apiserver")
    message = str(raised.value)
    assert message.startswith("etcd, kube-apiserver not found: ")
    assert "\n" not in message
    for way_out in ("install Go 1.", "KUBEBUILDER_ASSETS", "KUBECONFIG", "make kind"):
        assert way_out in message


def test_an_old_go_is_named_as_the_reason(bare: Path):
    program(
        bare / "bin" / "go",
        "#!/bin/sh\necho 'go: go.mod requires go >= 1.26.0 (running go 1.21)' >&2\nexit 1\n",
    )
    with pytest.raises(ControlPlaneError, match=r"^etcd cannot be built: this Go is too old, 1\.\d+"):
        build.locate("etcd")


def test_a_failed_build_leaves_no_binary_and_quotes_the_last_line(bare: Path):
    program(bare / "bin" / "go", "#!/bin/sh\necho 'no space left on device' >&2\nexit 1\n")
    with pytest.raises(ControlPlaneError, match="no space left on device"):
        build.locate("etcd")
    assert not (build.cache_dir() / "etcd").exists()


def test_two_that_need_the_same_binary_at_once_build_it_once(bare: Path):
    program(bare / "bin" / "go", GO_THAT_BUILDS)
    calls = bare / "calls"
    environment = os.environ | {
        "PATH": f"{bare / 'bin'}:{os.defpath}",
        "GO_CALLS": str(calls),
        "PYTHONPATH": str(HACK),
    }
    command = [sys.executable, "-c", "from controlplane.build import locate; print(locate('etcd')['etcd'])"]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [one.communicate(timeout=30) for one in both]
    assert [out.strip() for out, _ in answers] == [str(build.cache_dir() / "etcd")] * 2
    assert len(calls.read_text().splitlines()) == 1
    assert "another process builds" in "".join(err for _, err in answers)
    assert not list(build.cache_dir().glob(".*.building"))


def test_the_build_stamps_the_version_that_go_mod_pins(bare: Path, monkeypatch: pytest.MonkeyPatch):
    program(bare / "bin" / "go", GO_THAT_BUILDS)
    monkeypatch.setenv("PATH", f"{bare / 'bin'}:{os.defpath}")
    monkeypatch.setenv("GO_CALLS", str(bare / "calls"))
    build.locate("kube-apiserver")
    assert re.fullmatch(r"v1\.\d+\.\d+", build.version())
    assert f"version.gitVersion={build.version()} " in (bare / "calls").read_text()


def test_go_mod_replaces_every_staging_module_by_the_release_it_pins():
    text = (build.MODULE / "go.mod").read_text()
    replaced = re.findall(r"^\tk8s\.io/\S+ => k8s\.io/\S+ (\S+)$", text, re.M)
    assert len(replaced) > 25
    assert set(replaced) == {build.version().replace("v1.", "v0.", 1)}
    assert (build.MODULE / "go.sum").stat().st_size > 0
