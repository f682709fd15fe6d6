"""What is remembered between passes is believed no longer than it is true."""

from dataclasses import replace

import pytest

from proxmox_operator.api import Task
from proxmox_operator.controllers.vm.memory import LAG, Memory, Work
from proxmox_operator.errors import AnswerLost, NeedsHuman, Waiting
from proxmox_operator.planning.vmconfig import PendingChange
from proxmox_operator.proxmox.resources import Guest
from proxmox_operator.proxmox.vm import VMConfig
from unit.planning.make import NOW

CONFIG = VMConfig({"name": "web-1"}, "digest")
UPID = "UPID:pve1:1:2:3:qmstart:10000:x@pve!t:"


def guest(status):
    return Guest(vmid=10000, node="pve1", type="qemu", status=status)


def knowing() -> Memory:
    memory = Memory(config=CONFIG, unsent=True, first_start=True)
    memory.know_power("Stopped", 10.0)
    return memory


def believed(memory: Memory) -> tuple[object, ...]:
    return memory.config, memory.unsent, memory.first_start, memory.power


NOTHING = (None, False, False, None)


def test_after_a_call_nothing_is_believed_that_was_read_before_it():
    memory = knowing()
    with memory.sending():
        assert believed(memory) == NOTHING
    assert believed(memory) == NOTHING


@pytest.mark.parametrize("error", [AnswerLost("lost"), NeedsHuman("refused"), RuntimeError("a bug")])
def test_nor_after_one_that_failed_since_it_may_have_had_an_effect(error):
    memory = knowing()
    with pytest.raises(type(error)), memory.sending():
        raise error
    assert believed(memory) == NOTHING


def test_a_call_that_was_never_sent_changes_nothing():
    memory = knowing()
    before = believed(memory)
    with pytest.raises(Waiting), memory.sending():
        raise Waiting("no slot is free")
    assert believed(memory) == before


def test_a_power_call_that_was_answered_leaves_the_config_and_one_that_was_not_does_not():
    memory = knowing()
    with memory.sending(power_only=True):
        assert memory.config is None
    assert believed(memory) == (CONFIG, False, False, None)
    with pytest.raises(AnswerLost), memory.sending(power_only=True):
        raise AnswerLost("lost")
    assert memory.config is None


@pytest.mark.parametrize(
    ("shown", "seconds", "power"),
    [
        pytest.param("stopped", 1.0, "Running", id="the inventory lags behind"),
        pytest.param(None, 1.0, "Running", id="it says nothing yet"),
        pytest.param("running", 1.0, None, id="it has caught up: its word counts"),
        pytest.param("stopped", LAG, None, id="it must have noticed by now: its word counts"),
    ],
)
def test_what_we_brought_about_counts_until_the_inventory_must_know(shown, seconds, power):
    memory = Memory()
    memory.know_power("Running", 100.0)
    assert memory.believed_power(guest(shown), 100.0 + seconds) == power


def test_once_caught_up_an_older_word_is_not_believed_again():
    memory = Memory()
    memory.know_power("Running", 100.0)
    memory.believed_power(guest("running"), 101.0)
    assert memory.believed_power(guest("stopped"), 102.0) is None


def test_a_vm_that_the_inventory_does_not_show_is_believed_only_for_the_lag():
    memory = Memory()
    memory.know_power("Running", 100.0)
    assert memory.believed_power(None, 101.0) == "Running"
    assert memory.believed_power(None, 100.0 + LAG) is None


def recorded(upid: str | None = UPID) -> Task:
    return Task(action="Starting", upid=upid, node="pve1", since=NOW)


def test_a_recorded_task_is_taken_up_once_and_not_again_after_its_end():
    memory = Memory()
    memory.resume(recorded())
    assert memory.work == Work(action="Starting", upid=UPID)
    memory.end_work()
    memory.resume(recorded())
    assert memory.work is None


def test_a_call_whose_answer_was_lost_is_no_task_to_take_up():
    memory = Memory()
    memory.resume(recorded(upid=None))
    assert memory.work is None


def test_a_task_of_this_process_is_not_replaced_by_the_recorded_one():
    memory = Memory(work=Work(action="Cloning", upid="UPID:other"))
    memory.resume(recorded())
    assert memory.work.upid == "UPID:other"


@pytest.mark.parametrize(
    ("action", "kept"), [("Starting", True), ("Stopping", True), ("Cloning", False), ("Configuring", False)]
)
def test_the_end_of_a_task_that_may_have_changed_the_config_makes_it_old(action, kept):
    memory = Memory(config=CONFIG, work=Work(action=action, upid=UPID))
    assert memory.end_work().action == action
    assert (memory.config is CONFIG) is kept
    assert memory.end_work() is None


@pytest.mark.parametrize("action", ["Starting", "Stopping"])
def test_a_config_of_which_something_waited_for_a_boot_is_old_after_one(action):
    waits = (PendingChange(key="cores", was="1", becomes="2"),)
    memory = Memory(config=replace(CONFIG, pending=waits), work=Work(action=action, upid=UPID))
    memory.end_work()
    assert memory.config is None


def test_a_start_that_succeeded_is_running_with_addresses_yet_to_come():
    memory = Memory(addresses=("10.0.0.5",), agent_tries=4)
    memory.succeeded("Starting", 5.0)
    assert memory.believed_power(guest("stopped"), 6.0) == "Running"
    assert memory.addresses is None
    assert memory.agent_tries == 0


def test_a_config_write_that_succeeded_says_nothing_of_the_power():
    memory = Memory()
    memory.know_power("Running", 1.0)
    memory.succeeded("Configuring", 5.0)
    assert memory.believed_power(guest("stopped"), 6.0) is None
