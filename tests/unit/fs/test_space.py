from __future__ import annotations

from pathlib import Path

import pytest
import trio

from synofs.content.spacenote import SpaceNote
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


async def test_a_mount_that_begins_without_the_nas_shows_what_an_earlier_one_knew(
    store: MemoryStore, tmp_path: Path
) -> None:
    await SpaceCache(store, None, SpaceNote(tmp_path / "space")).renew()
    cache = SpaceCache(store, None, SpaceNote(tmp_path / "space"))
    with store.fail("spaces", Unreachable("away")):
        await cache.renew()
    assert cache.last_known() == Space(10000, 61)


@pytest.mark.parametrize("kept", [b"", b"10000", b"10000 x\n", b"61 10000\n", b"-2 -3\n", b"9" * 42, b"1 1\n" * 20])
async def test_a_damaged_note_is_none(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "space").write_bytes(kept)
    assert SpaceNote(tmp_path / "space").load() is None


async def test_a_note_is_for_nobody_else_and_its_failure_for_nobody_at_all(tmp_path: Path) -> None:
    note = SpaceNote(tmp_path / "space")
    note.keep(Space(2**62, 2**61))
    note.keep(Space(7, 3))
    assert note.load() == Space(7, 3)
    assert (tmp_path / "space").stat().st_mode & 0o777 == 0o600
    link = SpaceNote(tmp_path / "link")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    link.keep(Space(7, 3))
    assert not (tmp_path / "elsewhere").exists()
    assert link.load() is None
