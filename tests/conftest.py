"""What every suite shares: one real API server per worker, a namespace per test, and no test that is skipped.

Not here: anything of the simulator or the operator (their suites bring their own fixtures).
"""

import os
import uuid
from collections.abc import Iterator
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

import guest
from controlplane import Cluster, open_cluster

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".logs"
WAITING = {"chart", "gitops", "integration"}
"""Suites that wait for an operator's intervals more than they compute."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport():
    """A skipped or expectedly failing test proves nothing and hides for years: it fails, with its reason."""
    report = yield
    if report.skipped:
        refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report():
    """The same for a whole module (`importorskip`, a module-level skip)."""
    report = yield
    if report.skipped:
        refuse_skip(report)
    return report


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = getattr(report, "wasxfail", None)
    if reason is None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    else:
        del report.wasxfail
    report.outcome = "failed"
    report.longrepr = f"skipped or xfailed, and no test here may be: {reason or 'no reason given'}"


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Modules stay together, as their tests share a world; a crash test has a stage of its own, and takes minutes."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith("tests/crash/") else nodeid.rsplit("::", 1)[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    return _Scheduling(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Workers have crash tests, which compute, beside those that mostly wait, and at last what is short.

    Crash tests come in the opposite order: the longest are of templates, and one that began last would end alone.
    """
    if not hasattr(config, "workerinput"):
        return
    crash: list[pytest.Item] = []
    waiting: list[pytest.Item] = []
    others: list[pytest.Item] = []
    for item in items:
        suite = item.nodeid.removeprefix("tests/").partition("/")[0]
        (crash if suite == "crash" else waiting if suite in WAITING else others).append(item)
    modules = [list(module) for _, module in groupby(waiting, lambda item: item.nodeid.partition("::")[0])]
    units = interleaved([[item] for item in reversed(crash)], modules)
    items[:] = [*chain.from_iterable(units), *others]


def interleaved[T](*rows: list[T]) -> list[T]:
    """All of them in one row, in which each of them is spread evenly."""
    placed = [((number + 0.5) / len(row), each) for row in rows for number, each in enumerate(row)]
    return [each for _, each in sorted(placed, key=lambda place: place[0])]


def pytest_report_header() -> list[str]:
    kubeconfig = os.environ.get("KUBECONFIG")
    cluster = f"{kubeconfig} (from KUBECONFIG)" if kubeconfig else "started for this run"
    return [f"cluster: {cluster}", f"real guests: {guest.unavailable() or guest.accelerator()}"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("passed", ()):
        for line in (value for name, value in report.user_properties if name == "summary"):
            terminalreporter.write_line(str(line))
    bad = {"failed", "error"} & terminalreporter.stats.keys()
    if bad and LOGS.exists():
        terminalreporter.write_line(f"logs of the control plane: {LOGS.relative_to(ROOT)}/")


@pytest.fixture(scope="session")
def control_plane(worker_id: str) -> Iterator[Cluster]:
    """A real Kubernetes API server with our CRDs, alive for this worker's whole session."""
    with open_cluster(with_controller_manager=True, log_dir=LOGS / worker_id) as cluster:
        cluster.install_crds(ROOT / "crds")
        yield cluster


@pytest.fixture
def namespace(control_plane: Cluster) -> Iterator[str]:
    """The name of a namespace that only this test uses; its deletion is started, not awaited, afterwards."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    control_plane.create_namespace(name)
    yield name
    control_plane.delete_namespace(name)
