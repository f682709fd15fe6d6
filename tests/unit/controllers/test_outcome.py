"""Who looks at an object again, and when."""

import pytest

from proxmox_operator import errors
from proxmox_operator.controllers.outcome import Outcome, outcome_of


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (errors.Transient("m"), "transient"),
        (errors.Unreachable("m"), "transient"),
        (errors.Outdated("m"), "transient"),
        (errors.Contended("m"), "transient"),
        (errors.AnswerLost("m"), "transient"),
        (errors.Waiting("m"), "waiting"),
        (errors.NeedsHuman("m"), "blocked"),
        (errors.SecretNotFound("m"), "blocked"),
        (errors.Unauthorized("m"), "blocked"),
        (errors.Forbidden("m"), "blocked"),
        (errors.Rejected("m"), "blocked"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_class_of_an_error_says_who_goes_on(error, result):
    assert outcome_of(error).result == result


def test_every_error_of_the_tree_is_told_apart():
    def leaves(kind):
        return [kind, *(leaf for each in kind.__subclasses__() for leaf in leaves(each))]

    named = [kind for kind in leaves(errors.OperatorError) if kind.__module__ == errors.__name__]
    assert {outcome_of(kind("m")).result for kind in named} == {"transient", "waiting", "blocked"}


def test_a_fallback_in_seconds_is_kept():
    assert outcome_of(errors.Waiting("m", after=7.0)) == Outcome.again(7.0)
