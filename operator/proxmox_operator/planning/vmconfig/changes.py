"""The words of a config diff: what is compared with what, and the writes and problems that come of it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from proxmox_operator.api import ProxmoxVM
from proxmox_operator.api.quantity import format_gib
from proxmox_operator.planning.canonical import Value, meaning, spelled
from proxmox_operator.planning.identity import Mark, user_text
from proxmox_operator.planning.vmconfig.effects import Effect


@dataclass(frozen=True, kw_only=True)
class Put:
    """Write ``key``; ``was`` is the old value, for the sentence a person reads.

    ``value`` is ``None`` for a secret, which is filled in only when the call is made. ``storage``: where a volume is
    allocated. ``effect`` is what it does to the running VM, None while it does not run.
    """

    key: str
    value: str | None
    was: str | None = None
    storage: str | None = None
    effect: Effect | None = None
    reruns_cloud_init: bool = False

    def sentence(self) -> str:
        if self.key == "description" and user_text(self.value or "") == user_text(self.was or ""):
            return f"description: the mark of this object is written beside the text{_when(self)}"
        what = "set from its Secret" if self.value is None else f"{short(self.was)} -> {short(self.value)}"
        return f"{self.key}: {what}{_when(self)}"


@dataclass(frozen=True, kw_only=True)
class Remove:
    """Delete ``key`` from the config."""

    key: str
    was: str
    effect: Effect | None = None
    reruns_cloud_init: bool = False

    def sentence(self) -> str:
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
class Problem:
    """Something that no write can bring about; the whole diff waits until a person decides."""

    reason: str
    message: str


Change = Put | Remove | Grow | Problem


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Everything beside the config that the diff depends on.

    ``started`` is whether the VM was ever started: firmware and UUID are only set before. ``running``: whether it does
    now, so that changes have the effects of :mod:`.effects`. ``mark`` is None for a VM that is only looked at and not
    ours.
    """

    vm: ProxmoxVM
    mark: Mark | None
    started: bool
    running: bool = False
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
        return not self.grows and not self.removes and [put.key for put in self.puts] == ["description"]


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
