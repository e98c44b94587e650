from __future__ import annotations

import pytest
import trio

from synofs.fs.space import TTL_SECONDS, SpaceCache
from synofs.remote import Space, Unreachable
from tests.unit.memory_store import MemoryStore
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.spaces = {"a": Space(9000, 60), "b": Space(9000, 63), "c": Space(1000, 1), "silent": None}
    return store


async def test_the_volumes_of_the_shares_are_added_and_one_volume_counts_once(store: MemoryStore) -> None:
    cache = SpaceCache(store, lambda: ["a", "b", "c", "silent"])
    assert cache.last_known() == Space(0, 0)
    await cache.renew()
    assert cache.last_known() == Space(10000, 61)


async def test_volumes_of_one_size_are_told_apart_by_their_free_space(store: MemoryStore) -> None:
    store.spaces["b"] = Space(9000, 100)
    cache = SpaceCache(store, lambda: ["a", "b"])
    await cache.renew()
    assert cache.last_known() == Space(18000, 160)


async def test_an_answer_is_good_for_a_minute(store: MemoryStore) -> None:
    cache = SpaceCache(store, lambda: ["a"])
    assert cache.take_turn()
    assert not cache.take_turn()
    await trio.sleep(TTL_SECONDS + 1)
    assert cache.take_turn()


async def test_nobody_asks_while_no_share_is_known(store: MemoryStore) -> None:
    shares: list[str] = []
    cache = SpaceCache(store, lambda: shares)
    assert not cache.take_turn()
    shares.append("a")
    assert cache.take_turn()


@pytest.mark.parametrize("error", [Unreachable("no route"), ValueError("a bug")])
async def test_a_failure_keeps_the_last_answer(store: MemoryStore, error: Exception, expect_logs) -> None:
    if isinstance(error, ValueError):
        expect_logs("failed in a way nobody foresaw")
    cache = SpaceCache(store, lambda: ["a"])
    await cache.renew()
    with store.fail("space", error):
        await cache.renew()
    assert cache.last_known() == Space(9000, 60)


async def test_a_nas_that_does_not_say_keeps_the_last_answer(store: MemoryStore) -> None:
    cache = SpaceCache(store, lambda: ["a"])
    await cache.renew()
    store.spaces["a"] = None
    await cache.renew()
    assert cache.last_known() == Space(9000, 60)
