"""The words of a config diff: what is compared with what, and the writes and problems that come of it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.api.quantity import format_gib
from proxmox_operator.planning.canonical import Value, meaning, spelled
from proxmox_operator.planning.diskfacts import NOTHING_SEEN, DiskFacts
from proxmox_operator.planning.identity import Mark, user_text
from proxmox_operator.planning.vmconfig.effects import Effect


@dataclass(frozen=True, kw_only=True)
class Put:
    """Write ``key``; ``was`` is the old value, for the sentence a person reads.

    ``value`` is ``None`` for a secret, which is filled in only when the call is made. ``storage``: where a volume is
    allocated. ``effect`` is what it does to the running VM, None while it does not run. ``event``: reason of an Event
    that tells ``what`` is done, in place of the values.
    """

    key: str
    value: str | None
    was: str | None = None
    storage: str | None = None
    event: str | None = None
    what: str | None = None
    effect: Effect | None = None
    reruns_cloud_init: bool = False

    def sentence(self) -> str:
        if self.what is not None:
            return f"{self.key}: {self.what}"
        if self.key == "description" and user_text(self.value or "") == user_text(self.was or ""):
            return f"description: the mark of this object is written beside the text{_when(self)}"
        what = "set from its Secret" if self.value is None else f"{short(self.was)} -> {short(self.value)}"
        return f"{self.key}: {what}{_when(self)}"


@dataclass(frozen=True, kw_only=True)
class Remove:
    """Delete ``key`` from the config; ``event`` and ``what`` as for :class:`Put`."""

    key: str
    was: str
    event: str | None = None
    what: str | None = None
    effect: Effect | None = None
    reruns_cloud_init: bool = False

    def sentence(self) -> str:
        if self.what is not None:
            return f"{self.key}: {self.what}"
        return f"{self.key}: {short(self.was)} -> unset{_when(self)}"


@dataclass(frozen=True, kw_only=True)
class Grow:
    """Grow the disk in ``slot`` to ``size`` bytes (absolute, so that a repeated call changes nothing)."""

    slot: str
    size: int
    was: int

    def sentence(self) -> str:
        return f"{self.slot}: grow {format_gib(self.was)} -> {format_gib(self.size)}"


@dataclass(frozen=True, kw_only=True)
class Move:
    """Move the disk in ``slot`` with its ``volume`` to another storage; the volume is freed after the copy."""

    slot: str
    volume: str
    storage: str

    def sentence(self) -> str:
        return f"{self.slot}: move {self.volume} to {self.storage}"


@dataclass(frozen=True, kw_only=True)
class Held:
    """Something that is done later, by itself: when the guest has let go of a disk, or after the next cold boot."""

    reason: str
    message: str

    def sentence(self) -> str:
        return self.message


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that no write can bring about; the whole diff waits until a person decides."""

    reason: str
    message: str


Change = Put | Remove | Grow | Move | Held | Problem


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Everything beside the config that the diff depends on.

    ``started`` is whether the VM was ever started: firmware and UUID are only set before. ``running``: whether it does
    now, so that changes have the effects of :mod:`.effects`. ``mark`` is None for a VM that is only looked at and not
    ours. ``seen`` is what was read besides, where disks depend on it.
    """

    vm: ProxmoxVM
    mark: Mark | None
    started: bool
    running: bool = False
    storage: str | None
    bridge: str | None
    seen: DiskFacts = NOTHING_SEEN


@dataclass(frozen=True, kw_only=True)
class ConfigDiff:
    """The writes that bring a config to what is wanted; empty when there is nothing to do."""

    puts: tuple[Put, ...] = ()
    removes: tuple[Remove, ...] = ()
    moves: tuple[Move, ...] = ()
    grows: tuple[Grow, ...] = ()
    held: tuple[Held, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether a config write is needed (moving and growing are calls of their own)."""
        return bool(self.puts or self.removes)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do or to say now; what is held is done later."""
        return not (self.writes or self.moves or self.grows or self.problems)

    def sentences(self) -> tuple[str, ...]:
        """Everything that differs, what is held too."""
        return self.due() + tuple(held.sentence() for held in self.held)

    def due(self) -> tuple[str, ...]:
        """What is to be done now, as sentences."""
        changes: tuple[Put | Remove | Move | Grow, ...] = (
            *self.puts,
            *self.removes,
            *self.moves,
            *self.grows,
        )
        return tuple(change.sentence() for change in changes)

    def unexplained(self) -> tuple[str, ...]:
        """The config writes that do not say for themselves what they do: somebody must have asked for them."""
        changes: tuple[Put | Remove, ...] = (*self.puts, *self.removes)
        return tuple(change.sentence() for change in changes if change.what is None)

    def needing(self, path: str) -> str:
        """The fields that need a privilege on ``path`` besides those on the VM; empty where none does."""
        mapping = re.fullmatch(r"/mapping/(pci|usb)/(.+)", path)
        if mapping is not None:
            named = [put.key for put in self.puts if f"mapping={mapping[2]}" in (put.value or "").split(",")]
            return ", ".join(f"spec.{mapping[1]}Devices[{name}]" for name in named)
        if path == "/" and any(put.key == "startup" for put in self.puts):
            return "spec.startup.order, upDelay and downDelay"
        return ""

    def only_mark(self) -> bool:
        """Whether the mark, lost in an edit, is all there is to write."""
        calls = self.moves or self.grows or self.removes
        return not calls and [put.key for put in self.puts] == ["description"]


def put(config: Mapping[str, str], key: str, value: Value, default: Value = None) -> Iterator[Put]:
    """Write ``key`` unless it says ``value`` already, by itself or as Proxmox's ``default``."""
    if meaning(config.get(key), default) != value:
        yield Put(key=key, value=spelled(value), was=config.get(key))


def result(config: Mapping[str, str], changes: Iterable[Change]) -> dict[str, str]:
    """The config as it would be after ``changes``; what Proxmox makes of a value (volumes, MACs) is left as written."""
    after = dict(config)
    for change in changes:
        if isinstance(change, Put):
            after[change.key] = change.value or ""
        elif isinstance(change, Remove):
            after.pop(change.key, None)
    return after


_WORDS = {
    Effect.REPLUG: "unplugs the device and plugs it in again",
    Effect.RESTART: "at the next cold boot",
    Effect.STOPPED: "once the VM is stopped",
}


def _when(change: Put | Remove) -> str:
    words = [_WORDS[change.effect]] if change.effect in _WORDS else []
    words += ["re-runs cloud-init at the next boot"] if change.reruns_cloud_init else []
    return f" ({'; '.join(words)})" if words else ""


def short(value: str | None) -> str:
    """A value as it fits a sentence."""
    if value is None:
        return "unset"
    first = user_text(value).strip().splitlines()
    text = first[0] if first else "(mark)"
    return text if len(text) <= 60 else f"{text[:57]}..."
