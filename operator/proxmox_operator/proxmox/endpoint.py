"""One endpoint of a cluster as the client knows it: its circuits, what it proved of itself, and whether it
may be asked.

Bookkeeping for client.py, without I/O; used from the event loop only.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from proxmox_operator import errors

from .breaker import Breaker
from .credentials import Endpoint
from .identity import Proof, WrongCluster
from .transport import NotSent, Transport

EndpointUse = Literal["usable", "silent", "unauthorized", "foreign"]
ENDPOINT_STATES: tuple[EndpointUse, ...] = get_args(EndpointUse)


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """What is known of one endpoint: for the condition Reachable. ``error`` is "" when all is well."""

    endpoint: Endpoint
    error: str = ""
    foreign: bool = False

    def told(self) -> str:
        """The endpoint, and what is the matter with it, which may name it already."""
        where = str(self.endpoint)
        return self.error if where in self.error else f"{where}: {self.error}" if self.error else where


class EndpointState:
    """Three circuits: does it answer, does it accept our credentials, does it belong to our cluster.

    ``peers`` are the certificates of all servers that have proved it: several behind a load balancer, or renewed ones.
    """

    def __init__(self, endpoint: Endpoint, transport: Transport, clock: Callable[[], float]) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self.answers = Breaker(clock, threshold=2, base=2.0, ceiling=30.0)
        self.accepts = Breaker(clock, threshold=1, base=60.0, ceiling=300.0)
        self.belongs = Breaker(clock, threshold=1, base=60.0, ceiling=60.0)
        self.proof: Proof | None = None
        self.proven_at = 0.0
        self.peers: frozenset[bytes] = frozenset()
        self.proving = asyncio.Lock()
        self._untrusted: NotSent | None = None

    @property
    def failures(self) -> int:
        """Grows with every failure of any kind since it last worked."""
        return self.belongs.failures + self.accepts.failures + self.answers.failures

    def problem(self) -> errors.OperatorError:
        """What went wrong last, as an error."""
        if self.belongs.failures:
            return wrong_cluster(self.belongs.last_error)
        if self.accepts.failures:
            return errors.Unauthorized(self.accepts.last_error)
        if self._untrusted is not None:
            return not_sent(self._untrusted)
        return errors.Unreachable(f"{self.answers.last_error}; retried")

    def refusal(self) -> errors.OperatorError | None:
        """Why it is not even asked now; None admits one call, whose end must be told by ``ended``."""
        if self.belongs.wait() or self.accepts.wait() or self.answers.wait():
            return self.problem()
        for breaker in (self.belongs, self.accepts, self.answers):
            breaker.admit()
        return None

    def ended(self) -> None:
        """The admitted call is over, whatever became of it."""
        for breaker in (self.belongs, self.accepts, self.answers):
            breaker.abandoned()

    def answered(self) -> None:
        """It answered and accepted our credentials."""
        self.answers.succeeded()
        self.accepts.succeeded()

    def silent(self, failure: str, *, untrusted: NotSent | None = None) -> None:
        """No answer: it must prove itself anew before it is used again.

        ``untrusted``: why we have not spoken to it, which is what a person can mend, also while it is left alone.
        """
        self.answers.failed(failure)
        self._untrusted = untrusted
        self.proof = None

    def unauthorized(self, message: str) -> None:
        """A 401, which the server delays by 3 s: left alone for a minute and more (a new Secret makes a new
        client)."""
        self.answers.succeeded()
        self.accepts.failed(message)

    @property
    def state(self) -> EndpointUse:
        """Whether it is used, and which of the circuits keeps it from that."""
        if self.belongs.is_open:
            return "foreign"
        if self.accepts.is_open:
            return "unauthorized"
        return "silent" if self.answers.is_open else "usable"

    def health(self) -> EndpointHealth:
        """What keeps the endpoint from being used, if anything does."""
        silence = self.answers.last_error
        if silence and self._untrusted is not None:
            silence = not_sent(self._untrusted).message
        error = self.belongs.last_error or self.accepts.last_error or silence
        return EndpointHealth(self.endpoint, error, self.belongs.is_open)


class NextEndpoint(Exception):
    """This endpoint did not do it, for certain: another one may."""

    def __init__(self, error: errors.OperatorError) -> None:
        super().__init__(error.message)
        self.error = error


def wrong_cluster(text: str) -> WrongCluster:
    """The error for an endpoint of another cluster."""
    return WrongCluster(
        f"{text}; it is put aside: correct spec.endpoints, or make a new ProxmoxCluster if the cluster was "
        "rebuilt"
    )


def not_sent(failure: NotSent) -> errors.OperatorError:
    """The error for a connection that did not come about."""
    if failure.tls:
        return errors.NeedsHuman(
            f"{failure}: put the cluster's /etc/pve/pve-root-ca.pem into spec.tls.caBundle, and use a host "
            "name or "
            "address that the certificate names",
            reason="TLSUntrusted",
        )
    return errors.Unreachable(f"{failure}; retried")


def summary(failures: Sequence[errors.OperatorError]) -> errors.OperatorError:
    """One error for all endpoints. A person is asked only when no endpoint can come back by itself."""
    if failures and all(isinstance(failure, errors.NeedsHuman) for failure in failures):
        return failures[0]
    texts = "; ".join(failure.message for failure in failures)
    return errors.Unreachable(f"no endpoint of the Proxmox cluster can be used: {texts}")
