"""The command from outside: what it prints and returns when all is well, and when something is not."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from proxmox_operator import __version__, cli
from proxmox_operator.api import crds
from proxmox_operator.errors import LeadershipLost, Unreachable

COMMANDS = [*cli.COMMANDS]
MAIN = "import sys; from proxmox_operator.cli import main; sys.exit(main())"
IMPATIENT = f"""
import proxmox_operator.controllers.manager as manager

manager.UNANSWERED_FOR = manager.SERVED_INTERVAL = 0.1
{MAIN}
"""


def start(*arguments: str, script: str = MAIN, **variables: str) -> subprocess.Popen[str]:
    """The console script, as a process."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "PROXMOX_"))}
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env={**bare, "COLUMNS": "80", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def outcome(*arguments: str, script: str = MAIN) -> tuple[int, str, str]:
    """Exit code, standard output and standard error; a traceback fails."""
    process = start(*arguments, script=script)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err
    return process.returncode, out, err


@pytest.fixture
def kubeconfig(tmp_path: Path) -> str:
    """Of an API server that does not answer."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t0ken"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(content))
    return str(file)


@pytest.fixture
def taken() -> Iterator[str]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_fits_80_columns_and_leaves_no_word_of_argparse(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if len(line) > 80] == []
    assert "==SUPPRESS==" not in out
    assert "REMAINDER" not in out
    assert out.startswith(" ".join(["usage: proxmox-operator", *command]))


def test_without_a_command_the_help_is_shown_as_wrong_usage(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    told = capsys.readouterr().out
    assert cli.main([]) == 2
    assert capsys.readouterr() == ("", told)


def test_help_names_every_command_and_every_exit_code(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    for name, told in cli.COMMANDS.items():
        assert f"  {name:<8} {told}" in out
    for code in (0, 1, 2, 3, 130):
        assert f"\n  {code:<4} " in out


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_the_version_is_that_of_the_package(arguments):
    assert outcome(*arguments) == (0, f"{__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["fly"], "invalid choice: 'fly' (choose from"),
        (["run", "--fly"], "unrecognized arguments: --fly"),
        (["check", "--fly", "cluster.yaml"], "unrecognized arguments: --fly"),
        (["crds", "--fly"], "unrecognized arguments: --fly"),
        (["release", "--all", "--fly"], "unrecognized arguments: --fly"),
        (["version", "now"], "unrecognized arguments: now"),
        (["crds", "--output"], "expected one argument"),
        (["check"], "the following arguments are required: FILE"),
        (["release"], "the following arguments are required: --all"),
        (["run", "--workers", "many"], "--workers: "),
        (["release", "--all", "--lease-renew", "never"], "--lease-renew: "),
    ],
)
def test_wrong_usage_is_told_in_a_few_lines(arguments, told, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert told in shown.err.splitlines()[-1]
    assert shown.err.startswith("usage: proxmox-operator")
    assert len(shown.err.splitlines()) <= 3


def test_a_bad_setting_of_the_environment_is_told_by_the_name_of_its_variable(monkeypatch, capsys):
    monkeypatch.setenv("PROXMOX_OPERATOR_WORKERS", "many")
    with pytest.raises(SystemExit) as ended:
        cli.main(["run"])
    assert ended.value.code == 2
    assert "$PROXMOX_OPERATOR_WORKERS: " in capsys.readouterr().err


@pytest.mark.parametrize("command", [["run"], ["release", "--all"]])
def test_a_kubeconfig_that_is_not_there_is_named(command):
    code, out, err = outcome(*command, "--kubeconfig", "/nowhere/kubeconfig")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        f"proxmox-operator {command[0]}: cannot log in to Kubernetes: there is no file /nowhere/kubeconfig. "
        "Give --kubeconfig or KUBECONFIG, or run in a pod with a service account"
    ]


def test_an_api_server_that_does_not_answer_is_named(kubeconfig):
    code, out, err = outcome("release", "--all", "--kubeconfig", kubeconfig)
    assert (code, out) == (1, "")
    assert "the Kubernetes API server does not answer" in err
    assert "127.0.0.1:1" in err
    assert len(err.splitlines()) == 1


def test_a_port_that_is_taken_is_named_with_the_option(kubeconfig, taken):
    where = ("--health-address", "127.0.0.1", "--health-port", taken)
    code, out, err = outcome("run", "--kubeconfig", kubeconfig, *where)
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == (
        f"proxmox-operator run: cannot listen on 127.0.0.1, port {taken}: Address already in use: name others with "
        "--health-address and --health-port"
    )


def test_an_operator_that_has_waited_for_an_api_server_in_vain_names_it(kubeconfig):
    where = ("--health-address", "127.0.0.1", "--health-port", "0", "--log-format", "text")
    code, out, err = outcome("run", "--kubeconfig", kubeconfig, *where, script=IMPATIENT)
    assert (code, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith("proxmox-operator run: ")
    assert "the Kubernetes API server does not answer: Cannot connect to host 127" in last


def test_an_operator_without_an_api_server_waits_for_it_and_ends_when_told_to(kubeconfig):
    where = ("--health-address", "127.0.0.1", "--health-port", "0", "--log-format", "text")
    process = start("run", "--kubeconfig", kubeconfig, *where)
    assert process.stderr is not None
    first = process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in first + err


def test_crds_are_printed_or_written(tmp_path, capsys):
    assert cli.main(["crds"]) == 0
    printed = list(yaml.safe_load_all(capsys.readouterr().out))
    assert cli.main(["crds", "--output", str(tmp_path / "new")]) == 0
    assert capsys.readouterr().out == ""
    written = {file.name: file.read_text() for file in (tmp_path / "new").iterdir()}
    assert written == crds.files()
    assert [yaml.safe_load(text) for text in crds.files().values()] == printed


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = outcome("crds", "--output", str(tmp_path / "file"))
    assert (code, out, err) == (1, "", f"proxmox-operator crds: --output {tmp_path / 'file'}: File exists\n")


def test_a_reader_that_has_enough_is_no_error_to_read_about():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "crds"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (Unreachable("nobody answers"), 1, "proxmox-operator version: nobody answers\n"),
        (
            LeadershipLost("the Lease is held by b now"),
            3,
            "proxmox-operator version: the Lease is held by b now; ending, so that the new leader is alone\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_a_command_raises_has_an_exit_code(error, code, told, monkeypatch, capsys):
    async def failing() -> None:
        raise error

    monkeypatch.setattr("proxmox_operator.cli.version.version", lambda _: asyncio.run(failing()))
    assert cli.main(["version"]) == code
    assert capsys.readouterr().err == told


def test_ctrl_c_during_a_check_ends_it_with_130(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        file = tmp_path / "cluster.yaml"
        spec = {
            "endpoints": [f"https://127.0.0.1:{silent.getsockname()[1]}"],
            "credentialsSecretRef": {"name": "proxmox"},
        }
        file.write_text(yaml.safe_dump({"kind": "ProxmoxCluster", "metadata": {"name": "lab"}, "spec": spec}))
        token = {"PROXMOX_TOKEN_ID": "operator@pve!kubernetes", "PROXMOX_TOKEN_SECRET": "s"}
        process = start("check", str(file), PYTHONUNBUFFERED="1", **token)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ProxmoxCluster lab")
        silent.settimeout(30)
        with silent.accept()[0]:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        _, err = process.communicate(timeout=60)
    assert err == ""
