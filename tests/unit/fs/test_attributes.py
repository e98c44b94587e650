from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.fs.attributes import AttributeOptions, Attributes
from synofs.fs.errors import NoEntry
from synofs.fs.inodes import Inode, InodeTable
from synofs.fs.listing import ListingOptions
from synofs.fs.listings import Listings
from synofs.remote import InputOutput, RemoteEntry, Rights, Unreachable
from tests.unit.memory_store import MemoryStore, RecordingNotifier
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

TTL = 30.0
BATCH = 10
SMALL = 5  # so many entries are listed anew rather than asked for one by one


class Rig:
    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.notifier = RecordingNotifier()
        self.table = InodeTable("/")
        self.listings = Listings(self.table, store, self.notifier, ListingOptions(dir_ttl_seconds=TTL))
        self.attributes = Attributes(
            self.table,
            self.listings,
            store,
            self.notifier,
            AttributeOptions(attr_ttl_seconds=TTL, batch=BATCH, relist_up_to=SMALL),
        )

    async def listed(self, path: str) -> list[Inode]:
        """The entries of a folder, as the kernel knows them after an `ls`."""
        folder = self.table.root
        for name in path.strip("/").split("/"):
            folder = self.table.obtain(folder, name.encode(), is_dir=True)
            if not folder.lookups:
                self.table.count_lookup(folder)
        entries = list((await self.listings.whole(folder)).entries)
        for inode in entries:
            self.table.count_lookup(inode)
        self.store.reset()
        return entries


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.folder("/s")
    store.folder("/s/small")
    store.folder("/s/large")
    store.files("/s/small", SMALL)
    store.files("/s/large", 50)
    return store


@pytest.fixture
async def rig(store: MemoryStore, nursery: trio.Nursery) -> Rig:
    rig = Rig(store)
    await nursery.start(rig.listings.run)
    return rig


async def test_attributes_from_a_listing_cost_nothing_within_their_ttl(rig: Rig, store: MemoryStore) -> None:
    inode = (await rig.listed("/s/large"))[0]
    await trio.sleep(TTL - 1)
    assert rig.attributes.remaining_seconds(inode) == pytest.approx(1)
    await rig.attributes.renew_if_old(inode)
    assert store.calls == []


async def test_old_attributes_in_a_small_folder_are_renewed_by_one_listing(rig: Rig, store: MemoryStore) -> None:
    entries = await rig.listed("/s/small")
    await trio.sleep(TTL)
    store.file("/s/small/000003", b"grown")
    for inode in entries:
        await rig.attributes.renew_if_old(inode)
    assert entries[3].size == 5
    assert [(call.method, call.subject) for call in store.calls] == [("list_dir", "/s/small")]


async def test_old_attributes_in_a_large_folder_are_renewed_in_batches(rig: Rig, store: MemoryStore) -> None:
    entries = await rig.listed("/s/large")
    await trio.sleep(TTL)
    store.file("/s/large/000037", b"grown")
    for inode in entries:
        await rig.attributes.renew_if_old(inode)
    assert entries[37].size == 5
    assert store.count("list_dir") == 0
    assert [len(call.subject.split()) for call in store.asked("get_entries")] == [BATCH] * 5
    asked = " ".join(call.subject for call in store.calls).split()
    assert asked == [inode.path() for inode in entries], "each once, in the order of the listing"


async def test_a_batch_leaves_out_what_is_fresh(rig: Rig, store: MemoryStore) -> None:
    entries = await rig.listed("/s/large")
    await trio.sleep(TTL)
    rig.table.update(entries[1], store.nodes["/s/large/000001"].entry("000001"), trio.current_time())
    await rig.attributes.renew_if_old(entries[0])
    (call,) = store.calls
    assert entries[1].path() not in call.subject.split()
    assert len(call.subject.split()) == BATCH


async def test_renewals_are_joined(rig: Rig, store: MemoryStore) -> None:
    entries = await rig.listed("/s/large")
    await trio.sleep(TTL)
    gate = store.gate("get_entries")
    async with trio.open_nursery() as nursery:
        for inode in [*entries[:BATCH], *entries[:BATCH]]:
            nursery.start_soon(rig.attributes.renew_if_old, inode)
        await wait_all_tasks_blocked()
        gate.open()
    asked = " ".join(call.subject for call in store.calls).split()
    assert sorted(asked) == sorted(set(asked)), "nothing was asked for twice"
    assert all(rig.attributes.remaining_seconds(inode) == TTL for inode in entries[:BATCH])


async def test_who_joined_a_renewal_that_failed_asks_by_himself(rig: Rig, store: MemoryStore) -> None:
    inode = (await rig.listed("/s/large"))[0]
    await trio.sleep(TTL)
    gate = store.gate("get_entries")

    async def first() -> None:
        with store.fail("get_entries", InputOutput("disk")), pytest.raises(InputOutput):
            await rig.attributes.renew_if_old(inode)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await gate.reached.wait()
        nursery.start_soon(rig.attributes.renew_if_old, inode)
        await wait_all_tasks_blocked()
        gate.open()
    assert store.count("get_entries") == 2
    assert rig.attributes.remaining_seconds(inode) == TTL


async def test_a_renewal_that_is_given_up_does_not_stop_the_others(rig: Rig, store: MemoryStore) -> None:
    inode = (await rig.listed("/s/large"))[0]
    await trio.sleep(TTL)
    gate = store.gate("get_entries")
    with trio.move_on_after(1):
        await rig.attributes.renew_if_old(inode)
    gate.open()
    await rig.attributes.renew_if_old(inode)
    assert rig.attributes.remaining_seconds(inode) == TTL - 1, "it went on, and was asked for a second ago"


async def test_what_the_nas_no_longer_has_is_no_entry(rig: Rig, store: MemoryStore) -> None:
    large = (await rig.listed("/s/large"))[0]
    small = (await rig.listed("/s/small"))[0]
    store.remove("/s/large/000000")
    store.remove("/s/small/000000")
    await trio.sleep(TTL)
    for inode in (large, small):
        for _ in range(2):
            with pytest.raises(NoEntry):
                await rig.attributes.renew_if_old(inode)
        assert ("gone", inode.path()) in rig.notifier.told
        assert rig.listings.peek(inode.parent) is None or inode.path() == "/s/small/000000"


async def test_what_became_a_folder_is_no_entry(rig: Rig, store: MemoryStore) -> None:
    """The kernel cannot turn an inode from a file into a folder: the name gets a new one."""
    inode = (await rig.listed("/s/large"))[0]
    store.folder("/s/large/000000")
    await trio.sleep(TTL)
    with pytest.raises(NoEntry):
        await rig.attributes.renew_if_old(inode)
    assert rig.notifier.told == [("gone", "/s/large/000000")]


async def test_a_file_that_went_while_its_folder_was_not_cached_is_no_entry(rig: Rig, store: MemoryStore) -> None:
    """Its folder was listed, evicted, and listed again without it: no reload compared the two."""
    inode = (await rig.listed("/s/small"))[0]
    rig.listings.forget(inode.parent)
    store.remove("/s/small/000000")
    await trio.sleep(TTL)
    await rig.listings.whole(inode.parent)
    with pytest.raises(NoEntry):
        await rig.attributes.renew_if_old(inode)
    assert inode.gone


async def test_a_file_that_went_from_an_evicted_folder_is_no_entry(rig: Rig, store: MemoryStore) -> None:
    inode = (await rig.listed("/s/small"))[0]
    rig.listings.forget(inode.parent)
    store.remove("/s/small/000000")
    await trio.sleep(TTL)
    with pytest.raises(NoEntry):
        await rig.attributes.renew_if_old(inode)
    assert store.count("get_entries") == 1


async def test_shares_are_renewed_by_the_list_of_shares(rig: Rig, store: MemoryStore) -> None:
    """`getinfo` on a share is on no record; `list_share` is."""
    share = (await rig.listings.whole(rig.table.root)).by_name[b"s"]
    store.reset()
    await trio.sleep(TTL)
    await rig.attributes.renew_if_old(share)
    assert [(call.method, call.subject) for call in store.calls] == [("list_dir", "/")]


async def test_the_root_never_needs_the_nas(rig: Rig, store: MemoryStore) -> None:
    await trio.sleep(10 * TTL)
    await rig.attributes.renew_if_old(rig.table.root)
    await rig.attributes.renew(rig.table.root)
    assert store.calls == []


@pytest.mark.parametrize("folder", ["/s/small", "/s/large"])
async def test_when_the_nas_is_away_known_attributes_stay_in_use(rig: Rig, store: MemoryStore, folder: str) -> None:
    inode = (await rig.listed(folder))[0]
    await trio.sleep(TTL)
    with store.fail("list_dir", Unreachable("no route")), store.fail("get_entries", Unreachable("no route")):
        await rig.attributes.renew_if_old(inode)
    assert not inode.gone
    assert rig.attributes.remaining_seconds(inode) == 0
    assert rig.listings.staleness.answers == 1


async def test_another_failure_is_raised(rig: Rig, store: MemoryStore) -> None:
    inode = (await rig.listed("/s/large"))[0]
    await trio.sleep(TTL)
    with store.fail("get_entries", InputOutput("disk")), pytest.raises(InputOutput):
        await rig.attributes.renew_if_old(inode)


async def test_an_answer_asked_for_before_a_later_one_is_ignored(rig: Rig, store: MemoryStore) -> None:
    inode = (await rig.listed("/s/large"))[0]
    await trio.sleep(TTL)
    late = store.gate("answer")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.attributes.renew_if_old, inode)
        await late.reached.wait()
        await trio.sleep(1)
        rig.table.update(inode, RemoteEntry("", False, 7, 7, 7, 7, Rights.ALL), trio.current_time())
        late.open()
    assert inode.size == 7
    assert rig.notifier.told == []


async def test_a_late_answer_that_a_file_is_missing_does_not_remove_it(rig: Rig, store: MemoryStore) -> None:
    inode = (await rig.listed("/s/large"))[0]
    await trio.sleep(TTL)
    store.remove("/s/large/000000")
    late = store.gate("answer")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.attributes.renew_if_old, inode)
        await late.reached.wait()
        await trio.sleep(1)
        rig.table.update(inode, RemoteEntry("", False, 7, 7, 7, 7, Rights.ALL), trio.current_time())
        late.open()
    assert not inode.gone


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"content": b"grown"}, [("content", "/s/large/000000")]),
        ({"content": b"", "mtime": 2000}, [("content", "/s/large/000000")]),
        ({"content": b"", "rights": Rights.READ}, [("attributes", "/s/large/000000")]),
        ({"content": b""}, []),
    ],
)
async def test_the_kernel_is_told_what_a_renewal_found_changed(
    rig: Rig, store: MemoryStore, change: dict, told: list
) -> None:
    inode = (await rig.listed("/s/large"))[0]
    store.file("/s/large/000000", **change)
    await trio.sleep(TTL)
    await rig.attributes.renew_if_old(inode)
    assert rig.notifier.told == told
