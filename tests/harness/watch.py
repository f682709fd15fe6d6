"""A watch of one kind: all that is there, then each change as the API server tells it.

Stands in for kopf's in an operator that is started and killed hundreds of times.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import aiohttp

from proxmox_operator.errors import OperatorError
from proxmox_operator.kube.client import Call, Kube, Raw
from proxmox_operator.kube.login import bearer_token
from proxmox_operator.kube.resources import Resource
from proxmox_operator.kube.transport import AioTransport, path_of

AGAIN = 0.1
"""Seconds until a watch that broke off is begun anew."""


async def watch(
    transport: AioTransport, resource: Resource, namespace: str, observe: Callable[[str, Raw], None]
) -> None:
    """Tell ``observe`` of each object and each change (ADDED, MODIFIED, DELETED), until cancelled."""
    known: dict[str, dict[str, Any]] = {}
    while True:
        with suppress(OperatorError, aiohttp.ClientError, OSError):
            listing = await Kube(transport).list(resource, namespace=namespace)
            seen = {raw["metadata"]["uid"]: raw for raw in listing.items}
            for uid in known.keys() - seen.keys():
                observe("DELETED", known[uid])
            for raw in listing.items:
                observe("MODIFIED", raw)
            known = seen
            async for event in _events(transport, resource, namespace, listing.resource_version):
                kind, raw = event["type"], event["object"]
                if kind == "ERROR":
                    break  # what was listed is too old: listed anew
                known[raw["metadata"]["uid"]] = raw
                if kind == "DELETED":
                    del known[raw["metadata"]["uid"]]
                observe(kind, raw)
        await asyncio.sleep(AGAIN)


async def _events(
    transport: AioTransport, resource: Resource, namespace: str, version: str
) -> AsyncIterator[dict[str, Any]]:
    """The events of one watch request, one JSON document a line, of any length."""
    params = {"watch": "true", "resourceVersion": version}
    path = path_of(Call(verb="list", resource=resource, namespace=namespace, params=params))
    token = await bearer_token(transport._configuration)
    async with transport._session.get(
        transport._base + path,
        headers={"Authorization": f"Bearer {token}"},
        timeout=aiohttp.ClientTimeout(total=None),
        raise_for_status=True,
    ) as response:
        begun = b""
        async for chunk in response.content.iter_any():
            *lines, begun = (begun + chunk).split(b"\n")
            for line in lines:
                yield json.loads(line)
