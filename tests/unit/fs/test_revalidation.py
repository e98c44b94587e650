"""Old listings that are proved by one `getinfo` for many, instead of being listed anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.fs.inodes import Inode, InodeTable
from synofs.fs.listing import ListingOptions
from synofs.fs.listings import Listings
from synofs.remote import InputOutput, Unreachable
from tests.unit.memory_store import MemoryStore, RecordingNotifier
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

TTL = 30.0
OLD = 1000  # when everything was made, by the NAS's clock
NOW = 5000.0


class Rig:
    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.notifier = RecordingNotifier()
        self.table = InodeTable("/")
        self.listings = Listings(self.table, store, self.notifier, ListingOptions(dir_ttl_seconds=TTL))
        self.share = self.table.obtain(self.table.root, b"s", is_dir=True)
        self.table.count_lookup(self.share)

    async def list_folders(self) -> list[Inode]:
        share = await self.listings.whole(self.share)
        folders = [share.by_name[name] for name in (b"a", b"b", b"c")]
        for folder in folders:
            self.table.count_lookup(folder)
            for inode in (await self.listings.whole(folder)).entries:
                self.table.count_lookup(inode)
        await trio.sleep(TTL)
        self.store.reset()
        return folders

    async def revalidate(self, folders: list[Inode]) -> None:
        ended = trio.Event()
        self.listings.revalidate(folders, ended.set)
        with trio.fail_after(60):
            await ended.wait()


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.clock = NOW
    store.folder("/s", mtime=OLD)
    for folder in "abc":
        store.folder(f"/s/{folder}", mtime=OLD)
        for number in range(3):
            store.file(f"/s/{folder}/{number}", b"x" * (10 * ord(folder) + number), mtime=OLD)
    return store


@pytest.fixture
async def rig(store: MemoryStore, nursery: trio.Nursery) -> Rig:
    rig = Rig(store)
    await nursery.start(rig.listings.run)
    return rig


def sizes(folders: list[Inode]) -> list[int]:
    return [inode.size for folder in folders for inode in folder.listing.entries]


async def test_one_getinfo_proves_many_folders(rig: Rig, store: MemoryStore) -> None:
    folders = await rig.list_folders()
    expected = sizes(folders)
    await rig.revalidate(folders)
    assert [call.method for call in store.calls] == ["get_entries"]
    assert all(rig.listings.peek(folder) is not None for folder in folders)
    assert sizes(folders) == expected
    assert rig.notifier.told == []


async def test_changed_files_in_a_proved_folder_are_found(rig: Rig, store: MemoryStore) -> None:
    folders = await rig.list_folders()
    store.file("/s/b/1", b"changed", mtime=OLD + 1)
    await rig.revalidate(folders)
    assert folders[1].listing.by_name[b"1"].size == 7
    assert rig.notifier.told == [("content", "/s/b/1")]
    assert store.count("list_dir") == 0


async def test_a_folder_that_was_touched_is_listed_anew_and_only_that(rig: Rig, store: MemoryStore) -> None:
    folders = await rig.list_folders()
    store.file("/s/b/new", mtime=OLD)
    store.folder("/s/b", mtime=int(NOW) + 1)
    await rig.revalidate(folders)
    assert b"new" in folders[1].listing.by_name
    assert [call.subject for call in store.asked("list_dir")] == ["/s/b"]


@pytest.mark.parametrize("seconds_before", [0, 1, 2])
async def test_a_change_close_to_the_listing_is_never_taken_for_an_older_one(
    rig: Rig, store: MemoryStore, seconds_before: int
) -> None:
    """Times have whole seconds, and the NAS's clock is known within a second or two."""
    store.folder("/s/b", mtime=int(NOW) - seconds_before)
    folders = await rig.list_folders()
    store.file("/s/b/new", mtime=OLD)  # within the same second: no time tells of it
    await rig.revalidate(folders)
    assert b"new" in folders[1].listing.by_name


async def test_a_clock_of_the_nas_that_was_set_back_makes_no_change_older_than_the_listing(
    rig: Rig, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of it is as old as the last answer."""

    def clock() -> float:
        return NOW if "/s/b" in [call.subject for call in store.asked("list_dir")] else NOW + 86_400

    store.folder("/s/b", mtime=int(NOW))
    with monkeypatch.context() as patch:
        patch.setattr(store, "clock_seconds", clock)
        folders = await rig.list_folders()
    store.file("/s/b/new", mtime=OLD)  # within the same second: no time tells of it
    await rig.revalidate(folders)
    assert b"new" in folders[1].listing.by_name


async def test_a_deleted_file_is_found(rig: Rig, store: MemoryStore) -> None:
    folders = await rig.list_folders()
    store.remove("/s/c/2")
    await rig.revalidate(folders)
    assert sorted(folders[2].listing.by_name) == [b"0", b"1"]
    assert ("gone", "/s/c/2") in rig.notifier.told


async def test_a_folder_that_is_gone_is_gone(rig: Rig, store: MemoryStore) -> None:
    folders = await rig.list_folders()
    store.remove("/s/a")
    await rig.revalidate(folders)
    assert folders[0].gone
    assert rig.listings.peek(folders[1]) is not None


async def test_a_name_made_here_meanwhile_does_not_shift_the_answers(rig: Rig, store: MemoryStore) -> None:
    folders = await rig.list_folders()
    expected = sizes(folders)
    gate = store.gate("answer")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.revalidate, folders)
        await gate.reached.wait()
        new = rig.table.obtain(folders[0], b"made here", is_dir=True)
        rig.table.count_lookup(new)
        rig.listings.insert(folders[0], new)
        store.folder("/s/a/made here", mtime=OLD)
        gate.open()
    assert folders[0].listing.by_name[b"made here"] is new
    assert sizes(folders[1:]) == expected[3:]
    assert [inode.size for inode in folders[0].listing.entries if inode is not new] == expected[:3]


@pytest.mark.parametrize("error", [Unreachable("no route"), InputOutput("disk"), ValueError("a bug")])
async def test_a_proof_that_fails_leaves_the_listings_as_they_were(
    rig: Rig, store: MemoryStore, error: Exception, expect_logs: Callable[[str], None]
) -> None:
    if isinstance(error, ValueError):
        expect_logs("a proof of listings failed in a way nobody foresaw")
    folders = await rig.list_folders()
    expected = sizes(folders)
    with store.fail("get_entries", error):
        await rig.revalidate(folders)
    assert sizes(folders) == expected
    await wait_all_tasks_blocked()
    for folder in folders:
        assert (await rig.listings.whole(folder)).complete
    assert store.count("list_dir") == 3


async def test_who_comes_meanwhile_waits_for_the_proof(rig: Rig, store: MemoryStore) -> None:
    folders = await rig.list_folders()
    gate = store.gate("answer")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.revalidate, folders)
        await gate.reached.wait()
        nursery.start_soon(rig.listings.begin, folders[0])
        nursery.start_soon(rig.listings.whole, folders[1])
        await wait_all_tasks_blocked()
        gate.open()
    assert [call.method for call in store.calls] == ["get_entries"]
