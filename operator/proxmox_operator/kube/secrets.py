"""Reads Secrets by name, for a short time from memory. Never lists, never watches, never shows a value."""

import base64
import time
from collections.abc import Callable, Mapping

from proxmox_operator import errors
from proxmox_operator.kube.client import Kube
from proxmox_operator.kube.errors import NotFound
from proxmox_operator.kube.resources import SECRETS


class SecretData:
    """The values of one Secret. Its text form holds key names only."""

    def __init__(self, *, namespace: str, name: str, values: Mapping[str, bytes]) -> None:
        self.namespace = namespace
        self.name = name
        self._values = dict(values)

    def __repr__(self) -> str:
        return f"SecretData({self.namespace}/{self.name}, keys={sorted(self._values)})"

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None where the Secret has no such key."""
        return self._values.get(key)

    def require(self, *keys: str) -> tuple[bytes, ...]:
        """The values of all keys.

        Raises NeedsHuman (SecretKeyMissing), which names the keys, where one is missing or empty.
        """
        missing = [key for key in keys if not self._values.get(key)]
        if missing:
            raise errors.NeedsHuman(
                f"Secret {self.namespace}/{self.name} has no value for {_names(missing)} "
                f"(needed: {_names(keys)})",
                reason="SecretKeyMissing",
            )
        return tuple(self._values[key] for key in keys)

    def text(self, key: str) -> str:
        """A required value as text, without white space around it (files often end in a newline)."""
        (value,) = self.require(key)
        try:
            return value.decode().strip()
        except UnicodeDecodeError:
            raise errors.NeedsHuman(
                f"Secret {self.namespace}/{self.name}: the value of {key!r} is not UTF-8 text",
                reason="SecretKeyInvalid",
            ) from None


class SecretReader:
    """Secrets by namespace and name, at most `max_age` seconds old."""

    def __init__(
        self, kube: Kube, *, max_age: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kube = kube
        self._max_age = max_age
        self._clock = clock
        self._cache: dict[tuple[str, str], tuple[float, SecretData]] = {}

    async def get(self, namespace: str, name: str) -> SecretData:
        """The Secret's values. Raises SecretNotFound where there is none."""
        asked_at = self._clock()
        known = self._cache.get((namespace, name))
        if known is not None and asked_at - known[0] < self._max_age:
            return known[1]
        try:
            raw = await self._kube.get(SECRETS, name, namespace=namespace)
        except NotFound:
            self.invalidate(namespace, name)
            message = f"Secret {namespace}/{name} does not exist: create it in namespace {namespace}"
            raise errors.SecretNotFound(message) from None
        data = SecretData(
            namespace=namespace,
            name=name,
            values={key: base64.b64decode(value or "") for key, value in (raw.get("data") or {}).items()},
        )
        self._drop_old(asked_at)
        self._cache[namespace, name] = (asked_at, data)
        return data

    def invalidate(self, namespace: str, name: str) -> None:
        """Ask Kubernetes at the next `get`: the value did not work, or the Secret has changed."""
        self._cache.pop((namespace, name), None)

    def _drop_old(self, now: float) -> None:
        """Values do not stay in memory for longer than they are used."""
        for place, (asked_at, _) in list(self._cache.items()):
            if now - asked_at >= self._max_age:
                del self._cache[place]


def _names(keys: list[str] | tuple[str, ...]) -> str:
    return ", ".join(f"{key!r}" for key in keys)
