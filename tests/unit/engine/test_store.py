"""The newest version wins, whatever order answers and watch events arrive in, and the dead stay dead."""

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from proxmox_operator.engine.queue import Key
from proxmox_operator.engine.store import ObjectStore

KIND = "ProxmoxVM"
WEB = Key(KIND, "shop", "web")


def vm(
    version: int, *, uid: str = "u1", name: str = "web", namespace: str = "shop", **more: Any
) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": str(version)}
    return {"kind": KIND, "metadata": metadata | more.pop("metadata", {}), **more}


def test_a_late_event_does_not_undo_the_answer_to_our_own_write():
    store = ObjectStore()
    assert store.apply(KIND, vm(9, status={"vmid": None}))
    assert store.apply(KIND, vm(10, status={"vmid": 101}))
    assert not store.apply(KIND, vm(9, status={"vmid": None}))
    assert not store.apply(KIND, vm(10, status={"vmid": 101}))
    known = store.get(WEB)
    assert known is not None
    assert known["status"] == {"vmid": 101}


def test_versions_are_compared_as_numbers():
    store = ObjectStore()
    store.apply(KIND, vm(9))
    assert store.apply(KIND, vm(10))


def test_an_answer_that_arrives_after_the_deletion_does_not_bring_the_object_back():
    store = ObjectStore()
    store.apply(KIND, vm(5))
    store.remove(KIND, vm(7))
    assert not store.apply(KIND, vm(6))
    assert store.get(WEB) is None


def test_the_deletion_of_an_older_object_leaves_a_newer_one_of_the_same_name():
    store = ObjectStore()
    store.apply(KIND, vm(5, uid="old"))
    assert store.apply(KIND, vm(8, uid="new"))
    store.remove(KIND, vm(7, uid="old"))
    known = store.get(WEB)
    assert known is not None
    assert known["metadata"]["uid"] == "new"


def test_a_list_removes_what_went_unseen_and_keeps_what_is_newer_than_the_list():
    store = ObjectStore()
    store.apply(KIND, vm(3, uid="a", name="gone"))
    store.apply(KIND, vm(4, uid="b", name="same"))
    store.apply(KIND, vm(5, uid="c", name="changed"))
    store.apply(KIND, vm(21, uid="d", name="newer"))
    items = [vm(4, uid="b", name="same"), vm(15, uid="c", name="changed"), vm(16, uid="e", name="missed")]
    assert not store.listed(KIND)
    changed = store.replace(KIND, items, resource_version="20")
    assert {key.name for key in changed} == {"gone", "changed", "missed"}
    assert {raw["metadata"]["name"] for raw in store.list(KIND)} == {"same", "changed", "newer", "missed"}
    assert store.listed(KIND)


def test_listing_goes_by_kind():
    store = ObjectStore()
    store.apply(KIND, vm(1, uid="a"))
    store.apply(KIND, vm(2, uid="b", namespace="lab"))
    store.apply("ProxmoxCluster", {"metadata": {"name": "lab", "uid": "c", "resourceVersion": "3"}})
    assert len(store.list(KIND)) == 2
    assert store.get(Key("ProxmoxCluster", "", "lab")) is not None
    assert store.list("VMTemplate") == []
    store.replace("ProxmoxCluster", [], resource_version="1")
    assert store.listed("ProxmoxCluster")
    assert not store.listed(KIND)


def test_what_nobody_reads_is_not_kept_and_what_is_given_is_not_changed():
    applied = "kubectl.kubernetes.io/last-applied-configuration"
    given_raw = vm(
        1,
        metadata={"managedFields": [{"manager": "kubectl"}], "annotations": {applied: "{...}", "keep": "1"}},
        spec={
            "disks": [{"name": "data", "managedFields": "a field of that name in a spec is somebody's own"}]
        },
    )
    before = copy.deepcopy(given_raw)
    store = ObjectStore()
    store.apply(KIND, given_raw)
    known = store.get(WEB)
    assert known is not None
    assert "managedFields" not in known["metadata"]
    assert known["metadata"]["annotations"] == {"keep": "1"}
    assert known["spec"] == before["spec"]
    assert given_raw == before


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from(["u1", "u2"]), st.integers(1, 30)), min_size=1, max_size=30
    )
)
def test_in_any_order_the_store_ends_with_the_newest_version_of_an_object_that_lives(
    events: list[tuple[bool, str, int]],
):
    """u1 lives in versions 1-15, u2 in 16-30; a removal says that this incarnation is gone."""
    told = [(gone, uid, version if uid == "u1" else version + 30) for gone, uid, version in events]
    store = ObjectStore()
    for gone, uid, version in told:
        if gone:
            store.remove(KIND, vm(version, uid=uid))
        else:
            store.apply(KIND, vm(version, uid=uid))
    dead = {uid for gone, uid, _ in told if gone}
    known = store.get(WEB)
    if known is not None:
        assert known["metadata"]["uid"] not in dead
    alive = [version for gone, uid, version in told if not gone and uid not in dead]
    newest_overall = max((version for gone, _, version in told if not gone), default=None)
    if alive and max(alive) == newest_overall:
        assert known is not None
        assert known["metadata"]["resourceVersion"] == str(newest_overall)
