"""The disk cache: what comes out of it is what was put in, or nothing; whatever happened to the disk in between."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from synofs.content.blockstore import BlockStore, CachedFile
from synofs.content.diskcache import DiskCache, DiskCacheOptions
from synofs.remote import Fingerprint
from tests.trees import revealing

pytestmark = pytest.mark.trio

KIB = 1024
VERSION = Fingerprint(300 * KIB, 1_700_000_000 * 10**9)
CONTENT = revealing(300 * KIB)
PIECE = 100 * KIB
FILES = 12
DAMAGE = random.Random(4)


def path_of(number: int) -> str:
    return f"/s/file {number}"


def content_of(number: int) -> bytes:
    """Of one size and time for all, so that nothing but the content tells files apart."""
    return CONTENT[number:] + CONTENT[:number]


@asynccontextmanager
async def mounted(folder: Path, max_bytes: int = 1 << 30, floor_bytes: int = 0) -> AsyncIterator[DiskCache]:
    disk = DiskCache(folder, DiskCacheOptions(max_bytes=max_bytes, floor_bytes=floor_bytes))
    async with trio.open_nursery() as nursery:
        await nursery.start(disk.run)
        yield disk
        nursery.cancel_scope.cancel()
    await disk.close()


async def put(disk: DiskCache, numbers: range = range(FILES), version: Fingerprint = VERSION) -> None:
    for number in numbers:
        for start in range(0, version.size, PIECE):
            data = content_of(number)[start : min(start + PIECE, version.size)]
            disk.add(path_of(number), version, start, memoryview(data))
        await written(disk)


def write_here(folder: Path, content: bytes = CONTENT) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "staged").write_bytes(content)
    return str(folder / "staged")


async def taken(folder: Path) -> None:
    with trio.fail_after(10):
        while os.listdir(folder / "incoming"):  # noqa: ASYNC110 - as above
            await trio.sleep(0.002)


async def written(disk: DiskCache) -> None:
    with trio.fail_after(10):
        while disk._queued_bytes:  # noqa: ASYNC110 - the cache tells nobody that it has written everything
            await trio.sleep(0.002)


async def got(disk: DiskCache, number: int, version: Fingerprint = VERSION) -> int:
    """How many bytes of the file come out; each of them must be right."""
    file = await disk.find(path_of(number), version)
    return 0 if file is None else await read(disk, file, content_of(number))


async def read(disk: DiskCache, file: CachedFile, content: bytes) -> int:
    count = 0
    for stretch in list(file.stretches):
        data = await disk.read(file, stretch)
        if data is not None:
            assert data == content[stretch.start : stretch.start + stretch.length]
            count += len(data)
    return count


def data_files(folder: Path) -> list[Path]:
    return [path for path in (folder / "data").rglob("*") if path.is_file()]


async def nothing_is_left_over(folder: Path, files: int) -> None:
    with trio.fail_after(20):
        while len(data_files(folder)) != files:  # noqa: ASYNC110 - what is left over is removed by and by
            await trio.sleep(0.01)


async def test_what_was_cached_is_there_after_a_remount(tmp_path: Path) -> None:
    async with mounted(tmp_path) as disk:
        await put(disk)
        used = disk.bytes_used
    async with mounted(tmp_path) as disk:
        assert [await got(disk, number) for number in range(FILES)] == [VERSION.size] * FILES
        assert disk.bytes_used == used >= FILES * VERSION.size


async def test_another_version_of_a_file_is_not_served_and_takes_the_old_ones_place(tmp_path: Path) -> None:
    async with mounted(tmp_path) as disk:
        await put(disk, range(1))
        for other in (VERSION._replace(mtime_ns=VERSION.mtime_ns + 10**9), VERSION._replace(size=VERSION.size - 1)):
            assert await got(disk, 0, other) == 0
        assert await got(disk, 0) == 0, "it was replaced on the NAS, and may only come back by chance"
        await nothing_is_left_over(tmp_path, 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: os.truncate(path, 150 * KIB),
        lambda path: os.truncate(path, 0),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.parent.rmdir()),
        lambda path: flip(path, path.stat().st_size // 2),
    ],
    ids=["zeroed", "cut", "emptied", "removed", "a folder", "with its folder", "a bit"],
)
async def test_damaged_bytes_are_missing_and_come_back_when_they_are_read_again(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    async with mounted(tmp_path) as disk:
        await put(disk, range(1))
    for path in data_files(tmp_path):
        damage(path)
    async with mounted(tmp_path) as disk:
        assert await got(disk, 0) < VERSION.size
        for path in (tmp_path / "data").rglob("*"):
            if path.is_dir() and len(path.name) > 2:
                path.rmdir()
        used = disk.bytes_used
        await put(disk, range(1))
        assert await got(disk, 0) == VERSION.size
        assert used < disk.bytes_used < VERSION.size + 16 * KIB, "what is damaged does not count twice"


async def test_data_files_that_change_places_are_missing(tmp_path: Path) -> None:
    async with mounted(tmp_path) as disk:
        await put(disk, range(2))
    one, other = data_files(tmp_path)
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)
    async with mounted(tmp_path) as disk:
        assert [await got(disk, number) for number in range(2)] == [0, 0]


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ (1 << DAMAGE.randrange(8))]))


async def usable(folder: Path) -> None:
    """Nothing wrong comes out; and the cache caches, at the latest after a remount."""
    for _ in range(2):
        async with mounted(folder) as disk:
            for number in range(FILES):
                await got(disk, number)
            await put(disk)
            for number in range(FILES):
                await got(disk, number)
    async with mounted(folder) as disk:
        assert [await got(disk, number) for number in range(FILES)] == [VERSION.size] * FILES
        await nothing_is_left_over(folder, FILES)


@pytest.mark.parametrize("part", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
async def test_an_index_that_was_cut_is_made_anew_and_what_it_named_is_removed(tmp_path: Path, part: float) -> None:
    async with mounted(tmp_path) as disk:
        await put(disk)
    index = tmp_path / "index.db"
    os.truncate(index, int(index.stat().st_size * part))
    await usable(tmp_path)


async def test_an_index_that_is_lost_leaves_nothing_behind(tmp_path: Path) -> None:
    async with mounted(tmp_path) as disk:
        await put(disk)
    (tmp_path / "index.db").unlink()
    async with mounted(tmp_path) as disk:
        assert await got(disk, 0) == 0
        await nothing_is_left_over(tmp_path, 0)
        assert disk.bytes_used == 0


@pytest.mark.parametrize("seed", range(8))
async def test_an_index_with_wrong_bytes_never_gives_wrong_content(tmp_path: Path, seed: int) -> None:
    async with mounted(tmp_path) as disk:
        await put(disk)
    where = random.Random(seed)
    index = tmp_path / "index.db"
    for _ in range(where.choice([1, 10, 200])):
        flip(index, where.randrange(index.stat().st_size))
    await usable(tmp_path)


async def test_an_index_whose_rows_point_to_each_others_files_never_gives_wrong_content(tmp_path: Path) -> None:
    async with mounted(tmp_path) as disk:
        await put(disk, range(2))
    db = sqlite3.connect(tmp_path / "index.db")
    with db:
        db.execute("UPDATE files SET path = CAST(? AS BLOB) WHERE path = CAST(? AS BLOB)", ["aside", path_of(0)])
        db.execute("UPDATE files SET path = CAST(? AS BLOB) WHERE path = CAST(? AS BLOB)", [path_of(0), path_of(1)])
        db.execute("UPDATE files SET path = CAST(? AS BLOB) WHERE path = 'aside'", [path_of(1)])
    db.close()
    async with mounted(tmp_path) as disk:
        assert await got(disk, 0) == 0


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE TABLE files (id TEXT PRIMARY KEY, path TEXT, size INTEGER, mtime_ns INTEGER, used_at REAL)",
        "CREATE TABLE files (id TEXT PRIMARY KEY, path BLOB, size INTEGER, mtime_ns INTEGER, used_at REAL, more TEXT)",
        "CREATE TABLE stretches (file TEXT, start INTEGER, length INTEGER, sha256 BLOB)",
        "PRAGMA user_version = 77",
    ],
)
async def test_an_index_of_another_release_is_made_anew(tmp_path: Path, schema: str) -> None:
    (tmp_path / "data" / "ab").mkdir(parents=True)
    (tmp_path / "data" / "ab" / "abcdef").write_bytes(b"of another release")
    db = sqlite3.connect(tmp_path / "index.db")
    db.execute(schema)
    db.close()
    async with mounted(tmp_path) as disk:
        await put(disk, range(2))
        assert [await got(disk, number) for number in range(2)] == [VERSION.size] * 2
        await nothing_is_left_over(tmp_path, 2)


async def test_what_a_killed_mount_had_written_and_not_named_is_removed(tmp_path: Path) -> None:
    disk = DiskCache(tmp_path, DiskCacheOptions(floor_bytes=0))
    async with trio.open_nursery() as nursery:
        await nursery.start(disk.run)
        await put(disk, range(2))
        nursery.cancel_scope.cancel()  # and no close
    (tmp_path / "data" / "ab").mkdir(exist_ok=True)
    (tmp_path / "data" / "ab" / ("ab" * 16)).write_bytes(b"written and not named")
    async with mounted(tmp_path) as again:
        await nothing_is_left_over(tmp_path, 2)
        assert [await got(again, number) for number in range(2)] == [VERSION.size] * 2


async def test_after_an_orderly_end_nothing_is_scanned(tmp_path: Path) -> None:
    async with mounted(tmp_path) as disk:
        await put(disk, range(2))
    strange = tmp_path / "data" / "ab" / "nobody's"
    strange.parent.mkdir(exist_ok=True)
    strange.touch()
    async with mounted(tmp_path) as disk:
        await got(disk, 0)
        await trio.sleep(0.5)
    assert strange.exists()


async def test_a_mount_does_not_wait_until_what_is_cached_was_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mounted(tmp_path) as disk:
        await put(disk)
    begun, may_end = trio.Event(), threading.Event()
    count = BlockStore.count

    def count_slowly(store: BlockStore) -> None:
        trio.from_thread.run_sync(begun.set)
        assert may_end.wait(10)
        count(store)

    monkeypatch.setattr(BlockStore, "count", count_slowly)
    with trio.fail_after(20):
        async with mounted(tmp_path, 5 * 304 * KIB) as disk:
            await begun.wait()
            disk.add("/s/more", VERSION, 0, memoryview(CONTENT))
            may_end.set()
            await written(disk)
            assert disk.bytes_used == 5 * VERSION.size, "what was there before is counted, and makes room"


async def test_the_cache_takes_no_more_room_than_it_may_and_the_least_recently_used_files_go(tmp_path: Path) -> None:
    room = 5 * 304 * KIB
    async with mounted(tmp_path, room) as disk:
        for number in range(FILES):
            await put(disk, range(number, number + 1))
            if number:
                assert await got(disk, 0) == VERSION.size, "it is used all the time"
            assert on_disk(tmp_path) <= room
        kept = [number for number in range(FILES) if await got(disk, number)]
        assert kept == [0, *range(FILES - len(kept) + 1, FILES)]
        assert len(kept) >= 4


async def test_small_files_count_with_the_room_that_they_take(tmp_path: Path) -> None:
    room = 200 * KIB
    async with mounted(tmp_path, room) as disk:
        for number in range(500):
            disk.add(f"/s/{number}", Fingerprint(10, 1), 0, memoryview(b"0123456789"))
        await written(disk)
        assert on_disk(tmp_path) <= room


async def test_the_cache_gives_way_when_others_need_the_disk(tmp_path: Path) -> None:
    async with mounted(tmp_path) as disk:
        await put(disk, range(3))
    more_than_there_is = 1 << 60
    async with mounted(tmp_path, floor_bytes=more_than_there_is) as disk:
        await nothing_is_left_over(tmp_path, 0)
        assert disk.bytes_used == 0


async def test_what_is_larger_than_the_cache_is_not_cached(tmp_path: Path) -> None:
    async with mounted(tmp_path, 64 * KIB) as disk:
        await put(disk, range(3))
        assert on_disk(tmp_path) == 0


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in data_files(folder))


# ----- files that were written here -------------------------------------------------------------------------------


async def test_a_file_that_was_written_here_is_kept_without_copying_it(tmp_path: Path) -> None:
    cache, staged = tmp_path / "cache", write_here(tmp_path / "staging")
    inode = os.stat(staged).st_ino
    async with mounted(cache) as disk:
        disk.take_over(path_of(0), VERSION, staged)
        os.unlink(staged)
        await taken(cache)
        assert await got(disk, 0) == VERSION.size
        assert inode in {file.stat().st_ino for file in (cache / "data").glob("*/*")}
        assert disk.bytes_used == VERSION.size
    async with mounted(cache) as disk:
        assert await got(disk, 0) == VERSION.size


async def test_a_file_that_was_written_here_right_before_the_end_is_kept(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    async with mounted(cache) as disk:
        disk.take_over(path_of(0), VERSION, write_here(tmp_path / "staging"))
    async with mounted(cache) as disk:
        assert await got(disk, 0) == VERSION.size


async def test_what_is_forgotten_or_is_not_what_it_should_be_or_too_big_is_not_taken_over(tmp_path: Path) -> None:
    cache, staged = tmp_path / "cache", write_here(tmp_path / "staging")
    async with mounted(cache, max_bytes=VERSION.size * 2) as disk:
        disk.take_over("/s/forgotten", VERSION, staged)
        disk.forget("/s")
        disk.take_over("/s/shorter", VERSION._replace(size=VERSION.size + 1), staged)
        disk.take_over("/s/bigger", VERSION._replace(size=1 << 40), staged)
        await taken(cache)
        for name, version in [("forgotten", VERSION), ("shorter", VERSION._replace(size=VERSION.size + 1))]:
            found = await disk.find(f"/s/{name}", version)
            assert found is None or not found.stretches
        assert disk.bytes_used == 0
        assert os.listdir(tmp_path / "staging") == ["staged"]


async def test_files_that_were_written_here_keep_to_the_caches_size(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    async with mounted(cache, max_bytes=VERSION.size * 3) as disk:
        for number in range(FILES):
            disk.take_over(path_of(number), VERSION, write_here(tmp_path / "staging", content_of(number)))
            os.unlink(tmp_path / "staging" / "staged")
        await taken(cache)
        assert disk.bytes_used <= VERSION.size * 3
        assert await got(disk, FILES - 1) == VERSION.size


async def test_what_was_forgotten_stays_so_when_the_next_who_asks_is_cancelled(tmp_path: Path) -> None:
    async with mounted(tmp_path) as disk:
        await put(disk)
        for number in range(FILES):
            disk.forget(path_of(number))
            with trio.CancelScope() as gone:
                gone.cancel()
                await disk.find("/s/another", VERSION)
            assert await got(disk, number) == 0


async def test_a_file_that_was_written_here_and_is_changed_under_the_cache_is_missing(tmp_path: Path) -> None:
    cache, staged = tmp_path / "cache", write_here(tmp_path / "staging")
    async with mounted(cache) as disk:
        disk.take_over(path_of(0), VERSION, staged)
        await taken(cache)
        write_here(tmp_path / "staging", b"changed" + CONTENT[7:])
        assert await got(disk, 0) == 0
