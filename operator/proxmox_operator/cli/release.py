"""``proxmox-operator release``: let all objects go without touching what they stand for, before an uninstallation.

Done as the leader: while we hold the operator's Lease no operator works on the objects, none of its calls is on its
way, and no deletion is half done. An operator that takes no part in the election is found out by the finalizers that it
puts back.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from proxmox_operator.api.names import FINALIZER
from proxmox_operator.cli.parsing import parser
from proxmox_operator.engine.election import LeaderElector, process_identity
from proxmox_operator.engine.settings import Settings
from proxmox_operator.engine.store import ObjectStore
from proxmox_operator.errors import NeedsHuman, Outdated
from proxmox_operator.kube.client import Kube
from proxmox_operator.kube.errors import NotFound
from proxmox_operator.kube.lease import KubeLease
from proxmox_operator.kube.login import log_in
from proxmox_operator.kube.resources import PROXMOX_CLUSTERS, PROXMOX_VMS, VM_TEMPLATES, Resource
from proxmox_operator.kube.status import StatusWriter
from proxmox_operator.kube.transport import AioTransport

KINDS = (PROXMOX_VMS, VM_TEMPLATES, PROXMOX_CLUSTERS)
"""In this order: a ProxmoxCluster is needed as long as there are others."""

TRIES = 5
"""How often an object is read again that somebody else is just writing."""

COMES_BACK = 3.0
"""Seconds in which an operator that runs after all has put its finalizers back."""

MARGIN = 30.0
"""Seconds that are waited for the Lease beyond those after which one that nobody renews is ours."""

OPTIONS = ("kubeconfig", "namespace", "lease_name", "lease_duration", "lease_renew", "lease_poll",
           "lease_timeout", "takeover_delay")  # fmt: skip
"""Settings of the operator that say where Kubernetes is, and how its Lease is held."""

DESCRIPTION = """\
Drop the operator's finalizer from every ProxmoxVM, VMTemplate and
ProxmoxCluster. Nothing is changed in Proxmox VE: VMs run on, templates stay,
and the objects can be deleted without an operator. Stop the operator first
(scale its Deployment to 0). Its mark stays in the notes of each VM, so that an
operator that is installed again, with the same objects in the same namespaces,
takes them back.

Give the --namespace, and whatever of --lease-* and --takeover-delay, that the
operator was run with. Durations are in seconds, or text such as 5m.
"""
EXIT_CODES = """\
exit codes: 0 done, 1 failed, 2 wrong usage, 3 another operator took over
meanwhile: run it again.
"""

Raw = dict[str, Any]


def release(arguments: list[str]) -> None:
    """The command. Raises LeadershipLost, and NeedsHuman or Transient for whatever it could not do."""
    options = parser("release", DESCRIPTION, epilog=EXIT_CODES, usage="%(prog)s --all [OPTIONS]")
    options.add_argument("--all", action="store_true", required=True, help="All objects in all namespaces.")
    options.add_argument("--dry-run", action="store_true", help="Only show what would be let go.")
    options.add_argument(
        "--without-lease",
        action="store_true",
        help="The operator was run with --no-leader-election, and runs no more.",
    )
    Settings.add_flags(options, OPTIONS)
    given = options.parse_args(arguments)
    settings = Settings.of(options, given)
    asyncio.run(_release(settings, dry=given.dry_run, with_lease=not given.without_lease))


async def _release(settings: Settings, *, dry: bool, with_lease: bool) -> None:
    transport = AioTransport(await log_in(settings.kubeconfig))
    kube = Kube(transport)

    async def lead() -> None:
        await let_go(kube, dry=False)
        await asyncio.sleep(COMES_BACK)
        await _look_again(kube)

    try:
        if dry:
            await let_go(kube, dry=True)
        elif with_lease:
            await _as_leader(kube, settings, lead)
        else:
            await lead()
    finally:
        await transport.close()


async def _as_leader(kube: Kube, settings: Settings, lead: Callable[[], Awaitable[None]]) -> None:
    where = f"{settings.namespace}/{settings.lease_name}"
    lease = KubeLease(kube, namespace=settings.namespace, name=settings.lease_name)
    held = await lease.get()
    if held is None:
        message = (
            f"there is no Lease {where}, so whether an operator runs cannot be told: name that of the operator with "
            "--namespace and --lease-name, or give --without-lease if it took no part in an election and runs no more"
        )
        raise NeedsHuman(message, reason="NoLease")
    if holder := held["spec"].get("holderIdentity"):
        longest = settings.lease_duration + MARGIN
        print(f"waiting up to {longest:.0f} s for the Lease {where}, which {holder} holds", flush=True)
    elector = LeaderElector(
        lease,
        identity=f"release-{process_identity()}",
        duration=settings.lease_duration,
        renew=settings.lease_renew,
        poll=settings.lease_poll,
        call_timeout=settings.lease_timeout,
        takeover_delay=settings.takeover_delay,
    )
    running = asyncio.create_task(elector.run(lead))
    await asyncio.wait({running}, timeout=settings.lease_duration + MARGIN)
    if not running.done() and not elector.leading:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        message = f"an operator holds the Lease {where}: scale its Deployment to 0, and try again; nothing was changed"
        raise NeedsHuman(message, reason="OperatorRuns")
    await running


async def let_go(kube: Kube, *, dry: bool) -> None:
    """Drop our finalizer from every object that has it, and print a line for each. Can be repeated."""
    count = 0
    for resource in KINDS:
        for raw in await _objects(kube, resource):
            if await _drop(kube, resource, raw, dry=dry):
                count += 1
                print(f"{'would be let go' if dry else 'let go'}: {_told(raw)}")
    objects = f"{count} object{'' if count == 1 else 's'}"
    were = "would be" if dry else "was" if count == 1 else "were"
    print(f"{objects} {were} let go; nothing in Proxmox VE was touched")


async def _look_again(kube: Kube) -> None:
    back = [_name(raw) for resource in KINDS for raw in await _objects(kube, resource) if _is_held(raw)]
    if back:
        message = (
            f"an operator runs that takes no part in this election: it has put its finalizer back on "
            f"{', '.join(back[:5])}{' and others' if len(back) > 5 else ''}. Delete nothing, as it would destroy VMs: "
            "stop it, and try again"
        )
        raise NeedsHuman(message, reason="OperatorRuns")


async def _objects(kube: Kube, resource: Resource) -> list[Raw]:
    """All of a kind; none where its CRD is deleted already."""
    try:
        return (await kube.list(resource)).items
    except NotFound:
        return []


async def _drop(kube: Kube, resource: Resource, raw: Raw, *, dry: bool) -> bool:
    """Whether there was one to drop. Under a resourceVersion: finalizers that others add meanwhile are kept."""
    for attempt in range(TRIES):
        if not _is_held(raw):
            return False
        try:
            if not dry:
                await StatusWriter(kube, ObjectStore()).drop_finalizer(raw)
            return True
        except NotFound:
            return True
        except Outdated:
            if attempt == TRIES - 1:
                raise
            # Listed, as the chart's account may, instead of read.
            found = [each for each in await _objects(kube, resource) if _name(each) == _name(raw)]
            if not found:
                return True
            raw = found[0]
    raise AssertionError("the last attempt raises")


def _is_held(raw: Raw) -> bool:
    return FINALIZER in (raw["metadata"].get("finalizers") or ())


def _told(raw: Raw) -> str:
    status = raw.get("status") or {}
    stays = ""
    if "vmid" in status:
        stays = f" (VM {status['vmid']} on {status.get('node', 'an unknown node')} stays as it is)"
    elif copies := [str(copy["vmid"]) for copy in status.get("copies") or () if copy.get("state") == "Ready"]:
        stays = f" (templates {', '.join(copies)} stay as they are)"
    return _name(raw) + stays


def _name(raw: Raw) -> str:
    metadata = raw["metadata"]
    namespace = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{raw['kind']} {namespace}{metadata['name']}"
