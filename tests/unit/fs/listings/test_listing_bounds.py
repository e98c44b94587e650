"""What listings may take: of memory, and of the NAS's time by polling."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.fs.errors import NoEntry
from synofs.fs.listing import ListingOptions
from synofs.remote import NotFound, PermissionDenied, Unreachable
from tests.unit.fs.listings.conftest import DIR_TTL, Rig, names
from tests.unit.memory_store import MemoryStore
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time


# ----- bounds -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [ListingOptions(dir_ttl_seconds=DIR_TTL, max_entries=10)])
async def test_the_least_recently_used_listings_are_dropped_with_their_inodes(rig: Rig, store: MemoryStore) -> None:
    folders = []
    for name in ("a", "b", "c"):
        store.folder(f"/s/{name}")
        store.files(f"/s/{name}", 4)
        folders.append(rig.folder(b"s", name.encode()))
    known = len(rig.table)
    a, b, c = folders
    await rig.listings.whole(a)
    await rig.listings.whole(b)
    await rig.listings.whole(a)  # used again: b is the least recently used now
    await rig.listings.whole(c)
    assert b.listing is None
    assert a.listing is not None
    assert c.listing is not None
    assert rig.listings.total_entries == 8
    assert len(rig.table) == known + 8


@pytest.mark.parametrize("options", [ListingOptions(dir_ttl_seconds=DIR_TTL, max_entries=10)])
async def test_evicting_never_drops_what_the_kernel_knows(rig: Rig, store: MemoryStore) -> None:
    store.folder("/s/a")
    store.folder("/s/b")
    store.files("/s/a", 8)
    store.files("/s/b", 8)
    a = rig.folder(b"s", b"a")
    held = (await rig.listings.whole(a)).by_name[b"000003"]
    rig.table.count_lookup(held)
    await rig.listings.whole(rig.folder(b"s", b"b"))
    assert a.listing is None
    assert not held.listed
    assert rig.table.get(held.number) is held
    assert not held.gone
    again = await rig.listings.whole(a)
    assert again.by_name[b"000003"] is held


@pytest.mark.parametrize("options", [ListingOptions(dir_ttl_seconds=DIR_TTL, max_entries=10)])
async def test_a_listing_larger_than_the_bound_still_works(rig: Rig, store: MemoryStore) -> None:
    store.files("/s", 50)
    assert len((await rig.listings.whole(rig.folder(b"s"))).entries) == 50


@pytest.mark.parametrize("options", [ListingOptions(dir_ttl_seconds=DIR_TTL, max_entries=10)])
async def test_a_walk_through_many_folders_stays_within_the_bound(rig: Rig, store: MemoryStore) -> None:
    for number in range(50):
        store.folder(f"/s/{number}")
        store.files(f"/s/{number}", 3)
    share = rig.folder(b"s")
    for folder in list((await rig.listings.whole(share)).entries):
        await rig.listings.whole(folder)
        assert rig.listings.total_entries <= 10 + 3
    assert len(rig.table) <= 2 + 10 + 3


@pytest.mark.parametrize("options", [ListingOptions(dir_ttl_seconds=DIR_TTL, max_entries=10)])
async def test_a_folder_that_somebody_reads_is_not_evicted(rig: Rig, store: MemoryStore) -> None:
    store.folder("/s/a")
    store.folder("/s/b")
    store.files("/s/a", 8)
    store.files("/s/b", 8)
    a = rig.folder(b"s", b"a")
    a.opens = 1
    listing = await rig.listings.whole(a)
    await rig.listings.whole(rig.folder(b"s", b"b"))
    assert a.listing is listing
    assert all(rig.table.get(inode.number) is inode for inode in listing.entries)


async def test_an_entry_known_to_be_gone_is_still_gone_after_an_eviction(rig: Rig, store: MemoryStore) -> None:
    store.file("/s/a")
    folder = rig.folder(b"s")
    listing = await rig.listings.whole(folder)
    inode = listing.by_name[b"a"]
    rig.table.count_lookup(inode)
    inode.gone = True
    rig.listings.forget(folder)
    assert inode.gone


async def test_a_folder_dropped_while_it_loads_lets_its_readers_go(rig: Rig, store: MemoryStore) -> None:
    """The parent's reload finds the folder gone while the folder's own listing is still on its way."""
    store.folder("/s/sub")
    store.files("/s/sub", 7)
    share = rig.folder(b"s")
    sub = rig.folder(b"s", b"sub")
    await rig.listings.whole(share)
    gate = store.gate("page", "/s/sub", skip=1)
    listing = await rig.listings.begin(sub)
    assert names(listing) == [b"000000", b"000001", b"000002"]
    node = store.nodes.pop("/s/sub")
    await trio.sleep(DIR_TTL)
    await rig.listings.whole(share)
    assert sub.gone
    assert sub.listing is None
    store.nodes["/s/sub"] = node
    gate.open()
    await wait_all_tasks_blocked()
    with pytest.raises(NoEntry):
        await rig.listings.more(listing)
    assert rig.listings.total_entries == 0
    assert len(rig.table) == 3


# ----- polling ------------------------------------------------------------------------------------------------


async def test_a_folder_that_somebody_came_back_to_is_polled(rig: Rig, store: MemoryStore) -> None:
    folder = rig.folder(b"s")
    await rig.listings.whole(folder)
    await rig.listings.whole(folder)
    await trio.sleep(1)
    store.file("/s/from a colleague")
    await trio.sleep(2 * DIR_TTL)
    assert ("appeared", "/s/from a colleague") in rig.notifier.told


async def test_a_folder_that_was_listed_once_is_never_polled(rig: Rig, store: MemoryStore) -> None:
    await rig.listings.whole(rig.folder(b"s"))
    await trio.sleep(10 * DIR_TTL)
    assert store.count("list_dir") == 1


async def test_polling_stops_when_nobody_uses_the_folder_any_more(
    rig: Rig, store: MemoryStore, options: ListingOptions
) -> None:
    folder = rig.folder(b"s")
    await rig.listings.whole(folder)
    await rig.listings.whole(folder)
    await trio.sleep(options.poll_recent_seconds + DIR_TTL)
    store.reset()
    await trio.sleep(1000)
    assert store.calls == []


@pytest.mark.parametrize("options", [ListingOptions(dir_ttl_seconds=DIR_TTL, poll_max_directories=2)])
async def test_polling_is_gentle(rig: Rig, store: MemoryStore) -> None:
    await trio.sleep(1)
    for name in ("a", "b", "c", "d"):
        store.folder(f"/s/{name}")
        for _ in range(2):
            await rig.listings.whole(rig.folder(b"s", name.encode()))
        await trio.sleep(0.1)
    store.reset()
    await trio.sleep(2 * DIR_TTL - 1)  # one round of polling
    assert {call.subject for call in store.calls} == {"/s/d", "/s/c"}


@pytest.mark.parametrize(
    "error", [Unreachable("no route"), PermissionDenied("no"), NotFound("gone"), ValueError("a bug")]
)
async def test_polling_survives_every_failure(rig: Rig, store: MemoryStore, error: Exception, expect_logs) -> None:
    if isinstance(error, ValueError):
        expect_logs("a bug|nobody foresaw")
    folder = rig.folder(b"s")
    for _ in range(2):
        await rig.listings.whole(folder)
    with store.fail("list_dir", error):
        await trio.sleep(2 * DIR_TTL)
    assert store.count("list_dir") >= 2
    if not isinstance(error, NotFound):
        store.file("/s/new")
        assert b"new" in (await rig.listings.whole(folder)).by_name
