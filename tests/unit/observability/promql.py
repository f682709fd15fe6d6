"""What PromQL expressions ask for, and promtool's word on them."""

import re
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any, get_args

import yaml

import gotools
from proxmox_operator import errors
from proxmox_operator.api.conditions import ConditionStatus
from proxmox_operator.controllers.outcome import Result
from proxmox_operator.engine.figures import CONDITIONS
from proxmox_operator.engine.health import LOOP
from proxmox_operator.engine.metrics import Metrics
from proxmox_operator.kube import errors as kube_errors
from proxmox_operator.kube.resources import OWN_KINDS
from proxmox_operator.proxmox.endpoint import ENDPOINT_STATES
from proxmox_operator.proxmox.errors import classify_response
from proxmox_operator.proxmox.tasks import Outcome
from proxmox_operator.proxmox.transport import Lost, NotSent

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "charts" / "proxmox-operator" / "files"
ADDED = {"namespace", "job", "instance", "le", "version"}
"""Labels that Prometheus adds to ours, and those of histograms."""

FAMILIES = {series: family for family in Metrics().families() for series in family.series}
VALUES: dict[tuple[str, str], Collection[str]] = {
    ("", "kind"): OWN_KINDS,
    ("", "condition"): CONDITIONS,
    ("", "status"): get_args(ConditionStatus),
    ("", "reason_class"): ("settled", "progressing", "stalled", "paused"),
    ("", "state"): ENDPOINT_STATES,
    ("", "outcome"): list(Outcome),
    ("", "part"): ("watch", LOOP),
    ("", "call_class"): (".*upload",),
    ("proxmox_operator_reconcile_seconds", "result"): get_args(Result),
    ("proxmox_operator_trace_spans_total", "result"): ("delivered", "dropped"),
    ("proxmox_operator_kube_call_seconds", "result"): {
        *(name for name, each in vars(errors).items() if isinstance(each, type)),
        *(name for name, each in vars(kube_errors).items() if isinstance(each, type)),
    },
    ("proxmox_operator_proxmox_call_seconds", "result"): {
        "ok",
        *(each.__name__ for each in (NotSent, Lost)),
        *(classify_response(status, "", mutating=True).reason for status in (500, 595, 599)),
    },
}
"""What values the labels of a metric, or of any (""), can have, as far as expressions ask for them."""

_OURS = re.compile(r"\b((?:proxmox_operator|process)_\w+)(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def series_of(expression: str) -> set[str]:
    """The series of ours that an expression reads."""
    return {match[1] for match in _OURS.finditer(expression)}


def unknown_values(expression: str) -> list[str]:
    """Label values that an expression asks for, and that no code of ours ever sets."""
    found = []
    for match in _OURS.finditer(expression):
        for label, values in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"$]+)"', match[2] or ""):
            known = VALUES.get((FAMILIES[match[1]].name, label)) or VALUES["", label]
            found += [f'{label}="{value}"' for value in values.split("|") if value not in known]
    return found


def unknown_labels(expression: str) -> set[str]:
    """Labels that an expression selects or groups by, and that none of its metrics has."""
    known = ADDED.union(*(FAMILIES[name].labels for name in series_of(expression)))
    asked = set()
    for match in _OURS.finditer(expression):
        matchers = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', match[2] or ""))
        assert set(matchers) <= ADDED.union(FAMILIES[match[1]].labels), match[0]
    for match in _GROUPED.finditer(expression):
        asked |= {label.strip() for label in match[1].split(",")}
    return asked - known


def promtool(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run it, built where it has not been yet (minutes: such tests have time for it)."""
    command = [gotools.locate("promtool"), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def check_expressions(expressions: list[str], folder: Path) -> str:
    """What promtool has to say against them; empty where all are right."""
    rules: list[dict[str, Any]] = [
        {"record": f"checked:{number}", "expr": expression} for number, expression in enumerate(expressions)
    ]
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "checked", "rules": rules}]}))
    done = promtool("check", "rules", file)
    return "" if done.returncode == 0 else done.stdout + done.stderr
