"""Typed calls to the HA manager: what is sent, what is read, and that many who ask cause one call."""

import asyncio

import pytest

from proxmox_operator import errors
from proxmox_operator.planning.availability import HAResource
from proxmox_operator.planning.harules import Rule
from proxmox_operator.proxmox.ha import HighAvailability
from proxmox_operator.proxmox.transport import Refused

from .fakes import FakeClock, MockTransport, client_over

RESOURCES = [
    {"sid": "vm:100", "type": "vm", "state": "started", "max_restart": 3, "comment": "ours", "digest": "d"},
    {"sid": "vm:101", "type": "vm", "digest": "d"},
    {"sid": "vm:102", "type": "vm", "state": "enabled", "max_relocate": "0", "digest": "d"},
    {"sid": "ct:200", "type": "ct", "state": "started", "digest": "d"},
]
RULES = [
    {
        "rule": "near",
        "type": "node-affinity",
        "resources": "vm:100",
        "nodes": "pve1:2,pve2",
        "strict": 1,
        "affinity": "positive",
        "comment": "ours",
        "digest": "d9",
    },
    {
        "rule": "apart",
        "type": "resource-affinity",
        "resources": "vm:100,vm:101",
        "affinity": "negative",
        "disable": 1,
        "digest": "d9",
    },
]
NEAR = Rule(
    id="near",
    type="node-affinity",
    resources=frozenset({"vm:100"}),
    comment="ours",
    nodes=frozenset({("pve1", 2), ("pve2", 0)}),
    strict=True,
)
APART = Rule(
    id="apart",
    type="resource-affinity",
    resources=frozenset({"vm:100", "vm:101"}),
    affinity="negative",
    disabled=True,
)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def transport():
    return MockTransport({"GET /cluster/ha/resources": RESOURCES, "GET /cluster/ha/rules": RULES})


@pytest.fixture
def ha(transport, clock):
    with client_over(transport, clock=clock) as client:
        yield HighAvailability(client, seconds=60.0, clock=clock)


def params(transport, key):
    return [dict(call.params) for call in transport.calls if f"{call.method} {call.target}" == key]


async def test_resources_are_read_with_proxmoxs_defaults_for_what_they_leave_out(ha):
    assert await ha.resources() == {
        100: HAResource(state="started", max_restart=3, comment="ours"),
        101: HAResource(),
        102: HAResource(state="started", max_relocate=0),
    }


async def test_rules_are_read_as_they_are_compared(ha):
    rules = await ha.rules()
    assert rules.digest == "d9"
    assert rules.found == {"near": NEAR, "apart": APART}


async def test_a_cluster_without_rules_has_no_digest(ha, transport):
    transport.answers["GET /cluster/ha/rules"] = []
    assert (await ha.rules()).digest == ""


async def test_a_hundred_vms_ask_once_and_again_after_a_while_or_a_change(ha, transport, clock):
    await asyncio.gather(*(ha.resources() for _ in range(100)))
    assert transport.asked("GET /cluster/ha/resources") == 1
    clock.pass_seconds(60)
    await ha.resources()
    assert transport.asked("GET /cluster/ha/resources") == 2
    ha.forget()
    await ha.resources()
    assert transport.asked("GET /cluster/ha/resources") == 3


async def test_what_is_written_is_read_anew_also_where_the_write_failed(ha, transport):
    await ha.resources()
    await ha.add(103, state="started", max_restart=1, max_relocate=1, comment="ours")
    await ha.resources()
    assert transport.asked("GET /cluster/ha/resources") == 2
    transport.answers["DELETE /cluster/ha/resources/vm:103"] = Refused(
        500, "cannot delete service 'vm:103', not HA managed!", {}
    )
    with pytest.raises(errors.Outdated):
        await ha.remove(103)
    await ha.resources()
    assert transport.asked("GET /cluster/ha/resources") == 3


async def test_writes_name_the_resource_and_single_keys(ha, transport):
    await ha.add(103, state="stopped", max_restart=2, max_relocate=0, comment="ours")
    await ha.change(103, {"state": "started"})
    await ha.remove(103)
    assert params(transport, "POST /cluster/ha/resources") == [
        {"sid": "vm:103", "state": "stopped", "max_restart": 2, "max_relocate": 0, "comment": "ours"}
    ]
    assert params(transport, "PUT /cluster/ha/resources/vm:103") == [{"state": "started"}]
    assert transport.asked("DELETE /cluster/ha/resources/vm:103") == 1


async def test_a_rule_is_made_without_a_digest_and_changed_whole_under_one(ha, transport):
    await ha.put_rule(NEAR, digest=None)
    await ha.put_rule(APART, digest="d9")
    await ha.remove_rule("near")
    assert params(transport, "POST /cluster/ha/rules") == [
        {
            "rule": "near",
            "type": "node-affinity",
            "resources": "vm:100",
            "nodes": "pve1:2,pve2",
            "strict": True,
            "comment": "ours",
        }
    ]
    assert params(transport, "PUT /cluster/ha/rules/apart") == [
        {
            "type": "resource-affinity",
            "resources": "vm:100,vm:101",
            "affinity": "negative",
            "comment": "",
            "digest": "d9",
            "disable": True,
        }
    ]
    assert transport.asked("DELETE /cluster/ha/rules/near") == 1
