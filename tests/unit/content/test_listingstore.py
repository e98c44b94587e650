"""Stored listings may lose anything, but never bring back what was said to be true no more."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from synofs.content.listingstore import ListingStore
from synofs.remote import RemoteEntry, Rights

pytestmark = pytest.mark.trio

FILE = RemoteEntry("file", False, 1, 10**9, 10**9, 10**9, Rights(0))


async def killed(folder: Path, use: Callable[[ListingStore], None]) -> None:
    """Use a store that writes nothing more after `use`, as when its process is killed."""
    store = ListingStore(folder / "listings.db")
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        use(store)
        nursery.cancel_scope.cancel()


async def kept(folder: Path, *paths: str) -> None:
    store = ListingStore(folder / "listings.db")
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        for path in paths:
            store.keep(path, [FILE])
        nursery.cancel_scope.cancel()
    await store.close()


async def known(folder: Path, *paths: str) -> list[bool]:
    store = ListingStore(folder / "listings.db")
    found = [await store.knows(path) for path in paths]
    await store.close()
    return found


async def test_what_is_forgotten_stays_so_when_the_process_is_killed_at_once(tmp_path: Path) -> None:
    await kept(tmp_path, "/s/a", "/s/a/below", "/s/b", "/s/b/below", "/s/b-side", "/s/\udcff", "/")
    await killed(tmp_path, lambda store: (store.forget("/s/a"), store.forget("/s/\udcff"), store.forget_tree("/s/b")))
    paths = ["/s/a", "/s/a/below", "/s/b", "/s/b/below", "/s/b-side", "/s/\udcff", "/"]
    for _ in range(2):
        assert await known(tmp_path, *paths) == [False, True, False, False, True, False, True]


async def test_what_was_kept_after_it_was_forgotten_is_known(tmp_path: Path) -> None:
    await kept(tmp_path, "/s/a", "/s/b")
    store = ListingStore(tmp_path / "listings.db")
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        store.forget_tree("/s")
        store.keep("/s/a", [FILE])
        assert await store.knows("/s/a")
        assert not await store.knows("/s/b")
        nursery.cancel_scope.cancel()
    await store.close()
    assert await known(tmp_path, "/s/a", "/s/b") == [True, False]
    assert (tmp_path / "listings.db-marks").stat().st_size == 0


async def test_what_could_not_be_forgotten_in_time_is_forgotten_later(tmp_path: Path) -> None:
    await kept(tmp_path, "/s/a", "/s/b")
    store = ListingStore(tmp_path / "listings.db")
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        assert store._db is not None
        store._db.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(tmp_path / "listings.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        store.forget("/s/a")
        await trio.testing.wait_all_tasks_blocked(0.05)
        other.execute("ROLLBACK")
        other.close()
        store.forget("/s/b")
        nursery.cancel_scope.cancel()
    await store.close()
    assert await known(tmp_path, "/s/a", "/s/b") == [False, False]


async def test_when_the_disk_is_too_full_to_mark_it_nothing_is_known_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    await kept(tmp_path, "/s/a", "/s/b")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        await killed(tmp_path, lambda store: store.forget("/s/a"))
    assert await known(tmp_path, "/s/a", "/s/b") == [False, False]
