"""Keeping ProxmoxClusters: connect, find out who answers and what is allowed, and say so in conditions.

Runs at every change of the object, every minute (its Secret is re-read then), when nodes come and go, and when the
inventory begins to fail or recovers. A change takes effect by building a new session; VMs are woken when the cluster
becomes usable or stops being so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from proxmox_operator.api import (
    ClusterStatus,
    Condition,
    InvalidObject,
    NodeStatus,
    ProxmoxCluster,
    set_condition,
)
from proxmox_operator.api.names import PAUSED as PAUSED_ANNOTATION
from proxmox_operator.controllers.connecting import (
    credentials_of,
    identity_of,
    limits_of,
    scope_of,
    tls_of,
)
from proxmox_operator.controllers.context import CLUSTER_KIND, TEMPLATE_KIND, Context, is_paused, key_of
from proxmox_operator.controllers.fleet import Fleet, Member
from proxmox_operator.controllers.outcome import Outcome, outcome_of
from proxmox_operator.engine.queue import Key
from proxmox_operator.errors import (
    Forbidden,
    NeedsHuman,
    OperatorError,
    Outdated,
    Transient,
    Unauthorized,
    Unreachable,
)
from proxmox_operator.kube.client import Raw
from proxmox_operator.planning.report import Verdict, paused_conditions, summarise, verdict_of_error
from proxmox_operator.proxmox.client import Fence
from proxmox_operator.proxmox.cluster import ClusterInfo, probe
from proxmox_operator.proxmox.credentials import (
    Credentials,
)
from proxmox_operator.proxmox.endpoint import EndpointHealth
from proxmox_operator.proxmox.errors import NotQuorate
from proxmox_operator.proxmox.permissions import MissingPrivilege, lacking, missing, permissions
from proxmox_operator.proxmox.session import ClusterSession, Connect

CHECK_INTERVAL = 60.0
RECHECK_INTERVAL = 10.0
"""Seconds between looks while something is amiss; circuits keep silent endpoints from being asked that often."""
OUTAGE = 30.0
"""Seconds without an inventory after which a cluster counts as unreachable."""
NODES_SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one pass found out. ``info`` is None where nobody told; ``secret_error``: why the Secret is of no use."""

    info: ClusterInfo | None = None
    missing: tuple[MissingPrivilege, ...] = ()
    secret_error: NeedsHuman | None = None


class ClusterReconciler:
    """Reconciles ProxmoxClusters and fills the fleet."""

    def __init__(self, context: Context, fleet: Fleet, *, fence: Fence, connect: Connect) -> None:
        self._context = context
        self._fleet = fleet
        self._fence = fence
        self._connect = connect

    async def reconcile(self, key: Key) -> Outcome:
        """One pass. Raises nothing but bugs and LeadershipLost."""
        raw = self._context.store.get(key)
        if raw is None:
            await self._fleet.remove(key.name)
            self._context.wake_users(key.name)
            return Outcome.done()
        try:
            return await self._pass(raw, ProxmoxCluster.parse(raw))
        except InvalidObject as error:
            try:
                await self._show_error(raw, error)
            except OperatorError as unwritten:
                return outcome_of(unwritten)
            return outcome_of(error)
        except OperatorError as error:
            return outcome_of(error)

    async def _pass(self, raw: Raw, cluster: ProxmoxCluster) -> Outcome:
        name = cluster.metadata.name
        if cluster.metadata.deletion_timestamp is None:
            raw = await self._context.status.add_finalizer(raw)
            cluster = ProxmoxCluster.parse(raw)
        member = self._fleet.get(name)
        if member is None:
            member = Member(
                name=name,
                cluster=cluster,
            )
            self._fleet.put(member)
        if member.acted_on is not None and _changed(member.acted_on, cluster):
            self._context.wake_users(name)
        member.cluster = member.acted_on = cluster
        if cluster.metadata.deletion_timestamp is not None and not self._fleet.users(name):
            await self._let_go(raw, name)
            return Outcome.done()
        if is_paused(cluster.metadata.annotations):
            await self._show_paused(raw, cluster)
            return Outcome.done()
        before, shown = (member.connected, member.abilities), member.problem
        look = await self._look(member)
        await self._report(member, look)
        if before != (member.connected, member.abilities) or (shown is None) != (member.problem is None):
            self._context.wake_users(name)
        if isinstance(member.problem, NeedsHuman):
            return outcome_of(member.problem)
        settled = member.problem is None and look.info is not None
        return Outcome.again(CHECK_INTERVAL if settled else RECHECK_INTERVAL)

    async def _let_go(self, raw: Raw, name: str) -> None:
        await self._context.status.drop_finalizer(raw)
        await self._fleet.remove(name)

    async def _look(self, member: Member) -> Look:
        """Connect with the present spec and Secret, and ask who answers; what fails becomes ``member.problem``."""
        where = (self._context.settings.namespace, member.cluster.spec.credentials_secret_ref.name)
        unusable: NeedsHuman | None = None
        try:
            try:
                credentials = credentials_of(await self._context.secrets.get(*where))
            except NeedsHuman as error:
                unusable = error
                if member.session is None:
                    raise
            else:
                await self._connect_with(member, credentials)
            info, lacks = await self._ask(member)
        except OperatorError as error:
            if isinstance(error, Unauthorized):
                self._context.secrets.invalidate(*where)
                error = Unauthorized(f"{error.message} (Secret {'/'.join(where)})")
            if not (isinstance(error, Transient) and _still_fresh(member)):
                member.problem = error
            return Look(secret_error=unusable)
        member.problem = _why_not_to_write(member, info)
        return Look(info=info, missing=tuple(lacks), secret_error=unusable)

    async def _ask(self, member: Member) -> tuple[ClusterInfo, list[MissingPrivilege]]:
        session = member.session
        if session is None:
            raise Transient("it is being connected")
        info = await probe(session.client)
        if session.inventory.current is None and await session.inventory.poll() is None:
            raise session.inventory.error or Unreachable("the inventory could not be read")
        await self._fleet.find_cursor(member)
        granted = await permissions(session.client)
        spec = member.cluster.spec
        seeds = (spec.defaults.seed_storage,) if spec.defaults.seed_storage is not None else ()
        member.major, member.granted = info.major, granted
        member.lacking = lacking(granted, info.major, pool=spec.pool, storages=seeds)
        return info, missing(granted, scope_of(member.cluster), info.major)

    async def _connect_with(self, member: Member, credentials: Credentials) -> None:
        """A session for exactly these settings; an unchanged one is kept."""
        cluster, name = member.cluster, member.name
        spec = cluster.spec
        fingerprint = (spec.endpoints, credentials, spec.tls, spec.limits)
        if member.session is not None and member.fingerprint == fingerprint:
            return
        try:
            session = ClusterSession(
                name,
                spec.endpoints,
                credentials,
                tls=tls_of(cluster),
                limits=limits_of(cluster),
                expected=identity_of(cluster),
                fence=self._fence,
                metrics=self._context.metrics,
                trace=self._context.trace,
                on_change=lambda vmids, nodes: self._changed_in_proxmox(member, vmids, nodes),
                on_turn=lambda: self._context.queue.add(Key(CLUSTER_KIND, "", name)),
                on_room=lambda: self._wake_waiting(member),
                on_slot=lambda actor: self._context.queue.add(Key(actor.kind, actor.namespace, actor.name)),
                connect=self._connect,
            )
        except ValueError as error:
            raise NeedsHuman(f"ProxmoxCluster {name}: {error}", reason="InvalidSpec") from None
        old, member.session, member.fingerprint = member.session, session, fingerprint
        if old is not None:
            session.inventory.go_on_from(old.inventory)
        member.seen.clear()
        self._context.metrics.watch_cluster(name, session.figures)
        session.start()
        if old is not None:
            await old.close()

    def _changed_in_proxmox(self, member: Member, vmids: set[int], nodes: set[str]) -> None:
        for vmid in vmids & member.keys.keys():
            self._context.queue.add(member.keys[vmid])
        for key in member.longing_for(vmids - member.keys.keys()):
            self._context.queue.add(key)
        if nodes:
            self._context.queue.add(Key(CLUSTER_KIND, "", member.name))
            self._context.wake_users(member.name, TEMPLATE_KIND)

    def _wake_waiting(self, member: Member) -> None:
        """What no node could host is looked at again."""
        for key in member.waiting:
            self._context.queue.add(key)

    async def _report(self, member: Member, look: Look) -> None:
        raw = self._context.store.get(Key(CLUSTER_KIND, "", member.name))
        if raw is None:
            return
        cluster = ProxmoxCluster.parse(raw)
        status, generation, now = cluster.status, cluster.metadata.generation, self._context.now()
        conditions: tuple[Condition, ...] = status.conditions
        info = look.info
        silent = _silent(member.session.client.health()) if member.session else ""
        states = _states(member.problem, look, silent)
        for kind, (state, reason, message) in states.items():
            conditions = set_condition(
                conditions, kind, state, reason, message, generation=generation, now=now
            )
        users = self._fleet.users(member.name) if cluster.metadata.deletion_timestamp is not None else []
        verdict = _verdict(member.problem, info.version if info is not None else status.version, users)
        changes: dict[str, object] = {
            "observed_generation": generation,
            "conditions": summarise(conditions, verdict, generation=generation, now=now),
        }
        if info is not None:
            inventory = member.session.inventory.current if member.session else None
            nodes = sorted(inventory.nodes.values(), key=lambda node: node.name) if inventory else []
            changes |= {
                "version": info.version,
                "cluster_name": info.identity.name or None,
                "ca_fingerprint": info.identity.ca_fingerprint,
                "node_count": len(nodes),
                "nodes": tuple(
                    NodeStatus(
                        name=node.name,
                        online=node.online,
                        cpus=node.maxcpu,
                        memory=f"{node.maxmem >> 20}Mi" if node.maxmem else None,
                    )
                    for node in nodes[:NODES_SHOWN]
                ),
            }
        await self._context.status.write(raw, status.model_copy(update=changes).dump())

    async def _show_paused(self, raw: Raw, cluster: ProxmoxCluster) -> None:
        message = f"nothing is written here until the annotation {PAUSED_ANNOTATION} is removed"
        conditions = paused_conditions(
            cluster.status.conditions,
            message,
            generation=cluster.metadata.generation,
            now=self._context.now(),
        )
        await self._context.status.write(
            raw, cluster.status.model_copy(update={"conditions": conditions}).dump()
        )

    async def _show_error(self, raw: Raw, error: OperatorError) -> None:
        metadata = raw["metadata"]
        status = ClusterStatus.model_validate(raw.get("status") or {})
        conditions = summarise(
            status.conditions,
            verdict_of_error(error),
            generation=metadata.get("generation", 0),
            now=self._context.now(),
        )
        try:
            await self._context.status.write(raw, status.model_copy(update={"conditions": conditions}).dump())
        except Outdated:
            self._context.queue.add(key_of(raw))


def _still_fresh(member: Member) -> bool:
    """One call that failed makes no outage while the inventory is being read all the same."""
    return member.problem is None and member.session is not None and member.session.inventory.age < OUTAGE


def _why_not_to_write(member: Member, info: ClusterInfo) -> OperatorError | None:
    """What keeps a cluster that answers from being worked on."""
    if info.quorate is False:
        return NotQuorate(
            "the Proxmox cluster has no quorum, so nothing is written: bring nodes back (`pvecm status`)"
        )
    frozen = member.session.inventory.frozen_reason if member.session is not None else None
    return Transient(frozen, reason="WritesFrozen") if frozen else None


def _changed(before: ProxmoxCluster, after: ProxmoxCluster) -> bool:
    """Whether VMs have to look again: other grants or settings, or paused or resumed."""
    paused = is_paused(before.metadata.annotations) != is_paused(after.metadata.annotations)
    return paused or before.metadata.generation != after.metadata.generation


State = tuple[bool | None, str, str]


def _states(problem: OperatorError | None, look: Look, silent: str) -> dict[str, State]:
    """Reachable, Authorized and Quorate: Unknown where not asked, and left alone where one call failed in passing."""
    found: dict[str, State] = {}
    match problem:
        case _ if problem is None or look.info is not None:
            found["Reachable"] = (True, "Reachable", "all endpoints can be used")
            if silent:
                found["Reachable"] = (True, "SomeEndpointsUnusable", silent)
        case Unauthorized() | Forbidden():
            found["Reachable"] = (True, "Reachable", "an endpoint answers")
            found["Authorized"] = (False, problem.reason, problem.message)
            found["Quorate"] = (None, "Unknown", "not asked")
        case _ if problem is look.secret_error:
            found["Reachable"] = found["Quorate"] = (None, "Unknown", "not asked")
        case _:
            found["Reachable"] = (False, problem.reason, problem.message)
            found["Authorized"] = found["Quorate"] = (None, "Unknown", "not reached")
    if look.info is not None:
        found["Authorized"] = (True, "Authorized", "the credentials hold the privileges that are needed")
        found["Quorate"] = (True, "Quorate", "the Proxmox cluster has quorum")
        if look.info.quorate is None:
            found["Quorate"] = (None, "NotVisible", "grant Sys.Audit on / to have quorum checked")
        elif isinstance(problem, NotQuorate):
            found["Quorate"] = (False, problem.reason, problem.message)
    if look.missing:
        names = "; ".join(str(each) for each in look.missing[:20])
        found["Authorized"] = (False, "PrivilegesMissing", f"the credentials lack {names}")
    if look.secret_error is not None:
        error = look.secret_error
        kept = " (the last good credentials stay in use)" if problem is None else ""
        found["Authorized"] = (False, error.reason, f"{error.message}{kept}")
    return found


def _silent(endpoints: Sequence[EndpointHealth]) -> str:
    """Which endpoints cannot be used and why, as a sentence; empty where all can."""
    bad = [each.told() for each in endpoints if each.error]
    return f"{len(bad)} of {len(endpoints)} endpoints cannot be used: {'; '.join(bad)}" if bad else ""


def _verdict(problem: OperatorError | None, version: str | None, users: list[str]) -> Verdict:
    if users:
        shown = ", ".join(sorted(users)[:5]) + (f" and {len(users) - 5} more" if len(users) > 5 else "")
        remedy = "delete these first, or set spec.lost if the cluster is gone for good"
        message = f"deletion waits: used by {shown}; {remedy}"
        return Verdict(False, "InUse", message, progressing=False, stalled=True)
    if problem is not None:
        return verdict_of_error(problem)
    return Verdict(
        True,
        "Ready",
        f"Proxmox VE {version or '(version unknown)'} is reachable",
        progressing=False,
        stalled=False,
    )
