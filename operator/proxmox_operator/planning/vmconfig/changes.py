"""The words of a config diff: what is compared with what, and the writes and problems that come of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.api.quantity import format_gib
from proxmox_operator.planning.identity import Mark, user_text


@dataclass(frozen=True, kw_only=True)
class Put:
    """Write ``key``; ``was`` is the old value, for the sentence a person reads.

    ``value`` is ``None`` for a secret, which is filled in only when the call is made.
    """

    key: str
    value: str | None
    was: str | None = None
    storage: str | None = None

    def sentence(self) -> str:
        if self.value is None:
            return f"{self.key}: set from its Secret"
        return f"{self.key}: {_short(self.was)} -> {_short(self.value)}"


@dataclass(frozen=True, kw_only=True)
class Remove:
    """Delete ``key`` from the config."""

    key: str
    was: str

    def sentence(self) -> str:
        return f"{self.key}: {_short(self.was)} -> unset"


@dataclass(frozen=True, kw_only=True)
class Grow:
    """Grow the disk in ``slot`` to ``size`` bytes (absolute, so that a repeated call changes nothing)."""

    slot: str
    size: int
    was: int

    def sentence(self) -> str:
        return f"{self.slot}: grow {format_gib(self.was)} -> {format_gib(self.size)}"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that no write can bring about; the whole diff waits until a person decides."""

    reason: str
    message: str


Change = Put | Remove | Grow | Problem


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Everything beside the config that the diff depends on.

    ``started`` is whether the VM was ever started: firmware and UUID are only set before.
    """

    vm: ProxmoxVM
    mark: Mark
    started: bool
    storage: str | None
    bridge: str | None


@dataclass(frozen=True, kw_only=True)
class ConfigDiff:
    """The writes that bring a config to what is wanted; empty when there is nothing to do."""

    puts: tuple[Put, ...] = ()
    removes: tuple[Remove, ...] = ()
    grows: tuple[Grow, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def writes(self) -> bool:
        """Whether a config write is needed (growing is a call of its own)."""
        return bool(self.puts or self.removes)

    def sentences(self) -> tuple[str, ...]:
        changes: tuple[Put | Remove | Grow, ...] = (*self.puts, *self.removes, *self.grows)
        return tuple(change.sentence() for change in changes)

    def only_mark(self) -> bool:
        """Whether the mark, lost in an edit, is all there is to write."""
        return not self.grows and not self.removes and [put.key for put in self.puts] == ["description"]


def put(config: Mapping[str, str], key: str, value: str) -> Iterator[Put]:
    if config.get(key) != value:
        yield Put(key=key, value=value, was=config.get(key))


def _short(value: str | None) -> str:
    """A value as it fits a sentence."""
    if value is None:
        return "unset"
    first = user_text(value).strip().splitlines()
    text = first[0] if first else "(mark)"
    return text if len(text) <= 60 else f"{text[:57]}..."
