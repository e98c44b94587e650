"""A slow NAS never freezes what was listed before, and nothing is shown that is older than the user allows."""

from __future__ import annotations

import pytest
import trio

from synofs.content.reader import Reader, ReaderOptions
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fs.inodes import Inode
from tests.unit.memory_store import MemoryStore
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

TTL = 10.0
MAX_STALE = 100.0
MOMENT = 2.0


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.folder("/s")
    store.files("/s", 20)
    store.folder("/s/wide")
    store.files("/s/wide", 1500)
    return store


async def started(store: MemoryStore, nursery: trio.Nursery, max_stale_seconds: float = MAX_STALE) -> Filesystem:
    options = FsOptions(dir_ttl_seconds=TTL, attr_ttl_seconds=TTL, max_stale_seconds=max_stale_seconds)
    reader = Reader(store, ReaderOptions())
    fs = Filesystem(store, options, reader)
    await nursery.start(reader.run)
    await nursery.start(fs.run)
    return fs


async def find(fs: Filesystem, *names: bytes) -> Inode:
    inode: Inode | None = fs.inodes.root
    for name in names:
        assert inode is not None
        inode = await fs.lookup(inode, name)
        assert inode is not None
        fs.inodes.count_lookup(inode)
    assert inode is not None
    return inode


async def listed(fs: Filesystem, directory: Inode) -> list[bytes]:
    number = await fs.opendir(directory)
    _, entries = await fs.readdir(number, 0)
    names = [inode.name for inode in entries]
    await fs.releasedir(number)
    return names


async def test_a_folder_listed_before_is_shown_after_a_moment_and_mended_when_the_answer_comes(
    store: MemoryStore, nursery: trio.Nursery
) -> None:
    fs = await started(store, nursery)
    share = await find(fs, b"s")
    before = await listed(fs, share)
    store.file("/s/new", b"")
    gate = store.gate("list_dir")
    await trio.sleep(TTL + 1)
    begun = trio.current_time()
    assert await listed(fs, share) == before
    assert trio.current_time() - begun == MOMENT
    begun = trio.current_time()
    assert await listed(fs, share) == before
    for name in before[:15]:
        await fs.getattr(await find(fs, b"s", name))
    assert trio.current_time() == begun, "nobody waits twice"
    gate.open()
    await trio.sleep(0.1)
    assert b"new" in await listed(fs, share)
    assert fs.counters()["stale_answers"] > 0


async def test_an_ls_of_a_folder_too_big_for_one_page_waits_for_one_moment(
    store: MemoryStore, nursery: trio.Nursery
) -> None:
    fs = await started(store, nursery)
    wide = await find(fs, b"s", b"wide")
    names = await listed(fs, wide)
    inodes = [await find(fs, b"s", b"wide", name) for name in names]
    store.gate("get_entries")
    store.gate("list_dir")
    await trio.sleep(TTL + 1)
    begun = trio.current_time()
    for inode in inodes:
        await fs.getattr(inode)
    assert trio.current_time() - begun <= MOMENT


@pytest.mark.parametrize(("max_stale", "age"), [(MAX_STALE, TTL + MAX_STALE + 1), (0.0, TTL + 1)])
async def test_what_is_older_than_the_user_allows_is_waited_for(
    store: MemoryStore, nursery: trio.Nursery, max_stale: float, age: float
) -> None:
    fs = await started(store, nursery, max_stale)
    share = await find(fs, b"s")
    await listed(fs, share)
    file = await find(fs, b"s", b"000001")
    store.file("/s/new", b"")
    gate = store.gate("list_dir")
    await trio.sleep(age)
    with trio.move_on_after(60) as limit:
        await listed(fs, share)
    assert limit.cancelled_caught
    with trio.move_on_after(60) as limit:
        await fs.getattr(file)
    assert limit.cancelled_caught
    gate.open()
    assert b"new" in await listed(fs, share)


async def test_a_nas_that_answers_within_the_moment_is_always_heard(store: MemoryStore, nursery: trio.Nursery) -> None:
    fs = await started(store, nursery)
    share = await find(fs, b"s")
    await listed(fs, share)
    store.file("/s/new", b"")
    await trio.sleep(TTL + 1)
    gate = store.gate("list_dir")

    async def answer() -> None:
        await trio.sleep(MOMENT - 0.1)
        gate.open()

    nursery.start_soon(answer)
    assert b"new" in await listed(fs, share)
    assert fs.counters()["stale_answers"] == 0
