"""Whose a VM is: the mark goes through any text unharmed, and nothing that only resembles it counts."""

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxmox_operator.planning.identity import (
    Claim,
    Mark,
    Owner,
    claim,
    owner,
    read_mark,
    render_description,
    render_tombstone,
    signs_of,
    user_text,
)
from unit.planning.make import MARK, UUID

ANY = st.text(max_size=80)
MARKS = st.builds(
    Mark,
    cluster_id=ANY,
    namespace_uid=ANY,
    namespace=ANY,
    name=ANY,
    uid=ANY,
    vmid=st.integers(100, 999_999_999),
    uuid=st.uuids().map(str),
)
LOOKALIKES = (
    "<!-- proxmox-operator {} -->",
    "<!-- proxmox-operator {not json} -->",
    "<!-- proxmox-operator {",
    "<!-- proxmox-operator released -->",
    '<!-- proxmox-operator {"vmid":10000} -->',
    "<!-- proxmox-operator",
    "} -->",
)
PEOPLE = st.lists(st.one_of(st.text(max_size=40), st.sampled_from(LOOKALIKES)), max_size=4).map("\n".join)


@given(MARKS, PEOPLE)
@settings(deadline=None)
def test_a_mark_of_any_content_is_read_back_from_among_any_text(mark, text):
    assert read_mark(render_description(mark, text)) == mark


@given(MARKS, PEOPLE)
@settings(deadline=None)
def test_what_a_person_wrote_is_still_there_beside_the_mark(mark, text):
    described = render_description(mark, text)
    assert user_text(described) == text.lstrip("\n").rstrip()


@given(MARKS, PEOPLE, MARKS)
@settings(deadline=None)
def test_writing_the_mark_anew_leaves_exactly_one(mark, text, newer):
    again = render_description(newer, user_text(render_description(mark, text)))
    assert read_mark(again) == newer
    assert again == render_description(newer, text.lstrip("\n"))


@given(MARKS)
def test_a_mark_never_ends_its_comment_early(mark):
    comment = render_description(mark, "")
    assert comment.index("-->") == len(comment) - 3
    assert "--" not in comment[4:-3]


@given(MARKS, PEOPLE)
@settings(deadline=None)
def test_a_tombstone_is_no_mark_and_leaves_the_text(mark, text):
    buried = render_tombstone(render_description(mark, text), mark)
    assert read_mark(buried) is None
    assert user_text(buried).startswith(text.lstrip("\n").rstrip())


def test_the_tombstone_of_an_earlier_owner_is_no_text_of_a_person_and_never_piles_up():
    buried = render_tombstone(render_description(MARK, "notes"), MARK)
    again = render_description(replace(MARK, name="a--b"), user_text(buried))
    assert user_text(buried) == user_text(again) == "notes"
    assert render_tombstone(again, MARK) == buried


@pytest.mark.parametrize(
    "name", ["a--b", "a---b", "web-1", "------", "<!--", "-->", "Ünï\u2013cødé\u2028", '"}']
)
def test_names_with_dashes_quotes_and_unicode_go_round(name):
    mark = replace(MARK, name=name)
    assert read_mark(render_description(mark, "notes -- with dashes")) == mark


@pytest.mark.parametrize("between", ["\n\n", " ", ""])
@pytest.mark.parametrize("lookalike", LOOKALIKES)
def test_a_lookalike_before_the_mark_neither_hides_it_nor_is_lost(lookalike, between):
    described = f"{lookalike}{between}{render_description(MARK, '')}\n"
    assert read_mark(described) == MARK
    assert user_text(described) == lookalike


VALUES: tuple[object, ...] = (None, 5, True, "10000", [], {}, 1.5)
FORGED: list[tuple[str, object]] = [
    (key, value) for key, good in asdict(MARK).items() for value in VALUES if type(value) is not type(good)
]


@pytest.mark.parametrize(("key", "value"), FORGED)
def test_a_mark_with_a_field_of_another_type_is_no_mark(key, value):
    fields = asdict(MARK) | {key: value}
    forged = f"<!-- proxmox-operator {json.dumps(fields)} -->"
    assert read_mark(forged) is None
    verdict = owner(MARK, signs_of({"description": forged}), lock=None)
    assert verdict is Owner.FOREIGN


def test_deeply_nested_text_in_a_mark_is_only_text():
    assert read_mark('<!-- proxmox-operator {"a":' + "[" * 7000 + "]" * 7000 + "} -->") is None


def of(mark: Mark | None, *, uuid: str | None = None, lock: str | None = None, text: str = "") -> Owner:
    description = render_description(mark, text) if mark is not None else text
    config = {"description": description} | ({"smbios1": f"uuid={uuid},base64=1"} if uuid else {})
    return owner(MARK, signs_of(config), lock=lock)


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        pytest.param(of(MARK), Owner.OURS, id="our mark, no UUID yet: the clone carried it"),
        pytest.param(of(MARK, uuid="other"), Owner.OURS, id="the mark decides, not the UUID"),
        pytest.param(of(MARK, lock="clone"), Owner.OURS, id="our mark on a VM that is being cloned"),
        pytest.param(of(replace(MARK, uuid=UUID.upper())), Owner.OURS, id="a UUID in capitals is the same"),
        pytest.param(of(replace(MARK, vmid=10001)), Owner.FOREIGN, id="a copy made by a GUI clone"),
        pytest.param(of(replace(MARK, vmid=10001), uuid=UUID), Owner.FOREIGN, id="a restore to another VMID"),
        pytest.param(of(replace(MARK, uid="uid-2")), Owner.OURS, id="the object restored with its status"),
        pytest.param(
            of(replace(MARK, uid="uid-2", name="x")), Owner.FOREIGN, id="the mark of another object"
        ),
        pytest.param(
            of(replace(MARK, uid="uid-2", namespace_uid="x")), Owner.FOREIGN, id="a mark of another namespace"
        ),
        pytest.param(of(replace(MARK, uuid="0")), Owner.FOREIGN, id="the mark of an earlier VM on this VMID"),
        pytest.param(of(None, uuid=UUID), Owner.UNMARKED, id="the mark lost in an edit, the UUID ours"),
        pytest.param(of(None, uuid=UUID.upper()), Owner.UNMARKED, id="the same with a UUID in capitals"),
        pytest.param(of(None, uuid="other"), Owner.FOREIGN, id="no mark and another UUID"),
        pytest.param(of(None), Owner.FOREIGN, id="nothing of ours at all"),
        pytest.param(of(None, lock="clone"), Owner.PENDING, id="a stub that is being cloned"),
        pytest.param(of(None, lock="create"), Owner.PENDING, id="a stub that is being restored"),
        pytest.param(of(None, lock="backup"), Owner.FOREIGN, id="any other lock proves nothing"),
        pytest.param(
            of(replace(MARK, uid="x", name="x"), lock="clone"), Owner.FOREIGN, id="somebody else's stub"
        ),
    ],
)
def test_whose_a_vm_is(case, verdict):
    assert case is verdict


def test_a_buried_vm_is_known_by_its_uuid_but_never_found_by_a_mark():
    buried = render_tombstone(render_description(MARK, "notes"), MARK)
    assert of(None, text=buried, uuid=UUID) is Owner.UNMARKED
    assert read_mark(buried) is None


@pytest.mark.parametrize(
    ("changed", "standing_on", "verdict"),
    [
        pytest.param({}, 10000, Claim.TAKE, id="same cluster, namespace and name: the status was lost"),
        pytest.param({"uid": "new"}, 10000, Claim.TAKE, id="the object was applied anew"),
        pytest.param({"namespace_uid": "new"}, 10000, Claim.GRANT, id="a new tenant under the same name"),
        pytest.param({"cluster_id": "new"}, 10000, Claim.GRANT, id="a disaster move to another cluster"),
        pytest.param({"name": "web-2"}, 10000, Claim.NONE, id="another object's"),
        pytest.param({"namespace": "other"}, 10000, Claim.NONE, id="another namespace's"),
        pytest.param({}, 10001, Claim.NONE, id="a copy on another VMID"),
        pytest.param({"cluster_id": "new"}, 10001, Claim.NONE, id="a copy from another cluster"),
    ],
)
def test_who_may_claim_a_marked_vm(changed, standing_on, verdict):
    found = replace(MARK, **changed)
    asked = claim(
        found,
        standing_on=standing_on,
        cluster_id="k8s-1",
        namespace_uid="ns-1",
        namespace="shop",
        name="web-1",
    )
    assert asked is verdict
