"""The runner of a build's steps, in a real shell: each step runs once, whoever asks how often."""

import base64
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxmox_operator.api import Build
from proxmox_operator.guest.build import MAX_WORDS, SHELL, read, runner, seed_data, words
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
def test_an_answer_that_is_not_the_runners_is_a_refusal(out):
    assert read(ExecResult(1, out, "")).state == "Refused"


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
