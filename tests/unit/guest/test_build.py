"""The runner of a build's steps, in a real shell: each step runs once, whoever asks how often."""

import base64
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxmox_operator.api import Build
from proxmox_operator.guest.build import _RUNNER, MAX_WORDS, SHELL, read, runner, seed_data, words
from proxmox_operator.planning.templates import Look
from proxmox_operator.proxmox.agent import ExecResult

LONG = 30.0


def a_build(*steps: dict[str, object]) -> Build:
    return Build.model_validate(
        {"steps": [{"name": f"s{number}", **step} for number, step in enumerate(steps)]}
    )


@pytest.fixture
def ask(tmp_path: Path) -> Callable[[Build, int], Look]:
    """Send the runner of a step once, as the agent would; the first boot is over."""
    folder = tmp_path / "state"
    folder.mkdir()

    def send(build: Build, number: int) -> Look:
        text = runner(build, number, folder=str(folder))
        done = subprocess.run(SHELL, input=text, capture_output=True, text=True, timeout=LONG, check=False)
        return read(ExecResult(done.returncode, done.stdout, done.stderr))

    return send


def ended(ask: Callable[[Build, int], Look], build: Build, number: int = 1) -> Look:
    deadline = time.monotonic() + LONG
    while (look := ask(build, number)).state == "Running":
        assert time.monotonic() < deadline, "the step does not end"
        time.sleep(0.05)
    return look


def test_a_step_runs_once_however_often_it_is_asked_for(tmp_path, ask):
    build = a_build({"script": f"echo ran >> {tmp_path}/log\necho hello\n"})
    assert ended(ask, build) == Look(state="Ended", code=0, output="hello")
    assert ask(build, 1) == Look(state="Ended", code=0, output="hello")
    assert (tmp_path / "log").read_text() == "ran\n"


def test_a_step_that_runs_is_said_to_with_its_words_so_far(tmp_path, ask):
    go = tmp_path / "go"
    build = a_build({"script": f"echo waiting\nwhile ! [ -e {go} ]; do sleep 0.05; done\necho done\n"})
    deadline = time.monotonic() + LONG
    while (look := ask(build, 1)) != Look(state="Running", output="waiting"):
        assert look.state == "Running"
        assert time.monotonic() < deadline
    go.touch()
    assert ended(ask, build) == Look(state="Ended", code=0, output="waiting / done")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("exit 3\n", 3),
        ("false\necho too far\n", 1),
        ("#!/bin/sh\nfalse\nexit 0\n", 0),
        ("no-such-command\n", 127),
    ],
    ids=["exit", "-e by default", "a first line of its own", "a command that is not there"],
)
def test_a_step_ends_with_the_exit_code_of_its_script(ask, script, code):
    look = ended(ask, a_build({"script": script}))
    assert (look.state, look.code) == ("Ended", code)


def test_a_guest_that_was_rebooted_says_so_and_runs_nothing(tmp_path, ask):
    build = a_build({"script": f"touch {tmp_path}/ran\n"})
    (tmp_path / "state").rmdir()
    assert ask(build, 1).state == "Rebooted"
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that the guest has of commands, without systemd: the test takes from it, and adds to it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "mkdir", "cat", "mv", "tail", "setsid", "base64", "sleep"):
        path = shutil.which(name)
        assert path is not None
        (folder / name).symlink_to(path)
    monkeypatch.setattr("proxmox_operator.guest.build._PATH", str(folder))
    return folder


@pytest.mark.parametrize("number", [1, 2], ids=["a step", "the seal"])
def test_nothing_has_succeeded_that_could_not_be_unpacked(tools, ask, number):
    (tools / "base64").unlink()
    look = ended(ask, a_build({"script": "true\n"}), number)
    assert (look.state, look.code) == ("Ended", 127)
    assert "base64" in look.output


def test_what_cannot_be_unpacked_whole_is_not_begun(tmp_path, tools, ask):
    (tools / "base64").unlink()
    (tools / "base64").write_text(f"#!/bin/sh\necho 'touch {tmp_path}/ran'\necho no space >&2\nexit 1\n")
    (tools / "base64").chmod(0o755)
    assert ended(ask, a_build({"script": "true\n"})) == Look(state="Ended", code=127, output="no space")
    assert not (tmp_path / "ran").exists()


def test_a_step_that_was_killed_has_ended(tmp_path, ask):
    build, pid = a_build({"script": "echo hello\nsleep 300\n"}), tmp_path / "state/1/pid"
    deadline = time.monotonic() + LONG
    while ask(build, 1) != Look(state="Running", output="hello"):
        assert time.monotonic() < deadline
    group = os.getsid(int(pid.read_text()))
    os.killpg(group, signal.SIGKILL)
    assert ended(ask, build) == Look(state="Ended", code=255, output="hello / it was killed")
    assert ask(build, 1) == Look(state="Ended", code=255, output="hello / it was killed")


def test_a_step_runs_once_though_systemd_says_that_it_was_not_begun(tmp_path, tools, ask, monkeypatch):
    (tools / "systemd-run").write_text('#!/bin/sh\nshift 5\nsetsid "$@" &\nexit 1\n')
    (tools / "systemd-run").chmod(0o755)
    template = "proxmox_operator.guest.build._RUNNER"
    monkeypatch.setattr(template, _RUNNER.replace("[ -d /run/systemd/system ]", "true"))
    build = a_build({"script": f"echo ran >> {tmp_path}/log\nsleep 0.3\n"})
    assert ended(ask, build).code == 0
    assert (tmp_path / "log").read_text() == "ran\n"


def test_the_folder_of_the_steps_is_roots_alone(tmp_path, ask):
    ended(ask, a_build({"script": "true\n"}))
    assert (tmp_path / "state" / "1").stat().st_mode & 0o077 == 0


def test_files_are_written_with_their_content_and_mode(tmp_path, ask):
    content = "größer 'and' \"better\"\n$HOME `id` \\n without an end"
    files = [
        {"path": f"{tmp_path}/new/folder/a.conf", "content": content, "mode": "0640", "owner": "root:root"},
        {"path": f"{tmp_path}/empty", "owner": "root:root"},
    ]
    # Who may not give files away keeps them: the test is not root's alone.
    build = a_build({"files": files})
    text = base64.b64decode(_payload(build)).decode()
    assert "chown root:root" in text
    subprocess.run(
        ("sh", "-e"), input=text.replace("chown root:root", "true"), text=True, check=True, timeout=LONG
    )
    assert (tmp_path / "new/folder/a.conf").read_text() == content
    assert (tmp_path / "new/folder/a.conf").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "empty").read_bytes() == b""
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.conf", "empty", "folder", "new", "state"]


def test_a_file_is_not_put_into_a_folder_of_its_name(tmp_path):
    (tmp_path / "there").mkdir()
    text = base64.b64decode(_payload(a_build({"files": [{"path": f"{tmp_path}/there"}]}))).decode()
    done = subprocess.run(("sh", "-e"), input=text, text=True, capture_output=True, timeout=LONG, check=False)
    assert done.returncode == 1
    assert f"{tmp_path}/there is a folder" in done.stdout
    assert list((tmp_path / "there").iterdir()) == []


def test_the_lists_of_packages_are_waited_for(tmp_path):
    build = Build.model_validate(
        {"steps": [{"name": "a", "packages": ["nginx"]}], "network": {"bridge": "vmbr0"}}
    )
    apt = f"""#!/bin/sh
if [ "$2" = update ] && ! [ -e {tmp_path}/locked ]; then : > {tmp_path}/locked; exit 100; fi
echo "$@" >> {tmp_path}/told
"""
    for name, text in (("apt-get", apt), ("sleep", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    script = base64.b64decode(_payload(build)).decode()
    subprocess.run(
        ("/bin/sh", "-e"), input=script, text=True, check=True, env={"PATH": str(tmp_path)}, timeout=LONG
    )
    assert (tmp_path / "told").read_text() == "-q update\n-q -y -o DPkg::Lock::Timeout=300 install nginx\n"


def test_packages_are_installed_by_the_manager_that_is_there(tmp_path):
    build = Build.model_validate(
        {"steps": [{"name": "a", "packages": ["nginx", "curl=8"]}], "network": {"bridge": "vmbr0"}}
    )
    (tmp_path / "dnf").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/told\n')
    (tmp_path / "dnf").chmod(0o755)
    text = base64.b64decode(_payload(build)).decode()
    subprocess.run(
        ("/bin/sh", "-e"), input=text, text=True, check=True, env={"PATH": str(tmp_path)}, timeout=LONG
    )
    assert (tmp_path / "told").read_text() == "-q -y install nginx curl=8\n"


def _payload(build: Build) -> str:
    return runner(build, 1).partition("<<'STEP'\n")[2].partition("\nSTEP\n")[0]


LARGEST = [
    {"script": "é" * 20_000},
    {
        "files": [
            {"path": "/" + "a" * 199, "content": "x" * 1200, "owner": f"{'r' * 32}:{'r' * 32}"}
            for _ in range(20)
        ]
    },
    {"packages": ["a" * 100] * 100},
]


@pytest.mark.parametrize("step", LARGEST, ids=["script", "files", "packages"])
def test_the_largest_step_goes_into_one_call_of_the_agent(step):
    text = runner(a_build(step), 1)
    assert len(text) <= 65536
    assert text.isascii()


def test_the_seal_comes_after_the_last_step():
    build = a_build({"script": "true"}, {"script": "true"})
    assert (
        "cloud-init clean"
        in base64.b64decode(runner(build, 3).partition("<<'STEP'\n")[2].partition("\nSTEP\n")[0]).decode()
    )


@pytest.mark.parametrize("number", [0, 1, 2])
def test_what_the_guest_is_given_is_read_by_a_shell(number):
    text = runner(a_build({"packages": ["nginx"]}), number)
    payload = text.partition("<<'STEP'\n")[2].partition("\nSTEP\n")[0]
    for script in (text, base64.b64decode(payload).decode()):
        subprocess.run(("/bin/sh", "-n"), input=script, text=True, check=True, timeout=LONG)


@pytest.mark.parametrize(
    "out", ["", "hello", "proxmox-operator-build ended", "proxmox-operator-build ended 12345", "x" * 100_000]
)
def test_an_answer_that_is_not_the_runners_is_none(out):
    look = read(ExecResult(1, out, ""))
    assert look.state == "Silent"
    assert look.output


def test_the_seal_has_succeeded_only_with_its_last_word():
    def said(out):
        return read(ExecResult(0, f"proxmox-operator-build ended {out}", ""), seal=True)

    assert said("0\n/: 1 GiB trimmed\nsealed\n") == Look(state="Ended", output="/: 1 GiB trimmed / sealed")
    assert said("3\nno\n") == Look(state="Ended", code=3, output="no")
    for out in ("0\n", "0\n/: 1 GiB trimmed\n", "0\nsealed\nand more\n"):
        assert said(out).code == 255


def test_words_are_short_and_no_commands_to_a_terminal():
    said = words("\x1b[31mred\x1b[0m\n" + "\n".join(["é" * 300] * 50))
    assert len(said) <= MAX_WORDS
    assert said.isprintable()
    assert words("one\n\n two  three \x1b[2J\n") == "one / two three [2J"


def test_the_agent_is_installed_only_where_there_is_a_network():
    assert seed_data(a_build({"script": "true"})) == {}
    with_network = Build.model_validate(
        {"steps": [{"name": "a", "script": "true"}], "network": {"bridge": "vmbr0"}}
    )
    assert "qemu-guest-agent" in str(seed_data(with_network))
