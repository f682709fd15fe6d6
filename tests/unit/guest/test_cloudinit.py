"""What cloud-init answers, in the words of its versions, and what of it is shown."""

import json

import pytest

from proxmox_operator.guest.cloudinit import MOST_ERRORS, read_answer, read_plain_answer
from proxmox_operator.proxmox.agent import ExecResult

QUOTING = "('scripts_user', RuntimeError('bad line: password: hunter2-hunter2'))"


def answer(**fields: object) -> ExecResult:
    return ExecResult(0, json.dumps(fields), "")


@pytest.mark.parametrize(
    ("status", "state", "holds"),
    [
        ("done", "Done", True),
        ("running", "Running", False),
        ("not started", "Running", False),
        ("not run", "Running", False),
        ("error", "Failed", False),
        ("disabled", "Failed", False),
    ],
)
def test_each_status_of_cloud_init_has_a_meaning(status: str, state: str, holds: bool) -> None:
    for found in (
        read_answer(answer(status=status, errors=[]), secret=False),
        read_plain_answer(ExecResult(0, f"status: {status}\n", ""), secret=False),
    ):
        assert found is not None
        assert (found.state, found.holds) == (state, holds)


def test_recoverable_errors_do_not_keep_it_from_being_done() -> None:
    degraded = answer(status="done", extended_status="degraded done", recoverable_errors={"WARNING": ["x"]})
    found = read_answer(degraded, secret=False)
    assert found is not None
    assert found.state == "Done"


def test_errors_are_told_and_clipped() -> None:
    found = read_answer(answer(status="error", errors=["first", "x" * 1000]), secret=False)
    assert found is not None
    assert "first" in found.message
    assert len(found.message) < MOST_ERRORS + 120


@pytest.mark.parametrize("text", [QUOTING, "Failed loading yaml blob: hunter2-hunter2"])
def test_errors_that_may_quote_a_secret_tell_the_module_only(text: str) -> None:
    asked = read_answer(answer(status="error", errors=[text]), secret=True)
    plain = read_plain_answer(ExecResult(1, f"status: error\ndetail:\n{text}\n", ""), secret=True)
    for found in (asked, plain):
        assert found is not None
        assert "hunter2" not in found.message
        assert ("scripts_user" in found.message) == ("scripts_user" in text)


def test_what_looks_like_a_module_within_an_error_is_not_shown() -> None:
    text = "('runcmd', ValueError(\"bad: ('hunter', 2)\"))"
    asked = read_answer(answer(status="error", errors=[text, "x ('hunter', 2)"]), secret=True)
    plain = read_plain_answer(ExecResult(1, f"status: error\ndetail:\n{text}\n", ""), secret=True)
    for found in (asked, plain):
        assert found is not None
        assert "(modules runcmd)" in found.message
        assert "hunter" not in found.message


def test_what_is_no_json_is_asked_for_in_words() -> None:
    assert read_answer(ExecResult(2, "", "usage: cloud-init status"), secret=False) is None
    assert read_answer(ExecResult(0, "[]", ""), secret=False) is None


def test_an_answer_that_nobody_understands_is_unknown() -> None:
    found = read_plain_answer(ExecResult(127, "", "not found"), secret=False)
    assert (found.state, found.holds) == ("Unknown", None)
