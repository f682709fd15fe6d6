"""Changes that were made behind our back: whether a difference is one, and whose it was.

Who it was is what the task list of the VM's node tells. It does not tell all: most dialogs of the GUI write the config
without a task, as does a shell, and a guest can switch itself off. Nobody is named rather than the wrong person.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from proxmox_operator.api import ProxmoxVM, find_condition

_EDITS = frozenset({"qmconfig", "resize", "qmmove", "qmrollback", "qmrestore"})
_SWITCHES = {
    "qmstart": "Running",
    "qmresume": "Running",
    "hastart": "Running",
    "qmstop": "Stopped",
    "qmshutdown": "Stopped",
    "qmreboot": "Stopped",
    "qmsuspend": "Stopped",
    "hastop": "Stopped",
}
"""What these tasks make of a VM."""

_CLOCK_SKEW = 10.0
"""Seconds by which a node's clock may be behind ours."""

_NOTE = 900
"""Characters of an Event that tell changes; Kubernetes takes 1,024 bytes in all."""


@dataclass(frozen=True, kw_only=True)
class Deed:
    """A task on the VM: its type, the user or token that started it, and when (Unix seconds)."""

    type: str
    user: str
    started: float


def who_edited(deeds: Iterable[Deed], ours: str, since: float | None) -> str | None:
    """Who changed the config after ``since`` (Unix seconds), when it was last as it should be; None: not known."""
    if since is None:
        return None
    edits = [deed for deed in deeds if deed.type in _EDITS and deed.user != ours]
    newest = max(edits, key=lambda deed: deed.started, default=None)
    return newest.user if newest is not None and newest.started >= since - _CLOCK_SKEW else None


def who_switched(deeds: Iterable[Deed], ours: str, power: str) -> str | None:
    """Who brought the VM into this power state: whoever did so last, if nobody switched it since."""
    switches = [deed for deed in deeds if deed.type in _SWITCHES]
    newest = max(switches, key=lambda deed: deed.started, default=None)
    if newest is None or newest.user == ours or _SWITCHES[newest.type] != power:
        return None
    return newest.user


def was_in_sync(vm: ProxmoxVM) -> bool:
    """Whether its config was as this generation of the spec says when it was last looked at, by any process."""
    synced = find_condition(vm.status.conditions, "Synced")
    return (
        synced is not None
        and synced.status == "True"
        and synced.observed_generation == vm.metadata.generation
    )


def had_power(vm: ProxmoxVM, wanted: str) -> bool:
    """Whether the VM was last seen in the power state that this generation of the spec wants."""
    return vm.status.power == wanted and vm.status.observed_generation == vm.metadata.generation


def unsaid(vm: ProxmoxVM, differences: Sequence[str]) -> list[str]:
    """Differences that ``status.plan`` does not list yet, of a VM that was compared with this generation before."""
    synced = find_condition(vm.status.conditions, "Synced")
    if synced is None or synced.status == "Unknown" or synced.observed_generation != vm.metadata.generation:
        return []
    return [difference for difference in differences if difference not in vm.status.plan]


def told(sentences: Sequence[str]) -> str:
    """As many of them as fit an Event, and how many more there are."""
    shown: list[str] = []
    for sentence in sentences:
        if shown and sum(map(len, shown)) + len(sentence) > _NOTE:
            break
        shown.append(sentence[:_NOTE])
    left = len(sentences) - len(shown)
    return "; ".join(shown + ([f"and {left} more"] if left else []))
