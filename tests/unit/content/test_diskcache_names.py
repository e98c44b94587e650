"""The disk cache and odd names; and that its trouble is never a read's trouble."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from synofs.content.diskcache import DiskCache, DiskCacheOptions
from synofs.content.reader import Reader, ReaderOptions
from synofs.fs.names import remote_name
from tests.trees import NOT_UTF8_NAMES, ODD_NAMES
from tests.unit.memory_store import MemoryStore

pytestmark = pytest.mark.trio


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    for name in ODD_NAMES + NOT_UTF8_NAMES:
        store.file("/s/" + remote_name(name), b"content of " + name)
    return store


async def read_all(store: MemoryStore, disk: DiskCache) -> None:
    async with trio.open_nursery() as nursery:
        reader = Reader(store, ReaderOptions(), disk)
        await nursery.start(reader.run)
        for number, path in enumerate(path for path in store.nodes if path != "/"):
            file = reader.open(number, store.version(path), lambda path=path: path)
            assert await file.read(0, 1000) == store.nodes[path].content
            file.close()
        with trio.fail_after(10):
            while disk._queued_bytes:  # noqa: ASYNC110 - the cache tells nobody that it has written everything
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()


async def test_every_name_is_cached_over_a_remount(store: MemoryStore, tmp_path: Path) -> None:
    for _ in range(2):
        disk = DiskCache(tmp_path, DiskCacheOptions(floor_bytes=0))
        await read_all(store, disk)
        await disk.close()
    assert store.count("read_range") == len(ODD_NAMES + NOT_UTF8_NAMES)


async def test_an_error_in_the_cache_that_nobody_foresaw_fails_no_read(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect_logs
) -> None:
    expect_logs("failed in a way nobody foresaw and is switched off")

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("a bug")

    disk = DiskCache(tmp_path, DiskCacheOptions(floor_bytes=0))
    monkeypatch.setattr(disk._store, "find", broken)
    await read_all(store, disk)
    await disk.close()
