"""The shell of a guest without a machine behind it: the runner of a template's build, and a few words of its steps.

It stands for a guest that runs each step once, keeps how it stands in /run, and forgets that with a boot. Of a step it
understands whole lines: `echo TEXT`, `exit N`, `sleep SECONDS` (or `infinity`), `poweroff`, `reboot`, `shutdown -r +1`,
whose minute is over when the sealing has ended, and `fstrim`, by which it knows that; anything else succeeds. That the
text does in a real shell what is taken for granted here, tests/unit/guest and tests/guest say.
"""

import base64
import re
import time
from dataclasses import dataclass, field
from math import inf

from .core import Values, die
from .model import Guest, Step

RUNNER = re.compile(r"# proxmox-operator-build step (\d+)\n.*<<'STEP'\n(.*?)\nSTEP\n", re.DOTALL)
SAID = "proxmox-operator-build"


@dataclass
class Answer:
    """What a run of the shell leads to, besides its `result`."""

    result: Values = field(default_factory=dict)
    powers_off: bool = False


def run(guest: Guest, text: str) -> Answer:
    """`/bin/sh -s` with this text as its input.

    :raises PveError: 500 for text that no guest agent could be given.
    """
    if any(ord(character) > 0xFF for character in text):
        raise die("Wide character in subroutine entry")
    match = RUNNER.match(text)
    if match is None:
        return Answer({"exited": 1, "exitcode": 127, "err-data": "sh: not found\n"})
    if guest.sealed and guest.restarts:
        guest.boot()
    number, script = int(match[1]), base64.b64decode(match[2]).decode()
    if number and not guest.steps:
        return Answer(_said("rebooted"))
    answer = Answer()
    if number not in guest.steps:
        guest.steps[number] = _begin(guest, script, answer)
        guest.ran.append(number)
    step = guest.steps[number]
    if step.reboots:
        guest.boot()
    ended = time.monotonic() >= step.ends
    guest.sealed = guest.sealed or (step.seals and ended)
    answer.result = _said(f"ended {step.code}" if ended else "running", step.output)
    return answer


def _begin(guest: Guest, script: str, answer: Answer) -> Step:
    step = Step(ends=time.monotonic())
    for line in script.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "echo" and "$" not in rest:
            step.output += f"{rest}\n"
        elif word == "sleep":
            step.ends += float(rest)
        elif word == "exit":
            step.code = int(rest)
            break
        elif word == "poweroff":
            answer.powers_off = True
        elif word == "reboot":
            step.reboots, step.ends = True, inf
        elif word == "shutdown":
            guest.restarts = True
        elif word == "fstrim":
            step.seals = True
    return step


def _said(state: str, output: str = "") -> Values:
    return {"exited": 1, "exitcode": 0, "out-data": f"{SAID} {state}\n{output}"}
