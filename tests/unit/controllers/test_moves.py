"""What becomes of a move that has ended: by itself, by the HA manager, or not at all."""

from proxmox_operator.controllers.vm.memory import Memory, Work
from proxmox_operator.controllers.vm.moves import HA_LAG, LONGEST_RETRY, RETRY, ended
from proxmox_operator.errors import NeedsHuman
from proxmox_operator.proxmox.tasks import Outcome, TaskResult


def a_move(kind: str = "qmigrate", error: NeedsHuman | None = None, target: str | None = "pve2") -> Work:
    upid = f"UPID:pve1:00000001:00000001:6B076352:{kind}:10000:operator@pve!operator:"
    outcome = Outcome.OK if error is None else Outcome.FAILED
    result = TaskResult(upid, outcome, "OK", error, ("can't migrate local disk",) if error else ())
    return Work(action="Moving", upid=upid, result=result, target=target)


FAILED = NeedsHuman("migration aborted", reason="MoveFailed")


def test_a_move_that_went_well_leaves_nothing_but_an_old_inventory():
    memory = Memory()
    assert ended(memory, a_move(error=FAILED), 0.0) == "can't migrate local disk"
    assert ended(memory, a_move(), 100.0) is None
    assert memory.moved
    assert memory.failed_moves == {}


def test_a_move_that_fails_is_tried_again_ever_more_slowly():
    memory, delays = Memory(), []
    for _ in range(9):
        ended(memory, a_move(error=FAILED), 1000.0)
        delays.append(memory.failed_moves["pve2"].again_at - 1000.0)
    assert delays[:3] == [RETRY, 2 * RETRY, 4 * RETRY]
    assert delays[-1] == LONGEST_RETRY


def test_a_target_that_an_earlier_process_chose_stands_for_any():
    memory = Memory()
    ended(memory, a_move(error=FAILED, target=None), 0.0)
    assert set(memory.failed_moves) == {""}


def test_the_ha_manager_is_asked_again_ever_more_slowly_too():
    memory, delays = Memory(), []
    for _ in range(3):
        assert ended(memory, a_move("hamigrate"), 1000.0) is None
        assert memory.move_asked_of_ha == 1000.0
        delays.append(memory.failed_moves["pve2"].again_at - 1000.0 - HA_LAG)
    assert delays == [RETRY, 2 * RETRY, 4 * RETRY]
    assert "its rules, or a node in maintenance" in memory.failed_moves["pve2"].message
