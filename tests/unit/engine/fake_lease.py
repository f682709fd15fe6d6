"""A Lease in memory, with the faults of a network between it and each elector."""

import asyncio
import copy
import random
from collections.abc import Mapping
from typing import Any

from proxmox_operator import errors


class LeaseServer:
    """The one Lease object, as an API server keeps it."""

    def __init__(self) -> None:
        self.raw: dict[str, Any] | None = None
        self.version = 0
        self.writes = 0

    @property
    def holder(self) -> str | None:
        return self.raw["spec"]["holderIdentity"] if self.raw else None

    def read(self) -> dict[str, Any] | None:
        return copy.deepcopy(self.raw)

    def write(self, known_version: str | None, spec: Mapping[str, Any]) -> dict[str, Any]:
        if known_version != (self.raw["metadata"]["resourceVersion"] if self.raw else None):
            raise errors.Outdated("somebody was faster")
        self.version += 1
        self.writes += 1
        self.raw = {"metadata": {"resourceVersion": str(self.version)}, "spec": copy.deepcopy(dict(spec))}
        return copy.deepcopy(self.raw)


class LeaseLink:
    """One way to the server: `down` refuses, `hang` never answers, `deaf` loses the answer to a write."""

    def __init__(
        self, server: LeaseServer, *, latency: float = 0.01, rng: random.Random | None = None
    ) -> None:
        self.server = server
        self.latency = latency
        self.rng = rng
        self.fault = ""

    async def get(self) -> Mapping[str, Any] | None:
        await self._travel()
        answer = self.server.read()
        await asyncio.sleep(self._seconds())
        return answer

    async def create(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self._write(None, spec)

    async def update(self, known: Mapping[str, Any], spec: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self._write(known["metadata"]["resourceVersion"], spec)

    async def _write(self, version: str | None, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._travel()
        answer = self.server.write(version, spec)
        if self.fault == "deaf":
            raise errors.AnswerLost("no answer")
        await asyncio.sleep(self._seconds())
        return answer

    async def _travel(self) -> None:
        if self.fault == "down":
            raise errors.Unreachable("refused")
        if self.fault == "hang":
            await asyncio.sleep(10_000)
        await asyncio.sleep(self._seconds())

    def _seconds(self) -> float:
        return self.latency * self.rng.uniform(0, 2) if self.rng else self.latency
