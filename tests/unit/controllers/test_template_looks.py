"""When a VMTemplate is looked at again: nothing that is waited for may be left to a wake-up that does not come."""

from datetime import timedelta

from proxmox_operator.controllers.template.memory import TemplateMemory
from proxmox_operator.controllers.template.observe import UNWATCHED
from proxmox_operator.controllers.template.reconcile import LOOK_AGAIN, LOOK_LATER, UNCONFIRMED, next_look
from proxmox_operator.errors import NeedsHuman
from proxmox_operator.planning.templates import Plan, Trouble, plan
from unit.planning.make import NOW
from unit.planning.making_templates import GONE, MADE, a_copy, a_template, facts, node, seen

CLOCK = 100.0


def memory() -> TemplateMemory:
    return TemplateMemory(uid="uid-1")


def test_a_call_that_may_still_take_effect_is_waited_for_by_the_time_of_the_facts():
    """However much later it is when the pass ends: the plan waits, so there must be another look."""
    creating = seen(GONE, a_copy(state="Creating"), settles_at=NOW + timedelta(seconds=45))
    found = facts(copies=(creating,), nodes={"pve1": node(image=True)})
    todo = plan(found)
    assert todo.working
    assert not todo.steps
    assert next_look(found, todo, memory(), clock=CLOCK).after == 45


def test_a_task_whose_id_is_not_known_is_looked_at_soon():
    found = facts(copies=(seen(MADE, a_copy(state="Creating"), working=True),))
    assert next_look(found, plan(found), memory(), clock=CLOCK).after == UNWATCHED


def test_a_copy_that_the_inventory_does_not_show_as_a_template_is_looked_at_until_it_does():
    """Somebody may have made it a VM again before that was seen: then nothing changes, and nothing wakes."""
    found = facts(copies=(seen(MADE, a_copy(state="Ready"), unconfirmed=True),))
    assert next_look(found, Plan(), memory(), clock=CLOCK).after == UNCONFIRMED


def test_a_failure_is_looked_at_when_it_may_be_tried_again():
    remembered = memory()
    remembered.fail(10000, NeedsHuman("no"), now=CLOCK, slow=60.0)
    assert remembered.failed(10000, CLOCK) is not None
    assert next_look(facts(a_template()), Plan(), remembered, clock=CLOCK).after == 60


def test_what_a_person_must_mend_is_looked_at_less_often_than_what_may_pass():
    for waits, after in ((True, LOOK_AGAIN), (False, LOOK_LATER)):
        todo = Plan(troubles=(Trouble(where="pve1", reason="Any", message="any", waits=waits),))
        assert next_look(facts(a_template()), todo, memory(), clock=CLOCK).after == after


def test_what_is_settled_or_woken_by_its_tasks_is_left_alone():
    assert next_look(facts(a_template()), Plan(), memory(), clock=CLOCK).result == "done"
