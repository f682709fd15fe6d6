"""VMIDs are handed out once and upwards, whatever happens to the process; and objects find their cluster."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.api import ProxmoxCluster
from proxmox_operator.api.names import FINALIZER
from proxmox_operator.controllers.context import Context
from proxmox_operator.controllers.fleet import CURSOR_BLOCK, Fleet, Member
from proxmox_operator.engine.queue import Key
from proxmox_operator.engine.store import ObjectStore
from proxmox_operator.errors import NeedsHuman, NotReadYet, Outdated, Unreachable, Waiting


class Kubernetes:
    """Store and status writer in one; ``fail`` makes the next write end in a conflict."""

    def __init__(self) -> None:
        self.store = ObjectStore()
        self.version = 0
        self.writes = 0
        self.fail = False

    def put(self, kind: str, name: str, namespace: str = "", **parts: Any) -> dict[str, Any]:
        self.version += 1
        metadata = {
            "name": name,
            "namespace": namespace,
            "uid": f"{namespace}/{name}",
            "resourceVersion": str(self.version),
        }
        raw = {"kind": kind, "metadata": metadata | parts.pop("metadata", {})} | parts
        self.store.apply(kind, raw)
        return raw

    async def write(self, raw: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        if self.fail:
            self.fail = False
            raise Outdated("somebody else wrote")
        self.writes += 1
        parts = {key: value for key, value in raw.items() if key not in ("kind", "metadata", "status")}
        return self.put(raw["kind"], raw["metadata"]["name"], **parts, status=status)

    @property
    def status(self) -> dict[str, Any]:
        raw = self.store.get(Key("ProxmoxCluster", "", "lab"))
        assert raw is not None
        return dict(raw["status"])

    @property
    def cursor(self) -> int:
        return int(self.status["vmidCursor"])


class Lab:
    """A fleet of one cluster with VMIDs 100 to 199; ``restart`` is a new process on the same Kubernetes."""

    def __init__(self, *, start: int = 100, end: int = 199, status: dict[str, Any] | None = None) -> None:
        self.kubernetes = Kubernetes()
        self.spec = {
            "endpoints": ["https://pve1:8006"],
            "credentialsSecretRef": {"name": "pve"},
            "vmidRange": {"start": start, "end": end},
        }
        self.kubernetes.put("ProxmoxCluster", "lab", spec=self.spec, status=status or {"version": "9.2"})
        self.guests: dict[int, object] = {}
        self.tasks: set[int] = set()
        self.backups: set[int] = set()
        self.restart()

    def restart(self) -> None:
        self.woken: list[str] = []
        queue = SimpleNamespace(add=lambda key: self.woken.append(key.name))
        settings = SimpleNamespace(workers=4)
        context = SimpleNamespace(
            store=self.kubernetes.store, status=self.kubernetes, queue=queue, settings=settings
        )
        self.fleet = Fleet(cast(Context, context))
        nodes = {"pve1": SimpleNamespace(name="pve1", online=True)}
        nas = SimpleNamespace(name="nas", node="pve1", shared=True, available=True)
        seen = SimpleNamespace(guests=self.guests, nodes=nodes, storages={("nas", "pve1"): nas})
        inventory = SimpleNamespace(current=seen)
        cluster = ProxmoxCluster.parse({"metadata": {"name": "lab"}, "spec": self.spec})
        session = cast(Any, SimpleNamespace(inventory=inventory, client=SimpleNamespace(get=self.get)))
        self.member = Member(name="lab", cluster=cluster, session=session)
        self.fleet.put(self.member)

    async def get(self, path: tuple[str, ...], **params: object) -> list[dict[str, Any]]:
        """What is left of VMs that are gone: their tasks, and their backups."""
        if path[-1] == "tasks":
            return [{"id": str(vmid)} for vmid in self.tasks]
        return [{"volid": f"nas:backup/{vmid}", "vmid": vmid} for vmid in self.backups]

    async def next(self) -> int:
        return await self.fleet.next_vmid(self.member)


async def test_the_first_vmid_is_the_first_of_the_range_and_then_they_go_up():
    lab = Lab()
    assert [await lab.next() for _ in range(3)] == [100, 101, 102]


async def test_a_vmid_in_use_is_passed_over_whoever_uses_it():
    lab = Lab()
    lab.member.cursor = 100
    lab.guests |= {100: object(), 102: object()}
    lab.member.keys[103] = Key("ProxmoxVM", "shop", "web-1")
    assert [await lab.next() for _ in range(2)] == [101, 104]


async def test_the_cursor_is_written_before_a_vmid_of_its_block_is_handed_out():
    lab = Lab(end=9999)
    for _ in range(3 * CURSOR_BLOCK):
        assert await lab.next() < lab.kubernetes.cursor
    assert lab.kubernetes.writes == 3


async def test_the_rest_of_the_clusters_status_stays():
    lab = Lab(end=9999)
    await lab.next()
    assert lab.kubernetes.status == {"version": "9.2", "vmidCursor": 100 + CURSOR_BLOCK}


async def test_restarts_do_not_use_up_a_small_range():
    lab, handed = Lab(end=119), []
    for _ in range(5):
        handed.append(await lab.next())
        lab.restart()
    assert handed == sorted(set(handed))
    assert handed[-1] <= 110


async def test_a_range_that_was_lowered_is_used_from_its_start():
    lab = Lab(start=5000, end=5999)
    await lab.next()
    lab.spec["vmidRange"] = {"start": 100, "end": 199}
    lab.restart()
    assert await lab.next() == 100
    lab.restart()
    assert await lab.next() > 100


async def test_a_failed_write_hands_nothing_out_and_the_next_try_gets_the_same():
    lab = Lab()
    lab.kubernetes.fail = True
    with pytest.raises(Outdated):
        await lab.next()
    assert await lab.next() == 100


async def test_a_new_process_never_hands_out_a_vmid_again_even_of_vms_that_are_gone():
    lab = Lab()
    before = [await lab.next() for _ in range(20)]
    lab.restart()
    assert await lab.next() > max(before)


async def test_a_lost_cursor_is_rebuilt_from_what_is_there():
    lab = Lab()
    lab.guests |= {150: object(), 9000: object(), 5: object()}
    assert await lab.next() == 151


async def test_a_lost_cursor_passes_over_backups_and_tasks_of_vms_that_are_gone():
    lab = Lab()
    lab.backups |= {140, 9000}
    assert await lab.next() == 141
    lab = Lab()
    lab.tasks |= {130}
    assert await lab.next() == 131


async def test_a_cursor_that_is_recorded_needs_no_search():
    lab = Lab(status={"vmidCursor": 120})
    lab.backups |= {150}
    assert await lab.next() == 120


async def test_recorded_vms_count_too_when_the_inventory_does_not_show_them():
    lab = Lab()
    lab.kubernetes.put("ProxmoxVM", "web-1", "shop", status={"cluster": "lab", "vmid": 160})
    lab.kubernetes.put("ProxmoxVM", "web-2", "shop", status={"cluster": "other", "vmid": 170})
    lab.restart()
    assert lab.member.keys == {160: Key("ProxmoxVM", "shop", "web-1")}
    assert await lab.next() == 161


async def test_many_at_once_get_one_each():
    lab = Lab()
    handed = await asyncio.gather(*(lab.next() for _ in range(60)))
    assert sorted(handed) == list(range(100, 160))


async def test_an_exhausted_range_names_the_field_and_goes_on_once_widened():
    lab = Lab(end=101)
    assert [await lab.next() for _ in range(2)] == [100, 101]
    with pytest.raises(NeedsHuman, match=r"100-101 .* 102 .* spec\.vmidRange") as refused:
        await lab.next()
    assert refused.value.reason == "VMIDRangeExhausted"
    lab.spec["vmidRange"] = {"start": 100, "end": 120}
    lab.restart()
    assert 101 < await lab.next() <= 120


@given(st.lists(st.sampled_from(("next", "next", "restart", "fail", "lose a VM", "foreign")), max_size=40))
@settings(deadline=None, max_examples=60)
def test_no_vmid_is_ever_handed_out_twice(actions):
    async def live() -> list[int]:
        lab, handed = Lab(end=999), []
        for action in actions:
            match action:
                case "next":
                    try:
                        handed.append(await lab.next())
                    except Outdated:
                        continue
                    lab.guests[handed[-1]] = object()
                case "restart":
                    lab.restart()
                case "fail":
                    lab.kubernetes.fail = True
                case "lose a VM" if handed:
                    lab.guests.pop(handed[-1], None)
                case "foreign":
                    lab.guests[(handed[-1] if handed else 99) + 1] = "foreign"
        foreign = {vmid for vmid, guest in lab.guests.items() if guest == "foreign"}
        assert not foreign & set(handed)
        return handed

    handed = asyncio.run(live())
    assert handed == sorted(set(handed))


def cluster(lab: Lab, name: str, **spec: Any) -> None:
    lab.kubernetes.put("ProxmoxCluster", name, spec=lab.spec | spec)


def test_an_object_stays_with_the_cluster_that_its_status_names():
    lab = Lab()
    cluster(lab, "other", default=True)
    assert lab.fleet.resolve("lab", "other") is lab.member


def test_the_only_cluster_needs_no_name_and_of_several_the_default_is_taken():
    lab = Lab()
    assert lab.fleet.resolve(None, None) is lab.member
    cluster(lab, "other")
    with pytest.raises(NeedsHuman, match="2 ProxmoxClusters and none is marked default"):
        lab.fleet.resolve(None, None)
    cluster(lab, "lab", default=True)
    assert lab.fleet.resolve(None, None) is lab.member
    cluster(lab, "other", default=True)
    with pytest.raises(NeedsHuman, match="2 are marked default"):
        lab.fleet.resolve(None, None)


def test_a_cluster_that_is_not_there_is_named_and_one_that_is_not_connected_is_waited_for():
    lab = Lab()
    with pytest.raises(NeedsHuman, match=r"spec\.clusterRef\.name.* nowhere") as refused:
        lab.fleet.resolve(None, "nowhere")
    assert refused.value.reason == "ClusterNotFound"
    cluster(lab, "other")
    with pytest.raises(NotReadYet):
        lab.fleet.resolve(None, "other")


def test_a_cluster_is_used_by_objects_that_hold_on_to_it():
    lab = Lab()
    held = {"finalizers": [FINALIZER]}
    named = {"clusterRef": {"name": "lab"}}
    lab.kubernetes.put("ProxmoxVM", "made", "shop", metadata=held, status={"cluster": "lab"})
    lab.kubernetes.put("ProxmoxVM", "being-made", "shop", metadata=held, spec=named)
    lab.kubernetes.put(
        "ProxmoxVM", "elsewhere", "shop", metadata=held, status={"cluster": "other"}, spec=named
    )
    lab.kubernetes.put("ProxmoxVM", "not-begun", "shop", spec=named)
    assert sorted(lab.fleet.users("lab")) == ["shop/being-made", "shop/made"]


@pytest.mark.parametrize("deleted", [True, False])
def test_a_cluster_that_waits_to_be_deleted_is_woken_when_a_user_is_gone(deleted: bool):
    lab = Lab()
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}
    lab.kubernetes.put("ProxmoxCluster", "lab", spec=lab.spec, metadata={"finalizers": [FINALIZER], **going})
    lab.fleet.resolve("lab", None)
    lab.fleet.user_gone()
    assert lab.woken == (["lab"] if deleted else [])


@pytest.mark.parametrize(
    ("problem", "raised"),
    [
        (NeedsHuman("no Secret"), Waiting),
        (Waiting("paused"), Waiting),
        (Unreachable("no answer"), Unreachable),
    ],
)
def test_a_cluster_with_a_problem_cannot_be_worked_on_and_says_why(problem, raised):
    lab = Lab()
    assert lab.member.usable() is lab.member.session
    lab.member.problem = problem
    with pytest.raises(raised, match=problem.message):
        lab.member.usable()


def turns(lab: Lab, *names: str) -> list[Key]:
    """Keys of objects that are there, in a fleet of so many clusters that each works on one object at a time."""
    for other in ("other", "third"):
        lab.fleet.put(Member(name=other, cluster=lab.member.cluster))
    assert lab.fleet.share() == 1
    for name in names:
        lab.kubernetes.put("ProxmoxVM", name, "shop")
    return [Key("ProxmoxVM", "shop", name) for name in names]


def test_who_waits_longest_for_a_turn_is_woken_when_a_pass_ends():
    lab = Lab()
    first, second, third = turns(lab, "first", "second", "third")
    with lab.fleet.turn(lab.member, first) as ours:
        assert ours
        for key in (second, third):
            with lab.fleet.turn(lab.member, key) as ours:
                assert not ours
    assert lab.woken == ["second"]
    assert list(lab.member.queued) == [third]


def test_an_object_that_is_gone_leaves_nobody_waiting():
    lab = Lab()
    first, gone, third = turns(lab, "first", "gone", "third")
    with lab.fleet.turn(lab.member, first):
        for key in (gone, third):
            with lab.fleet.turn(lab.member, key):
                pass
        raw = lab.kubernetes.store.get(gone)
        assert raw is not None
        lab.kubernetes.store.remove("ProxmoxVM", raw)
    assert lab.woken == ["third"]


def test_an_object_that_has_had_its_turn_waits_for_none():
    lab = Lab()
    first, second = turns(lab, "first", "second")
    with lab.fleet.turn(lab.member, first), lab.fleet.turn(lab.member, second):
        assert list(lab.member.queued) == [second]
    lab.woken.clear()
    lab.member.queued[second] = None
    with lab.fleet.turn(lab.member, second) as ours:
        assert ours
    assert lab.woken == []
