"""What is said to be left behind in a cluster that is lost."""

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest

from proxmox_operator.controllers.vm.reconcile import VMReconciler
from unit.planning.make import a_vm, made

SEED = {"volume": "local:iso/s.iso", "node": "pve2", "since": "2026-01-01T00:00:00Z", "madeFrom": "x"}


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        ("Uploaded", "VM 10000 on pve1, and its user data (local:iso/s.iso on pve2)"),
        ("Removed", "VM 10000 on pve1"),
    ],
)
async def test_what_is_left_behind_is_named(phase: str, said: str) -> None:
    events, status = Mock(), SimpleNamespace(drop_finalizer=AsyncMock())
    context = SimpleNamespace(events=events, status=status, queue=Mock())
    member: Any = SimpleNamespace(name="lab", keys={})
    vm = a_vm(status=made(seed={**SEED, "phase": phase}), deleting=True)
    await VMReconciler(cast(Any, context), cast(Any, MagicMock()))._abandon(vm, cast(Any, Mock()), member)
    assert events.warning.call_args.args[2].endswith(f"left behind there: {said}")
