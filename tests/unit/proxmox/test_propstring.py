"""Property strings are read and written as Proxmox does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxmox_operator.planning.propstring import (
    parse_flag,
    parse_props,
    parse_tags,
    render_props,
)

KEYS = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
VALUES = st.text(
    alphabet=st.characters(codec="ascii", exclude_characters=",", categories=["L", "N", "P", "S"]), min_size=1
)
PROPS = st.dictionaries(KEYS, VALUES, max_size=5)


@given(PROPS)
def test_what_is_written_is_read_back_the_same(props):
    assert parse_props(render_props(props, None), None) == props


@given(PROPS, VALUES)
def test_the_default_key_survives_too_whatever_its_value_looks_like(props, value):
    everything = {"file": value, **props}
    assert parse_props(render_props(everything, "file"), "file") == everything


@given(st.text())
def test_any_text_can_be_read(text):
    parse_props(text, "file")
    parse_tags(text)


def test_a_disk_is_read_with_its_volume_under_the_default_key():
    text = "local-lvm:vm-100-disk-0,size=8G,ssd=1"
    assert parse_props(text, "file") == {"file": "local-lvm:vm-100-disk-0", "size": "8G", "ssd": "1"}
    assert render_props(parse_props(text, "file"), "file") == text


def test_a_volume_with_an_equals_sign_is_one_value():
    assert parse_props("local:iso/a=b.iso,media=cdrom", "file") == {
        "file": "local:iso/a=b.iso",
        "media": "cdrom",
    }


def test_the_default_key_may_be_written_out():
    assert parse_props("enabled=1,fstrim_cloned_disks=1", "enabled") == {
        "enabled": "1",
        "fstrim_cloned_disks": "1",
    }


def test_padding_of_base64_stays_part_of_the_value():
    assert parse_props("uuid=x,serial=YQ==,base64=1", None)["serial"] == "YQ=="


@pytest.mark.parametrize("value", ["a,b", "", " a", "a\nb", "a\x00"])
def test_a_value_that_would_be_read_back_differently_is_refused(value):
    with pytest.raises(ValueError, match="serial"):
        render_props({"serial": value}, None)


def test_a_bad_key_is_refused():
    with pytest.raises(ValueError, match="not a key"):
        render_props({"a,b": "1"}, None)


@pytest.mark.parametrize("text", ["1", "on", "yes", "true", "True", "ON"])
def test_the_four_ways_to_say_yes(text):
    assert parse_flag(text) is True


@pytest.mark.parametrize("text", ["0", "off", "no", "false"])
def test_the_four_ways_to_say_no(text):
    assert parse_flag(text) is False


def test_anything_else_is_no_boolean():
    with pytest.raises(ValueError, match="boolean"):
        parse_flag("maybe")


def test_tags_compare_equal_however_they_are_separated_or_ordered():
    assert parse_tags("web;Shop, db web") == parse_tags("db;shop;web") == ("db", "shop", "web")
