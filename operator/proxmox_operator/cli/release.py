"""``proxmox-operator release``: let all objects go without touching what they stand for, before an uninstallation.

Done as the leader: by whoever holds the Lease nobody else works on the objects, so no finalizer comes back, and no
deletion is half done. A Lease that an operator holds is waited for, as a new leader would.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from typing import Any

from proxmox_operator.api.names import FINALIZER
from proxmox_operator.engine.election import LeaderElector, process_identity
from proxmox_operator.engine.settings import Settings
from proxmox_operator.errors import LeadershipLost, OperatorError, Outdated
from proxmox_operator.kube.client import Kube
from proxmox_operator.kube.errors import NotFound
from proxmox_operator.kube.lease import KubeLease
from proxmox_operator.kube.login import log_in
from proxmox_operator.kube.resources import PROXMOX_CLUSTERS, PROXMOX_VMS, VM_TEMPLATES, Resource
from proxmox_operator.kube.transport import AioTransport

KINDS = (PROXMOX_VMS, VM_TEMPLATES, PROXMOX_CLUSTERS)
"""In this order: a ProxmoxCluster is needed as long as there are others."""

PROG = "proxmox-operator release"

TRIES = 5
"""How often an object is read again that somebody else is just writing."""

DESCRIPTION = """\
Drop the operator's finalizer from every ProxmoxVM, VMTemplate and ProxmoxCluster. Nothing is changed in Proxmox VE:
VMs run on, templates stay, and the objects can be deleted without an operator. Stop the operator first (scale its
Deployment to 0). Its mark stays in the notes of each VM, so that an operator that is installed again, with the same
objects in the same namespaces, takes them back.

The options of `proxmox-operator run` that say where Kubernetes is, and what Lease the operator holds, are those of this
command too: --kubeconfig, --namespace and --lease-*.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 another operator took over meanwhile.
"""

Raw = dict[str, Any]


def release(arguments: list[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=PROG,
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--all", action="store_true", required=True, help="All objects in all namespaces.")
    parser.add_argument("--dry-run", action="store_true", help="Only show what would be let go.")
    parser.add_argument(
        "--wait", type=float, default=150.0, metavar="SECONDS", help="For an operator to end."
    )
    given, others = parser.parse_known_args(arguments)
    settings = Settings.from_args(others, prog=PROG)
    try:
        asyncio.run(_release(settings, dry=given.dry_run, wait=given.wait))
    except OperatorError as error:
        print(f"{PROG}: {error.message}", file=sys.stderr)
        return 1
    except TimeoutError:
        print(
            f"{PROG}: an operator holds the Lease {settings.namespace}/{settings.lease_name}: scale "
            "its Deployment to 0, and try again; nothing was changed",
            file=sys.stderr,
        )
        return 1
    except LeadershipLost as error:
        print(f"{PROG}: {error}; run it again", file=sys.stderr)
        return 3
    return 0


async def _release(settings: Settings, *, dry: bool, wait: float) -> None:
    transport = AioTransport(await log_in(settings.kubeconfig))
    kube = Kube(transport)
    try:
        if dry:
            await let_go(kube, dry=True)
            return
        elector = LeaderElector(
            KubeLease(kube, namespace=settings.namespace, name=settings.lease_name),
            identity=f"release-{process_identity()}",
            duration=settings.lease_duration,
            renew=settings.lease_renew,
            poll=settings.lease_poll,
            call_timeout=settings.lease_timeout,
            takeover_delay=settings.takeover_delay,
        )
        begun = asyncio.Event()

        async def lead() -> None:
            begun.set()
            await let_go(kube, dry=False)

        running = asyncio.create_task(elector.run(lead))
        starting = asyncio.create_task(begun.wait())
        await asyncio.wait({running, starting}, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        if not begun.is_set() and not running.done():
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            raise TimeoutError
        await running
    finally:
        await transport.close()


async def let_go(kube: Kube, *, dry: bool) -> None:
    """Drop our finalizer from every object that has it, and print a line for each. Can be repeated."""
    count = 0
    for resource in KINDS:
        for raw in (await kube.list(resource)).items:
            if await _drop(kube, resource, raw, dry=dry):
                count += 1
                print(f"{'would be let go' if dry else 'let go'}: {''.join(_told(raw))}")
    print(f"{count} objects {'would be' if dry else 'were'} let go; nothing in Proxmox VE was touched")


async def _drop(kube: Kube, resource: Resource, raw: Raw, *, dry: bool) -> bool:
    """Whether there was one to drop. Under a resourceVersion: finalizers that others add meanwhile are kept."""
    for attempt in range(TRIES):
        finalizers = raw["metadata"].get("finalizers") or []
        others = [name for name in finalizers if name != FINALIZER]
        if others == finalizers:
            return False
        try:
            if not dry:
                await kube.patch_metadata(resource, raw, {"finalizers": others})
            return True
        except NotFound:
            return True
        except Outdated:
            if attempt == TRIES - 1:
                raise
            metadata = raw["metadata"]
            try:
                raw = await kube.get(resource, metadata["name"], namespace=metadata.get("namespace", ""))
            except NotFound:
                return True
    raise AssertionError("the last attempt raises")


def _told(raw: Raw) -> Iterator[str]:
    metadata, status = raw["metadata"], raw.get("status") or {}
    namespace = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    yield f"{raw['kind']} {namespace}{metadata['name']}"
    if "vmid" in status:
        yield f" (VM {status['vmid']} on {status.get('node', 'an unknown node')} stays as it is)"
    copies = [str(copy["vmid"]) for copy in status.get("copies") or ()]
    if copies:
        yield f" (templates {', '.join(copies)} stay as they are)"
