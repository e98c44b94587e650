"""Who reads the small files of a directory in order gets the next ones ahead; who does not, does not."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import trio

from synofs.content.reader import Reader, ReaderOptions
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fs.inodes import Inode
from tests.unit.memory_store import MemoryStore, RecordingNotifier
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

FILES = 60


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.folder("/s")
    for number in range(FILES):
        store.file(f"/s/file{number:03}", b"%d" % number * 1000)
        store.folder(f"/s/folder{number:03}")
    store.piece_seconds = 0.02
    return store


@pytest.fixture
async def fs(store: MemoryStore, nursery: trio.Nursery) -> Filesystem:
    reader = Reader(store, ReaderOptions())
    fs = Filesystem(store, FsOptions(dir_ttl_seconds=600, attr_ttl_seconds=600), reader, RecordingNotifier())
    await nursery.start(reader.run)
    await nursery.start(fs.run)
    return fs


async def files(fs: Filesystem, *below: bytes) -> list[Inode]:
    folder = fs.inodes.root
    for name in (b"s", *below):
        found = await fs.lookup(folder, name)
        assert found is not None
        folder = found
    number = await fs.opendir(folder)
    _, entries = await fs.readdir(number, 0)
    await fs.releasedir(number)
    return [inode for inode in entries if not inode.is_dir]


async def read(fs: Filesystem, inode: Inode) -> bytes:
    number, _ = await fs.open(inode, os.O_RDONLY)
    try:
        return bytes(await fs.read(number, 0, 1 << 17))
    finally:
        await fs.release(number)


@pytest.mark.parametrize("by_number", [False, True])
async def test_files_that_are_read_in_order_come_ahead_with_one_request_each(
    store: MemoryStore, fs: Filesystem, by_number: bool
) -> None:
    order = await files(fs)
    if by_number:  # as cp(1) does
        order.sort(key=lambda inode: inode.number)
    started = trio.current_time()
    for inode in order:
        assert await read(fs, inode) == b"%d" % int(inode.name[4:]) * 1000
    assert store.count("read_range") == FILES
    assert trio.current_time() - started <= FILES * 0.02 / 3  # one after the other it would be FILES * 0.02
    assert store.count("get_entries") == 0


async def test_files_that_are_read_in_order_come_together_where_the_nas_can_do_that(
    store: MemoryStore, fs: Filesystem
) -> None:
    store.files_at_once = 16
    for inode in await files(fs):
        assert await read(fs, inode) == b"%d" % int(inode.name[4:]) * 1000
    together = [call.subject.split() for call in store.asked("read_files")]
    alone = [call.subject for call in store.asked("read_range")]
    asked = [path for paths in together for path in paths] + alone
    assert len(asked) == len(set(asked)) == FILES
    assert len(together) + len(alone) <= FILES / 2
    assert max(map(len, together)) <= 16


async def test_who_reads_one_folder_after_the_other_gets_few_requests_in_small_folders_too(
    store: MemoryStore, fs: Filesystem
) -> None:
    store.files_at_once = 16
    for directory in range(30):
        store.folder(f"/s/d{directory:02}")
        for number in range(20):
            store.file(f"/s/d{directory:02}/{number:02}", b"%d" % number * 100)
    for directory in range(30):
        for inode in await files(fs, b"d%02d" % directory):
            assert await read(fs, inode) == b"%d" % int(inode.name) * 100
    assert store.count("read_files") + store.count("read_range") <= 30 * 20 / 4


async def test_who_looks_at_the_first_files_of_many_folders_gets_no_more_than_a_first_window_of_each(
    store: MemoryStore, fs: Filesystem
) -> None:
    store.files_at_once = 16
    for directory in range(10):
        store.folder(f"/s/d{directory}")
        for number in range(90):
            store.file(f"/s/d{directory}/{number:02}", b"x" * 100)
    for inode in await files(fs):  # all of them, as it comes
        await read(fs, inode)
    for directory in range(10):
        order = await files(fs, b"d%d" % directory)
        store.reset()
        for inode in order[:2]:
            await read(fs, inode)
        await trio.sleep(60)
        asked = store.count("read_range") + sum(len(call.subject.split()) for call in store.asked("read_files"))
        assert directory == 0 or asked <= 2 + 4, "the first one was a miss"


async def test_what_does_not_come_together_comes_alone(store: MemoryStore, fs: Filesystem) -> None:
    store.files_at_once = 16
    order = await files(fs)

    async def nothing(wanted: list[tuple[str, int]]) -> list[bytes | None]:
        return [None] * len(wanted)

    store.read_files = nothing
    for inode in order:
        assert await read(fs, inode) == b"%d" % int(inode.name[4:]) * 1000
    assert store.count("read_range") == FILES
    assert store.count("get_entries") == 0, "a first download needs no proof"


async def test_a_bug_in_what_comes_ahead_fails_no_read_and_ends_no_mount(
    store: MemoryStore, fs: Filesystem, expect_logs: Callable[[str], None]
) -> None:
    expect_logs("reading files together met what nobody foresaw")
    store.files_at_once = 16

    async def broken(wanted: list[tuple[str, int]]) -> list[bytes | None]:
        raise ValueError("a bug")

    store.read_files = broken
    for inode in await files(fs):
        assert await read(fs, inode) == b"%d" % int(inode.name[4:]) * 1000


async def test_a_single_file_brings_nothing_else(store: MemoryStore, fs: Filesystem) -> None:
    order = await files(fs)
    await read(fs, order[0])
    await trio.sleep(60)
    assert store.count("read_range") == 1


async def test_files_in_no_order_bring_next_to_nothing_else(store: MemoryStore, fs: Filesystem) -> None:
    order = await files(fs)
    for inode in reversed(order):
        await read(fs, inode)
        await trio.sleep(1)
    assert FILES <= store.count("read_range") <= FILES + 4
    assert len({call.subject for call in store.asked("read_range")}) == FILES


async def test_what_comes_ahead_stops_when_nobody_follows(store: MemoryStore, fs: Filesystem) -> None:
    order = await files(fs)
    for inode in order[:3]:
        await read(fs, inode)
    await trio.sleep(60)
    assert store.count("read_range") <= 3 + 8


async def test_big_files_do_not_come_ahead(store: MemoryStore, fs: Filesystem) -> None:
    for number in range(4, FILES):
        store.file(f"/s/file{number:03}", b"x" * (2 << 20))
    order = await files(fs)
    for inode in order[:3]:
        await read(fs, inode)
    await trio.sleep(60)
    assert store.count("read_range") <= 4


async def test_many_folders_that_are_read_at_the_same_time_share_one_budget(store: MemoryStore, fs: Filesystem) -> None:
    size = 300_000
    for directory in range(12):
        store.folder(f"/s/d{directory:02}")
        for number in range(40):
            store.file(f"/s/d{directory:02}/{number:02}", bytes(size))
    was_read = 0
    for side_by_side in zip(*[await files(fs, b"d%02d" % number) for number in range(12)], strict=True):
        for inode in side_by_side:
            number, _ = await fs.open(inode, os.O_RDONLY)
            await fs.read(number, 0, 1 << 17)
            await fs.release(number)
            was_read += size
            asked = sum(call.length for call in store.asked("read_range"))
            assert asked - was_read <= (16 << 20) + size, "bytes ahead of all readers"
    assert store.count("read_range") == 12 * 40, "each file once"


async def test_a_reader_that_has_stopped_leaves_the_budget_to_others(store: MemoryStore, fs: Filesystem) -> None:
    size = 500_000
    for directory in range(4):
        store.folder(f"/s/d{directory}")
        for number in range(60):
            store.file(f"/s/d{directory}/{number:02}", bytes(size))
    for directory in range(4):
        order = await files(fs, b"d%d" % directory)
        store.reset()
        for inode in order[:20]:
            await read(fs, inode)
        await trio.sleep(30)
        assert store.count("read_range") > 30, "the next ones came ahead"
