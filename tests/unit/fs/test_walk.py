"""Walks through a tree cost one listing for each folder, although folders are listed ahead of the walker."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.content.reader import Reader, ReaderOptions
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fs.inodes import Inode
from tests.unit.memory_store import MemoryStore
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time


def make_tree(store: MemoryStore, top: str, depth: int, width: int) -> int:
    """Folders within folders; the number of them."""
    store.folder(top)
    store.file(f"{top}/file")
    if depth == 0:
        return 1
    return 1 + sum(make_tree(store, f"{top}/{number}", depth - 1, width) for number in range(width))


class Walker:
    """Programs, as the kernel shows them to us: lookups on the way, then readdir after readdir."""

    def __init__(self, fs: Filesystem) -> None:
        self.fs = fs

    async def go_to(self, path: str) -> Inode:
        inode = self.fs.inodes.root
        for name in path.strip("/").encode().split(b"/"):
            inode = await self.fs.lookup(inode, name)
            self.fs.inodes.count_lookup(inode)
        return inode

    async def read(self, folder: Inode) -> list[Inode]:
        number = await self.fs.opendir(folder)
        _, entries = await self.fs.readdir(number, 0)
        for inode in entries:
            self.fs.inodes.count_lookup(inode)
        await self.fs.releasedir(number)
        return list(entries)

    async def walk(self, folder: Inode) -> int:
        """Pre-order, like find."""
        count = 1
        for inode in await self.read(folder):
            if inode.is_dir:
                count += await self.walk(inode)
        return count

    async def walk_breadth_first(self, folder: Inode) -> int:
        folders = [folder]
        for inode in folders:
            folders += [entry for entry in await self.read(inode) if entry.is_dir]
        return len(folders)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def walker(store: MemoryStore, nursery: trio.Nursery) -> Walker:
    store.folder("/s")
    for name in "abcd":
        make_tree(store, f"/s/{name}", depth=3, width=4)
    fs = Filesystem(store, FsOptions(), Reader(store, ReaderOptions()))
    await nursery.start(fs.run)
    return Walker(fs)


FOLDERS = 85  # below and with each of the four


async def test_a_walk_of_everything_lists_each_folder_once(walker: Walker, store: MemoryStore) -> None:
    assert await walker.walk(walker.fs.inodes.root) == 2 + 4 * FOLDERS
    await wait_all_tasks_blocked()
    assert store.count("list_dir") == 2 + 4 * FOLDERS


async def test_a_walk_of_a_part_lists_nothing_beside_it(walker: Walker, store: MemoryStore) -> None:
    top = await walker.go_to("/s/b")
    await wait_all_tasks_blocked()
    store.reset()
    assert await walker.walk(top) == FOLDERS
    await wait_all_tasks_blocked()
    assert store.count("list_dir") == FOLDERS
    assert all(call.subject.startswith("/s/b") for call in store.calls)


async def test_a_walk_in_another_order_lists_each_folder_once(walker: Walker, store: MemoryStore) -> None:
    assert await walker.walk_breadth_first(walker.fs.inodes.root) == 2 + 4 * FOLDERS
    await wait_all_tasks_blocked()
    assert store.count("list_dir") == 2 + 4 * FOLDERS


async def test_a_person_who_clicks_through_folders_causes_one_listing_for_each_click(
    walker: Walker, store: MemoryStore
) -> None:
    for path in ("/s", "/s/a", "/s/a/0", "/s/a/1", "/s/a", "/s/b", "/s/b/2"):
        await walker.read(await walker.go_to(path))
        await trio.sleep(2)
    assert store.count("list_dir") == 1 + 6


async def test_looking_up_deep_paths_lists_only_the_way(walker: Walker, store: MemoryStore) -> None:
    for path in ("/s/a/0/0/0", "/s/a/0/0/0/file", "/s/a/0/0"):
        await walker.go_to(path)
    await wait_all_tasks_blocked()
    assert sorted(call.subject for call in store.calls) == ["/", "/s", "/s/a", "/s/a/0", "/s/a/0/0", "/s/a/0/0/0"]


async def test_reading_folders_at_random_wastes_little(walker: Walker, store: MemoryStore) -> None:
    folders = [path for path, node in store.nodes.items() if node.content is None and path.count("/") == 5]
    rng = random.Random(3)
    for path in rng.sample(folders, 40):
        await walker.read(await walker.go_to(path))
        await trio.sleep(1)
    await wait_all_tasks_blocked()
    assert store.count("list_dir") <= 2 * (1 + 1 + 4 + 16 + 64 + 40)


async def test_a_walk_ahead_never_takes_all_requests(walker: Walker, store: MemoryStore) -> None:
    gate = store.gate("page", skip=6)

    async def walk() -> None:
        await walker.walk(walker.fs.inodes.root)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(walk)
        await wait_all_tasks_blocked()
        assert gate.waiting <= FsOptions().max_requests
        gate.open()
