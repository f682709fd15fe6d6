"""The health checks in every state, from conditions that are made by the operator's own functions."""

from datetime import UTC, datetime
from typing import Any

import pytest

from harness.judges import argocd
from proxmox_operator import errors
from proxmox_operator.api import Condition
from proxmox_operator.errors import NeedsHuman, OperatorError
from proxmox_operator.kube.resources import OWN_KINDS
from proxmox_operator.planning.lifecycle import Blocked, Settled, Wait
from proxmox_operator.planning.report import (
    Verdict,
    paused_conditions,
    summarise,
    verdict_of_error,
    verdict_of_step,
)

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
ERRORS = [
    each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, OperatorError)
]


def made(verdict: Verdict, *, generation: int = 3) -> tuple[Condition, ...]:
    return summarise((), verdict, generation=generation, now=NOW)


def obj(
    conditions: tuple[Condition, ...], *, kind: str = "ProxmoxVM", generation: int = 3, seen: int | None = 3
) -> dict[str, Any]:
    """An object as the API server has it."""
    status: dict[str, Any] = {
        "conditions": [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in conditions]
    }
    if seen is not None:
        status["observedGeneration"] = seen
    resource = OWN_KINDS[kind]
    return {
        "apiVersion": resource.api_version,
        "kind": kind,
        "metadata": {"name": "it", "generation": generation},
        "status": status,
    }


RUNNING = verdict_of_step(Settled(reason="Running", message="VM 100 is running on pve1"))


@pytest.mark.parametrize("kind", OWN_KINDS)
def test_each_kind_has_a_check_and_an_object_as_its_spec_says_is_healthy(kind: str) -> None:
    assert argocd(obj(made(RUNNING), kind=kind)) == ("Healthy", "Running: VM 100 is running on pve1")


@pytest.mark.parametrize("reason", ["Running", "Stopped", "Paused", "Deleted"])
def test_whatever_power_the_spec_wants_is_healthy(reason: str) -> None:
    assert argocd(obj(made(verdict_of_step(Settled(reason=reason, message="as wanted"))))).status == "Healthy"


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_that_needs_a_person_is_degraded_and_every_other_progressing(
    error: type[OperatorError],
) -> None:
    found = argocd(obj(made(verdict_of_error(error("a sentence")))))
    expected = "Degraded" if issubclass(error, NeedsHuman) else "Progressing"
    assert found == (expected, f"{error.default_reason}: a sentence")


@pytest.mark.parametrize("unknown", [False, True])
def test_waiting_is_progressing_be_it_for_what_is_known_or_not(unknown: bool) -> None:
    wait = Wait(reason="Locked", message="a backup runs", unknown=unknown)
    assert argocd(obj(made(verdict_of_step(wait)))) == ("Progressing", "Locked: a backup runs")


def test_blocked_is_degraded() -> None:
    blocked = Blocked(reason="Missing", message="VM 100 no longer exists")
    assert argocd(obj(made(verdict_of_step(blocked)))) == ("Degraded", "Missing: VM 100 no longer exists")


@pytest.mark.parametrize(
    ("progressing", "stalled", "expected"),
    [(False, False, "Healthy"), (True, False, "Progressing"), (False, True, "Degraded")],
)
def test_a_template_that_can_be_used_is_healthy_only_when_it_is_where_it_is_to_be(
    progressing: bool, stalled: bool, expected: str
) -> None:
    verdict = Verdict(True, "Ready", "1/3 copies are ready", progressing, stalled)
    assert argocd(obj(made(verdict), kind="VMTemplate")).status == expected


@pytest.mark.parametrize("status", [None, {}, {"observedGeneration": -1}, {"conditions": []}])
def test_an_object_without_conditions_is_progressing(status: dict[str, Any] | None) -> None:
    raw = obj(())
    raw.pop("status")
    if status is not None:
        raw["status"] = status
    assert argocd(raw) == ("Progressing", "proxmox-operator has not looked at it yet")


@pytest.mark.parametrize("verdict", [RUNNING, verdict_of_error(NeedsHuman("mend it"))])
@pytest.mark.parametrize(("seen", "said_of"), [(3, 3), (3, 4), (4, 3)])
def test_what_was_said_of_an_older_generation_is_progressing_be_it_good_or_bad(
    verdict: Verdict, seen: int, said_of: int
) -> None:
    found = argocd(obj(made(verdict, generation=said_of), generation=4, seen=seen))
    assert found.status == "Progressing"
    assert verdict.message in found.message


def test_a_new_object_that_failed_before_it_was_seen_whole_is_judged_by_its_conditions() -> None:
    assert argocd(obj(made(verdict_of_error(NeedsHuman("mend it"))), seen=None)).status == "Degraded"


@pytest.mark.parametrize("verdict", [RUNNING, verdict_of_error(NeedsHuman("mend it")), None])
def test_a_paused_object_is_suspended_however_it_stood_before(verdict: Verdict | None) -> None:
    before = made(verdict) if verdict is not None else ()
    paused = paused_conditions(before, "it is paused", generation=4, now=NOW)
    assert argocd(obj(paused, generation=4)) == ("Suspended", "it is paused")


def test_an_object_that_goes_on_after_a_pause_is_progressing_until_it_was_looked_at() -> None:
    paused = paused_conditions((), "it is paused", generation=3, now=NOW)
    gone_on = tuple(each for each in paused if each.type != "Paused")
    assert argocd(obj(gone_on)) == ("Progressing", "Paused: it is paused")


OUT_OF_SYNC = {"sync": {"status": "OutOfSync"}, "health": {"status": "Missing"}}


def application(**status: Any) -> dict[str, Any]:
    return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "status": status}


@pytest.mark.parametrize("health", ["Healthy", "Progressing", "Degraded", "Suspended", "Missing"])
def test_an_application_that_was_synced_is_as_healthy_as_what_it_holds(health: str) -> None:
    raw = application(operationState={"phase": "Succeeded"}, health={"status": health})
    assert argocd(raw).status == health


@pytest.mark.parametrize(
    ("sync", "expected"),
    [
        ({"phase": "Running", "message": "wave 1"}, "Progressing"),
        ({"phase": "Failed", "message": "no"}, "Degraded"),
    ],
)
def test_an_application_whose_sync_is_not_done_is_not_healthy_whatever_it_holds(
    sync: dict[str, str], expected: str
) -> None:
    assert argocd(application(operationState=sync, health={"status": "Healthy"})) == (
        expected,
        sync["message"],
    )


@pytest.mark.parametrize("health", ["Healthy", "Degraded"])
def test_an_application_that_found_all_in_place_and_was_never_synced_is_as_healthy_as_what_it_holds(
    health: str,
) -> None:
    assert argocd(application(sync={"status": "Synced"}, health={"status": health})).status == health


@pytest.mark.parametrize(
    "status", [{}, {"health": {"status": "Healthy"}}, {"sync": {"status": "Synced"}}, OUT_OF_SYNC]
)
def test_an_application_that_was_never_synced_is_progressing(status: dict[str, Any]) -> None:
    assert argocd(application(**status)).status == "Progressing"
