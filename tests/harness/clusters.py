"""More Proxmox clusters in one world, and an operator that is impatient with them.

    @pytest.fixture(scope="module")
    def shared_estate(control_plane):
        with Estate(control_plane) as estate:
            yield estate

    @pytest.fixture
    def estate(shared_estate):
        with shared_estate.fresh():
            yield shared_estate

    def test_something(estate):
        site = estate.site()                      # a simulator, a Secret and a ProxmoxCluster of its own, Ready
        name = site.make("web")                   # a ProxmoxVM that is made there
        estate.world.wait_ready(name)

Each test has a simulator and a ProxmoxCluster of its own, so what breaks in one is not met by the next; the operator
and its namespace are shared. What production measures in minutes (checks, proofs, circuits, ages of Secrets) takes
tenths of seconds here. Whatever was logged or written is searched for secrets at the end of the module.
"""

import base64
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, Self
from unittest import mock

from controlplane import Cluster
from harness.conditions import Condition, condition_of, current_condition, lines
from harness.kubeapi import Raw, Refused
from harness.operator import NAMESPACE
from harness.waiting import PATIENCE
from harness.world import TEMPLATE, Said, World
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.engine import logs
from proxmox_operator.engine.queue import WorkQueue
from proxmox_operator.kube.resources import EVENTS, PROXMOX_CLUSTERS, PROXMOX_VMS, SECRETS
from proxmox_operator.kube.secrets import SecretReader
from proxmox_operator.proxmox.breaker import Breaker
from proxmox_operator.proxmox.credentials import Credentials, Endpoint, TLSSettings
from proxmox_operator.proxmox.https import ProxmoxerTransport
from proxmox_operator.proxmox.transport import Transport
from pvesim import PveSim
from pvesim.recorder import Call

TIMEOUT = (0.5, 0.6)
"""Seconds for a connection and for an answer, instead of 5 and 40."""

SHORT = {
    "proxmox_operator.controllers.cluster.CHECK_INTERVAL": 0.3,
    "proxmox_operator.controllers.cluster.RECHECK_INTERVAL": 0.2,
    "proxmox_operator.controllers.cluster.OUTAGE": 0.5,
    "proxmox_operator.proxmox.client.PROOF_INTERVAL": 0.2,
    "proxmox_operator.proxmox.session.ENDPOINT_INTERVAL": 0.2,
    "proxmox_operator.proxmox.inventory.MAX_INTERVAL": 0.3,
    "proxmox_operator.proxmox.inventory.POKED_INTERVAL": 0.05,
    "proxmox_operator.controllers.manager.SecretReader": partial(SecretReader, max_age=0.2),
    "proxmox_operator.controllers.manager.WorkQueue": partial(WorkQueue, base=0.05, cap=0.5),
}
CIRCUITS = 0.005
"""By how much circuits are faster than in production: an endpoint that refused the credentials is asked after 0.3 s."""


def quick_connect(endpoint: Endpoint, credentials: Credentials, tls: TLSSettings) -> Transport:
    """Production's transport with a shorter patience."""
    return ProxmoxerTransport(endpoint, credentials, tls, timeout=TIMEOUT)


class Site:
    """One simulated Proxmox cluster with its ProxmoxCluster and Secret."""

    def __init__(self, estate: "Estate", sim: PveSim, name: str) -> None:
        self.estate = estate
        self.world = estate.world
        self.kube = estate.world.kube
        self.sim = sim
        self.name = name
        self.secret = f"{name}-credentials"
        self._mark = 0

    # The ProxmoxCluster

    def spec(self, **changes: Any) -> Raw:
        """What works, with these fields besides or instead; None leaves one out."""
        wanted: Raw = {
            "endpoints": self.sim.urls,
            "credentialsSecretRef": {"name": self.secret},
            "tls": {"caBundle": self.sim.ca_pem},
            "access": [{"allow": "Everything"}],
            "defaults": {"storage": "local-lvm", "bridge": "vmbr0"},
            "limits": {"configReadsPerSecond": 100},
            **changes,
        }
        return {key: value for key, value in wanted.items() if value is not None}

    def apply(self, **changes: Any) -> Raw:
        return self.kube.apply(
            PROXMOX_CLUSTERS, {"metadata": {"name": self.name}, "spec": self.spec(**changes)}
        )

    def edit(self, **spec: Any) -> Raw:
        """A merge patch of the spec; None removes a field."""
        return self.kube.merge(PROXMOX_CLUSTERS, self.name, {"spec": spec})

    def annotate(self, **annotations: str | None) -> Raw:
        return self.kube.merge(PROXMOX_CLUSTERS, self.name, {"metadata": {"annotations": annotations}})

    def raw(self) -> Raw:
        """The object as it is now; empty where there is none."""
        return self.kube.get(PROXMOX_CLUSTERS, self.name) or {}

    def status(self) -> Raw:
        return dict(self.raw().get("status") or {})

    def condition(self, kind: str = "Ready") -> Condition | None:
        return condition_of(self.raw(), kind)

    def shows(self, kind: str = "Ready") -> Condition:
        """One of its conditions, which must be there."""
        found = self.condition(kind)
        assert found is not None, f"{self.name} has no condition {kind}"
        return found

    def events(self) -> list[Said]:
        """The Events about it, in no order."""
        return self.world.events(self.name, namespace="default")

    def wait(
        self, reason: str, *, kind: str = "Ready", status: str | None = None, timeout: float = PATIENCE
    ) -> Condition:
        """Wait until a condition has this reason for the present generation; returns it."""

        def shown() -> Condition | None:
            found = current_condition(self.raw(), kind)
            if found is None or found.reason != reason or status not in (None, found.status):
                return None
            return found

        return self.until(shown, f"{self.name} shows {kind}={reason}", timeout=timeout)

    def until[T](self, look: Callable[[], T | None], what: str, *, timeout: float = PATIENCE) -> T:
        """As that of the world; fails with what the ProxmoxCluster says of itself."""
        return self.world.wait_until(look, what, timeout=timeout, seen=lambda: "\n".join(lines(self.raw())))

    def delete(self) -> None:
        """Start the deletion."""
        self.kube.delete(PROXMOX_CLUSTERS, self.name)

    def set_secret(self, **values: str) -> None:
        """Make or change the credentials Secret; the keys are exactly these. Without any it has none."""
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.estate.secrets.update(
            value for key, value in values.items() if key in ("tokenSecret", "password") and value
        )
        if self.kube.get(SECRETS, self.secret, NAMESPACE) is None:
            self.kube.create(
                SECRETS, {"metadata": {"name": self.secret, "namespace": NAMESPACE}, "data": data}
            )
        else:
            patch = [{"op": "replace", "path": "/data", "value": data}]
            self.kube._call("PATCH", self._secret_path, patch, kind="application/json-patch+json")  # type: ignore[arg-type]

    @property
    def _secret_path(self) -> str:
        return f"/api/v1/namespaces/{NAMESPACE}/secrets/{self.secret}"

    def good_secret(self) -> None:
        """The token that the simulator knows."""
        self.set_secret(tokenID=self.sim.token_id, tokenSecret=self.sim.token_secret)

    def drop_secret(self) -> None:
        self.kube.delete(SECRETS, self.secret, NAMESPACE)

    # ProxmoxVMs that are made here

    def make(self, prefix: str = "vm", **spec: Any) -> str:
        """Apply a new ProxmoxVM and return its name."""
        return self.world.make(prefix, clusterRef={"name": self.name}, **spec)

    def ready(self, prefix: str = "vm", **spec: Any) -> tuple[str, int]:
        """A VM that is Ready: name and VMID."""
        name = self.make(prefix, **spec)
        return name, self.world.wait_ready(name)

    # Proxmox

    def forget_calls(self) -> None:
        """:meth:`writes` and :meth:`calls` begin anew."""
        seen = list(self.sim.recorder)
        self._mark = seen[-1].seq if seen else 0

    def calls(self) -> list[Call]:
        """All calls since :meth:`forget_calls`."""
        return [call for call in self.sim.recorder if call.seq > self._mark]

    def writes(self) -> list[Call]:
        """The mutating ones among them."""
        return [call for call in self.calls() if call.mutating]

    def calls_within(self, seconds: float) -> list[Call]:
        """The calls that arrive during a window."""
        self.forget_calls()
        time.sleep(seconds)
        return self.calls()


class Estate:
    """A world of several sites. ``circuits``: how much faster circuits are than in production (1: not at all)."""

    def __init__(
        self,
        control_plane: Cluster,
        *,
        circuits: float = CIRCUITS,
        short: Mapping[str, object] | None = None,
        operator: Mapping[str, Any] | None = None,
    ) -> None:
        self.secrets: set[str] = set()
        self.heard = Heard(logging.NOTSET)
        self._control_plane = control_plane
        self._short = {**SHORT, **(short or {})}
        self._circuits = circuits
        self._settings = {"connect": quick_connect, **(operator or {})}
        self._stack = ExitStack()
        self._sites: list[Site] = []
        self._count = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._listening())
            for target, value in self._short.items():
                stack.enter_context(mock.patch(target, value))
            stack.enter_context(mock.patch("proxmox_operator.proxmox.endpoint.Breaker", self._breaker))
            self.world = stack.enter_context(World(self._control_plane, operator=self._settings))
            self.secrets |= {self.world.sim.token_secret, self.world.sim.password}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            leaks = self.leaked()
        finally:
            self._stack.close()
        assert not leaks, "\n".join(leaks)
        assert not (late := self.leaked_in_logs()), "\n".join(late)

    @contextmanager
    def fresh(self) -> Iterator[Self]:
        """Around each test: its sites and VMs are gone afterwards."""
        try:
            with self.world.fresh():
                yield self
                self._collect()
        finally:
            sites, self._sites = self._sites, []
            for site in sites:
                self.remove(site)

    def site(
        self, *, ready: bool = True, sim: Mapping[str, Any] | None = None, template: bool = True, **spec: Any
    ) -> Site:
        """A Proxmox cluster of its own name and CA, known to the operator; ``spec`` as for :meth:`Site.apply`."""
        site = self.unapplied(sim=sim, template=template)
        site.good_secret()
        site.apply(**spec)
        if ready:
            site.wait("Ready")
        return site

    def unapplied(self, *, sim: Mapping[str, Any] | None = None, template: bool = True) -> Site:
        """A Proxmox cluster that Kubernetes does not know yet: neither Secret nor ProxmoxCluster."""
        self._count += 1
        name = f"site-{self._count}-{uuid.uuid4().hex[:6]}"
        made = PveSim(**{"cluster": name, "time_scale": 0.02, **(sim or {})}).start_server()
        site = Site(self, made, name)
        self._sites.append(site)
        self.secrets |= {made.token_secret, made.password}
        if template:
            made.add_template(vmid=TEMPLATE)
        return site

    def remove(self, site: Site) -> None:
        """End the site, whatever state it is in, once the operator has let go of it."""
        for endpoint in site.sim.endpoints.values():
            endpoint.resume()

        def gone() -> bool:
            site.delete()
            if FINALIZER in (site.raw().get("metadata", {}).get("finalizers") or ()):
                with suppress(Refused):
                    site.kube.merge(PROXMOX_CLUSTERS, site.name, {"metadata": {"finalizers": None}})
            manager = self.world.operator.manager if self.world.operator else None
            return not site.raw() and (manager is None or manager.fleet.get(site.name) is None)

        self.world.wait_until(gone, f"{site.name} is removed")
        site.drop_secret()
        site.sim.stop_server()

    # Secrets

    def leaked(self) -> list[str]:
        """Where a secret is found in what the operator wrote: logs, Events, statuses and annotations."""
        self._collect()
        return [*self.leaked_in_logs(), *self._found]

    def leaked_in_logs(self) -> list[str]:
        return [f"log: {line[:400]}" for line in self.heard.lines if self._is_secret(line)]

    _found: tuple[str, ...] = ()

    def _collect(self) -> None:
        kube, found = self.world.kube, list(self._found)
        for resource in (EVENTS, PROXMOX_CLUSTERS, PROXMOX_VMS):
            for raw in kube.listed(resource):
                if self._is_secret(str(raw)):
                    found.append(f"{resource.kind} {raw['metadata']['name']}: {raw}")
        self._found = tuple(dict.fromkeys(found))

    def _is_secret(self, text: str) -> bool:
        encoded = [base64.b64encode(secret.encode()).decode() for secret in self.secrets]
        return any(secret in text for secret in (*self.secrets, *encoded))

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Hear every record as the operator's most talkative setting would write it."""
        root = logging.getLogger()
        loggers = [root, *(logging.getLogger(name) for name in logs.PINNED)]
        before = [logger.level for logger in loggers]
        root.addHandler(self.heard)
        root.setLevel(logging.DEBUG)
        for name in logs.PINNED:
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            yield
        finally:
            root.removeHandler(self.heard)
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)

    def _breaker(self, clock: Callable[[], float], *, base: float, ceiling: float, **others: Any) -> Breaker:
        return Breaker(clock, base=base * self._circuits, ceiling=ceiling * self._circuits, **others)


class Heard(logging.Handler):
    """Keeps every record with its arguments, extra fields and traceback, unredacted."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = logging.Formatter("%(name)s %(message)s").format(record)
        self.records.append(record)
        self.lines.append(f"{text} {sorted((key, str(value)) for key, value in record.__dict__.items())}")

    def matching(self, logger: str) -> list[logging.LogRecord]:
        """The records of one logger."""
        return [record for record in self.records if record.name == logger]
