"""Answers are asked for once, shared, and no older than they may be."""

import asyncio

import pytest

from proxmox_operator.proxmox.cache import Remembered


class Source:
    """Counts how often it is read; ``now`` is its clock."""

    def __init__(self) -> None:
        self.now = 100.0
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.cache: Remembered[str, int] = Remembered(self.read, seconds=60.0, clock=lambda: self.now)

    async def read(self, key: str) -> int:
        self.reads += 1
        number = self.reads
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return number

    async def get(self, key: str = "a") -> int:
        return await self.cache.get(key)


async def test_a_forgotten_answer_is_asked_for_anew():
    source = Source()
    assert await source.get() == 1
    source.cache.forget()
    assert await source.get() == 2


async def test_an_answer_on_its_way_when_everything_is_forgotten_is_not_remembered():
    source = Source()
    source.gate.clear()
    asking = asyncio.create_task(source.get())
    await asyncio.sleep(0)
    assert source.reads == 1
    source.cache.forget()
    source.gate.set()
    assert await asking == 1
    assert await source.get() == 2


async def test_an_answer_is_remembered_for_its_time_and_not_longer():
    source = Source()
    assert await source.get() == 1
    source.now += 59.9
    assert await source.get() == 1
    source.now += 0.1
    assert await source.get() == 2


async def test_keys_are_remembered_apart():
    source = Source()
    assert [await source.get("a"), await source.get("b"), await source.get("a")] == [1, 2, 1]


async def test_many_who_ask_at_once_cause_one_read():
    source = Source()
    source.gate.clear()
    asked = [asyncio.create_task(source.get()) for _ in range(50)]
    await asyncio.sleep(0)
    source.gate.set()
    assert await asyncio.gather(*asked) == [1] * 50


async def test_an_error_is_not_remembered():
    source = Source()
    source.error = ValueError("down")
    with pytest.raises(ValueError, match="down"):
        await source.get()
    source.error = None
    assert await source.get() == 2


async def test_the_age_counts_from_the_question_not_from_the_answer():
    source = Source()
    source.gate.clear()
    asked = asyncio.create_task(source.get())
    await asyncio.sleep(0)
    source.now += 50
    source.gate.set()
    await asked
    source.now += 11
    assert await source.get() == 2


async def test_who_gives_up_waiting_blocks_nobody():
    source = Source()
    source.gate.clear()
    impatient = asyncio.create_task(source.get())
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    source.gate.set()
    assert await source.get() == 2
