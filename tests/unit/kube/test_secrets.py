"""A Secret is asked for rarely, its values are never shown, and what is missing is named."""

import base64

import pytest

from proxmox_operator.errors import NeedsHuman
from proxmox_operator.kube.client import Kube
from proxmox_operator.kube.secrets import SecretReader
from unit.kube.memory_api import MemoryApi


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def secret(**values: str) -> dict:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"metadata": {"name": "pve", "namespace": "ops"}, "data": data}


@pytest.fixture
def api() -> MemoryApi:
    return MemoryApi()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(api: MemoryApi, clock: Clock) -> SecretReader:
    return SecretReader(Kube(api), clock=clock)


async def test_a_secret_is_read_again_after_a_minute_or_when_it_did_not_work(
    api: MemoryApi, clock: Clock, reader: SecretReader
):
    api.put("secrets", secret(token="old"))
    await reader.get("ops", "pve")
    api.put("secrets", secret(token="new"))
    assert (await reader.get("ops", "pve")).get("token") == b"old"
    assert len(api.calls) == 1
    clock.now = 60
    second = await reader.get("ops", "pve")
    assert second.get("token") == b"new"
    api.put("secrets", secret(token="newest"))
    reader.invalidate("ops", "pve")
    assert (await reader.get("ops", "pve")).get("token") == b"newest"


async def test_a_missing_secret_says_where_to_create_it_and_is_found_once_it_is_there(
    api: MemoryApi, reader: SecretReader
):
    with pytest.raises(NeedsHuman, match="Secret ops/pve does not exist") as caught:
        await reader.get("ops", "pve")
    assert caught.value.reason == "SecretNotFound"
    api.put("secrets", secret(token="x"))
    assert (await reader.get("ops", "pve")).text("token") == "x"


async def test_a_missing_key_names_the_keys_and_no_value(api: MemoryApi, reader: SecretReader):
    api.put("secrets", secret(username="root@pam", password="", other="S3cr3t"))
    data = await reader.get("ops", "pve")
    with pytest.raises(NeedsHuman) as caught:
        data.require("username", "password")
    assert caught.value.reason == "SecretKeyMissing"
    assert caught.value.message == (
        "Secret ops/pve has no value for 'password' (needed: 'username', 'password')"
    )
    assert data.require("username", "other") == (b"root@pam", b"S3cr3t")


async def test_no_text_form_shows_a_value(api: MemoryApi, reader: SecretReader):
    api.put("secrets", secret(token="S3cr3t"))
    data = await reader.get("ops", "pve")
    shown = f"{data} {data!r} {[data]} {reader!r} {vars(reader)}"
    assert "S3cr3t" not in shown
    assert "token" in repr(data)
    assert "token" in data


async def test_a_value_that_is_no_text_is_refused_without_showing_it(api: MemoryApi, reader: SecretReader):
    api.put(
        "secrets", {"metadata": {"name": "pve", "namespace": "ops"}, "data": {"token": "//8=", "ok": "eCAK"}}
    )
    data = await reader.get("ops", "pve")
    assert data.text("ok") == "x"
    with pytest.raises(NeedsHuman, match="not UTF-8") as caught:
        data.text("token")
    assert caught.value.__cause__ is None


async def test_values_do_not_stay_in_memory_for_ever(api: MemoryApi, clock: Clock, reader: SecretReader):
    for number in range(3):
        raw = secret(token="x")
        raw["metadata"]["name"] = f"s{number}"
        api.put("secrets", raw)
        await reader.get("ops", f"s{number}")
        clock.now += 100
    assert list(reader._cache) == [("ops", "s2")]
