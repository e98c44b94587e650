"""Folders are listed once for everyone, told as they are, and what changed is told exactly."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.fs.errors import NoEntry
from synofs.fs.listing import Listing
from synofs.remote import InputOutput, NotFound, PermissionDenied, RemoteEntry, Rights, Unreachable
from tests.unit.fs.listings.conftest import DIR_TTL, Rig, names
from tests.unit.memory_store import MemoryStore
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time


# ----- loading ------------------------------------------------------------------------------------------------


async def test_one_load_answers_everyone(rig: Rig, store: MemoryStore, nursery: trio.Nursery) -> None:
    store.files("/s", 2)
    gate = store.gate("list_dir")
    folder = rig.folder(b"s")
    answers: list[Listing] = []

    async def ask(how) -> None:
        answers.append(await how(folder))

    for how in (rig.listings.begin, rig.listings.whole) * 50:
        nursery.start_soon(ask, how)
    await wait_all_tasks_blocked()
    assert not answers
    gate.open()
    await wait_all_tasks_blocked()
    assert len(answers) == 100
    assert all(listing is answers[0] for listing in answers)
    assert names(answers[0]) == [b"000000", b"000001"]
    assert store.count("list_dir") == 1


async def test_a_fresh_listing_costs_nothing(rig: Rig, store: MemoryStore) -> None:
    folder = rig.folder(b"s")
    listing = await rig.listings.whole(folder)
    await trio.sleep(DIR_TTL - 0.1)
    assert await rig.listings.begin(folder) is listing
    assert store.count("list_dir") == 1


async def test_the_age_of_a_listing_counts_from_when_it_was_asked_for(rig: Rig, store: MemoryStore) -> None:
    folder = rig.folder(b"s")
    gate = store.gate("page")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.listings.whole, folder)
        await gate.reached.wait()
        await trio.sleep(20)
        gate.open()
    listing = rig.listings.peek(folder)
    assert listing is not None
    assert rig.listings.remaining_seconds(listing) == pytest.approx(DIR_TTL - 20)
    await trio.sleep(DIR_TTL - 20)
    assert rig.listings.peek(folder) is None


async def test_the_first_page_is_seen_before_the_last_has_come(rig: Rig, store: MemoryStore) -> None:
    expected = store.files("/s", 7)
    gate = store.gate("page", skip=1)
    listing = await rig.listings.begin(rig.folder(b"s"))
    assert names(listing) == expected[:3]
    assert not listing.complete
    entries = listing.entries
    gate.open()
    assert await rig.listings.more(listing)
    while await rig.listings.more(listing):
        pass
    assert listing.complete
    assert listing.entries is entries, "a reader holds this list: it may grow, never be replaced while loading"
    assert names(listing) == expected


async def test_an_empty_folder_is_a_listing(rig: Rig) -> None:
    listing = await rig.listings.begin(rig.folder(b"s"))
    assert listing.entries == []
    assert not await rig.listings.more(listing)


async def test_a_caller_that_gives_up_does_not_end_the_load(rig: Rig, store: MemoryStore) -> None:
    gate = store.gate("list_dir")
    folder = rig.folder(b"s")
    with trio.move_on_after(5) as gave_up:
        await rig.listings.whole(folder)
    assert gave_up.cancelled_caught
    gate.open()
    await rig.listings.whole(folder)
    assert store.count("list_dir") == 1


# ----- failing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Unreachable("no route"), PermissionDenied("no"), InputOutput("disk")])
async def test_a_first_load_that_fails_raises_and_leaves_nothing_behind(
    rig: Rig, store: MemoryStore, error: Exception
) -> None:
    store.files("/s", 7)
    folder = rig.folder(b"s")
    known = len(rig.table)
    gate = store.gate("page", skip=2)
    with store.fail("page", error):
        for ask in (rig.listings.begin, rig.listings.whole):
            with pytest.raises(type(error)):
                await ask(folder)
            assert folder.listing is None
            assert rig.listings.total_entries == 0
            assert list(rig.listings.cached()) == []
            assert len(rig.table) == known
    gate.open()
    assert len((await rig.listings.whole(folder)).entries) == 7


async def test_a_load_that_fails_half_way_tells_who_reads_it(rig: Rig, store: MemoryStore) -> None:
    """A listing that ends early looks like deleted files: never silently."""
    expected = store.files("/s", 7)
    gate = store.gate("page", skip=2)
    known = len(rig.table) + 1
    listing = await rig.listings.begin(rig.folder(b"s"))
    while len(listing.entries) < 6:
        assert await rig.listings.more(listing)
    with store.fail("page", Unreachable("no route")):
        gate.open()
        with pytest.raises(Unreachable):
            await rig.listings.more(listing)
    with pytest.raises(Unreachable):
        await rig.listings.more(listing)
    assert names(listing) == expected[:6]
    assert len(rig.table) == known
    assert rig.listings.total_entries == 0


async def test_an_error_that_nobody_foresaw_reaches_the_caller_and_nobody_else(rig: Rig, store: MemoryStore) -> None:
    """The load runs beside the mount's other work: it must not take that along."""
    folder = rig.folder(b"s")
    with store.fail("list_dir", ValueError("a bug")), pytest.raises(ValueError, match="a bug"):
        await rig.listings.whole(folder)
    assert folder.listing is None
    assert (await rig.listings.whole(folder)).complete


async def test_a_reload_that_fails_with_a_bug_keeps_the_listing(rig: Rig, store: MemoryStore) -> None:
    store.files("/s", 2)
    folder = rig.folder(b"s")
    listing = await rig.listings.whole(folder)
    await trio.sleep(DIR_TTL + 1)
    with store.fail("list_dir", ValueError("a bug")), pytest.raises(ValueError, match="a bug"):
        await rig.listings.whole(folder)
    assert await rig.listings.whole(folder) is listing
    assert len(listing.entries) == 2


async def test_when_the_nas_is_away_the_old_listing_stays_in_use(rig: Rig, store: MemoryStore) -> None:
    expected = store.files("/s", 7)
    folder = rig.folder(b"s")
    await rig.listings.whole(folder)
    store.files("/s", 20)
    await trio.sleep(DIR_TTL)
    with store.fail("list_dir", Unreachable("no route")):
        for ask in (rig.listings.begin, rig.listings.whole):
            assert names(await ask(folder)) == expected
    assert rig.listings.staleness.answers == 2
    assert rig.listings.total_entries == 7


async def test_when_the_nas_goes_away_in_the_middle_of_a_reload_the_old_listing_is_whole(
    rig: Rig, store: MemoryStore
) -> None:
    expected = store.files("/s", 7)
    folder = rig.folder(b"s")
    await rig.listings.whole(folder)
    known = len(rig.table)
    store.remove("/s/000000")
    store.files("/s", 20)
    await trio.sleep(DIR_TTL)
    gate = store.gate("page", skip=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.listings.whole, folder)
        await gate.reached.wait()
        with store.fail("page", Unreachable("no route")):
            gate.open()
            await wait_all_tasks_blocked()
    assert folder.listing is not None
    assert names(folder.listing) == expected
    assert rig.listings.total_entries == 7
    assert len(rig.table) == known
    assert rig.notifier.told == []


async def test_a_refusal_is_told_although_an_old_listing_is_there(rig: Rig, store: MemoryStore) -> None:
    store.files("/s", 2)
    folder = rig.folder(b"s")
    await rig.listings.whole(folder)
    await trio.sleep(DIR_TTL)
    with store.fail("list_dir", PermissionDenied("rights were taken away")), pytest.raises(PermissionDenied):
        await rig.listings.begin(folder)


async def test_a_folder_that_is_gone_is_forgotten_and_told(rig: Rig, store: MemoryStore) -> None:
    store.folder("/s/f")
    store.files("/s/f", 2)
    share = rig.folder(b"s")
    [folder] = [inode for inode in (await rig.listings.whole(share)).entries if inode.name == b"f"]
    await rig.listings.whole(folder)
    store.remove("/s/f")
    await trio.sleep(DIR_TTL)
    with pytest.raises(NotFound):
        await rig.listings.whole(folder)
    assert folder.gone
    assert folder.listing is None
    assert ("gone", "/s/f") in rig.notifier.told
    assert rig.listings.peek(share) is None, "the parent's listing names it: to be asked for again"
    with pytest.raises(NoEntry):
        await rig.listings.whole(folder)
    assert store.count("list_dir", "/s/f") == 2, "what is known to be gone is not asked for"


@pytest.mark.parametrize("root", ["/", "/s"])
async def test_a_share_that_is_not_found_is_trouble_and_comes_back(rig: Rig, store: MemoryStore, root: str) -> None:
    if root != "/":
        rig.table.root.name = root.encode()
    store.files("/s", 2)
    share = rig.folder(b"s") if root == "/" else rig.table.root
    await rig.listings.whole(share)
    with store.fail("list_dir", NotFound("its volume is away"), "/s"):
        await trio.sleep(DIR_TTL)
        with pytest.raises(InputOutput):
            await rig.listings.whole(share)
        with pytest.raises(InputOutput):
            await rig.listings.begin(share)
    assert not share.gone
    assert len((await rig.listings.whole(share)).entries) == 2


async def test_a_share_that_is_gone_for_good_is_told_by_the_list_of_shares(rig: Rig, store: MemoryStore) -> None:
    store.files("/s", 2)
    share = rig.folder(b"s")
    await rig.listings.whole(rig.table.root)
    await rig.listings.whole(share)
    store.remove("/s")
    await trio.sleep(DIR_TTL)
    with pytest.raises(InputOutput):
        await rig.listings.whole(share)
    await rig.listings.whole(rig.table.root)
    assert share.gone
    assert ("gone", "/s") in rig.notifier.told


# ----- reloading ----------------------------------------------------------------------------------------------


async def test_a_reload_swaps_at_its_end_and_tells_exactly_what_changed(rig: Rig, store: MemoryStore) -> None:
    for name in ("same", "grown", "touched", "denied", "deleted"):
        store.file(f"/s/{name}", b"12345")
    store.file("/s/becomes a folder")
    folder = rig.folder(b"s")
    before = (await rig.listings.whole(folder)).entries
    listed = list(before)
    for inode in before:
        rig.table.count_lookup(inode)
    store.file("/s/grown", b"123456")
    store.file("/s/touched", b"12345", mtime=2000)
    store.file("/s/denied", b"12345", rights=Rights.NONE)
    store.remove("/s/deleted")
    store.remove("/s/becomes a folder")
    store.folder("/s/becomes a folder")
    store.file("/s/new")
    await trio.sleep(DIR_TTL)
    gate = store.gate("page", skip=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.listings.whole, folder)
        await gate.reached.wait()
        assert folder.listing is not None
        assert folder.listing.entries is before, "who reads now still reads the old list"
        gate.open()
    assert before == listed, "a reader's positions stay as they are"
    assert sorted(names(folder.listing)) == [b"becomes a folder", b"denied", b"grown", b"new", b"same", b"touched"]
    assert sorted(rig.notifier.told) == [
        ("appeared", "/s/new"),
        ("attributes", "/s/denied"),
        ("content", "/s/grown"),
        ("content", "/s/touched"),
        ("gone", "/s/becomes a folder"),
        ("gone", "/s/deleted"),
    ]


async def test_what_the_kernel_does_not_know_is_not_told(rig: Rig, store: MemoryStore) -> None:
    store.file("/s/grown")
    folder = rig.folder(b"s")
    await rig.listings.whole(folder)
    store.file("/s/grown", b"1")
    await trio.sleep(DIR_TTL)
    await rig.listings.whole(folder)
    assert rig.notifier.told == []


async def test_a_first_listing_tells_nothing(rig: Rig, store: MemoryStore) -> None:
    store.files("/s", 5)
    await rig.listings.whole(rig.folder(b"s"))
    assert rig.notifier.told == []


async def test_inodes_stay_the_same_over_a_reload(rig: Rig, store: MemoryStore) -> None:
    store.files("/s", 5)
    folder = rig.folder(b"s")
    before = list((await rig.listings.whole(folder)).entries)
    await trio.sleep(DIR_TTL)
    after = (await rig.listings.whole(folder)).entries
    assert store.count("list_dir") == 2
    assert all(one is other for one, other in zip(before, after, strict=True))


async def test_an_entry_that_is_gone_is_dropped_unless_the_kernel_holds_it(rig: Rig, store: MemoryStore) -> None:
    store.file("/s/held")
    store.file("/s/not held")
    folder = rig.folder(b"s")
    listing = await rig.listings.whole(folder)
    held, dropped = listing.by_name[b"held"], listing.by_name[b"not held"]
    rig.table.count_lookup(held)
    store.remove("/s/held")
    store.remove("/s/not held")
    await trio.sleep(DIR_TTL)
    await rig.listings.whole(folder)
    assert held.gone
    assert dropped.gone
    assert rig.table.get(held.number) is held
    assert rig.listings.total_entries == 0
    rig.table.forget(held.number, 1)
    assert len(rig.table) == 2


async def test_a_file_that_is_renamed_while_its_folder_is_listed_first_is_shown_once(
    rig: Rig, store: MemoryStore, nursery: trio.Nursery
) -> None:
    store.files("/s", 7)
    folder = rig.folder(b"s")
    page = store.gate("page", skip=1)
    listing = await rig.listings.begin(folder)
    followed = listing.entries
    inode = listing.by_name[b"000000"]
    rig.listings.remove(folder, inode)
    rig.table.move(inode, folder, b"new")
    rig.listings.insert(folder, inode)
    page.open()
    await rig.listings.finish(listing)
    assert sorted(names(listing)) == [b"000001", b"000002", b"000003", b"000004", b"000005", b"000006", b"new"]
    shown = [inode.name for inode in followed if not inode.gone]
    assert shown.count(b"new") == 1
    assert rig.listings.total_entries == 7


async def test_a_file_that_left_while_its_folder_was_listed_anew_stays_listed_where_it_went(
    rig: Rig, store: MemoryStore, nursery: trio.Nursery
) -> None:
    store.folder("/s/a")
    store.folder("/s/b")
    store.file("/s/a/x")
    old, new = rig.folder(b"s", b"a"), rig.folder(b"s", b"b")
    inode = (await rig.listings.whole(old)).by_name[b"x"]
    await rig.listings.whole(new)
    late = store.gate("page", "/s/a", skip=1)
    store.page_entries = 1
    store.file("/s/a/y")
    listing = rig.listings.reload(old)
    await late.reached.wait()
    rig.listings.remove(old, inode)
    rig.table.move(inode, new, b"x")
    rig.listings.insert(new, inode)
    late.open()
    await rig.listings.finish(listing)
    assert inode.listed
    assert not inode.gone
    assert rig.listings.total_entries == 2


async def test_a_page_asked_for_before_a_later_answer_does_not_undo_it(rig: Rig, store: MemoryStore) -> None:
    store.file("/s/a", b"old", mtime=1)
    folder = rig.folder(b"s")
    listing = await rig.listings.whole(folder)
    inode = listing.by_name[b"a"]
    await trio.sleep(DIR_TTL)
    late_page = store.gate("page")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.listings.whole, folder)
        await late_page.reached.wait()
        await trio.sleep(1)
        newer = RemoteEntry("a", False, 5, 5, 5, 5, Rights.ALL)
        rig.table.update(inode, newer, trio.current_time())
        late_page.open()
    assert inode.size == 5
    assert folder.listing.by_name[b"a"] is inode


# ----- hostile answers ----------------------------------------------------------------------------------------


HOSTILE = ["", ".", "..", "a/b", "../x", "n\0l", "x" * 256, "\ud800"]


async def test_hostile_names_are_left_out_counted_and_logged_once(rig: Rig, store: MemoryStore, expect_logs) -> None:
    expect_logs(r"^/s: the NAS lists a name that no program here could open")
    store.file("/s/good")
    store.extra_names["/s"] = [RemoteEntry(name, False, 1, 1, 1, 1, Rights.ALL) for name in HOSTILE]
    folder = rig.folder(b"s")
    assert names(await rig.listings.whole(folder)) == [b"good"]
    assert rig.listings.refused.count == len(HOSTILE)
    await trio.sleep(DIR_TTL)
    await rig.listings.whole(folder)
    assert rig.listings.refused.count == 2 * len(HOSTILE)
    assert rig.listings.total_entries == 1


async def test_hostile_names_are_logged_once_for_a_folder(
    rig: Rig, store: MemoryStore, expect_logs, caplog: pytest.LogCaptureFixture
) -> None:
    expect_logs("no program here could open")
    store.extra_names["/s"] = [RemoteEntry(name, False, 1, 1, 1, 1, Rights.ALL) for name in HOSTILE]
    folder = rig.folder(b"s")
    for _ in range(3):
        await rig.listings.whole(folder)
        await trio.sleep(DIR_TTL)
    assert len(caplog.records) == 1


async def test_a_name_listed_twice_is_shown_once(rig: Rig, store: MemoryStore, expect_logs) -> None:
    expect_logs("no program here could open")
    store.file("/s/twin", b"1")
    store.extra_names["/s"] = [RemoteEntry("twin", True, 0, 1, 1, 1, Rights.ALL)]
    listing = await rig.listings.whole(rig.folder(b"s"))
    assert names(listing) == [b"twin"]
    assert not listing.entries[0].is_dir
    assert rig.listings.total_entries == 1
    assert rig.listings.refused.count == 1
