"""Typed calls about Proxmox's HA manager: which VMs it keeps, and its rules.

Both are read for the whole cluster at once and remembered for a while, since every VM under HA asks; what changes
them - a write of ours, a change in the inventory - has them read anew. Writes change single keys of one resource, which
the spec owns, and carry no digest: that of the file changes with every other VM. A rule is written whole, under the
digest. Facts: PVE::API2::HA of pve-ha-manager 5.2; every write needs Sys.Console on /, every read Sys.Audit.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from proxmox_operator.planning.availability import DEFAULT_TRIES, HAResource
from proxmox_operator.planning.harules import NODE, Rule

from .cache import Remembered
from .client import PveClient
from .request import Method, ParamValue, Request

RULES_SINCE = 9
"""Major version of Proxmox VE that has rules; earlier ones have groups."""


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules by id, and the digest that a change of one has to carry ("" while there is none)."""

    found: Mapping[str, Rule]
    digest: str


class HighAvailability:
    """The calls. All raise the errors of client.py."""

    def __init__(
        self, client: PveClient, *, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._resources = Remembered(self._read_resources, seconds=seconds, clock=clock)
        self._rules = Remembered(self._read_rules, seconds=seconds, clock=clock)

    def forget(self) -> None:
        """What was read may have changed: read it anew when somebody asks."""
        self._resources.forget()
        self._rules.forget()

    # -- resources -------------------------------------------------------------------------------

    async def resources(self) -> Mapping[int, HAResource]:
        """``GET /cluster/ha/resources``: every VM under HA."""
        return await self._resources.get("resources")

    async def add(self, vmid: int, *, state: str, max_restart: int, max_relocate: int, comment: str) -> None:
        """``POST /cluster/ha/resources``; raises Outdated where it is one already."""
        params: dict[str, ParamValue] = {"sid": f"vm:{vmid}", "state": state, "comment": comment}
        params |= {"max_restart": max_restart, "max_relocate": max_relocate}
        await self._write("POST", (), params=params)

    async def change(self, vmid: int, changes: Mapping[str, str | int]) -> None:
        """``PUT /cluster/ha/resources/vm:N``. In error state only ``state=disabled`` is accepted."""
        await self._write("PUT", (f"vm:{vmid}",), params=changes)

    async def remove(self, vmid: int) -> None:
        """``DELETE /cluster/ha/resources/vm:N``; Proxmox VE 9 takes it out of all rules, too."""
        await self._write("DELETE", (f"vm:{vmid}",))

    # -- rules -----------------------------------------------------------------------------------

    async def rules(self) -> Rules:
        """``GET /cluster/ha/rules``, of Proxmox VE 9."""
        return await self._rules.get("rules")

    async def put_rule(self, rule: Rule, *, digest: str | None) -> None:
        """``POST /cluster/ha/rules``, or with a digest ``PUT .../{rule}`` of one that exists.

        Raises Outdated when rules have changed since, and Rejected for one that contradicts others.
        """
        params: dict[str, ParamValue] = {
            "type": rule.type,
            "resources": ",".join(sorted(rule.resources)),
            "comment": rule.comment,
        }
        if rule.type == NODE:
            nodes = sorted(rule.nodes)
            params["nodes"] = ",".join(f"{name}:{priority}" if priority else name for name, priority in nodes)
            params["strict"] = rule.strict
        else:
            params["affinity"] = rule.affinity
        if digest is None:
            await self._write("POST", (), kind="rules", params=params | {"rule": rule.id})
        else:
            params |= {"digest": digest, "disable": rule.disabled}
            await self._write("PUT", (rule.id,), kind="rules", params=params)

    async def remove_rule(self, name: str) -> None:
        """``DELETE /cluster/ha/rules/{rule}``; one that is gone already is no error."""
        await self._write("DELETE", (name,), kind="rules")

    async def _write(
        self,
        method: Method,
        path: tuple[str, ...],
        *,
        kind: str = "resources",
        params: Mapping[str, ParamValue] | None = None,
    ) -> None:
        try:
            await self._client.call(Request(method, ("cluster", "ha", kind, *path), params or {}))
        finally:
            self.forget()

    async def _read_resources(self, _: str) -> Mapping[int, HAResource]:
        items: list[dict[str, Any]] = await self._client.get("cluster/ha/resources")
        found = {}
        for item in items:
            kind, _, number = str(item.get("sid", "")).partition(":")
            if kind == "vm" and number.isdigit():
                found[int(number)] = HAResource(
                    state={"enabled": "started"}.get(state := str(item.get("state", "started")), state),
                    max_restart=int(item.get("max_restart", DEFAULT_TRIES)),
                    max_relocate=int(item.get("max_relocate", DEFAULT_TRIES)),
                    comment=str(item.get("comment", "")),
                )
        return found

    async def _read_rules(self, _: str) -> Rules:
        items: list[dict[str, Any]] = await self._client.get("cluster/ha/rules")
        found = {rule.id: rule for rule in map(_rule, items)}
        return Rules(found, str(items[0].get("digest", "")) if items else "")


def _rule(item: Mapping[str, Any]) -> Rule:
    type = str(item.get("type", ""))
    nodes = (part.partition(":") for part in str(item.get("nodes", "")).split(",") if part)
    affinity = str(item["affinity"]) if item.get("affinity") else None
    return Rule(
        id=str(item["rule"]),
        type=type,
        resources=frozenset(sid for sid in str(item.get("resources", "")).split(",") if sid),
        comment=str(item.get("comment", "")),
        nodes=frozenset((name, int(priority or 0)) for name, _, priority in nodes),
        strict=bool(int(item.get("strict") or 0)),
        # Newer versions have it for nodes too, where the default is what all earlier ones mean.
        affinity=None if type == NODE and affinity == "positive" else affinity,
        disabled=bool(int(item.get("disable") or 0)),
    )
