"""A tree walk is run ahead of; nothing is listed that nobody walks to; known folders are proved in batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.content.reader import Reader, ReaderOptions
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fs.inodes import Inode
from synofs.fs.listing import GivenUp
from synofs.remote import BadAnswer, InputOutput, InvalidRequest, OnPage, PermissionDenied
from tests.unit.memory_store import MemoryStore, RecordingNotifier
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

TTL = 30.0
NOW = 2_000_000.0  # the NAS's clock; the files are older


def tree(store: MemoryStore, path: str, depth: int, width: int) -> int:
    """A tree of folders with three files each; returns how many folders there are below and with `path`."""
    store.folder(path)
    for number in range(3):
        store.file(f"{path}/file{number}")
    if depth == 0:
        return 1
    return 1 + sum(tree(store, f"{path}/d{number}", depth - 1, width) for number in range(width))


class Walker:
    """What find(1) does, as calls of the filesystem."""

    def __init__(self, fs: Filesystem, *, by_number: bool = False, think_seconds: float = 0.0) -> None:
        self.fs = fs
        self.by_number = by_number
        self.think_seconds = think_seconds
        self.visited = 0

    async def read(self, directory: Inode) -> list[Inode]:
        number = await self.fs.opendir(directory)
        try:
            position = 0
            while True:
                _, entries = await self.fs.readdir(number, position)
                if position >= len(entries):
                    return list(entries)
                position = len(entries)
        finally:
            await self.fs.releasedir(number)

    async def walk(self, directory: Inode) -> None:
        self.visited += 1
        await trio.sleep(self.think_seconds)
        folders = [inode for inode in await self.read(directory) if inode.is_dir]
        if self.by_number:
            folders.sort(key=lambda inode: inode.number)
        for folder in folders:
            await self.walk(folder)


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.folder("/s")
    store.clock = NOW
    return store


@pytest.fixture
async def fs(store: MemoryStore, nursery: trio.Nursery) -> Filesystem:
    reader = Reader(store, ReaderOptions())
    fs = Filesystem(store, FsOptions(dir_ttl_seconds=TTL, attr_ttl_seconds=TTL), reader, RecordingNotifier())
    await nursery.start(reader.run)
    await nursery.start(fs.run)
    return fs


async def folder(fs: Filesystem, *names: bytes) -> Inode:
    inode = fs.inodes.root
    for name in names:
        found = await fs.lookup(inode, name)
        assert found is not None
        inode = found
    return inode


@pytest.mark.parametrize("by_number", [False, True])
async def test_a_walk_has_up_to_five_listings_under_way_and_lists_each_folder_once(
    store: MemoryStore, fs: Filesystem, nursery: trio.Nursery, by_number: bool
) -> None:
    folders = tree(store, "/s/t", 3, 4)
    root = await folder(fs, b"s", b"t")
    store.reset()
    busiest = 0

    async def watch() -> None:
        nonlocal busiest
        while True:
            under_way = sum(listing.load is not None for listing in fs._listings.cached())
            busiest = max(busiest, under_way)
            await trio.sleep(0.001)

    with trio.CancelScope() as scope:
        store.list_seconds = 0.02
        nursery.start_soon(watch)
        walker = Walker(fs, by_number=by_number)
        started = trio.current_time()
        await walker.walk(root)
        scope.cancel()
    assert walker.visited == folders
    assert store.count("list_dir") == folders
    assert 3 <= busiest <= 6  # five ahead, and the one that the walker waits for
    assert trio.current_time() - started <= folders * 0.02 / 3  # one after the other it would be folders * 0.02
    nursery.cancel_scope.cancel()


async def test_folders_of_a_walk_are_listed_together_where_the_nas_can_do_that(
    store: MemoryStore, fs: Filesystem
) -> None:
    store.folders_at_once = 16
    folders = tree(store, "/s/t", 3, 6)
    root = await folder(fs, b"s", b"t")
    store.reset()
    walker = Walker(fs)
    await walker.walk(root)
    await wait_all_tasks_blocked()
    assert walker.visited == folders
    assert store.count("list_dir") == folders, "each folder once"
    together = store.asked("list_dirs")
    assert max(len(call.subject.split()) for call in together) <= 16
    in_company = sum(len(call.subject.split()) for call in together)
    assert len(together) + folders - in_company < folders / 4, "requests"


async def test_a_second_walk_over_what_is_known_asks_nothing_and_looks_at_little(
    store: MemoryStore, fs: Filesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = tree(store, "/s/t", 3, 6)
    root = await folder(fs, b"s", b"t")
    await Walker(fs).walk(root)
    await wait_all_tasks_blocked()
    store.reset()
    looks = 0
    wants_load = fs._listings.wants_load

    def counted(directory: Inode) -> bool:
        nonlocal looks
        looks += 1
        return wants_load(directory)

    monkeypatch.setattr(fs._listings, "wants_load", counted)
    await Walker(fs).walk(root)
    assert store.calls == []
    assert looks < 20 * folders


async def test_one_ls_however_deep_lists_only_what_is_on_its_way(store: MemoryStore, fs: Filesystem) -> None:
    tree(store, "/s/t", 4, 3)
    deep = await folder(fs, b"s", b"t", b"d1", b"d1", b"d1")
    await Walker(fs).read(deep)
    await wait_all_tasks_blocked()
    assert [call.subject for call in store.asked("list_dir")] == [
        "/", "/s", "/s/t", "/s/t/d1", "/s/t/d1/d1", "/s/t/d1/d1/d1"
    ]  # fmt: skip


async def test_a_person_who_clicks_through_folders_causes_no_crawl(store: MemoryStore, fs: Filesystem) -> None:
    folders = tree(store, "/s/t", 1, 8)
    root = await folder(fs, b"s", b"t")
    store.reset()
    walker = Walker(fs, think_seconds=1.0)
    entries = await walker.read(root)
    for inode in [inode for inode in entries if inode.is_dir][:4]:
        await trio.sleep(1.0)
        await walker.read(inode)
    await wait_all_tasks_blocked()
    assert folders == 9
    assert store.count("list_dir") == 5  # the tree's root, and the four


async def test_what_is_listed_ahead_stops_when_nobody_follows(store: MemoryStore, fs: Filesystem) -> None:
    tree(store, "/s/t", 1, 500)
    root = await folder(fs, b"s", b"t")
    store.reset()
    walker = Walker(fs)
    entries = [inode for inode in await walker.read(root) if inode.is_dir]
    for inode in entries[:4]:
        await walker.read(inode)
    await trio.sleep(60)
    assert store.count("list_dir") <= 5 * 5 + 8  # the tree's root and the four, and what they have opened


async def depth_first(walker: Walker, root: Inode, most: int) -> None:
    """find(1), `ls -R`, du(1)."""
    ahead = [root]
    while ahead and walker.visited < most:
        walker.visited += 1
        found = await walker.read(ahead.pop())
        ahead += [inode for inode in reversed(found) if inode.is_dir]


async def breadth_first(walker: Walker, root: Inode, most: int) -> None:
    ahead = deque([root])
    while ahead and walker.visited < most:
        walker.visited += 1
        found = await walker.read(ahead.popleft())
        ahead += [inode for inode in found if inode.is_dir]


async def four_side_by_side(walker: Walker, root: Inode, most: int) -> None:
    """fd(1), rg(1): who is free takes what was found last."""
    ahead = [root]
    reading = 0

    async def work() -> None:
        nonlocal reading
        while (ahead or reading) and walker.visited < most:
            if not ahead:
                await trio.sleep(0.001)
                continue
            walker.visited += 1
            reading += 1
            found = await walker.read(ahead.pop())
            reading -= 1
            ahead.extend(inode for inode in reversed(found) if inode.is_dir)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(work)


@pytest.mark.parametrize("together", [1, 16])
@pytest.mark.parametrize("order", [depth_first, breadth_first, four_side_by_side])
@pytest.mark.parametrize("looked_at", [2, 4, 12, 30])
async def test_who_looks_at_n_folders_causes_at_most_5_n_plus_8_listings(
    store: MemoryStore,
    fs: Filesystem,
    order: Callable[[Walker, Inode, int], Awaitable[None]],
    looked_at: int,
    together: int,
) -> None:
    store.folders_at_once = together
    store.list_seconds = 0.005
    tree(store, "/s/t", 3, 7)
    root = await folder(fs, b"s", b"t")
    store.reset()
    walker = Walker(fs)
    await order(walker, root, looked_at)
    await trio.sleep(60)
    assert walker.visited == looked_at
    assert store.count("list_dir") <= 5 * looked_at + 8
    assert looked_at < 12 or store.count("list_dir") > looked_at, "nothing was listed ahead"


@pytest.mark.parametrize("together", [1, 16])
async def test_a_huge_folder_that_was_listed_ahead_is_given_up_when_nobody_follows(
    store: MemoryStore, fs: Filesystem, together: int
) -> None:
    store.folders_at_once = together
    tree(store, "/s/t", 1, 8)
    store.files("/s/t/d6", 50_000)
    root = await folder(fs, b"s", b"t")
    entries = [inode for inode in await Walker(fs).read(root) if inode.is_dir]
    gate = store.gate("page", "/s/t/d6", skip=2)  # while its first pages come, the walker stops
    for inode in entries[:4]:
        await Walker(fs).read(inode)
    with trio.fail_after(60):
        await gate.reached.wait()
    await trio.sleep(60)
    gate.open()
    await wait_all_tasks_blocked()
    assert fs._listings.total_entries < 5_000
    assert len(await Walker(fs).read(entries[6])) == 50_003, "who comes after all sees all of it"


@pytest.mark.parametrize("was_listed", [False, True])
async def test_who_comes_while_a_huge_folder_is_being_given_up_sees_all_of_it(
    store: MemoryStore, fs: Filesystem, was_listed: bool
) -> None:
    tree(store, "/s/t", 1, 8)
    store.files("/s/t/d6", 50_000)
    root = await folder(fs, b"s", b"t")
    if was_listed:
        await Walker(fs).walk(root)
        await trio.sleep(TTL + 1)
    given_up, may_end = trio.Event(), trio.Event()
    list_dir = store.list_dir

    async def slow_to_end(path: str, on_page: OnPage) -> None:
        try:
            await list_dir(path, on_page)
        except GivenUp:
            given_up.set()
            await may_end.wait()
            raise

    store.list_dir = slow_to_end
    entries = [inode for inode in await Walker(fs).read(root) if inode.is_dir]
    gate = store.gate("page", "/s/t/d6", skip=2)
    for inode in entries[:4]:
        await Walker(fs).read(inode)
    await trio.sleep(60)
    gate.open()
    with trio.fail_after(60):
        await given_up.wait()
    found: list[list[Inode]] = []
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            found.append(await Walker(fs).read(entries[6]))

        async def look() -> None:
            assert await fs.lookup(entries[6], b"000007") is not None

        nursery.start_soon(read)
        nursery.start_soon(look)
        await wait_all_tasks_blocked()
        may_end.set()
    assert [len(one) for one in found] == [50_003]


async def test_a_huge_folder_that_was_listed_ahead_comes_whole_for_who_waits_for_it(
    store: MemoryStore, fs: Filesystem
) -> None:
    tree(store, "/s/t", 1, 8)
    store.files("/s/t/d4", 50_000)
    root = await folder(fs, b"s", b"t")
    entries = [inode for inode in await Walker(fs).read(root) if inode.is_dir]
    gate = store.gate("page", "/s/t/d4", skip=2)
    for inode in entries[:4]:
        await Walker(fs).read(inode)
    found: list[Inode] = []
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            found.extend(await Walker(fs).read(entries[4]))

        nursery.start_soon(read)
        await trio.sleep(60)
        gate.open()
    assert len(found) == 50_003
    assert store.count("list_dir", "/s/t/d4") == 1


async def test_a_second_walk_after_the_ttl_proves_many_folders_with_one_request(
    store: MemoryStore, fs: Filesystem
) -> None:
    folders = tree(store, "/s/t", 3, 5)
    root = await folder(fs, b"s", b"t")
    await Walker(fs).walk(root)
    await trio.sleep(TTL + 1)
    store.reset()
    walker = Walker(fs)
    await walker.walk(root)
    assert walker.visited == folders == 156
    assert store.count("list_dir") + store.count("get_entries") <= folders / 3


async def test_a_file_that_changed_in_place_is_seen_by_the_second_walk(store: MemoryStore, fs: Filesystem) -> None:
    tree(store, "/s/t", 2, 4)
    root = await folder(fs, b"s", b"t")
    await Walker(fs).walk(root)
    await trio.sleep(TTL + 1)
    store.nodes["/s/t/d3/d2/file1"].content = b"changed"  # the folder's times stay what they are
    await Walker(fs).walk(root)
    changed = await folder(fs, b"s", b"t", b"d3", b"d2", b"file1")
    assert changed.size == 7


@pytest.mark.parametrize("times_set_back", [False, True])
async def test_a_name_that_came_is_seen_by_the_second_walk(
    store: MemoryStore, fs: Filesystem, times_set_back: bool
) -> None:
    tree(store, "/s/t", 2, 4)
    root = await folder(fs, b"s", b"t")
    await Walker(fs).walk(root)
    await trio.sleep(TTL + 1)
    store.file("/s/t/d3/d2/new")
    store.nodes["/s/t/d3/d2"].ctime_ns = int((NOW + 5) * 1e9)
    if not times_set_back:
        store.nodes["/s/t/d3/d2"].mtime_ns = int((NOW + 5) * 1e9)
    await Walker(fs).walk(root)
    store.reset()
    assert await fs.lookup(await folder(fs, b"s", b"t", b"d3", b"d2"), b"new") is not None
    assert store.count("list_dir", "/s/t/d3/d2") == 0


async def seen_by_the_second_walk(store: MemoryStore, fs: Filesystem, change: Callable[[], None]) -> bool:
    """Is a name that comes after the first walk seen by the second one? `change` makes it."""
    tree(store, "/s/t", 2, 4)
    root = await folder(fs, b"s", b"t")
    await Walker(fs).walk(root)
    await trio.sleep(TTL + 1)
    change()
    await Walker(fs).walk(root)
    store.reset()
    found = await fs.lookup(await folder(fs, b"s", b"t", b"d3", b"d2"), b"new")
    assert store.count("list_dir", "/s/t/d3/d2") == 0
    return found is not None


async def test_a_folder_whose_times_come_from_another_clock_is_not_believed_unchanged(
    store: MemoryStore, fs: Filesystem
) -> None:
    def change() -> None:  # in a folder that the NAS itself has mounted, from a server whose clock is an hour late
        store.file("/s/t/d3/d2/new")
        store.nodes["/s/t/d3/d2"].mtime_ns = store.nodes["/s/t/d3/d2"].ctime_ns = int((NOW - 3600) * 1e9)

    assert await seen_by_the_second_walk(store, fs, change)


async def test_a_folder_without_times_is_not_believed_unchanged(store: MemoryStore, fs: Filesystem) -> None:
    def change() -> None:
        store.file("/s/t/d3/d2/new")

    folder_of = store.folder
    store.folder = lambda path: folder_of(path, mtime=0)
    assert await seen_by_the_second_walk(store, fs, change)


async def test_a_folder_whose_times_never_move_is_believed_unchanged_for_a_few_ttls_and_no_longer(
    store: MemoryStore, fs: Filesystem
) -> None:
    tree(store, "/s/t", 2, 4)
    root = await folder(fs, b"s", b"t")
    await Walker(fs).walk(root)
    store.file("/s/t/d3/d2/new")  # and no time of the folder says so
    for _ in range(6):
        await trio.sleep(TTL + 1)
        await Walker(fs).walk(root)
    assert await fs.lookup(await folder(fs, b"s", b"t", b"d3", b"d2"), b"new") is not None


@pytest.mark.parametrize("error", [InvalidRequest("too long"), InputOutput("?"), BadAnswer("?"), PermissionDenied("?")])
async def test_when_the_proof_fails_folders_are_listed_and_no_program_notices(
    store: MemoryStore, fs: Filesystem, error: Exception
) -> None:
    folders = tree(store, "/s/t", 2, 4)
    root = await folder(fs, b"s", b"t")
    await Walker(fs).walk(root)
    await trio.sleep(TTL + 1)
    walker = Walker(fs)
    store.answer_seconds = 1.0  # long enough for the walker to wait for it
    with store.fail("answer", error):
        await walker.walk(root)
    assert walker.visited == folders


async def test_folders_that_are_not_proved_are_listed_together_where_the_nas_can_do_that(
    store: MemoryStore, fs: Filesystem
) -> None:
    folders = tree(store, "/s/t", 3, 5)
    root = await folder(fs, b"s", b"t")
    await Walker(fs).walk(root)
    await trio.sleep(TTL + 1)
    for node in store.nodes.values():
        node.ctime_ns = int((NOW + 5) * 1e9)
    store.reset()
    store.folders_at_once = 16
    walker = Walker(fs)
    await walker.walk(root)
    assert walker.visited == folders == 156
    assert requests(store) <= folders / 3


def requests(store: MemoryStore) -> int:
    together = store.asked("list_dirs")
    in_company = sum(len(call.subject.split()) for call in together)
    return len(together) + store.count("list_dir") - in_company + store.count("get_entries")


async def test_a_second_walk_after_the_ttl_costs_fewer_requests_than_the_first_where_folders_are_listed_together(
    store: MemoryStore, fs: Filesystem
) -> None:
    store.folders_at_once = 16
    tree(store, "/s/t", 3, 5)
    for path in [path for path, node in store.nodes.items() if path.startswith("/s/t") and node.content is None]:
        for number in range(10):  # too many entries to be proved more cheaply than they are listed
            store.file(f"{path}/more{number}")
    root = await folder(fs, b"s", b"t")
    store.reset()
    await Walker(fs).walk(root)
    first = requests(store)
    await trio.sleep(TTL + 1)
    store.reset()
    await Walker(fs).walk(root)
    assert requests(store) < first
    assert store.count("get_entries") <= 2, "listing is as cheap, and sure"


async def test_without_the_nas_s_clock_folders_are_listed_again(store: MemoryStore, fs: Filesystem) -> None:
    store.clock = None
    folders = tree(store, "/s/t", 2, 4)
    root = await folder(fs, b"s", b"t")
    await Walker(fs).walk(root)
    await trio.sleep(TTL + 1)
    store.reset()
    await Walker(fs).walk(root)
    assert store.count("list_dir") == folders
    assert store.count("get_entries") == 0
