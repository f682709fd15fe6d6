"""What a guest without a machine behind it runs for `guest-exec`: `cloud-init status`, a shell, and nothing else.

Facts: PVE::API2::Qemu::Agent (exec, exec-status). qemu-ga forgets a process once its end was told: the second question
is an error. `cloud-init status` exits with 1 on an error, and prints its answer all the same; before version 22.3 it
knows no --format.
"""

import json
from typing import Any

from . import guest_shell
from .core import Values, die
from .model import Guest

USAGE = "usage: /usr/bin/cloud-init status [-h] [-l] [-w]\nerror: unrecognized arguments: --format json\n"


def run(guest: Guest, command: list[str], stdin: str) -> tuple[int, bool]:
    """guest-exec: the process ID of a command that has ended already, and whether it powers the guest off.

    :raises PveError: 500, "Agent error", for whatever is neither `cloud-init status` nor `/bin/sh -s`.
    """
    if guest.blocks_exec or (command != ["/bin/sh", "-s"] and command[:2] != ["cloud-init", "status"]):
        raise die("Agent error: The command guest-exec has been disabled for this instance")
    if command == ["/bin/sh", "-s"]:
        answer = guest_shell.run(guest, stdin)
        return _started(guest, answer.result), answer.powers_off
    if guest.cloud_init is None:
        raise die(
            "Agent error: Guest agent command failed, error was 'Failed to execute child process "
            '"cloud-init" (No such file or directory)\''
        )
    return _started(guest, _status(guest.cloud_init, "--format" in command, old=guest.old_cloud_init)), False


def _started(guest: Guest, answer: Values) -> int:
    pid = 1000 + guest.executed
    guest.executed += 1
    guest.processes[pid] = answer
    return pid


def result(guest: Guest, pid: int) -> Values:
    """guest-exec-status.

    :raises PveError: 500 for a process that is not known, or whose end was told.
    """
    if pid not in guest.processes:
        raise die("Agent error: Invalid parameter 'pid'")
    return guest.processes.pop(pid)


def _status(answer: dict[str, Any], as_json: bool, *, old: bool) -> Values:
    if as_json and old:
        return {"exited": 1, "exitcode": 2, "err-data": USAGE}
    text = json.dumps(answer, indent=1) if as_json else _plain(answer)
    code = 1 if answer["status"] == "error" else 0
    return {"exited": 1, "exitcode": code, "out-data": text + "\n"}


def _plain(answer: dict[str, Any]) -> str:
    return "\n".join([f"status: {answer['status']}", "detail:", *answer.get("errors", [])])
