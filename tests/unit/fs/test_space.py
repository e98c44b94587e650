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
    store.capacities = {"a": Space(9000, 60), "b": Space(9000, 63), "c": Space(1000, 1), "silent": None}
    return store


async def test_the_volumes_of_the_shares_are_added_and_one_volume_counts_once(store: MemoryStore) -> None:
    cache = SpaceCache(store, None)
    assert cache.last_known() == Space(0, 0)
    await cache.renew()
    assert cache.last_known() == Space(10000, 61)


async def test_volumes_of_one_size_are_told_apart_by_their_free_space(store: MemoryStore) -> None:
    store.capacities = {"a": Space(9000, 60), "b": Space(9000, 100)}
    cache = SpaceCache(store, None)
    await cache.renew()
    assert cache.last_known() == Space(18000, 160)


async def test_an_answer_is_good_for_a_minute(store: MemoryStore) -> None:
    cache = SpaceCache(store, "a")
    assert cache.take_turn()
    assert not cache.take_turn()
    await trio.sleep(TTL_SECONDS + 1)
    assert cache.take_turn()


async def test_what_the_nas_said_beside_something_else_is_not_asked_for_again(store: MemoryStore) -> None:
    cache = SpaceCache(store, "c")
    cache.learn(await store.spaces())
    assert cache.last_known() == Space(1000, 1)
    assert not cache.take_turn()
    await trio.sleep(TTL_SECONDS + 1)
    assert cache.take_turn()


@pytest.mark.parametrize("error", [Unreachable("no route"), ValueError("a bug")])
async def test_a_failure_keeps_the_last_answer(store: MemoryStore, error: Exception, expect_logs) -> None:
    if isinstance(error, ValueError):
        expect_logs("failed in a way nobody foresaw")
    cache = SpaceCache(store, "a")
    await cache.renew()
    with store.fail("spaces", error):
        await cache.renew()
    assert cache.last_known() == Space(9000, 60)


async def test_a_nas_that_does_not_say_keeps_the_last_answer(store: MemoryStore) -> None:
    cache = SpaceCache(store, "a")
    await cache.renew()
    store.capacities["a"] = None
    await cache.renew()
    assert cache.last_known() == Space(9000, 60)
