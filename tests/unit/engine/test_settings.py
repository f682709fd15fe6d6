"""Flags win over the environment, which wins over the defaults; a mistake names the flag."""

from pathlib import Path

import pytest

from proxmox_operator.engine.settings import DEFAULT_NAMESPACE, LONGEST_WRITE, Settings, own_namespace
from proxmox_operator.proxmox.transport import CALL_TIMEOUT


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PROXMOX_OPERATOR_{name.upper()}", raising=False)


def test_the_defaults_are_those_of_the_design():
    settings = Settings.from_args([])
    assert (settings.lease_duration, settings.lease_renew, settings.takeover_delay) == (60, 10, 45)
    assert (settings.workers, settings.config_reread, settings.watch_namespaces) == (16, 300, ())
    assert settings.leader_election
    assert settings.cluster_id is None


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROXMOX_OPERATOR_WORKERS", "3")
    monkeypatch.setenv("PROXMOX_OPERATOR_LOG_LEVEL", "debug")
    monkeypatch.setenv("PROXMOX_OPERATOR_WATCH_NAMESPACES", "shop, lab")
    settings = Settings.from_args(["--workers", "5"])
    assert (settings.workers, settings.log_level, settings.watch_namespaces) == (5, "DEBUG", ("shop", "lab"))


@pytest.mark.parametrize(("text", "seconds"), [("5m", 300.0), ("1h30m", 5400.0), ("90", 90.0), ("0.5", 0.5)])
def test_durations_are_written_as_in_manifests_or_in_seconds(text: str, seconds: float):
    assert Settings.from_args(["--resync", text]).resync == seconds


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--workers", "many"], "--workers"),
        (["--workers", "0"], "--workers"),
        (["--resync", "soon"], "--resync"),
        (["--resync", "0"], "--resync"),
        (["--health-port", "70000"], "--health-port"),
        (["--cluster-id", "-->"], "--cluster-id"),
        (["--log-level", "loud"], "--log-level"),
        (["--lease-timeout", "10"], "lease-timeout must be shorter than lease-renew"),
        (["--lease-renew", "40"], "lease-renew must be at most half of lease-duration"),
        (["--takeover-delay", "60"], "takeover-delay must be shorter than lease-duration"),
        (["--lease-duration", "59"], "must be more than the 45 s"),
        (["--work", "3"], "--work"),
    ],
)
def test_a_mistake_ends_with_a_sentence_that_names_the_flag(
    args: list[str], told: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        Settings.from_args(args)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_a_lease_is_long_enough_for_the_longest_call_to_proxmox_unless_nobody_holds_one():
    assert LONGEST_WRITE == CALL_TIMEOUT
    assert Settings(lease_duration=60).lease_duration == 60
    with pytest.raises(ValueError, match="writes are held back"):
        Settings(lease_duration=59)
    assert Settings(lease_duration=50, leader_election=False).lease_duration == 50


def test_the_help_describes_every_setting_with_its_variable(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        Settings.from_args(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert field.description
        assert f"--{name.replace('_', '-')}" in text
        assert f"[$PROXMOX_OPERATOR_{name.upper()}]" in text
    assert f"else {DEFAULT_NAMESPACE}. [$PROXMOX_OPERATOR_NAMESPACE]" in text
    assert "a leader vanished: as long as a call it sent may take. Default: 45 s. [" in text
    assert "Default: on. [$PROXMOX_OPERATOR_LEADER_ELECTION]" in text


def test_the_namespace_is_that_of_the_pod(tmp_path: Path):
    file = tmp_path / "namespace"
    file.write_text("ops\n")
    assert own_namespace(file) == "ops"
    assert own_namespace(tmp_path / "none") == DEFAULT_NAMESPACE
