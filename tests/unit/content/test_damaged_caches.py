"""Caches whose databases are damaged: what is damaged is not known any more, never wrong, and not for ever."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from synofs.content.diskcache import DiskCache, DiskCacheOptions
from synofs.content.listingstore import ListingStore
from synofs.remote import Fingerprint, RemoteEntry, Rights

pytestmark = pytest.mark.trio

COUNT = 300
SEEDS = range(40)
MOUNTS = 5  # some damage shows only when a later one comes to it


def damage(database: Path, seed: int) -> None:
    """A page of nonsense, some bytes changed, or its end cut off."""
    rng = random.Random(seed)
    content = bytearray(database.read_bytes())
    if seed % 3 == 0:
        at = rng.randrange(len(content) // 4096) * 4096
        content[at : at + 4096] = rng.randbytes(4096)
    elif seed % 3 == 1:
        for _ in range(30):
            content[rng.randrange(len(content))] = rng.randrange(256)
    else:
        content = content[: rng.randrange(len(content))]
    database.write_bytes(content)


def settle(database: Path) -> None:
    """All in one file."""
    db = sqlite3.connect(database)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("PRAGMA journal_mode=DELETE")
    db.close()


# ----- bytes ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def disk_cache(folder: Path) -> AsyncIterator[DiskCache]:
    disk = DiskCache(folder, DiskCacheOptions(floor_bytes=0))
    async with trio.open_nursery() as nursery:
        await nursery.start(disk.run)
        yield disk
        with trio.fail_after(20):
            while disk._queued_bytes:  # noqa: ASYNC110 - the cache tells nobody that it has written everything
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()
    await disk.close()


def content_of(number: int) -> bytes:
    return bytes([number % 256]) * 1000


def version_of(number: int) -> Fingerprint:
    return Fingerprint(5000, 10**18 + number)


async def found(disk: DiskCache, number: int) -> bytes | None:
    file = await disk.find(f"/docs/folder/file {number}", version_of(number))
    if file is None or not file.stretches:
        return None
    data = await disk.read(file, file.stretches[0])
    return None if data is None else bytes(data)


async def fill(disk: DiskCache) -> None:
    for number in range(COUNT):
        disk.add(f"/docs/folder/file {number}", version_of(number), 0, memoryview(content_of(number)))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")

    async def make() -> None:
        async with disk_cache(folder) as disk:
            await fill(disk)

    trio.run(make)
    settle(folder / "index.db")
    return folder


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_disk_cache_with_a_damaged_index_is_right_or_empty_and_works_again(
    full: Path, tmp_path: Path, seed: int
) -> None:
    folder = tmp_path / "blocks"
    shutil.copytree(full, folder)
    damage(folder / "index.db", seed)
    for _ in range(MOUNTS):
        async with disk_cache(folder) as disk:
            contents = [await found(disk, number) for number in range(COUNT)]
            assert not disk._broken, "it is mended, not switched off"
            await fill(disk)
        assert all(content in (None, content_of(number)) for number, content in enumerate(contents))
        if all(contents):
            break
    assert all(contents)


# ----- listings ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def listing_store(path: Path) -> AsyncIterator[ListingStore]:
    store = ListingStore(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        yield store
        nursery.cancel_scope.cancel()
    await store.close()


def entries_of(number: int) -> list[RemoteEntry]:
    return [RemoteEntry(f"file {number} {n}", False, n, number, 0, 0, Rights.ALL) for n in range(20)]


@pytest.mark.parametrize("seed", SEEDS)
async def test_damaged_listings_are_right_or_not_known_and_kept_again(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "listings.db"
    async with listing_store(path) as store:
        for number in range(COUNT):
            store.keep(f"/docs/{number}", entries_of(number))
    settle(path)
    damage(path, seed)
    for _ in range(MOUNTS):
        async with listing_store(path) as store:
            known = [await store.find(f"/docs/{number}") for number in range(COUNT)]
            for number in range(COUNT):
                store.keep(f"/docs/{number}", entries_of(number))
        if seed % 3 == 2:  # bytes that were changed within a name are names, too
            assert all(listing in (None, entries_of(number)) for number, listing in enumerate(known))
        if known == [entries_of(number) for number in range(COUNT)]:
            return
    raise AssertionError("it is not mended")
