"""Circuit breaker: after some failures in a row stop asking for a while, then let one call try.

Pure bookkeeping with an injected clock; used per endpoint and per node.
"""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Breaker:
    """Opens after ``threshold`` failures in a row for ``base`` seconds, ``growth`` times longer each time
    up to ``ceiling``."""

    clock: Callable[[], float]
    threshold: int = 3
    base: float = 5.0
    ceiling: float = 60.0
    growth: float = 2.0
    failures: int = 0
    last_error: str = ""
    _open_until: float = field(default=0.0, repr=False)
    _trying: bool = field(default=False, repr=False)

    @property
    def is_open(self) -> bool:
        """Too many failures and not yet proven well again."""
        return self.failures >= self.threshold

    def wait(self) -> float:
        """Seconds until a call may try; 0 when it may now."""
        if not self.is_open:
            return 0.0
        remaining = self._open_until - self.clock()
        return remaining if remaining > 0 else (1.0 if self._trying else 0.0)

    def admit(self) -> bool:
        """Whether a call may be made now. Half-open lets one through; its outcome must be reported."""
        if not self.is_open:
            return True
        if self.clock() < self._open_until or self._trying:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        """An answer came: closed again."""
        self.failures = 0
        self.last_error = ""
        self._trying = False

    def failed(self, error: str) -> None:
        """No answer came."""
        self.failures += 1
        self.last_error = error
        self._trying = False
        if self.is_open:
            delay = min(self.base * self.growth ** (self.failures - self.threshold), self.ceiling)
            self._open_until = self.clock() + delay

    def abandoned(self) -> None:
        """The call ended without telling anything about this circuit: another one may try."""
        self._trying = False
